"""The layout of ext2, ext3 and ext4: superblock, inodes, extended attributes, as they are on disk.

All numbers are little-endian. Layout: the kernel's `Documentation/filesystems/ext4`. Nothing here reads or writes
files; whatever is damaged raises ImageError.
"""

import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from singularity.errors import ImageError

SUPERBLOCK_AT = SUPERBLOCK_SIZE = 1024
MAGIC = 0xEF53
ROOT_INODE = 2
INODE_CORE, EXTRA_SIZE = 128, 32  # bytes of an inode that all have, and of the fields after them that we write
LINKS_LIMIT = 65000
_GROUP_LEAST, _GROUPS_LIMIT = 256, 1 << 21  # blocks of a group, and groups
SECTOR = 512  # the unit of an inode's count of blocks

# Features that a reader must know, and that a writer must know.
FILETYPE, RECOVER, JOURNAL_DEVICE, META_GROUPS, EXTENTS, WIDE, MMP, FLEX = 0x2, 0x4, 0x8, 0x10, 0x40, 0x80, 0x100, 0x200
ATTRIBUTE_INODES, CHECKSUM_SEED, LARGE_DIRECTORY = 0x400, 0x2000, 0x4000
INLINE, ENCRYPT, CASEFOLD = 0x8000, 0x10000, 0x20000
KNOWN = (
    FILETYPE | RECOVER | META_GROUPS | EXTENTS | WIDE | MMP | FLEX | ATTRIBUTE_INODES | CHECKSUM_SEED
    | LARGE_DIRECTORY | INLINE | ENCRYPT | CASEFOLD
)  # fmt: skip
SPARSE_SUPER, LARGE_FILE, BTREE_DIRECTORY = 0x1, 0x2, 0x4

# Flags of an inode.
ENCRYPTED_FLAG, INDEX_FLAG, EXTENTS_FLAG, INLINE_FLAG = 0x800, 0x1000, 0x80000, 0x10000000

