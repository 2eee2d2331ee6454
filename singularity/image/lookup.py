"""One way to look up paths in an image, whatever its format: files by path, read at any place; no mount, no unpacking.

A `Lookup` knows files as they stand: no component of a path in it is a symbolic link, so that whoever lays several file
systems over each other resolves links among them all. `resolve` is that resolution, and `Followed` a lookup with it.
What is read of a file system is checked as its reader does; ImageError and OSError leave this module.
"""

import errno
import io
import os
import stat
import struct
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Generic, NamedTuple, Protocol, TypeVar

from singularity.errors import FileError, ImageError
from singularity.image.identify import Format, Partition
from singularity.image.limits import LIMITS
from singularity.image.tree import Kind

READ_LIMIT = 16 << 20
_LINKS_LIMIT = 40  # as the kernel's
_SHOWN = 60  # letters of a path that is too long
_PIECES_KEPT = 64
_NAMES_LIMIT = 1 << 20  # in the directories that were looked into


class _Numbered(Protocol):
    @property
    def number(self) -> int: ...


_Inode = TypeVar("_Inode", bound=_Numbered)


class Node(
    NamedTuple
):  # a walk makes hundred thousands of them, and dataclasses that are frozen take three times as long
    """What is at a path."""

    kind: Kind
    mode: int  # permission bits
    uid: int
    gid: int
    size: int = 0  # of a file, in bytes
    target: str = ""  # of a symbolic link
    device: int = 0  # as os.makedev makes it
    mtime: int = 0  # nanoseconds since 1970


class Walked(NamedTuple):
    """A file that a walk came by; `inode` says which one to the lookup that walked, and to others of the same image."""

    path: str  # begins with "/"
    node: Node
    inode: object


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

    def walk(self) -> Iterator[Walked]:
        """All files below the root, a directory before what is in it; names in order. Raises ImageError."""
        pending = [""]
        for _ in range(LIMITS.members):
            if not pending:
                return
            above = pending.pop()
            for name in sorted(self.names(above or "/")):
                path = f"{above}/{name}"
                node = self.find(path)
                if node is not None:
                    yield Walked(path, node, path)
                    if node.kind is Kind.DIRECTORY:
                        pending.append(path)
        raise ImageError("more directories than can be meant")

    def content(self, walked: Walked) -> BinaryIO:
        """What `open` gives for the path of a file that `walk` came by, without looking the path up again."""
        return self.open(walked.path)

    def xattrs(self, walked: Walked) -> Mapping[bytes, bytes]:
        """The extended attributes of a file that `walk` came by; none where nothing is known of them."""
        del walked
        return {}


def resolve(find: Callable[[str], Node | None], path: str) -> tuple[str, Node | None]:
    """Where a path leads and what is there, links followed; `..` and links go no higher than the root.

    `find` is as that of a lookup. Raises OSError: ELOOP for links without end, ENAMETOOLONG.
    """
    if "\0" in path:
        return path, None
    if len(path) > LIMITS.path:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), f"{path[:_SHOWN]}...")
    way = [""]
    pending = _components(path)
    links = 0
    while pending:
        name = pending.pop(0)
        if name == "..":
            way = way[: max(1, len(way) - 1)]
            continue
        node = find("/".join([*way, name]))
        if node is None or (pending and node.kind not in (Kind.DIRECTORY, Kind.LINK)):
            return "/".join([*way, name, *pending]), None
        if node.kind is not Kind.LINK:
            way.append(name)
            continue
        links += 1
        if links > _LINKS_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if node.target.startswith("/"):
            way = [""]
        pending = _components(node.target) + pending
    end = "/".join(way) or "/"
    return end, find(end)


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


