"""What a build was asked for: checked once, and never looked at as text again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SECTIONS = frozenset({"setup", "post", "files", "environment", "test", "labels"})


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build, from the command line or from a program."""

    target: Path
    source: str  # a definition file, an image or a directory
    sandbox: bool = False  # a directory in place of a SIF file
    overwrite: bool = False
    sections: frozenset[str] = SECTIONS  # of those in SECTIONS, the ones to be used
    keep: bool = False  # the working directory stays
    mksquashfs_arguments: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)  # values of templates
    unused_arguments_allowed: bool = False
    fakeroot: bool = False
    cache: bool = True
    temporary: Path  # where the working directory is made