_EPOCH_BITS, _NANOSECOND = 3, 10**9
_TIME_LEAST = -(1 << 31)
_OLD_TIMES = range(_TIME_LEAST, 1 << 31)  # seconds that fit an inode of 128 bytes
_TIMES = range(_TIME_LEAST, (1 << 34) + _TIME_LEAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class Superblock:
    """What must be known of a file system; sizes in bytes, counts in blocks."""

    inodes: int
    blocks: int
    first_block: int  # 1 where blocks are 1 KiB, else 0
    block_size: int
    blocks_per_group: int
    inodes_per_group: int
    inode_size: int
    first_inode: int  # that is not reserved
    descriptor_size: int
    first_meta_group: int
    journal_inode: int
    compatible: int
    incompatible: int
    read_only: int  # features that only a writer must know
    clean: bool  # unmounted, and no error known

    @property
    def groups(self) -> int:
        """How many block groups there are."""
        return -(-(self.blocks - self.first_block) // self.blocks_per_group)

    @property
    def needs_recovery(self) -> bool:
        """Whether the journal holds what the file system lacks."""
        return bool(self.incompatible & RECOVER)

    def group_start(self, group: int) -> int:
        """The first block of a group."""
        return self.first_block + group * self.blocks_per_group

    def blocks_in(self, group: int) -> int:
        """How many blocks a group has: all the same, but for the last."""
        return min(self.blocks_per_group, self.blocks - self.group_start(group))

    def has_copy(self, group: int) -> bool:
        """Whether a group begins with a superblock: each, or 0, 1 and the powers of 3, 5 and 7."""
        if not self.read_only & SPARSE_SUPER or group <= 1:
            return True
        return any(group == _highest_power(base, group) for base in (3, 5, 7))

    def descriptor_block(self, number: int) -> int:
        """Where a block of group descriptors lies."""
        if self.incompatible & META_GROUPS and number >= self.first_meta_group:
            group = number * (self.block_size // self.descriptor_size)
            boot = group == self.first_block == 0 and self.block_size == SUPERBLOCK_AT
            return self.group_start(group) + self.has_copy(group) + boot
        return SUPERBLOCK_AT // self.block_size + 1 + number


def _highest_power(base: int, limit: int) -> int:
    power = base
    while power * base <= limit:
        power *= base
    return power


def superblock(block: bytes, room: int) -> Superblock:
    """Reads the superblock of a file system that `room` bytes are there for. Raises ImageError."""
    if len(block) < SUPERBLOCK_SIZE or _u16(block, 56) != MAGIC:
        raise ImageError("no ext file system")
    modern, log = _u32(block, 76) > 0, _u32(block, 24)
    incompatible = _u32(block, 96) if modern else 0
    wide = bool(incompatible & WIDE)
    found = Superblock(
        inodes=_u32(block, 0),
        blocks=_u32(block, 4) | (_u32(block, 336) << 32 if wide else 0),
        first_block=_u32(block, 20),
        block_size=1024 << min(log, 7),
        blocks_per_group=_u32(block, 32),
        inodes_per_group=_u32(block, 40),
        inode_size=_u16(block, 88) if modern else INODE_CORE,
        first_inode=_u32(block, 84) if modern else 11,
        descriptor_size=_u16(block, 254) if wide else 32,
        first_meta_group=_u32(block, 260),
        journal_inode=_u32(block, 224),
        compatible=_u32(block, 92) if modern else 0,
        incompatible=incompatible,
        read_only=_u32(block, 100) if modern else 0,
        clean=_u16(block, 58) & 3 == 1,
    )
    if log > 6 or not _is_possible(found):
        raise ImageError("damaged ext superblock")
    if incompatible & JOURNAL_DEVICE:
        raise ImageError("an ext journal, not a file system")
    if incompatible & ~KNOWN:
        raise ImageError(f"an ext file system with unknown features ({incompatible & ~KNOWN:#x})")
    if found.blocks * found.block_size > room:
        missing = found.blocks * found.block_size - room
        raise ImageError(f"the ext file system lacks its last {missing} bytes: incomplete download?")
    return found


def _is_possible(found: Superblock) -> bool:
    bits = 8 * found.block_size
    return (
        found.blocks > found.first_block <= 1
        and found.blocks_per_group >= _GROUP_LEAST
        and found.groups <= _GROUPS_LIMIT
        and 0 < found.inodes_per_group <= bits
        and INODE_CORE <= found.inode_size <= found.block_size
        and found.inode_size & (found.inode_size - 1) == 0
        and 32 <= found.descriptor_size <= 1024
        and found.descriptor_size & (found.descriptor_size - 1) == 0
        and ROOT_INODE < found.inodes <= found.groups * found.inodes_per_group
    )


_INODE = struct.Struct("<HH I 4x4xI4x HH I I4x 60s 4x I I 4x HH HH")


class Inode(NamedTuple):
    """One file as its inode tells; `sectors` in units of 512 bytes, `mtime` in nanoseconds since 1970."""

    number: int
    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    links: int
    sectors: int
    flags: int
    pointers: bytes  # 60: block numbers, the head of an extent tree, or data
    attributes: int  # the block of its extended attributes, or 0
    tail: bytes  # of the inode, after the first 128 bytes

    @property
    def type(self) -> int:
        """The type of file, as in `st_mode`."""
        return stat.S_IFMT(self.mode)


def inode(number: int, raw: bytes, system: Superblock) -> Inode:
    """Reads an inode."""
    mode, uid, low, mtime, gid, links, sectors, flags, pointers, *more = _INODE.unpack_from(raw)
    acl, high, sectors_high, acl_high, uid_high, gid_high = more
    size = low
    if stat.S_ISREG(mode) or system.incompatible & LARGE_DIRECTORY:
        size |= high << 32
    extra = 0
    if len(raw) >= INODE_CORE + 12 and _u16(raw, INODE_CORE) >= 12:
        extra = _u32(raw, INODE_CORE + 8)
    return Inode(
        number=number,
        mode=mode,
        uid=uid | uid_high << 16,
        gid=gid | gid_high << 16,
        size=size,
        mtime=_time(mtime, extra),
        links=links,
        sectors=sectors | sectors_high << 32,
        flags=flags,
        pointers=pointers,
        attributes=acl | acl_high << 32 if system.incompatible & WIDE else acl,
        tail=raw[INODE_CORE:],
    )


def _time(seconds: int, extra: int) -> int:
    signed = seconds - ((seconds & 0x80000000) << 1)
    return (signed + ((extra & _EPOCH_BITS) << 32)) * _NANOSECOND + min(extra >> 2, _NANOSECOND - 1)


def pack_time(time: int, *, wide: bool) -> tuple[int, int, bool]:
    """A time as an inode has it: seconds, what has no room there, and whether it had to be moved into the range.

    `wide`: the inode has room for nanoseconds and for the years after 2038.
    """
    seconds, nanoseconds = divmod(time, _NANOSECOND)
    known = _TIMES if wide else _OLD_TIMES
    if seconds not in known:
        moved = known[0] if seconds < 0 else known[-1]
        return (*pack_time(moved * _NANOSECOND, wide=wide)[:2], True)
    return seconds & 0xFFFFFFFF, (((seconds - _TIME_LEAST) >> 32) | nanoseconds << 2) if wide else 0, False


def device(pointers: bytes) -> int:
    """The number of a device node: the old form in the first word, the new one in the second."""
    old, new = struct.unpack_from("<II", pointers)
    if old:
        return os.makedev(old >> 8 & 0xFF, old & 0xFF)
    return os.makedev((new & 0xFFF00) >> 8, (new & 0xFF) | (new >> 12 & 0xFFF00))


def pack_device(number: int) -> bytes:
    """The inverse of `device`."""
    major, minor = os.major(number), os.minor(number)
    if major < 256 and minor < 256:
        return struct.pack("<II", major << 8 | minor, 0)
    if major >= 1 << 12 or minor >= 1 << 20:
        raise ImageError(f"device number {major}:{minor} has no room in an ext file system")
    return struct.pack("<II", 0, (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12)


# ---- extended attributes ----

ATTRIBUTE_MAGIC = 0xEA020000
ATTRIBUTE_HEADER = 32  # bytes before the entries in a block
_ENTRY = struct.Struct("<BBHIII")
_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
    7: b"system.",
    8: b"system.richacl",
}
_WHOLE = frozenset({2, 3, 8})  # numbers that stand for a whole name
_ACLS = frozenset({2, 3})
_ACL_VERSION, _ACL_WIRE_VERSION, _ACL_NAMED, _ACL_NOBODY = 1, 2, (0x02, 0x08), 0xFFFFFFFF
INLINE_DATA = b"system.data"


class Attribute(NamedTuple):
    """An extended attribute where its value lies in an inode or block, or in an inode of its own."""

    name: bytes
    value: bytes
    inode: int  # 0, or where the value is
    size: int
    is_acl: bool


def attributes(area: bytes, entries: int, values: int) -> Iterator[Attribute]:
    """The attributes in `area`: entries from the offset `entries` on, offsets of values counted from `values`."""
    at, end = entries, len(area)
    while at + 4 <= end and area[at : at + 4] != b"\0\0\0\0":
        if at + _ENTRY.size > end:
            raise ImageError("damaged extended attributes")
        length, index, offset, number, size, _ = _ENTRY.unpack_from(area, at)
        name = area[at + _ENTRY.size : at + _ENTRY.size + length]
        prefix = _PREFIXES.get(index)
        if len(name) < length or b"\0" in name or prefix is None or (index in _WHOLE and name):
            raise ImageError("damaged extended attributes")
        if not number and size and (values + offset + size > end or offset < entries - values):
            raise ImageError("damaged extended attributes")
        value = b"" if number else area[values + offset : values + offset + size]
        yield Attribute(prefix + name, value, number, size, index in _ACLS)
        at += (_ENTRY.size + length + 3) & ~3


def acl(value: bytes) -> bytes:
    """An access control list as getxattr(2) gives it, from what is on disk."""
    if len(value) < 4 or _u32(value, 0) != _ACL_VERSION:
        raise ImageError("damaged access control list")
    found, at = [struct.pack("<I", _ACL_WIRE_VERSION)], 4
    while at < len(value):
        if at + 4 > len(value):
            raise ImageError("damaged access control list")
        tag, permissions = struct.unpack_from("<HH", value, at)
        named = tag in _ACL_NAMED
        if named and at + 8 > len(value):
            raise ImageError("damaged access control list")
        found.append(struct.pack("<HHI", tag, permissions, _u32(value, at + 4) if named else _ACL_NOBODY))
        at += 8 if named else 4
    return b"".join(found)


def pack_acl(value: bytes) -> bytes:
    """The inverse of `acl`."""
    if len(value) % 8 != 4 or _u32(value, 0) != _ACL_WIRE_VERSION:
        raise ImageError("damaged access control list")
    found = [struct.pack("<I", _ACL_VERSION)]
    for tag, permissions, owner in struct.iter_unpack("<HHI", value[4:]):
        found.append(struct.pack("<HH", tag, permissions))
        if tag in _ACL_NAMED:
            found.append(struct.pack("<I", owner))
    return b"".join(found)


def attribute_number(name: bytes) -> tuple[int, bytes]:
    """An attribute's name as number of its prefix and rest; number 0 where an ext file system has no such prefix."""
    for index, prefix in _PREFIXES.items():
        if index in _WHOLE:
            if name == prefix:
                return index, b""
        elif index != 7 and name.startswith(prefix) and len(prefix) < len(name) <= len(prefix) + 255:
            return index, name[len(prefix) :]
    return 0, name


def pack_attributes(values: Mapping[bytes, bytes], room: int, *, block: bool) -> bytes | None:
    """All of `values` as an area of `room` bytes, of an inode or of a `block`; None when they have no room there."""
    head = ATTRIBUTE_HEADER if block else 4
    numbered = sorted((*_by_order(name), value) for name, value in values.items())
    entries, tail = bytearray(), b""
    block_hash = 0
    for index, _, rest, value in numbered:
        content = pack_acl(value) if index in _ACLS else value
        padded = content + bytes(-len(content) % 4)
        tail = padded + tail
        offset = room - len(tail) - (0 if block else 4) if content else 0
        if offset < 0:
            return None
        number = _hash(rest, padded)
        block_hash = ((block_hash << 16) ^ (block_hash >> 16) ^ number) & 0xFFFFFFFF
        entries += _ENTRY.pack(len(rest), index, offset, 0, len(content), number) + rest + bytes(-len(rest) % 4)
    if head + len(entries) + 4 + len(tail) > room:
        return None
    start = struct.pack("<IIII16x", ATTRIBUTE_MAGIC, 1, 1, block_hash) if block else struct.pack("<I", ATTRIBUTE_MAGIC)
    return start + entries + bytes(room - head - len(entries) - len(tail)) + tail


def _by_order(name: bytes) -> tuple[int, int, bytes]:
    index, rest = attribute_number(name)
    return index, len(rest), rest


def _hash(name: bytes, padded: bytes) -> int:
    number = 0
    for byte in name:
        number = ((number << 5) ^ (number >> 27) ^ byte) & 0xFFFFFFFF
    for (word,) in struct.iter_unpack("<I", padded):
        number = ((number << 16) ^ (number >> 16) ^ word) & 0xFFFFFFFF
    return number


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
