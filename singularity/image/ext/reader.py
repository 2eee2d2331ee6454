"""Reads ext2, ext3 and ext4 file systems out of a file: no mount, no tool, no privilege.

A file system whose journal was not played back, as a killed program or a crash leaves it, is read as if it had been.
Every block is bounds-checked and belongs to one file, so that reading ends, whatever the image says.
"""

import itertools
import os
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from singularity.errors import FileError, ImageError
from singularity.image.ext import layout
from singularity.image.ext.journal import Journal
from singularity.image.ext.layout import Inode
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

_CHUNK = 1 << 20  # bytes read at once, at most
_TABLE_CHUNK, _TABLE_CHUNKS = 16 << 10, 64  # bytes of an inode table read at once, and how many of these are kept
_DIRECTORY_LIMIT = 1 << 30  # bytes
_PATH_LIMIT = 4095
_LINK_LIMIT = 4096
_SEGMENTS_LIMIT = 1_000_000
_ATTRIBUTE_LIMIT = 1 << 24
_EXTENT_MAGIC, _EXTENT_DEPTH = 0xF30A, 5
_EXTENT_UNWRITTEN = 32768  # lengths above stand for blocks that read as zeros
_EXTENT = struct.Struct("<IHHI")
_EXTENT_INDEX = struct.Struct("<IIH2x")
_ENTRY = struct.Struct("<IHBB")


class Run(NamedTuple):
    """Blocks of a file that follow each other in it and on disk."""

    logical: int
    physical: int
    length: int


class DirectoryEntry(NamedTuple):
    """A name and its inode."""

    name: bytes
    inode: int


def read(file: BinaryIO, offset: int, size: int) -> Tree:
    """The files of the file system in `size` bytes at `offset`; names of a directory in order; `lost+found` if filled.

    Raises ImageError for what is damaged or unknown, FileError when `file` cannot be read.
    """
    with _translated(file):
        system = Filesystem(file.fileno(), offset, size)
        yield from _Walk(system).entries()


