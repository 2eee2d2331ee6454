"""All files of a squashfs as a stream, also of one in a SIF file: no mount, no tool, no unpacking, no privilege."""

import os
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from singularity.errors import ImageError
from singularity.image.limits import LIMITS
from singularity.image.squashfs.filesystem import NONE, Filesystem, Inode, Listed, block_size
from singularity.image.tree import Entry, Kind, Member, Segment, Tree, reading

if TYPE_CHECKING:
    from array import array

_FRAGMENTS_KEPT = 16
_PATH_LIMIT = 4095
_SECOND = 10**9
_RATIO = 100_000  # bytes for each byte of the squashfs; a block of equal bytes comes near it


def read(file: BinaryIO, offset: int, size: int) -> Tree:
    """The files of the squashfs in `size` bytes at `offset`; the names of a directory in order.

    Raises ImageError for what is damaged, FileError when `file` cannot be read, ToolError without the library that its
    compression needs.
    """
    with reading(file, "squashfs"), ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        yield from _Walk(Filesystem(file.fileno(), offset, size), pool).entries()


class _Walk:
    """One pass over a file system, which visits every inode once."""

    def __init__(self, system: Filesystem, pool: ThreadPoolExecutor) -> None:
        self.system, self.pool = system, pool
        self._fragments: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._seen = bytearray(system.inode_count // 8 + 1)
        self._total = 0
        self._window = 2 * len(os.sched_getaffinity(0))  # blocks of data that are made ready
        self._first_names: dict[int, bytes] = {}

    def entries(self) -> Tree:
        """Everything, a directory before what is in it."""
        root = self.system.top()
        self._visit(root)
        yield Entry(self._member(root, b""))
        open_directories = [(b"", self._sorted(root))]
        while open_directories:
            above, names = open_directories[-1]
            each = next(names, None)
            if each is None:
                open_directories.pop()
                continue
            path = above + each.name
            if len(path) > _PATH_LIMIT:
                raise ImageError("damaged squashfs: too many directories in each other")
            inode = self.system.inode(each.block, each.offset)
            first = self._visit(inode, path)
            if first != path:
                yield Entry(_another_name(inode, path, first))
            elif inode.kind is Kind.FILE:
                yield self._file(inode, path)
            else:
                yield Entry(self._member(inode, path))
                if inode.kind is Kind.DIRECTORY:
                    open_directories.append((path + b"/", self._sorted(inode)))

    def _sorted(self, inode: Inode) -> Iterator[Listed]:
        found = sorted(self.system.names(inode))
        if len({each.name for each in found}) < len(found):
            raise ImageError("damaged squashfs: a directory with two files of one name")
        return iter(found)

    def _visit(self, inode: Inode, path: bytes = b"") -> bytes:
        """The first path of an inode; only files with several names are met again."""
        byte, bit = divmod(inode.number, 8)
        if self._seen[byte] & 1 << bit:
            first = self._first_names.get(inode.number)
            if first is None:
                raise ImageError("damaged squashfs: a file in two places")
            return first
        self._seen[byte] |= 1 << bit
        if inode.kind is not Kind.DIRECTORY and inode.links > 1:
            self._first_names[inode.number] = path
        return path

    def _member(self, inode: Inode, path: bytes, segments: tuple[Segment, ...] | None = None) -> Member:
        return Member(
            path=path,
            kind=inode.kind,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            mtime=inode.mtime * _SECOND,
            size=inode.size if inode.kind is Kind.FILE else 0,
            segments=segments,
            target=inode.target,
            device=inode.device,
            xattrs=self.system.attributes(inode.attributes) if inode.attributes != NONE else {},
        )

    def _file(self, inode: Inode, path: bytes) -> Entry:
        sizes, tail = self.system.block_sizes(inode)
        segments = self._segments(inode, sizes, tail)
        data = self._data(inode, sizes, tail) if inode.size else ()
        return Entry(self._member(inode, path, segments), data)

    def _segments(self, inode: Inode, sizes: "array[int]", tail: int) -> tuple[Segment, ...] | None:
        """The parts of a file that are no holes: blocks of size 0 are."""
        if not sizes.count(0):
            return None
        found: list[Segment] = []
        start, count = 0, len(sizes)
        while start < count:
            end = start
            while end < count and sizes[end]:
                end += 1
            if end > start:
                length = min(end * self.system.block_size, inode.size) - start * self.system.block_size
                found.append(Segment(offset=start * self.system.block_size, size=length))
                if len(found) > LIMITS.segments:
                    raise ImageError(f"a file with more than {LIMITS.segments} holes")
            start = end
            while start < count and not sizes[start]:
                start += 1
        if tail:
            at = count * self.system.block_size
            if found and found[-1].offset + found[-1].size == at:
                at = found.pop().offset
            found.append(Segment(offset=at, size=inode.size - at))
        return tuple(found)

    def _data(self, inode: Inode, sizes: "array[int]", tail: int) -> Iterator[bytes]:
        """The data of a file, some blocks ahead of who reads it."""
        ahead: deque[tuple[Future[bytes], int]] = deque()
        at, last, window = inode.start, len(sizes) - 1, self._window
        for number, word in enumerate(sizes):
            if not word:
                continue
            size, stored = block_size(word)
            expected = self.system.block_size if number < last or tail else inode.size - number * self.system.block_size
            self._count(expected)
            ahead.append((self.pool.submit(self.system.block, at, size, stored), expected))
            at += size
            if len(ahead) > window:
                yield _whole(ahead.popleft())
        while ahead:
            yield _whole(ahead.popleft())
        if tail:
            self._count(tail)
            data = self._fragment(inode.fragment)[inode.offset : inode.offset + tail]
            if len(data) < tail:
                raise ImageError("damaged squashfs: a fragment that ends early")
            yield data

    def _count(self, size: int) -> None:
        self._total += size
        if self._total > max(LIMITS.ratio_after, min(LIMITS.total, _RATIO * self.system.end)):
            raise ImageError("the squashfs has more data than can be meant: a decompression bomb?")

    def _fragment(self, number: int) -> bytes:
        """A block of the ends of several files; those that follow are got ready."""
        count = self.system.fragment_count
        for each in range(number, max(number + 1, min(number + 3, count))):
            if each not in self._fragments:
                at, word = self.system.fragment_place(each)
                self._fragments[each] = self.pool.submit(self.system.block, at, *block_size(word))
        self._fragments.move_to_end(number)
        while len(self._fragments) > _FRAGMENTS_KEPT:
            self._fragments.popitem(last=False)
        return self._fragments[number].result()


def _whole(block: tuple["Future[bytes]", int]) -> bytes:
    future, expected = block
    data = future.result()
    if len(data) != expected:
        raise ImageError("damaged squashfs: a block of data that ends early")
    return data


def _another_name(inode: Inode, path: bytes, first: bytes) -> Member:
    """A hard link; programs that unpack archives give it owner, mode and time anew, so it has those of the file."""
    time = inode.mtime * _SECOND
    return Member(
        path=path, kind=Kind.HARD_LINK, mode=inode.mode, uid=inode.uid, gid=inode.gid, mtime=time, target=first
    )
