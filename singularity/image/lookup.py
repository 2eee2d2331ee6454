"""Single files out of an image of any format, looked up by path and read at any place: no mount, no unpacking.

A path here names one file as it stands: no component of it is a symbolic link, so that whoever lays several file
systems over each other resolves links among them all. What is read of a squashfs or ext file system is checked as
their readers do; ImageError and OSError leave this module.
"""

import io
import os
import stat
import struct
from abc import ABC, abstractmethod
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from singularity.errors import FileError, ImageError
from singularity.image.ext import layout
from singularity.image.ext.layout import Inode as ExtInode
from singularity.image.ext.reader import Filesystem as Ext
from singularity.image.ext.reader import Run
from singularity.image.identify import Format, Partition
from singularity.image.squashfs.reader import Filesystem as Squashfs
from singularity.image.squashfs.reader import Inode as SquashfsInode
from singularity.image.squashfs.reader import block_size
from singularity.image.tree import Kind

_BLOCKS_KEPT = 64
_PIECE = 64 << 10  # bytes read at once of a file of an ext file system
_NAMES_LIMIT = 1 << 20  # in the directories that were looked into
_LINK_LIMIT = 4096

_Node = TypeVar("_Node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What is at a path."""

    kind: Kind
    mode: int  # permission bits
    uid: int
    gid: int
    size: int = 0  # of a file, in bytes
    target: str = ""  # of a symbolic link
    device: int = 0  # as os.makedev makes it


class Lookup(ABC):
    """A root file system; paths begin with "/", and no component of them is a link, empty, "." or ".."."""

    @abstractmethod
    def find(self, path: str) -> Node | None:
        """What is there, links not followed; None where there is nothing."""

    @abstractmethod
    def names(self, path: str) -> list[str]:
        """The names in a directory, in no order; none where there is no directory."""

    @abstractmethod
    def open(self, path: str) -> BinaryIO:
        """The content of a regular file, to be read at any place. Raises OSError where there is none."""


@contextmanager
def opened(path: Path, partition: Partition) -> Iterator[Lookup]:
    """The file system of an image, to the end of the block. Raises ImageError and FileError, then and later on."""
    if partition.format is Format.DIRECTORY:
        yield Directory(path)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise FileError.because(path, error) from error
    with file, ThreadPoolExecutor(1) as pool, translated(path):
        if partition.format is Format.SQUASHFS:
            yield _InSquashfs(Squashfs(file.fileno(), partition.offset, partition.size, pool))
        else:
            yield _InExt(Ext(file.fileno(), partition.offset, partition.size))


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """What damaged images make the readers raise, as one ImageError that names the image."""
    try:
        yield
    except ImageError as error:
        raise ImageError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise ImageError(f"{path}: a damaged file system ({error})") from error


class Directory(Lookup):
    """A directory of the host. Nothing at or below it is followed."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)

    def _place(self, path: str) -> str:
        return self.path.rstrip("/") + path if path != "/" else self.path

    def find(self, path: str) -> Node | None:
        """What is there."""
        place = self._place(path)
        try:
            status = os.stat(place, follow_symlinks=path == "/")  # the directory itself may be named by a link
            target = os.readlink(place) if stat.S_ISLNK(status.st_mode) else ""
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None
        return Node(
            kind=Kind(stat.S_IFMT(status.st_mode)),
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            size=status.st_size,
            target=target,
            device=status.st_rdev,
        )

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        try:
            return os.listdir(self._place(path))
        except OSError:
            return []

    def open(self, path: str) -> BinaryIO:
        """The content of a file."""
        fd = os.open(self._place(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise FileNotFoundError(path)
        return os.fdopen(fd, "rb")


class _Read(Lookup, Generic[_Node]):
    """A file system that is read by us; directories are listed once."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {"/": self._top()}
        self._described: dict[str, Node] = {}
        self._lists: dict[str, dict[bytes, object]] = {}
        self._names_left = _NAMES_LIMIT

    @abstractmethod
    def _top(self) -> _Node:
        """The root directory."""

    @abstractmethod
    def _list(self, node: _Node) -> Iterator[tuple[bytes, object]]:
        """The names in a directory and what stands for their files; nothing for what is no directory."""

    @abstractmethod
    def _load(self, reference: object) -> _Node:
        """The file that a list refers to."""

    @abstractmethod
    def _describe(self, node: _Node) -> Node:
        """The same in the words of all formats."""

    @abstractmethod
    def _content(self, node: _Node) -> BinaryIO:
        """The content of a regular file."""

    def _find(self, path: str) -> _Node | None:
        found = self._nodes.get(path)
        if found is not None:
            return found
        above, _, name = path.rpartition("/")
        reference = self._listed(above or "/").get(os.fsencode(name))
        if reference is None:
            return None
        return self._nodes.setdefault(path, self._load(reference))

    def _listed(self, path: str) -> dict[bytes, object]:
        if path not in self._lists:
            node = self._find(path)
            found: dict[bytes, object] = {}
            for name, reference in self._list(node) if node is not None else ():
                found.setdefault(name, reference)
                self._names_left -= 1
                if self._names_left < 0:
                    raise ImageError(f"more than {_NAMES_LIMIT} names in a few directories")
            self._lists[path] = found
        return self._lists[path]

    def find(self, path: str) -> Node | None:
        """What is there."""
        if path not in self._described:
            node = self._find(path)
            if node is None:
                return None
            self._described[path] = self._describe(node)
        return self._described[path]

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        return [os.fsdecode(name) for name in self._listed(path)]

    def open(self, path: str) -> BinaryIO:
        """The content of a file."""
        found, node = self.find(path), self._find(path)
        if node is None or found is None or found.kind is not Kind.FILE:
            raise FileNotFoundError(path)
        return self._content(node)


class _InSquashfs(_Read[SquashfsInode]):
    def __init__(self, system: Squashfs) -> None:
        self._system = system
        self._sizes: dict[int, tuple[array[int], int]] = {}
        super().__init__()

    def _top(self) -> SquashfsInode:
        return self._system.top()

    def _list(self, node: SquashfsInode) -> Iterator[tuple[bytes, object]]:
        if node.kind is Kind.DIRECTORY:
            yield from ((each.name, (each.block, each.offset)) for each in self._system.names(node))

    def _load(self, reference: object) -> SquashfsInode:
        assert isinstance(reference, tuple)  # noqa: S101 - as _list gave it
        return self._system.inode(*reference)

    def _describe(self, node: SquashfsInode) -> Node:
        return Node(
            kind=node.kind,
            mode=node.mode,
            uid=node.uid,
            gid=node.gid,
            size=node.size,
            target=os.fsdecode(node.target),
            device=node.device,
        )

    def _content(self, node: SquashfsInode) -> BinaryIO:
        if node.number not in self._sizes:
            self._sizes[node.number] = self._system.block_sizes(node)
        sizes, tail = self._sizes[node.number]
        places = array("Q", [node.start, *(node.start + each for each in accumulate(block_size(w)[0] for w in sizes))])
        system, length = self._system, self._system.block_size

        def block(number: int) -> bytes:
            if number >= len(sizes):
                at, word = system.fragment_place(node.fragment)
                return system.block(at, *block_size(word))[node.offset : node.offset + tail]
            size, stored = block_size(sizes[number])
            return system.block(places[number], size, stored) if size else bytes(length)

        return _Pieces(node.size, length, block)


class _InExt(_Read[ExtInode]):
    def __init__(self, system: Ext) -> None:
        self._system = system
        self._runs: dict[int, list[Run]] = {}  # asked for once a file: the reader counts the blocks of all files
        super().__init__()

    def _top(self) -> ExtInode:
        return self._system.inode(layout.ROOT_INODE)

    def _list(self, node: ExtInode) -> Iterator[tuple[bytes, object]]:
        if node.type == stat.S_IFDIR:
            yield from ((each.name, each.inode) for each in self._system.names(node))

    def _load(self, reference: object) -> ExtInode:
        assert isinstance(reference, int)  # noqa: S101 - as _list gave it
        return self._system.inode(reference)

    def _describe(self, node: ExtInode) -> Node:
        try:
            kind = Kind(node.type)
        except ValueError as error:
            raise ImageError("damaged ext file system: a file of no known type") from error
        return Node(
            kind=kind,
            mode=stat.S_IMODE(node.mode),
            uid=node.uid,
            gid=node.gid,
            size=node.size,
            target=os.fsdecode(self._system.link(node)) if kind is Kind.LINK else "",
            device=layout.device(node.pointers) if kind.is_device else 0,
        )

    def _content(self, node: ExtInode) -> BinaryIO:
        system, length = self._system, self._system.super.block_size
        if node.flags & layout.ENCRYPTED_FLAG:
            raise ImageError("an ext file system with encrypted files")
        if node.flags & layout.INLINE_FLAG:
            return io.BytesIO(system.inline(node))
        runs = self._runs.get(node.number)
        if runs is None:
            runs = self._runs[node.number] = list(system.runs(node))
        per_piece = max(1, _PIECE // length)

        def piece(number: int) -> bytes:
            first = number * per_piece
            data = bytearray(per_piece * length)
            for run in runs:
                start, end = max(run.logical, first), min(run.logical + run.length, first + per_piece)
                if start < end:
                    at = (start - first) * length
                    data[at : at + (end - start) * length] = _blocks(system, run, start, end)
            return bytes(data)

        return _Pieces(node.size, per_piece * length, piece)


def _blocks(system: Ext, run: Run, start: int, end: int) -> bytes:
    return system.blocks(run.physical + start - run.logical, end - start)


class _Pieces(io.RawIOBase, BinaryIO):
    """A file of `size` bytes that comes in pieces of `length`; the last ones that were used are kept."""

    def __init__(self, size: int, length: int, piece: Callable[[int], bytes]) -> None:
        self._size, self._length, self._piece = size, length, piece
        self._at = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves on; places behind the end have nothing to be read."""
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at}.get(whence, self._size))
        return self._at

    def read(self, size: int = -1) -> bytes:
        """All of the next `size` bytes that there are."""
        end = self._size if size < 0 else min(self._size, self._at + size)
        parts = []
        while self._at < end:
            number, offset = divmod(self._at, self._length)
            part = self._get(number)[offset : offset + end - self._at]
            if not part:
                raise ImageError("a file that ends early")
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)

    def _get(self, number: int) -> bytes:
        if number not in self._kept:
            while len(self._kept) >= _BLOCKS_KEPT:
                self._kept.popitem(last=False)
            self._kept[number] = self._piece(number)
        self._kept.move_to_end(number)
        return self._kept[number]
