"""What is known of a package, whoever installed it, and what the readers of notes are given."""

import gc
import io
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, BinaryIO

from singularity.errors import ImageError
from singularity.foreign_json import parse_json
from singularity.image.lookup import Followed, Lookup, Node, Walked
from singularity.image.tree import Kind

logger = logging.getLogger(__name__)

_REQUIRED = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_NOTE_LIMIT = 32 << 20  # bytes of one file of a package manager's
_NOTES_LIMIT = 512 << 20  # of all together: the same bytes may stand in any number of files, and take no room
_DOCUMENT_LIMIT = 16 << 20  # of one in JSON, whose values take far more memory than its text
_LISTED_LIMIT = 512 << 20  # bytes that the paths in all lists take in memory
_SLOT = 50  # of them in what a path is kept in


class Manager(Enum):
    """Who installed a package; the value is the type of its package URL (purl)."""

    DPKG = "deb"
    RPM = "rpm"
    APK = "apk"
    PACMAN = "alpm"
    PYTHON = "pypi"
    CONDA = "conda"
    R = "cran"
    NPM = "npm"


SYSTEM = frozenset({Manager.DPKG, Manager.RPM, Manager.APK, Manager.PACMAN})
"""Those that a distribution is made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """One installed package, in the words of its manager; empty is what that does not say."""

    manager: Manager
    name: str
    version: str  # with all that the manager puts to it: epoch, release
    architecture: str = ""
    license: str = ""
    supplier: str = ""  # a person or an organization, as written
    homepage: str = ""
    summary: str = ""
    source: str = ""  # the package that it was built from: "glibc 2.36-9", or a file's name
    qualifiers: Mapping[str, str] = field(default_factory=dict)  # of its package URL, besides those that all have
    digests: Mapping[str, str] = field(default_factory=dict)  # of the archive that it came as, by algorithm
    place: str  # the file or directory of the image that says so
    files: tuple[str, ...] = ()  # as listed: absolute paths, through links maybe
    trees: tuple[str, ...] = ()  # directories that are its own, all in them included
    needs: tuple[str, ...] = ()  # names of other packages of the manager, of all alternatives


class Survey:
    """The files of an image in one look, for all readers of notes; without `lists` packages have no files."""

    def __init__(self, lookup: Lookup, *, lists: bool = True) -> None:
        self.lists = lists
        self.lookup = lookup
        self._followed = Followed(lookup)
        with no_collection():
            self.walked: dict[str, Walked] = {each.path: each for each in lookup.walk()}
        self._directories: dict[str, str] = {}
        self._notes_left, self._listed_left = _NOTES_LIMIT, _LISTED_LIMIT

    def names(self, directory: str) -> list[str]:
        """The names in a directory, sorted, links followed; none where there is none."""
        end, node = self.node(directory)
        return sorted(self.lookup.names(end)) if node is not None else []

    def is_file(self, path: str) -> bool:
        """Whether a regular file is there, links followed."""
        node = self.node(path)[1]
        return node is not None and node.kind is Kind.FILE

    def read(self, path: str, *, limit: int = _NOTE_LIMIT) -> bytes:
        """The content of a note, links followed; nothing where it is missing, or, with a warning, cannot be read.

        Raises ImageError when all notes that were read are more than can be meant.
        """
        try:
            data = self._followed.read(path, limit=limit)
        except FileNotFoundError:
            return b""
        except OSError as error:
            logger.warning("%s in the image: %s", path, error.strerror)
            return b""
        self._notes_left -= len(data)
        if self._notes_left < 0:
            raise ImageError(f"notes of package managers of more than {_NOTES_LIMIT >> 20} MiB")
        return data

    def text(self, path: str, *, limit: int = _NOTE_LIMIT) -> str:
        """The same as text; what is not UTF-8 is replaced."""
        return self.read(path, limit=limit).decode("utf-8", "replace")

    def listed(self, paths: Iterable[str]) -> tuple[str, ...]:
        """The files that a package lists, none without `lists`. Raises ImageError for more than can be meant."""
        found = []
        for path in paths if self.lists else ():
            self._listed_left -= sys.getsizeof(path) + _SLOT
            if self._listed_left < 0:
                raise ImageError("packages that list more files than can be meant")
            found.append(path)
        return tuple(found)

    def document(self, path: str) -> Any:
        """A note in JSON; None, with a warning, where it is none."""
        data = self.read(path, limit=_DOCUMENT_LIMIT)
        try:
            return parse_json(data) if data else None
        except ImageError as error:
            warn(path, error)
            return None

    def open(self, path: str) -> BinaryIO:
        """A file to be read at any place, links followed; an empty one where there is none."""
        end, node = self.node(path)
        return self.lookup.open(end) if node is not None and node.kind is Kind.FILE else io.BytesIO()

    def content(self, walked: Walked) -> BinaryIO:
        """The content of a file in `walked`."""
        return self.lookup.content(walked)

    def node(self, path: str) -> tuple[str, Node | None]:
        """Where a path leads, and what is there; links without end lead to nothing."""
        try:
            return self._followed.resolve(path)
        except OSError:
            return path, None

    def real(self, path: str) -> str:
        """The path with all links in it followed but the last: where the file that is called so lies."""
        directory, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            return self.node(path)[0]
        if directory not in self._directories:
            self._directories[directory] = self.node(directory)[0].rstrip("/")
        return f"{self._directories[directory]}/{name}"


@contextmanager
def no_collection() -> Iterator[None]:
    """Python looks for garbage meanwhile as often as objects are made: half of the time of a walk, which makes none."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Paragraphs of `Field: value` lines, as of Debian's control files; fields in lower case, further lines joined."""
    fields: dict[str, list[str]] = {}
    last: list[str] = []
    for line in [*text.split("\n"), ""]:
        if not line.strip():
            if fields:
                yield {name: "\n".join(lines) for name, lines in fields.items()}
            fields, last = {}, []
        elif line[0] in " \t":
            last.append(line.strip())
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower() if colon else ""
            last = fields.setdefault(name, []) if name else []
            if not last:
                last.append(value.strip())


def needed(texts: Iterable[str]) -> tuple[str, ...]:
    """The names at the beginning of requirements, as `libc6 (>= 2.36)`, `numpy>=1.20` or `python 3.11.*`."""
    names = (match[0] for text in texts if (match := _REQUIRED.match(text.strip())))
    return tuple(dict.fromkeys(names))


def warn(place: str, error: Exception) -> None:
    """Says that a note makes no sense."""
    what = error.what if isinstance(error, ImageError) else error
    logger.warning("%s in the image makes no sense: %s", place, what)
