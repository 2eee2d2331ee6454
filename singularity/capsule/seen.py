"""What the recorder has written down, read again: which files were read, which were written, in the order of the calls.

The recorder (`launcher/record/`) sees what a program asks for, before the kernel answers. What came of it is seen here,
by what is there afterwards: a file that somebody wanted to write and that is what it was before was not written.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import BinaryIO, NamedTuple

LIMIT = 2_000_000  # files that are kept in mind; of more there is only a number
_FIELDS, _PIECE, _LAST = 5, 1 << 20, 64  # _LAST: bytes that the last line has room in


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory's, or the directory itself."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


class Status(NamedTuple):
    """What the kernel says of a file."""

    mode: int
    device: int
    inode: int
    size: int  # bytes
    modified: int  # nanoseconds
    changed: int

    @classmethod
    def parse(cls, numbers: str) -> "Status":
        """As the recorder writes it."""
        mode, *rest = numbers.split()
        return cls(int(mode, 8), *map(int, rest))

    @classmethod
    def of(cls, found: os.stat_result) -> "Status":
        """The same of what is there now."""
        return cls(
            found.st_mode, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        )  # fmt: skip

    def is_same_content(self, other: "Status") -> bool:
        """Whether nobody has written it: a new name changes only the time of change."""
        return self[1:5] == other[1:5]


@dataclass(slots=True)
class Read:
    """A file that was opened to be read; `digest` is known of one that was about to change."""

    status: Status
    inside: str
    now: str  # where it is since it was renamed
    digest: str | None = None  # hexadecimal; empty: it could not be read, or is too large


@dataclass(slots=True)
class Written:
    """A name that was opened to be written, or given to something; `before` is what had it first."""

    before: Status | None
    inside: str


@dataclass(slots=True)
class Seen:
    """All of a run. Paths are the host's."""

    reads: dict[str, Read] = field(default_factory=dict)
    writes: dict[str, Written] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    variables: dict[str, str] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)  # names that files have now, and those by which they were read
    connections: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    status: int | None = None  # as of waitpid(2); None: the recorder did not come to its end
    begun: bool = False  # calls were handed over
    more: int = 0  # files beyond LIMIT

    def take(self, kind: str, numbers: str, first: str, second: str, third: str) -> None:
        """One line of what was written down."""
        if kind in "rwh":
            self._take_file(kind, Status.parse(numbers) if numbers else None, first, second, third)
        elif kind == "m":
            self._move(Status.parse(numbers), first, second, third)
        elif kind == "u" and first not in self.writes:
            self.removed.add(first)
        elif kind == "e" and "=" in first:
            name, _, value = first.partition("=")
            self.variables.setdefault(name, value)
        elif kind == "c":
            self.connections.append(first)
        elif kind == "g":
            self.gaps.append(first)
        elif kind == "x":
            self.status, self.begun = int(first), second == "begun"

    def forget(self, directory: str) -> None:
        """What lies below it is not the program's own."""
        self.reads = {path: read for path, read in self.reads.items() if not is_below(path, directory)}
        self.writes = {path: written for path, written in self.writes.items() if not is_below(path, directory)}
        self.removed = {path for path in self.removed if not is_below(path, directory)}

    def _take_file(self, kind: str, status: Status | None, path: str, inside: str, digest: str) -> None:
        if kind == "h":
            path = self.moved.get(path, path)
        if len(self.reads) + len(self.writes) >= LIMIT and path not in self.reads:
            self.more += path not in self.writes
        elif kind == "w":
            self.writes.setdefault(path, Written(status, inside))
        elif status is not None and kind == "h":
            self.reads.setdefault(path, Read(status, inside, path)).digest = digest
        elif status is not None and path not in self.writes:
            self.reads.setdefault(path, Read(status, inside, path))

    def _move(self, status: Status, old: str, inside: str, new: str) -> None:
        """A file or directory has another name; what had that name before is gone."""
        moved = [old]
        if stat.S_ISDIR(status.mode):
            known = {*self.writes, *self.reads, *self.moved}
            moved = [old, *(each for each in known if each.startswith(f"{old}/"))]
        for path in moved:
            rest = path[len(old) :]
            first = self.moved.pop(path, path)
            if first in self.reads and self.reads[first].now == path:
                self.reads[first].now = new + rest
                self.moved[new + rest] = first
            self.writes.setdefault(new + rest, Written(None, inside + rest))
        if old not in self.writes:
            self.removed.add(old)


def is_whole(log: BinaryIO) -> bool:
    """Whether its last line is there, of a recorder that waits for a file system and does not end (`patience.c`)."""
    size = os.fstat(log.fileno()).st_size
    return re.search(rb"x\0\0\d+\0(begun)?\0\0\Z", os.pread(log.fileno(), _LAST, max(0, size - _LAST))) is not None


def read(log: BinaryIO) -> Seen:
    """What is in a recorder's log, from its beginning."""
    seen = Seen()
    log.seek(0)
    texts = _texts(log)
    for kind in texts:
        rest = list(islice(texts, _FIELDS - 1))
        if len(rest) == _FIELDS - 1:  # a full disk cuts the last one off
            seen.take(kind, rest[0], rest[1], rest[2], rest[3])
    return seen


def _texts(log: BinaryIO) -> Iterator[str]:
    left = b""
    while piece := log.read(_PIECE):
        *whole, left = (left + piece).split(b"\0")
        yield from map(os.fsdecode, whole)
