"""All files of an EROFS as a stream, also of one in a SIF file: no mount, no tool, no privilege."""

from collections.abc import Iterator
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.erofs.clusters import Extent
from singularity.image.erofs.filesystem import Filesystem, Inode, device
from singularity.image.limits import LIMITS
from singularity.image.tree import Entry, Kind, Member, Segment, Tree, reading

_RATIO = 256  # bytes for each byte of the EROFS; lz4 comes near it with equal bytes


def read(file: BinaryIO, offset: int, size: int) -> Tree:
    """The files of the EROFS in `size` bytes at `offset`; the names of a directory in order.

    Raises ImageError for what is damaged, FileError when `file` cannot be read, ToolError without the library that its
    compression needs.
    """
    with reading(file, "EROFS"):
        yield from _Walk(Filesystem(file.fileno(), offset, size)).entries()


class _Walk:
    """One pass over a file system."""

    def __init__(self, system: Filesystem) -> None:
        self.system = system
        self._first_names: dict[int, bytes] = {}  # of files with several names, and of directories
        self._members = self._total = 0

    def entries(self) -> Tree:
        """Everything, a directory before what is in it."""
        root = self.system.top()
        self._first_names[root.number] = b""
        yield Entry(self._member(root, b""))
        open_directories = [(b"", iter(sorted(self.system.names(root))))]
        while open_directories:
            above, names = open_directories[-1]
            each = next(names, None)
            if each is None:
                open_directories.pop()
                continue
            path = above + each[0]
            inode = self.system.inode(each[1])
            self._members += 1
            if len(path) >= LIMITS.path or self._members > LIMITS.members:
                raise ImageError("damaged EROFS: too many files, or directories in each other")
            first = path
            if inode.links > 1 or inode.kind is Kind.DIRECTORY:
                first = self._first_names.setdefault(inode.number, path)
            if first != path and inode.kind is Kind.DIRECTORY:
                raise ImageError("damaged EROFS: a directory in two places")
            if first != path:
                yield Entry(self._another_name(inode, path, first))
            elif inode.kind is Kind.FILE:
                yield self._file(inode, path)
            else:
                yield Entry(self._member(inode, path))
                if inode.kind is Kind.DIRECTORY:
                    open_directories.append((path + b"/", iter(sorted(self.system.names(inode)))))

    def _member(self, inode: Inode, path: bytes, segments: tuple[Segment, ...] | None = None) -> Member:
        return Member(
            path=path,
            kind=inode.kind,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            mtime=inode.mtime,
            size=inode.size if inode.kind is Kind.FILE else 0,
            segments=segments,
            target=self.system.link(inode) if inode.kind is Kind.LINK else b"",
            device=device(inode.start) if inode.kind.is_device else 0,
            xattrs=self.system.attributes(inode),
        )

    def _another_name(self, inode: Inode, path: bytes, first: bytes) -> Member:
        """A hard link; programs that unpack archives give it owner, mode and time anew, so it has those of the file."""
        mode, time = inode.mode, inode.mtime
        return Member(path=path, kind=Kind.HARD_LINK, mode=mode, uid=inode.uid, gid=inode.gid, mtime=time, target=first)

    def _file(self, inode: Inode, path: bytes) -> Entry:
        segments = _segments(inode, self.system.extents(inode)) if self.system.has_holes(inode) else None
        return Entry(self._member(inode, path, segments), self._data(self.system.extents(inode)))

    def _data(self, extents: Iterator[Extent]) -> Iterator[bytes]:
        for extent in extents:
            self._total += extent.length
            if self._total > max(LIMITS.ratio_after, min(LIMITS.total, _RATIO * self.system.end)):
                raise ImageError("the EROFS has more data than can be meant: a decompression bomb?")
            yield self.system.data(extent)


def _segments(inode: Inode, extents: Iterator[Extent]) -> tuple[Segment, ...] | None:
    """The parts of a file that are no holes; None for a file without."""
    found: list[Segment] = []
    for extent in extents:
        at, size = extent.logical, extent.length
        if found and found[-1].offset + found[-1].size == at:
            last = found.pop()
            at, size = last.offset, last.size + size
        found.append(Segment(offset=at, size=size))
        if len(found) > LIMITS.segments:
            raise ImageError(f"a file with more than {LIMITS.segments} holes")
    return None if sum(each.size for each in found) == inode.size else tuple(found)