class Followed:
    """A root file system with its links followed. Raises OSError as `Root` does, and ImageError for a damaged image."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def resolve(self, path: str) -> tuple[str, Node | None]:
        """Where a path leads, and what is there."""
        return resolve(self._lookup.find, path)

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no directory."""
        end, node = self.resolve(path)
        return sorted(self._lookup.names(end)) if node is not None else []

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, links followed."""
        node = self.resolve(path)[1]
        return node is not None and node.kind is Kind.DIRECTORY

    def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes:
        """The content of a regular file. Raises OSError: EFBIG beyond `limit` bytes, EINVAL for anything else."""
        end, node = self.resolve(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if node.kind is not Kind.FILE:
            raise OSError(errno.EINVAL, "not a regular file", path)
        if node.size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        with self._lookup.open(end) as file:
            data = file.read(limit + 1)
        if len(data) > limit:  # of what has no size to speak of, as in /proc
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return data


@contextmanager
def opened(path: Path, partition: Partition) -> Iterator[Lookup]:
    """The file system of an image, to the end of the block. Raises ImageError and FileError, then and later on."""
    if partition.format is Format.DIRECTORY:
        yield Directory(path)
        return
    with FileError.about(path):
        file = path.open("rb")
    with file, translated(path, f"damaged {partition.format.value}"):
        if partition.format is Format.SQUASHFS:
            from singularity.image.squashfs.lookup import InSquashfs

            yield InSquashfs(file.fileno(), partition.offset, partition.size)
        elif partition.format is Format.EROFS:
            from singularity.image.erofs.lookup import InErofs

            yield InErofs(file.fileno(), partition.offset, partition.size)
        else:
            from singularity.image.ext.lookup import InExt

            yield InExt(file.fileno(), partition.offset, partition.size)


@contextmanager
def translated(path: Path, damaged: str = "a damaged file system") -> Iterator[None]:
    """What damaged images make the readers raise, as one ImageError that names the image."""
    try:
        yield
    except _OfImageError:
        raise
    except ImageError as error:
        raise _OfImageError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise _OfImageError(f"{path}: {damaged} ({error})") from error


class _OfImageError(ImageError):
    """One that names its image: where two are open, the other leaves it alone."""


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
            mtime=status.st_mtime_ns,
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

    def xattrs(self, walked: Walked) -> Mapping[bytes, bytes]:
        """The extended attributes that this user may see."""
        place = self._place(walked.path)
        try:
            names = os.listxattr(place, follow_symlinks=False)
            return {os.fsencode(each): os.getxattr(place, each, follow_symlinks=False) for each in names}
        except OSError:
            return {}


class Read(Lookup, Generic[_Inode]):
    """A file system that is read by us; directories are listed once."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Inode] = {"/": self._top()}
        self._described: dict[str, Node] = {}
        self._lists: dict[str, dict[bytes, object]] = {}
        self._names_left = _NAMES_LIMIT

    @abstractmethod
    def _top(self) -> _Inode:
        """The root directory."""

    @abstractmethod
    def _list(self, node: _Inode) -> Iterator[tuple[bytes, object]]:
        """The names in a directory and what stands for their files; nothing for what is no directory."""

    @abstractmethod
    def _load(self, reference: object) -> _Inode:
        """The file that a list refers to."""

    @abstractmethod
    def _describe(self, node: _Inode) -> Node:
        """The same in the words of all formats."""

    @abstractmethod
    def _content(self, node: _Inode) -> BinaryIO:
        """The content of a regular file."""

    @abstractmethod
    def _attributes(self, node: _Inode) -> Mapping[bytes, bytes]:
        """The extended attributes of a file."""

    def walk(self) -> Iterator[Walked]:
        """All files, in one reading of the directories; nothing is kept of them. Raises ImageError."""
        top = self._top()
        pending, seen, left = [("", top)], {top.number}, LIMITS.members
        while pending:
            above, directory = pending.pop()
            if len(above) >= LIMITS.path:
                raise ImageError("too many directories in each other")
            for name, reference in sorted(self._list(directory), key=_name):
                inode = self._load(reference)
                node = self._describe(inode)
                path = f"{above}/{name.decode('utf-8', 'surrogateescape')}"  # as os.fsdecode, in a third of the time
                left -= 1
                yield Walked(path, node, inode)
                if node.kind is Kind.DIRECTORY:
                    if inode.number in seen or left < 0:
                        raise ImageError("a directory in two places, or more files than can be meant")
                    seen.add(inode.number)
                    pending.append((path, inode))

    def content(self, walked: Walked) -> BinaryIO:
        """The content of a file that was walked by."""
        return self._content(walked.inode)  # type: ignore[arg-type] # it is of this lookup

    def xattrs(self, walked: Walked) -> Mapping[bytes, bytes]:
        """The extended attributes of a file that was walked by."""
        return self._attributes(walked.inode)  # type: ignore[arg-type] # it is of this lookup

    def _find(self, path: str) -> _Inode | None:
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


def _name(listed: tuple[bytes, object]) -> bytes:
    return listed[0]


class Pieces(io.RawIOBase, BinaryIO):
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
            while len(self._kept) >= _PIECES_KEPT:
                self._kept.popitem(last=False)
            self._kept[number] = self._piece(number)
        self._kept.move_to_end(number)
        return self._kept[number]
