"""An ext2, ext3 or ext4 file system in a file, by its parts: blocks, inodes, files, names, attributes. Reads only.

One whose journal was not played back, as a killed program or a crash leaves it, is read as if it had been. Every block
is bounds-checked and belongs to one file, so that reading ends, whatever the image says.
"""

import os
import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image.ext.journal import Journal
from singularity.image.ext.layout import Inode

_CHUNK = 1 << 20  # bytes read at once, at most
_TABLE_CHUNK, _TABLE_CHUNKS = 16 << 10, 64  # bytes of an inode table read at once, and how many of these are kept
_DIRECTORY_LIMIT = 1 << 30  # bytes
_LINK_LIMIT = 4096
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


class Inodes:
    """Its inodes and blocks, and where the data of a file is. Raises ImageError; OSError for what cannot be read."""

    def __init__(self, fd: int, offset: int, size: int, *, limited: bool = True) -> None:
        self.fd = fd
        self.offset = offset
        self._journal: Journal | None = None
        self.super = layout.superblock(self._at(layout.SUPERBLOCK_AT, min(size, layout.SUPERBLOCK_SIZE)), size)
        self._tables: dict[int, bytes] = {}
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


class Filesystem(Inodes):
    """The same by its files: their data, names and attributes."""

    _attribute_block: tuple[int, bytes] = (0, b"")  # the one that was read last: its number, its content

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
