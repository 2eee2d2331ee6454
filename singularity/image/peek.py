"""A few small files out of an image that is no directory, without unpacking it: by path, links resolved inside it.

`ExtFiles` goes through the directories of an ext file system; `HeldFiles` keeps what is wanted of a stream. Both raise
OSError as `Root` does, ENOENT for what is missing and ELOOP for links without end, and ImageError for a damaged image.
"""

import errno
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import BinaryIO, Generic, TypeVar

from singularity.errors import ImageError
from singularity.image.ext.layout import Inode
from singularity.image.ext.reader import Filesystem
from singularity.image.tree import Entry, Kind, Tree

_LINKS_LIMIT = 40  # as the kernel's
_READ_LIMIT = 16 << 20
_HELD_LIMIT = 64 << 20  # bytes of all files together
_ROOT_INODE = 2

_Node = TypeVar("_Node")


class _Files(ABC, Generic[_Node]):
    """Paths over nodes: what a file or directory is, its names and its content are up to the format."""

    @abstractmethod
    def _top(self) -> _Node:
        """The root directory."""

    @abstractmethod
    def _child(self, directory: _Node, name: bytes) -> _Node | None:
        """What has this name in a directory; None also for what is no directory."""

    @abstractmethod
    def _link(self, node: _Node) -> bytes | None:
        """The text of a symbolic link; None for anything else."""

    @abstractmethod
    def _names(self, node: _Node) -> list[bytes] | None:
        """The names in a directory; None for anything else."""

    @abstractmethod
    def _content(self, node: _Node, limit: int) -> bytes | None:
        """The content of a regular file of at most `limit` bytes; None for anything else."""

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no directory."""
        node = self._find(path)
        return sorted(map(os.fsdecode, (self._names(node) or []) if node is not None else []))

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, links followed."""
        node = self._find(path)
        return node is not None and self._names(node) is not None

    def read(self, path: str, *, limit: int = _READ_LIMIT) -> bytes:
        """The content of a regular file. Raises OSError: EFBIG beyond `limit` bytes, EINVAL for anything else."""
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        content = self._content(node, limit)
        if content is None:
            raise OSError(errno.EINVAL, "not a regular file", path)
        return content

    def _find(self, path: str) -> _Node | None:
        """What is there in the end, `..` and links going no higher than the root; None where there is nothing."""
        way = [self._top()]
        pending = _components(os.fsencode(path))
        links = 0
        while pending:
            name = pending.pop(0)
            if name == b"..":
                way = way[: max(1, len(way) - 1)]
                continue
            node = self._child(way[-1], name)
            if node is None:
                return None
            text = self._link(node)
            if text is None:
                way.append(node)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if text.startswith(b"/"):
                del way[1:]
            pending = _components(text) + pending
        return way[-1]


def _components(path: bytes) -> list[bytes]:
    return [part for part in path.split(b"/") if part not in (b"", b".")]


class ExtFiles(_Files[Inode]):
    """The files of the ext file system in `size` bytes at `offset` of an open file."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        self._system = Filesystem(file.fileno(), offset, size)

    def _top(self) -> Inode:
        return self._system.inode(_ROOT_INODE)

    def _child(self, directory: Inode, name: bytes) -> Inode | None:
        if directory.type != stat.S_IFDIR:
            return None
        found = (each.inode for each in self._system.names(directory) if each.name == name)
        number = next(found, None)
        return None if number is None else self._system.inode(number)

    def _link(self, node: Inode) -> bytes | None:
        return self._system.link(node) if node.type == stat.S_IFLNK else None

    def _names(self, node: Inode) -> list[bytes] | None:
        return [each.name for each in self._system.names(node)] if node.type == stat.S_IFDIR else None

    def _content(self, node: Inode, limit: int) -> bytes | None:
        if node.type != stat.S_IFREG:
            return None
        if node.size > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return self._system.content(node, limit, "a file")


class HeldFiles(_Files[bytes]):
    """The files of a stream whose paths `wanted` asks for, as the stream leaves them in the end. Nodes are paths."""

    def __init__(self, tree: Tree, wanted: Callable[[bytes], bool]) -> None:
        self._directories: dict[bytes, dict[bytes, None]] = {b"": {}}
        self._files: dict[bytes, bytes | int] = {}  # content, or the size of what is too large to be kept
        self._links: dict[bytes, bytes] = {}
        self._held = 0
        for entry in tree:
            if wanted(entry.member.path):
                self._remove(entry.member.path, keep_directory=entry.member.kind is Kind.DIRECTORY)
                self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        member = entry.member
        path = member.path
        if member.kind is Kind.DIRECTORY:
            self._make_way(path)
            return
        if member.kind is Kind.FILE:
            self._held += 0 if member.size > _READ_LIMIT else member.size
            if self._held > _HELD_LIMIT:
                raise ImageError(f"more than {_HELD_LIMIT >> 20} MiB below /.singularity.d")
            large = member.size > _READ_LIMIT or member.segments is not None
            self._files[path] = member.size if large else b"".join(entry.data)
        elif member.kind is Kind.LINK:
            self._links[path] = member.target
        elif member.kind is Kind.HARD_LINK and member.target in self._files:
            self._files[path] = self._files[member.target]
        elif member.kind is Kind.HARD_LINK and member.target in self._links:
            self._links[path] = self._links[member.target]
        else:
            return
        above, _, name = path.rpartition(b"/")
        self._make_way(above)[name] = None

    def _make_way(self, path: bytes) -> dict[bytes, None]:
        """A directory, made with those above it where they are missing."""
        if path in self._directories:
            return self._directories[path]
        above, _, name = path.rpartition(b"/")
        self._make_way(above)[name] = None
        self._files.pop(path, None)
        self._links.pop(path, None)
        return self._directories.setdefault(path, {})

    def _remove(self, path: bytes, *, keep_directory: bool) -> None:
        """What an entry replaces."""
        if keep_directory and path in self._directories:
            return
        self._files.pop(path, None)
        self._links.pop(path, None)
        for each in [each for each in self._directories if path and (each + b"/").startswith(path + b"/")]:
            for name in self._directories.pop(each):
                self._files.pop(each + b"/" + name, None)
                self._links.pop(each + b"/" + name, None)

    def _top(self) -> bytes:
        return b""

    def _child(self, directory: bytes, name: bytes) -> bytes | None:
        if name not in self._directories.get(directory, ()):
            return None
        return directory + b"/" + name if directory else name

    def _link(self, node: bytes) -> bytes | None:
        return self._links.get(node)

    def _names(self, node: bytes) -> list[bytes] | None:
        names = self._directories.get(node)
        return None if names is None else list(names)

    def _content(self, node: bytes, limit: int) -> bytes | None:
        content = self._files.get(node)
        if isinstance(content, int) or (content is not None and len(content) > limit):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return content
