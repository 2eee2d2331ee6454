"""What is installed: an image under a name, the commands it has there, and the launch that each of them is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from singularity.errors import ImageError, UsageError
from singularity.image.offered import Command

_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_VERSIONED = re.compile(r"(.+?)[-_](v?[0-9][A-Za-z0-9_.-]*|latest)")  # samtools-1.17, debian_latest
_SUFFIXES = (".sif", ".simg", ".img", ".sqfs", ".sqsh", ".squashfs", ".erofs")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Kind(StrEnum):
    """What an image is installed as; words of the command line, too."""

    WRAPPERS = "wrappers"
    MODULE = "module"
    JUPYTER = "jupyter"
    VSCODE = "vscode"
    DESKTOP = "desktop"


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A file that installing writes."""

    kind: Kind
    path: Path  # absolute
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An image under a name."""

    name: str
    version: str = ""  # empty where nobody has said one
    image: Path  # absolute
    front_door: Path
    options: tuple[str, ...] = ()  # of each launch
    commands: tuple[Command, ...]

    @property
    def title(self) -> str:
        """Name and version: `samtools/1.17`."""
        return f"{self.name}/{self.version}" if self.version else self.name

    @property
    def file_name(self) -> str:
        """The same for names of files."""
        return self.title.replace("/", "-")

    @property
    def note(self) -> str:
        """What each file says of itself, in one line."""
        return f'Of {self.image}, by "singularity install"; "singularity uninstall {self.title}" takes it away.'

    def launch(self, command: Command, *more: str) -> list[str]:
        """The words that start a command, with `more` options."""
        (verb, *before), after = command.launch
        return [str(self.front_door), verb, *self.options, *more, *before, str(self.image), *after]

    def execute(self, words: Sequence[str], *more: str) -> list[str]:
        """The words that start a program of the image, with `more` options."""
        return [str(self.front_door), "exec", *self.options, *more, str(self.image), *words]


def absolute(image: Path) -> Path:
    """The path that the files name. Raises ImageError for one that no line of a file can hold."""
    path = image.absolute()
    if _CONTROL.search(str(path)):
        raise ImageError(f"{path}: a control character in its path", hint="rename it")
    return path


def named(said: str, image: Path) -> tuple[str, str]:
    """Name and version: those that were `said`, `NAME` or `NAME/VERSION`, else the file's. Raises UsageError."""
    text = said or _from_file(image.name)
    name, slash, version = text.partition("/")
    if not _WORD.fullmatch(name) or (slash and not _WORD.fullmatch(version)):
        where = "--as" if said else f"the name of {image}"
        what = f'{where}: "{text}" is no name (letters, digits, "_", "." and "-")'
        raise UsageError(what, hint="--as NAME, or --as NAME/VERSION")
    return name, version


def _from_file(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    match = _VERSIONED.fullmatch(name)
    return f"{match[1]}/{match[2]}" if match else name
