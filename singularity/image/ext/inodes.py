"""Inodes of an ext2 or ext3 file system on disk: made from members, with their attributes, counted, and freed."""

import os
import stat
import struct
from dataclasses import dataclass, field

from singularity.errors import ImageError
from singularity.image import xattrs
from singularity.image.ext import layout
from singularity.image.ext.block_map import BlockMap, shown
from singularity.image.ext.room import Room
from singularity.image.tree import Kind, Member

_INODE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHH")
_EXTRA = struct.Struct("<HHIIIIIII")


@dataclass(slots=True, kw_only=True)
class Losses:
    """What an ext3 file system has no room for."""

    times: int = 0  # moved into the range of the inode
    attributes: set[bytes] = field(default_factory=set)


class InodeTable:
    """The inodes. `now`, in nanoseconds since 1970, is when files are made; `name`, of the image, is for messages."""

    def __init__(self, room: Room, now: int, name: str) -> None:
        self.room = room
        self.now = now
        self.name = name
        self.losses = Losses()
        self._wide = room.system.super.inode_size >= layout.INODE_CORE + layout.EXTRA_SIZE

    def named(self, path: bytes) -> str:
        """A file for messages."""
        return f"{self.name}: {shown(path)}" if self.name else shown(path)

    def make(self, member: Member, *, links: int, mapped: BlockMap | None = None) -> bytearray:
        """The inode of a new file, whose attributes are written where they have no room in it."""
        system = self.room.system.super
        made = bytearray(system.inode_size)
        size = {Kind.FILE: member.size, Kind.LINK: len(member.target)}.get(member.kind, 0)
        mtime, mtime_extra, moved = layout.pack_time(member.mtime, wide=self._wide)
        now, now_extra, _ = layout.pack_time(self.now, wide=self._wide)
        self.losses.times += moved
        room = system.inode_size - layout.INODE_CORE - layout.EXTRA_SIZE if self._wide else 0
        inside, block = self._attributes(member, room)
        count = (mapped.count if mapped else 0) + bool(block)
        mode = member.kind.value | (0o777 if member.kind is Kind.LINK else member.mode)  # as the kernel makes links
        sectors, pointers = (
            count * (self.room.block_size // layout.SECTOR),
            mapped.pointers.tobytes() if mapped else b"",
        )
        size_low, uid, gid = size & 0xFFFFFFFF, member.uid & 0xFFFF, member.gid & 0xFFFF
        first = (mode, uid, size_low, mtime, now, mtime, 0, gid, links, sectors, 0, 0)
        last = (pointers, 0, block, size >> 32, 0, 0, 0, member.uid >> 16, member.gid >> 16, 0, 0)
        _INODE.pack_into(made, 0, *first, *last)
        if self._wide:
            extra = (layout.EXTRA_SIZE, 0, now_extra, mtime_extra, mtime_extra, now, now_extra, 0, 0)
            _EXTRA.pack_into(made, layout.INODE_CORE, *extra)
            made[system.inode_size - room : system.inode_size - room + len(inside)] = inside
        return made

    def _attributes(self, member: Member, room: int) -> tuple[bytes, int]:
        """Extended attributes as what belongs in the inode, or the block that holds them."""
        if not member.xattrs:
            return b"", 0
        values = {}
        for name, value in member.xattrs.items():
            if not xattrs.is_carried(name):
                continue
            if layout.attribute_number(name)[0]:
                values[name] = value
            else:
                self.losses.attributes.add(name)
        if not values:
            return b"", 0
        inside = layout.pack_attributes(values, room, block=False) if room > 4 else None
        if inside is not None:
            return inside, 0
        area = layout.pack_attributes(values, self.room.block_size, block=True)
        if area is None:
            total = sum(map(len, values.values()))
            what = f"{self.named(member.path)}: {total} bytes of extended attributes, more than ext3 keeps of a file"
            raise ImageError(what)
        block = self.room.blocks(1).first
        self.room.allocator.write(block * self.room.block_size, area)
        return b"", block

    def raw(self, number: int) -> bytes:
        """The bytes of an inode as they are on disk."""
        return self._read(self.room.allocator.inode_at(number), self.room.system.super.inode_size)

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self.room.system.fd, size, self.room.system.offset + at)

    def mode(self, number: int) -> int:
        """Type and permissions of a file that is there."""
        return int.from_bytes(self._read(self.room.allocator.inode_at(number), 2), "little")

    def count_link(self, number: int, change: int) -> int:
        """Gives a file more or fewer names, if it can have so many; how many they are."""
        at = self.room.allocator.inode_at(number) + 26
        links = int.from_bytes(self._read(at, 2), "little") + change
        if 0 <= links <= layout.LINKS_LIMIT:
            self.room.allocator.write(at, links.to_bytes(2, "little"))
        return links

    def clear(self, inode: layout.Inode) -> None:
        """Frees an inode that nothing names any more."""
        if inode.attributes:
            self.give_up_attributes(inode)
        at = self.room.allocator.inode_at(inode.number)
        self.room.allocator.write(at, bytes(self.room.system.super.inode_size))
        self.room.allocator.write(at + 20, struct.pack("<I", self.now // 10**9 & 0xFFFFFFFF or 1))
        self.room.allocator.free_inode(inode.number, directory=inode.type == stat.S_IFDIR)

    def give_up_attributes(self, inode: layout.Inode) -> None:
        """Frees the block of attributes, unless other files share it."""
        at = inode.attributes * self.room.block_size + 4
        users = int.from_bytes(self._read(at, 4), "little")
        if users > 1:  # the kernel shares such blocks
            self.room.allocator.write(at, (users - 1).to_bytes(4, "little"))
        else:
            self.room.allocator.free_block(inode.attributes)