@contextmanager
def _translated(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError.because(getattr(file, "name", "image"), error) from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise ImageError(f"damaged ext file system ({error})") from error


class Filesystem:
    """A file system by its parts. Methods raise ImageError, and OSError when the file cannot be read."""

    def __init__(self, fd: int, offset: int, size: int, *, limited: bool = True) -> None:
        self.fd = fd
        self.offset = offset
        self._journal: Journal | None = None
        self.super = layout.superblock(self._at(layout.SUPERBLOCK_AT, min(size, layout.SUPERBLOCK_SIZE)), size)
        self._tables: dict[int, bytes] = {}
        self._attribute_block: tuple[int, bytes] = (0, b"")
        self.budget = self.super.blocks if limited else 1 << 63  # blocks that may still be said to belong to files
        self._locate_tables()
        if self.super.needs_recovery:
            self._replay(size)

    def _locate_tables(self) -> None:
        system = self.super
        self.tables = array("Q")
        per_block = system.block_size // system.descriptor_size
        for number in range(-(-system.groups // per_block)):
            block = self.blocks(system.descriptor_block(number), 1)
            for at in range(min(per_block, system.groups - number * per_block)):
                raw = block[at * system.descriptor_size : (at + 1) * system.descriptor_size]
                low, high = raw[8:12], raw[40:44] if len(raw) >= 64 else b""
                self.tables.append(int.from_bytes(low + high, "little"))

    def _replay(self, size: int) -> None:
        inode = self.inode(self.super.journal_inode)
        budget = self.budget
        runs = list(self.runs(inode))
        self.budget = budget  # the walk does not come by the journal
        self._journal = Journal(runs, self.blocks, self.super.block_size, self.super.blocks)
        at, within = divmod(layout.SUPERBLOCK_AT, self.super.block_size)
        self.super = layout.superblock(self.blocks(at, 1)[within:], size)
        self._tables.clear()
        self._locate_tables()

    def _at(self, at: int, size: int) -> bytes:
        data = os.pread(self.fd, size, self.offset + at)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), self.offset + at + len(data))
            if not more:
                raise ImageError("the ext file system ends early: incomplete download?")
            data += more
        return data

    def blocks(self, first: int, count: int) -> bytes:
        """The content of blocks, with what the journal has of them."""
        if first < 0 or first + count > self.super.blocks:
            raise ImageError(f"damaged ext file system: it has no block {first + count - 1}")
        size = self.super.block_size
        data = self._at(first * size, count * size)
        if self._journal is None or not self._journal.newer:
            return data
        mended = bytearray(data)
        for number in self._journal.among(first, count):
            mended[(number - first) * size : (number - first + 1) * size] = self._journal.block(number, self._at)
        return bytes(mended)

    def spend(self, count: int) -> None:
        """Takes blocks from what may belong to files."""
        self.budget -= count
        if self.budget < 0:
            raise ImageError("damaged ext file system: blocks belong to several files")

    def inode(self, number: int) -> Inode:
        """An inode by its number."""
        return layout.inode(number, self.raw_inode(number), self.super)

    def raw_inode(self, number: int) -> bytes:
        """The bytes of an inode."""
        system = self.super
        if not 0 < number <= system.inodes:
            raise ImageError(f"damaged ext file system: it has no inode {number}")
        group, index = divmod(number - 1, system.inodes_per_group)
        at = index * system.inode_size
        per_chunk = max(1, _TABLE_CHUNK // system.block_size)
        length = -(-system.inodes_per_group * system.inode_size // system.block_size)
        chunk = at // system.block_size // per_chunk * per_chunk
        start = self.tables[group] + chunk
        data = self._tables.get(start)
        if data is None:
            if len(self._tables) >= _TABLE_CHUNKS:
                del self._tables[next(iter(self._tables))]
            data = self._tables[start] = self.blocks(start, min(per_chunk, length - chunk))
        at -= chunk * system.block_size
        return data[at : at + system.inode_size]

    def resized(self, size: int) -> None:
        """Reads the superblock and the group descriptors again, after another program has changed their number."""
        self.super = layout.superblock(self._at(layout.SUPERBLOCK_AT, layout.SUPERBLOCK_SIZE), size)
        self._tables.clear()
        self._locate_tables()

    # ---- where the data of a file is ----

    def runs(self, inode: Inode) -> Iterator[Run]:
        """The blocks of a file in order, without holes and without what is behind its size."""
        limit = -(-inode.size // self.super.block_size)
        found = self._extents(inode.pointers, 0, _EXTENT_DEPTH) if inode.flags & layout.EXTENTS_FLAG else None
        last: Run | None = None
        for run in found or self._pointed(inode, limit):
            if run.logical >= limit:
                break
            if run.logical + run.length > limit:
                run = Run(run.logical, run.physical, limit - run.logical)
            self._check(run)
            if last is None:
                last = run
            elif last.logical + last.length == run.logical and last.physical + last.length == run.physical:
                last = Run(last.logical, last.physical, last.length + run.length)
            else:
                yield last
                last = run
        if last is not None:
            yield last

    def _check(self, run: Run) -> None:
        if run.physical <= self.super.first_block or run.physical + run.length > self.super.blocks:
            raise ImageError(f"damaged ext file system: a file in block {run.physical}")
        self.spend(run.length)

    def _pointed(self, inode: Inode, limit: int) -> Iterator[Run]:
        """As ext2 and ext3 have it: twelve blocks, then a block of pointers, one of pointers to such, and so on."""
        pointers = array("I", inode.pointers)
        yield from _in_runs(pointers[:12], 0)
        logical, per_block = 12, self.super.block_size // 4
        for level in (1, 2, 3):
            if logical >= limit:
                return
            if pointers[11 + level]:
                yield from self._indirect(pointers[11 + level], level, logical, limit)
            logical += per_block**level

    def _indirect(self, block: int, level: int, logical: int, limit: int) -> Iterator[Run]:
        for number, level_below, start in self.indirect_blocks(block, level, logical, limit):
            if level_below == 1:
                yield from _in_runs(array("I", self.blocks(number, 1)), start)

    def indirect_blocks(self, block: int, level: int, logical: int, limit: int) -> Iterator[tuple[int, int, int]]:
        """The blocks of pointers from `block` on: number, level (1: points to data) and first block of the file."""
        self.spend(1)
        if level > 1:
            below = (self.super.block_size // 4) ** (level - 1)
            for index, pointer in enumerate(array("I", self.blocks(block, 1))):
                if logical + index * below >= limit:
                    break
                if pointer:
                    yield from self.indirect_blocks(pointer, level - 1, logical + index * below, limit)
        yield block, level, logical

    def _extents(self, node: bytes, start: int, depth: int) -> Iterator[Run]:
        magic, count, room, level = struct.unpack_from("<HHHH", node)
        if magic != _EXTENT_MAGIC or count > room or level > depth or 12 + 12 * count > len(node):
            raise ImageError("damaged ext file system: no extents where a file should have them")
        for at in range(12, 12 + 12 * count, 12):
            if level:
                logical, low, high = _EXTENT_INDEX.unpack_from(node, at)
                self.spend(1)
                yield from self._extents(self.blocks(low | high << 32, 1), logical, level - 1)
                start = max(start, logical)
                continue
            logical, length, high, low = _EXTENT.unpack_from(node, at)
            if logical < start:
                raise ImageError("damaged ext file system: the extents of a file are out of order")
            written = length <= _EXTENT_UNWRITTEN
            start = logical + (length if written else length - _EXTENT_UNWRITTEN)
            if written and length:
                yield Run(logical, low | high << 32, length)

    # ---- what is in a file ----

    def data(self, inode: Inode, runs: list[Run]) -> Iterator[bytes]:
        """The data of a file without its holes, in pieces of up to 1 MiB."""
        if inode.flags & layout.INLINE_FLAG:
            yield self.inline(inode)
            return
        size = self.super.block_size
        per_chunk = max(1, _CHUNK // size)
        for run in runs:
            for at in range(0, run.length, per_chunk):
                count = min(per_chunk, run.length - at)
                rest = inode.size - (run.logical + at) * size
                data = self.blocks(run.physical + at, count)
                yield data if rest >= len(data) else data[:rest]

    def inline(self, inode: Inode) -> bytes:
        """The data of a file that is in its inode."""
        more = next((each.value for each in self._in_inode(inode) if each.name == layout.INLINE_DATA), b"")
        return (inode.pointers + more)[: inode.size]

    def content(self, inode: Inode, limit: int, what: str) -> bytes:
        """All of a small file, holes filled."""
        if inode.size > limit:
            raise ImageError(f"damaged ext file system: {what} of {inode.size} bytes")
        if inode.flags & layout.INLINE_FLAG:
            return self.inline(inode)
        content = bytearray(inode.size)
        runs = list(self.runs(inode))
        for run, data in zip(runs, (b"".join(self.data(inode, [run])) for run in runs), strict=True):
            at = run.logical * self.super.block_size
            content[at : at + len(data)] = data
        return bytes(content)

    def link(self, inode: Inode) -> bytes:
        """The text of a symbolic link."""
        on_disk = self.super.block_size // layout.SECTOR if inode.attributes else 0
        fast = not inode.flags & (layout.EXTENTS_FLAG | layout.INLINE_FLAG) and inode.sectors <= on_disk
        if fast and inode.size < len(inode.pointers):
            text = inode.pointers[: inode.size]
        else:
            text = self.content(inode, _LINK_LIMIT, "a link")
        if not text or b"\0" in text:
            raise ImageError("damaged ext file system: a link without a text")
        return text

    def names(self, inode: Inode) -> Iterator[DirectoryEntry]:
        """What is in a directory, but for `.` and `..`, as it comes; an index among the blocks looks like free room."""
        if inode.flags & layout.ENCRYPTED_FLAG:
            raise ImageError("an ext file system with encrypted files")
        if inode.flags & layout.INLINE_FLAG:
            data = self.inline(inode)
            for part in (data[4:60], data[60:]):
                yield from self.entries(part)
            return
        if inode.size > _DIRECTORY_LIMIT:
            raise ImageError(f"damaged ext file system: a directory of {inode.size} bytes")
        for data in self.data(inode, list(self.runs(inode))):
            size = self.super.block_size
            for at in range(0, len(data), size):
                yield from self.entries(data[at : at + size])

    def entries(self, block: bytes) -> Iterator[DirectoryEntry]:
        """What is in a block of a directory, but for `.` and `..`."""
        at, end = 0, len(block)
        while at + 8 <= end:
            number, length, name_size, kind = _ENTRY.unpack_from(block, at)
            if not self.super.incompatible & layout.FILETYPE:
                name_size |= kind << 8
            length = (length & 0xFFFC) | (length & 3) << 16 if 0 < length < 0xFFFF else 65536
            if length < 8 + name_size or at + length > end or length % 4:
                raise ImageError("damaged ext file system: a directory with damaged entries")
            if number:
                name = block[at + 8 : at + 8 + name_size]
                if not name or len(name) > 255 or b"/" in name or b"\0" in name:
                    raise ImageError("damaged ext file system: a directory with a name that cannot be")
                if name not in (b".", b".."):
                    yield DirectoryEntry(name, number)
            at += length

    def attributes(self, inode: Inode) -> dict[bytes, bytes]:
        """The extended attributes of a file, ACLs in the form of getxattr(2)."""
        found = {}
        for each in (*self._in_inode(inode), *self._in_block(inode)):
            if each.name == layout.INLINE_DATA and inode.flags & layout.INLINE_FLAG:
                continue
            value = self.content(self.inode(each.inode), _ATTRIBUTE_LIMIT, "an attribute") if each.inode else each.value
            found[each.name] = layout.acl(value) if each.is_acl else value
        return found

    def _in_inode(self, inode: Inode) -> Iterator[layout.Attribute]:
        tail = inode.tail
        extra = int.from_bytes(tail[:2], "little")
        magic = layout.ATTRIBUTE_MAGIC.to_bytes(4, "little")
        if len(tail) < 8 or tail[extra : extra + 4] != magic:
            return iter(())
        return layout.attributes(tail[extra:], 4, 4)

    def _in_block(self, inode: Inode) -> Iterator[layout.Attribute]:
        if not inode.attributes:
            return iter(())
        if self._attribute_block[0] != inode.attributes:  # files next to each other often share one
            self._attribute_block = (inode.attributes, self.blocks(inode.attributes, 1))
        block = self._attribute_block[1]
        if block[:4] != layout.ATTRIBUTE_MAGIC.to_bytes(4, "little"):
            raise ImageError("damaged ext file system: no extended attributes where a file should have them")
        return layout.attributes(block, layout.ATTRIBUTE_HEADER, 0)


def _in_runs(pointers: "array[int]", logical: int) -> Iterator[Run]:
    """Pointers to data as runs."""
    at, count = 0, len(pointers)
    while at < count:
        first = pointers[at]
        if not first:
            at += 1
            continue
        start = at
        at += 1
        while at < count and pointers[at] == first + at - start:
            at += 1
        yield Run(logical + start, first, at - start)


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
