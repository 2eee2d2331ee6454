"""What a build was asked for: checked once, and never looked at as text again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

SECTIONS = frozenset({"setup", "post", "files", "environment", "test", "labels"})


class Target(Enum):
    """What a build can make; the values are the words of `--format`."""

    SIF = "sif"
    SANDBOX = "sandbox"
    SQUASHFS = "squashfs"
    EXT3 = "ext3"
    TAR = "tar"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build, from the command line or from a program."""

    target: Path
    source: str  # a definition file, an image or a directory
    format: Target = Target.SIF
    size: int | None = None  # of an EXT3 target, in MiB; None: what its content needs
    overwrite: bool = False
    sections: frozenset[str] = SECTIONS  # of those in SECTIONS, the ones to be used
    keep: bool = False  # the working directory stays
    mksquashfs_arguments: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)  # values of templates
    unused_arguments_allowed: bool = False
    fakeroot: bool = False
    cache: bool = True
    temporary: Path  # where the working directory is made
