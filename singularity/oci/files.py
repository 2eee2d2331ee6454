"""The files of an OCI layout or of a Docker archive: in a directory, or in a tar archive, looked through once."""

import io
import os
import posixpath
import stat
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self, cast

from singularity import files
from singularity.errors import FileError, ImageError
from singularity.image.archive import tar
from singularity.image.archive.compression import HEAD, decompressed, recognise
from singularity.image.archive.stream import Data
from singularity.image.archive.tar_header import BLOCK
from singularity.image.limits import Limits, shown
from singularity.image.tree import Entry, Kind

_MEMBERS_LIMIT = 200_000
_LINKS_LIMIT = 8  # of a file that a link leads to
_CHUNK = 1 << 20


class Files(Protocol):
    """Files by relative paths. `name` stands in messages."""

    name: str

    def has(self, path: str) -> bool:
        """Whether there is such a file."""

    def open(self, path: str) -> BinaryIO:
        """Opens one to be read; the caller closes it. Raises ImageError where there is none, FileError."""


def read(place: Files, path: str, limit: int) -> bytes:
    """A small file, whole. Raises ImageError when it is missing or has more than `limit` bytes."""
    with place.open(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ImageError(f"{place.name}: {path}: more than {limit} bytes")
    return data


class Directory:
    """The files below a directory of the host."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return (self._path / path).is_file()

    def open(self, path: str) -> BinaryIO:
        """Opens a regular file."""
        try:
            fd = os.open(self._path / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise ImageError(f"{self.name}: no {path} in it", hint="incomplete? copy it again") from error
        except OSError as error:
            raise FileError.because(self._path / path, error) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise ImageError(f"{self.name}: {path} is no file")
        return open(fd, "rb")


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    size: int


class Archive:
    """The files of a tar archive, found by their offsets; a compressed archive is unpacked below `temporary` first.

    Raises ImageError for what is no tar archive, FileError.
    """

    def __init__(self, path: Path, temporary: Path) -> None:
        self.name = str(path)
        self._stack = ExitStack()
        try:
            self._file = self._stack.enter_context(_plain(path, temporary))
            self._places, self._links = _look_through(self._file, self.name)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._stack.close()

    def has(self, path: str) -> bool:
        """Whether there is such a file."""
        return self._find(path) is not None

    def open(self, path: str) -> BinaryIO:
        """A file of the archive, links followed inside it."""
        place = self._find(path)
        if place is None:
            raise ImageError(f"{self.name}: no {path} in it", hint="incomplete? make it again")
        return cast("BinaryIO", io.BufferedReader(_Part(self._file.fileno(), place), _CHUNK))

    def _find(self, path: str) -> _Place | None:
        name = posixpath.normpath(path)
        for _ in range(_LINKS_LIMIT):
            if name in self._places:
                return self._places[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None


class _Part(io.RawIOBase):
    """A part of an open file, read at its own pace."""

    def __init__(self, fd: int, place: _Place) -> None:
        self._fd = fd
        self._offset = place.offset
        self._left = place.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")[: self._left]
        done = os.preadv(self._fd, [view], self._offset) if len(view) else 0
        self._offset += done
        self._left -= done
        return done


def _plain(path: Path, temporary: Path) -> BinaryIO:
    """The archive as a file that can be read anywhere; the name of what is made for that goes at once."""
    with FileError.about(path):
        file = path.open("rb")
    with FileError.about(path):
        head = file.read(HEAD)
        file.seek(0)
        if recognise(head) is None:
            return file
        with files.temporary_directory(temporary) as place, decompressed(file, str(path)) as stream:
            made = (place / "archive").open("w+b")
            while data := stream.read(_CHUNK):
                made.write(data)
            made.flush()
    file.close()
    return made


class _Unread:
    """A file whose data nobody looks at: `skip` bytes are passed over, and read as zeros."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.skip = 0

    def read(self, size: int) -> bytes:
        if not self.skip:
            return self.file.read(size)
        passed = min(size, self.skip)
        self.skip -= passed
        self.file.seek(passed, os.SEEK_CUR)
        return bytes(passed)


def _look_through(file: BinaryIO, name: str) -> tuple[Mapping[str, _Place], Mapping[str, str]]:
    """Where each file is, and where each link leads. Only the headers are read."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    unread = _Unread(file)
    places: dict[str, _Place] = {}
    links: dict[str, str] = {}
    for entry in tar.read(cast("BinaryIO", unread), name, limits=Limits(members=_MEMBERS_LIMIT), marked=False):
        member = entry.member
        path = member.path.decode("utf-8", "surrogateescape")
        target = member.target.decode("utf-8", "surrogateescape")
        if member.kind is Kind.LINK:
            links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        elif member.kind is Kind.HARD_LINK:
            links[path] = posixpath.normpath(target)
        elif member.kind is Kind.FILE:
            ahead = isinstance(entry.data, Data)  # else a small file, which was read with its header and its padding
            start = file.tell() if ahead else (file.tell() - member.size) // BLOCK * BLOCK
            places[path] = _place(entry, start, size, name)
            unread.skip = -(-member.size // BLOCK) * BLOCK if ahead else 0
    return places, links


def _place(entry: Entry, offset: int, size: int, name: str) -> _Place:
    member = entry.member
    if member.segments is not None:
        raise ImageError(f"{name}: {shown(member.path)} is stored with holes", hint="make the archive again without")
    if offset + member.size > size:
        raise ImageError(f"{name}: ends within {shown(member.path)}", hint="incomplete? fetch it again")
    return _Place(offset, member.size)
