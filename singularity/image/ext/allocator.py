"""Free blocks and inodes of an ext2 or ext3 file system, in its bitmaps; taken from the front: the end stays free.

The group descriptors and the superblock are read once, kept, and written by `flush`.
"""

import os
import struct
from collections import OrderedDict
from typing import NamedTuple

from singularity.errors import ImageError
from singularity.files import write_at
from singularity.image.ext import layout
from singularity.image.ext.filesystem import Filesystem

_WRITABLE = layout.FILETYPE
_WRITABLE_READ_ONLY = layout.SPARSE_SUPER | layout.LARGE_FILE | layout.BTREE_DIRECTORY
_BITMAPS_KEPT = 64
_COUNTS = struct.Struct("<HHH")  # of a group descriptor, from byte 12 on: free blocks, free inodes, directories
_COUNTS_AT = 12


class FullError(ImageError):
    """No block or no inode is left."""


class Blocks(NamedTuple):
    """Blocks that follow each other."""

    first: int
    length: int


class _Bitmap:
    """One group's bitmap: a set bit is a block or inode in use."""

    def __init__(self, data: bytes, bits: int) -> None:
        self.data = bytearray(data)
        self.bits = bits
        self.dirty = False
        self.free = self._runs()

    def _runs(self) -> list[tuple[int, int]]:
        """The free parts, start and end each, in order; reversed, so that the first is taken off the end."""
        number = int.from_bytes(self.data, "little") & (1 << self.bits) - 1
        text = format(number, f"0{self.bits}b")[::-1]
        found, at = [], text.find("0")
        while at >= 0:
            end = text.find("1", at)
            end = self.bits if end < 0 else end
            found.append((at, end))
            at = text.find("0", end)
        return found[::-1]

    def take(self, want: int) -> Blocks | None:
        if not self.free:
            return None
        start, end = self.free.pop()
        count = min(want, end - start)
        if start + count < end:
            self.free.append((start + count, end))
        self._mark(start, start + count)
        return Blocks(start, count)

    def _mark(self, start: int, end: int) -> None:
        self.dirty = True
        while start < end and start % 8:
            self.data[start // 8] |= 1 << start % 8
            start += 1
        whole = (end - start) // 8
        self.data[start // 8 : start // 8 + whole] = b"\xff" * whole
        for bit in range(start + whole * 8, end):
            self.data[bit // 8] |= 1 << bit % 8

    def clear(self, bit: int) -> bool:
        """Frees one; False when it was free."""
        if not self.data[bit // 8] & 1 << bit % 8:
            return False
        self.data[bit // 8] &= ~(1 << bit % 8)
        self.dirty = True
        self.free = []  # until `renew`
        return True

    def renew(self) -> None:
        self.free = self._runs()


def is_known(system: layout.Superblock) -> bool:
    """Whether all features of a file system are known here to whoever writes: those of ext2 and ext3."""
    unknown = system.incompatible & ~(_WRITABLE | layout.RECOVER), system.read_only & ~_WRITABLE_READ_ONLY
    return not any(unknown) and bool(system.incompatible & layout.FILETYPE)


class Allocator:
    """What is free in a file system that nobody else uses. Raises FullError; ImageError for one it cannot change."""

    def __init__(self, system: Filesystem) -> None:
        self.system = system
        self.super = system.super
        self.raw_super = bytearray()
        self._refuse()
        self._load()

    def _refuse(self) -> None:
        system = self.super
        if system.needs_recovery:
            raise ImageError("the ext file system was not unmounted", hint="e2fsck -fy plays its journal back")
        if not is_known(system):
            raise ImageError("an ext4 file system, or an unusual one: only ext2 and ext3 can be written to here")
        if not system.clean:
            raise ImageError("the ext file system has errors, or is in use", hint="e2fsck -fy mends it")

    def _load(self) -> None:
        system, self.super = self.system, self.system.super
        size = self.super.block_size
        self.raw_super = bytearray(self._pread(layout.SUPERBLOCK_AT, layout.SUPERBLOCK_SIZE))
        self._table_at = self.super.descriptor_block(0) * size
        length = -(-self.super.groups * 32 // size) * size
        self._table = bytearray(self._pread(self._table_at, length))
        self._block_maps: OrderedDict[int, _Bitmap] = OrderedDict()
        self._inode_maps: OrderedDict[int, _Bitmap] = OrderedDict()
        self._block_group = self._inode_group = 0
        self.tables = system.tables

    def _pread(self, at: int, size: int) -> bytes:
        data = os.pread(self.system.fd, size, self.system.offset + at)
        if len(data) < size:
            raise ImageError("the ext file system ends early")
        return data

    def write(self, at: int, data: bytes | bytearray | memoryview) -> None:
        """Writes bytes of the file system."""
        write_at(self.system.fd, data, at + self.system.offset)

    # ---- taking ----

    def blocks(self, want: int) -> Blocks:
        """The next free blocks: `want` of them, or as many as follow each other."""
        while self._block_group < self.super.groups:
            group = self._block_group
            found = self._block_map(group).take(want)
            if found:
                self._count(group, blocks=-found.length)
                return Blocks(self.super.group_start(group) + found.first, found.length)
            self._block_group += 1
        raise FullError("no block is left")

    def inode(self, *, directory: bool) -> int:
        """The next free inode."""
        while self._inode_group < self.super.groups:
            group = self._inode_group
            found = self._inode_map(group).take(1)
            if found:
                self._count(group, inodes=-1, directories=int(directory))
                return group * self.super.inodes_per_group + found.first + 1
            self._inode_group += 1
        raise FullError("no inode is left")

    # ---- giving back ----

    def free_block(self, number: int) -> None:
        """A block that no file needs any more."""
        group, bit = divmod(number - self.super.first_block, self.super.blocks_per_group)
        bitmap = self._block_map(group)
        if bitmap.clear(bit):
            self._count(group, blocks=1)
            self._block_group = min(self._block_group, group)
            bitmap.renew()

    def free_blocks(self, first: int, count: int) -> None:
        """Such blocks, one after another."""
        for number in range(first, first + count):
            self.free_block(number)

    def free_inode(self, number: int, *, directory: bool) -> None:
        """An inode that no directory names any more."""
        group, bit = divmod(number - 1, self.super.inodes_per_group)
        bitmap = self._inode_map(group)
        if bitmap.clear(bit):
            self._count(group, inodes=1, directories=-int(directory))
            self._inode_group = min(self._inode_group, group)
            bitmap.renew()

    def inode_at(self, number: int) -> int:
        """Where an inode is, in bytes."""
        group, index = divmod(number - 1, self.super.inodes_per_group)
        return self.tables[group] * self.super.block_size + index * self.super.inode_size

    # ---- counts and bitmaps ----

    def _count(self, group: int, *, blocks: int = 0, inodes: int = 0, directories: int = 0) -> None:
        at = group * 32 + _COUNTS_AT
        there = _COUNTS.unpack_from(self._table, at)
        changed = [max(0, old + new) for old, new in zip(there, (blocks, inodes, directories), strict=True)]
        _COUNTS.pack_into(self._table, at, *changed)

    def _block_map(self, group: int) -> _Bitmap:
        return self._map(self._block_maps, group, 0, self.super.blocks_in(group))

    def _inode_map(self, group: int) -> _Bitmap:
        return self._map(self._inode_maps, group, 4, self.super.inodes_per_group)

    def _map(self, maps: "OrderedDict[int, _Bitmap]", group: int, field: int, bits: int) -> _Bitmap:
        found = maps.get(group)
        if found is not None:
            return found
        if len(maps) >= _BITMAPS_KEPT:
            old, bitmap = maps.popitem(last=False)
            self._write_map(old, field, bitmap)
        block = self._number(group, field)
        maps[group] = found = _Bitmap(self.system.blocks(block, 1), bits)
        return found

    def _number(self, group: int, field: int) -> int:
        return int.from_bytes(self._table[group * 32 + field : group * 32 + field + 4], "little")

    def _write_map(self, group: int, field: int, bitmap: _Bitmap) -> None:
        if bitmap.dirty:
            self.write(self._number(group, field) * self.super.block_size, bitmap.data)
            bitmap.dirty = False

    def used_blocks(self) -> int:
        """How many blocks are in use, those of the file system itself among them."""
        return self.super.blocks - self._free(0)

    def used_inodes(self) -> int:
        """How many inodes are in use, the reserved ones among them."""
        return self.super.inodes - self._free(1)

    def _free(self, field: int) -> int:
        """What all groups have free together: blocks, field 0 of the counts, or inodes, field 1."""
        total = 0
        for group in range(self.super.groups):
            total += _COUNTS.unpack_from(self._table, group * 32 + _COUNTS_AT)[field]
        return total

    def flush(self, *, clean: bool, copies: bool = False) -> None:
        """Writes what is kept; `clean` says that nothing is half done, `copies` also renews the superblock's copies."""
        for field, maps in ((0, self._block_maps), (4, self._inode_maps)):
            for group, bitmap in maps.items():
                self._write_map(group, field, bitmap)
        self.write(self._table_at, self._table)
        for at, value in (
            (12, self.super.blocks - self.used_blocks()),
            (16, self.super.inodes - self.used_inodes()),
        ):
            struct.pack_into("<I", self.raw_super, at, value)
        struct.pack_into("<H", self.raw_super, 58, 1 if clean else 0)
        self.write(layout.SUPERBLOCK_AT, self.raw_super)
        for group in range(1, self.super.groups if copies else 0):
            if self.super.has_copy(group):
                self._write_copy(group)

    def _write_copy(self, group: int) -> None:
        copy = bytearray(self.raw_super)
        struct.pack_into("<H", copy, 90, group)
        start = self.super.group_start(group) * self.super.block_size
        self.write(start, copy)
        self.write(start + self.super.block_size, self._table)

    def reload(self) -> None:
        """After the file system has grown or shrunk by another program."""
        self.system.resized(os.fstat(self.system.fd).st_size - self.system.offset)
        self._load()
