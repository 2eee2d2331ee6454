"""All files of an ext2, ext3 or ext4 file system as a stream: no mount, no tool, no privilege."""

import itertools
import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image.ext.filesystem import DirectoryEntry, Filesystem, Run
from singularity.image.ext.layout import Inode
from singularity.image.tree import Entry, Kind, Member, Segment, Tree, reading

_PATH_LIMIT = 4095
_SEGMENTS_LIMIT = 1_000_000


def read(file: BinaryIO, offset: int, size: int) -> Tree:
    """The files of the file system in `size` bytes at `offset`; names of a directory in order; `lost+found` if filled.

    Raises ImageError for what is damaged or unknown, FileError when `file` cannot be read.
    """
    with reading(file, "ext file system"):
        system = Filesystem(file.fileno(), offset, size)
        yield from _Walk(system).entries()


_KINDS = {kind.value: kind for kind in Kind if kind is not Kind.HARD_LINK}


class _Walk:
    """One pass over a file system."""

    def __init__(self, system: Filesystem) -> None:
        self.system = system
        self.first_names: dict[int, bytes] = {}  # of the files with several
        self.directories: set[int] = set()

    def entries(self) -> Tree:
        """Everything, a directory before what is in it."""
        root = self.system.inode(layout.ROOT_INODE)
        if root.type != stat.S_IFDIR:
            raise ImageError("damaged ext file system: no root directory")
        yield Entry(self._member(root, b"", Kind.DIRECTORY))
        open_directories = [(b"", self._names(root, b""))]
        while open_directories:
            above, names = open_directories[-1]
            each = next(names, None)
            if each is None:
                open_directories.pop()
                continue
            path = above + each.name
            inode = self.system.inode(each.inode)
            kind = _KINDS.get(inode.type)
            if kind is None or len(path) > _PATH_LIMIT:
                problem = "of no known type" if kind is None else "below too many directories"
                raise ImageError(f"damaged ext file system: {_shown(path)} is {problem}")
            if kind is not Kind.DIRECTORY:
                yield self._entry(inode, path, kind)
                continue
            names = self._names(inode, path)
            if path == b"lost+found":
                lost = list(names)
                if not lost:
                    continue
                names = iter(lost)
            yield Entry(self._member(inode, path, kind))
            open_directories.append((path + b"/", names))

    def _names(self, inode: Inode, path: bytes) -> Iterator[DirectoryEntry]:
        if inode.number in self.directories:
            raise ImageError(f"damaged ext file system: {_shown(path)} is a directory in two places")
        self.directories.add(inode.number)
        found = sorted(self.system.names(inode))
        for one, other in itertools.pairwise(found):
            if one.name == other.name:
                raise ImageError(f"damaged ext file system: {_shown(path)} has two files {_shown(one.name)}")
        return iter(found)

    def _entry(self, inode: Inode, path: bytes, kind: Kind) -> Entry:
        if inode.links > 1:
            first = self.first_names.setdefault(inode.number, path)
            if first != path:
                return Entry(_another_name(inode, path, first))
        if kind is not Kind.FILE:
            return Entry(self._member(inode, path, kind))
        if inode.flags & layout.ENCRYPTED_FLAG:
            raise ImageError(f"{_shown(path)} is encrypted")
        runs = [] if inode.flags & layout.INLINE_FLAG else list(self.system.runs(inode))
        return Entry(self._member(inode, path, kind, runs), self.system.data(inode, runs) if inode.size else ())

    def _member(self, inode: Inode, path: bytes, kind: Kind, runs: list[Run] | None = None) -> Member:
        return Member(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(inode.mode),
            uid=inode.uid,
            gid=inode.gid,
            mtime=inode.mtime,
            size=inode.size if kind is Kind.FILE else 0,
            segments=None if runs is None else self._segments(inode, runs),
            target=self.system.link(inode) if kind is Kind.LINK else b"",
            device=layout.device(inode.pointers) if kind.is_device else 0,
            xattrs=self.system.attributes(inode) if inode.attributes or inode.tail else {},
        )

    def _segments(self, inode: Inode, runs: list[Run]) -> tuple[Segment, ...] | None:
        if inode.flags & layout.INLINE_FLAG or not inode.size:
            return None
        size, found = self.system.super.block_size, []
        start = end = 0
        for run in runs:
            if run.logical * size != end:
                found.append(Segment(offset=start, size=end - start))
                start = run.logical * size
            end = min((run.logical + run.length) * size, inode.size)
            if len(found) > _SEGMENTS_LIMIT:
                raise ImageError(f"a file with more than {_SEGMENTS_LIMIT} holes")
        found.append(Segment(offset=start, size=end - start))
        whole = len(found) == 1 and found[0].size == inode.size
        return None if whole else tuple(each for each in found if each.size)


def _shown(path: bytes) -> str:
    return f"/{os.fsdecode(path)}"


def _another_name(inode: Inode, path: bytes, first: bytes) -> Member:
    """A hard link; programs that unpack archives give it owner, mode and time anew, so it has those of the file."""
    mode, time = stat.S_IMODE(inode.mode), inode.mtime
    return Member(path=path, kind=Kind.HARD_LINK, mode=mode, uid=inode.uid, gid=inode.gid, mtime=time, target=first)
