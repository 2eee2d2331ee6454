"""The attributes of the root directory of a squashfs file system, set after mksquashfs has written it.

mksquashfs 4.5 that reads a tar archive gives the root directory to whoever runs it and dates it now, whatever its
options and the archive say. Its tables are uncompressed (`-noI`), so the few bytes are put right in place.
Layout: the kernel's `fs/squashfs/squashfs_fs.h`; all numbers are little-endian.
"""

import os
import struct
from dataclasses import dataclass

from singularity.errors import ImageError

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_MAGIC = b"hsqs"
_INODE = struct.Struct("<HHHHI")  # type, mode, index of the owner, index of the group, time
_DIRECTORIES = (1, 8)  # types of inodes, basic and extended
_BLOCK, _UNCOMPRESSED = 8192, 0x8000  # bytes of a metadata block; the bit of its length
_IDS_A_BLOCK = _BLOCK // 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What a root directory has; `time` in seconds since 1970."""

    mode: int
    uid: int
    gid: int
    time: int


def set_attributes(fd: int, offset: int, wanted: Attributes) -> bool:
    """Gives the root directory of the file system `offset` bytes into a file its attributes.

    Returns False where an owner cannot be set, since no file but the root directory has it; the root directory is
    root's then, or the caller's in a file system with nothing of root's. Raises ImageError for compressed tables.
    """
    fields = _SUPERBLOCK.unpack(os.pread(fd, _SUPERBLOCK.size, offset))
    magic, count, reference, id_table, inode_table = fields[0], fields[8], fields[11], fields[13], fields[15]
    if magic != _MAGIC:
        raise ImageError("no squashfs file system was written")
    inode = _Place(fd, offset + inode_table + (reference >> 16), reference & 0xFFFF)
    kind, _, *owners, _ = _INODE.unpack(inode.read(_INODE.size))
    if kind not in _DIRECTORIES:
        raise ImageError("the root of the squashfs file system is no directory")
    ids = _ids(fd, offset, id_table, count)
    asked = (wanted.uid, wanted.gid)
    for number, owner in enumerate(asked):
        known = owner if owner in ids else 0
        owners[number] = ids.index(known) if known in ids else owners[number]
    inode.write(_INODE.pack(kind, wanted.mode, *owners, wanted.time))
    return set(asked) <= set(ids)


def _ids(fd: int, offset: int, table: int, count: int) -> tuple[int, ...]:
    """The table of owners and groups."""
    blocks = -(-count // _IDS_A_BLOCK)
    starts = struct.unpack(f"<{blocks}Q", os.pread(fd, 8 * blocks, offset + table))
    sizes = [min(count - number * _IDS_A_BLOCK, _IDS_A_BLOCK) * 4 for number in range(blocks)]
    data = b"".join(_Place(fd, offset + start, 0).read(size) for start, size in zip(starts, sizes, strict=True))
    return struct.unpack(f"<{count}I", data)


class _Place:
    """Bytes of a table of uncompressed metadata blocks, from `at` bytes into the block that begins at `block`."""

    def __init__(self, fd: int, block: int, at: int) -> None:
        self.fd, self.block, self.at = fd, block, at

    def _pieces(self, size: int) -> list[tuple[int, int]]:
        """Where in the file the next `size` bytes are, and how many of them in one piece."""
        block, at, pieces = self.block, self.at, []
        while size:
            (length,) = struct.unpack("<H", os.pread(self.fd, 2, block))
            if not length & _UNCOMPRESSED:
                raise ImageError("the tables of the squashfs file system are compressed")
            length &= ~_UNCOMPRESSED
            if at >= length:
                raise ImageError("the tables of the squashfs file system are cut short")
            here = min(size, length - at)
            pieces.append((block + 2 + at, here))
            block, at, size = block + 2 + length, 0, size - here
        return pieces

    def read(self, size: int) -> bytes:
        return b"".join(os.pread(self.fd, length, place) for place, length in self._pieces(size))

    def write(self, data: bytes) -> None:
        for place, length in self._pieces(len(data)):
            if os.pwrite(self.fd, data[:length], place) != length:
                raise ImageError("the squashfs file system cannot be changed")
            data = data[length:]
