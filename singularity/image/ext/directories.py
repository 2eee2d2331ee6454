"""Directories of an ext2 or ext3 file system that are changed: their names in memory, their blocks on disk.

They have no index: any kernel reads them, and makes an index when one grows.
"""

import struct
from array import array
from collections import OrderedDict

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image.ext.block_map import BlockMap
from singularity.image.ext.room import Room

_LOADED = 512  # directories whose names are in memory


class Directory:
    """A directory that was touched: its inode and blocks, and, while it is loaded, its names and its last block."""

    __slots__ = ("blocks", "changed", "indirect", "inode", "last", "loaded", "names", "number", "tail", "used")

    def __init__(self, number: int, inode: bytearray) -> None:
        self.number = number
        self.inode = inode  # all its bytes; size, blocks and pointers are put in when it is written
        self.blocks = array("I")
        self.indirect: list[int] = []  # blocks of pointers that it has on disk
        self.changed = False
        self.loaded = False
        self.names: dict[bytes, int] = {}
        self.tail = bytearray()
        self.last, self.used = -1, 0  # offset of the last entry of the last block, and of what is free after it

    @property
    def links(self) -> int:
        """How many names it has: its own, and `..` in those below."""
        return int.from_bytes(self.inode[26:28], "little")

    @links.setter
    def links(self, count: int) -> None:
        if count > layout.LINKS_LIMIT:
            raise ImageError(f"a directory with more than {layout.LINKS_LIMIT} directories in it")
        struct.pack_into("<H", self.inode, 26, count)


class Directories:
    """Those that were touched, by path."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.by_path: dict[bytes, Directory] = {}
        self._loaded: OrderedDict[int, Directory] = OrderedDict()

    def forget(self, path: bytes) -> None:
        """One that is removed."""
        del self._loaded[self.by_path.pop(path).number]

    def load(self, directory: Directory) -> Directory:
        """The directory with its names in memory."""
        if directory.loaded:
            self._loaded.move_to_end(directory.number)
            return directory
        directory.names = {}
        inode = layout.inode(directory.number, bytes(directory.inode), self.room.system.super)
        if inode.flags & layout.INDEX_FLAG:  # without the flag its blocks are those of a plain directory
            struct.pack_into("<I", directory.inode, 32, inode.flags & ~layout.INDEX_FLAG)
            directory.changed = True
        for block in directory.blocks:
            data = self.room.system.blocks(block, 1)
            directory.names.update(self.room.system.entries(data))
        directory.tail = bytearray(data) if directory.blocks else bytearray()
        if not directory.blocks:
            raise ImageError("damaged ext file system: a directory without a block")
        directory.last, directory.used = self._free_room(directory.tail)
        directory.loaded = True
        self.keep(directory)
        return directory

    def keep(self, directory: Directory) -> None:
        """Has the names of a directory in memory, and those of the one that was used longest ago on disk alone."""
        self._loaded[directory.number] = directory
        while len(self._loaded) > _LOADED:
            _, old = self._loaded.popitem(last=False)
            self._unload(old)

    def _unload(self, directory: Directory) -> None:
        self.room.allocator.write(directory.blocks[-1] * self.room.block_size, directory.tail)
        directory.names, directory.tail, directory.loaded = {}, bytearray(), False

    def _free_room(self, block: bytearray) -> tuple[int, int]:
        """The last entry of a block of a directory, and where what it has too much begins."""
        at, last, used = 0, -1, 0
        while at + 8 <= len(block):
            number, length, name_size = struct.unpack_from("<IHB", block, at)
            if number:
                last, used = at, at + _entry_size(name_size)
            at += length if 0 < length < 0xFFFF else 65536
        return last, used

    def name(self, directory: Directory, name: bytes, number: int, kind: int) -> None:
        """Makes an inode known by a name, in place of what had it."""
        if name in directory.names:
            self._patch(directory, name, number, kind)
        else:
            self._append(directory, name, number, kind)
        directory.names[name] = number
        directory.changed = True

    def _append(self, directory: Directory, name: bytes, number: int, kind: int) -> None:
        need = _entry_size(len(name))
        if self.room.block_size - directory.used < need:
            self.room.allocator.write(directory.blocks[-1] * self.room.block_size, directory.tail)
            directory.blocks.append(self.room.blocks(1).first)
            directory.tail = bytearray(self.room.block_size)
            directory.last, directory.used = -1, 0
        if directory.last >= 0:
            struct.pack_into("<H", directory.tail, directory.last + 4, directory.used - directory.last)
        at = directory.used
        length = length_field(self.room.block_size - at)
        struct.pack_into(f"<IHBB{need - 8}s", directory.tail, at, number, length, len(name), kind, name)
        directory.last, directory.used = at, at + need

    def _patch(self, directory: Directory, name: bytes, number: int, kind: int) -> None:
        """Gives the entry of a name another inode."""
        for block in directory.blocks:
            is_tail = block == directory.blocks[-1]
            data = directory.tail if is_tail else bytearray(self.room.system.blocks(block, 1))
            at = 0
            while at + 8 <= len(data):
                there, length, size = struct.unpack_from("<IHB", data, at)
                if there and data[at + 8 : at + 8 + size] == name:
                    struct.pack_into("<IHBB", data, at, number, length, size, kind)
                    if not is_tail:
                        self.room.allocator.write(block * self.room.block_size, data)
                    return
                at += length if 0 < length < 0xFFFF else 65536
        raise ImageError("damaged ext file system: a name is gone")

    def finish(self) -> None:
        """Writes what is in memory."""
        for directory in self.by_path.values():
            if directory.loaded:
                self.room.allocator.write(directory.blocks[-1] * self.room.block_size, directory.tail)
            if directory.changed:
                self._write(directory)

    def _write(self, directory: Directory) -> None:
        for block in directory.indirect:
            self.room.allocator.free_block(block)
        mapped = BlockMap(self.room)
        mapped.put(directory.blocks)
        mapped.close()
        inode = directory.inode
        block = int.from_bytes(inode[104:108], "little")
        size = len(directory.blocks) * self.room.block_size
        struct.pack_into("<I", inode, 4, size)
        struct.pack_into("<I", inode, 28, (mapped.count + bool(block)) * (self.room.block_size // layout.SECTOR))
        inode[40:100] = mapped.pointers.tobytes()
        self.room.allocator.write(self.room.allocator.inode_at(directory.number), inode)


def _entry_size(name_size: int) -> int:
    return (8 + name_size + 3) & ~3


def length_field(length: int) -> int:
    """A length of up to 64 KiB as 16 bits have it."""
    return length if length < 65536 else 0xFFFF
