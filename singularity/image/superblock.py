"""The superblocks of squashfs, ext2 to ext4, and EROFS: enough of them to tell an image from a damaged one.

The rules are those of `launcher/image/squashfs.c`, `ext.c` and `erofs.c`; `tests/vectors` holds both to one verdict.
"""

import struct
from typing import BinaryIO

from singularity.errors import ImageError

_SQUASHFS = struct.Struct("<4sI4xI4xHH2xHHHQQQ8xQQ8x8x")
_SQUASHFS_SIZE = 96
_COMPRESSIONS = range(1, 7)  # gzip, lzma, lzo, xz, lz4, zstd
_LZMA = 2  # known neither to the kernel nor to our server
_METADATA_SIZE = 8192
_INT64_LIMIT = 1 << 63

_EXT_AT, _EXT_SIZE = 1024, 1024
_EXT_MAGIC = 0xEF53
_JOURNAL_DEVICE, _64BIT = 0x8, 0x80
_EROFS = struct.Struct("<I8xBxHQ12xII36xI2xH40x")
_EROFS_AT, _EROFS_MAGIC, _EROFS_WIDE = 1024, 0xE0F5E1E2, 0x80
_DAMAGED_SQUASHFS = "damaged squashfs superblock"
_DAMAGED_EXT = "damaged ext3 superblock"
_AGAIN = "pull or build it again"
_INCOMPLETE = "pull it again"


def is_squashfs(file: BinaryIO, offset: int, room: int) -> bool:
    """Whether a squashfs begins at `offset`, where `room` bytes are. Raises ImageError for one that cannot be used."""
    file.seek(offset)
    block = file.read(min(_SQUASHFS_SIZE, room))
    if not block.startswith(b"hsqs"):
        return False
    if len(block) < _SQUASHFS_SIZE:
        raise ImageError("the squashfs ends within its superblock: incomplete download?", hint=_INCOMPLETE)
    _, inode_count, block_size, compression, log, id_count, major, minor, root, used, ids, inodes, directories = (
        _SQUASHFS.unpack(block)
    )
    if (major, minor) != (4, 0):
        raise ImageError(f"squashfs version {major}.{minor}", hint="only 4.0 is known: make it again")
    if compression not in _COMPRESSIONS:
        raise ImageError(f"squashfs with the unknown compression {compression}", hint="damaged?")
    if compression == _LZMA:
        raise ImageError("squashfs with lzma, which nothing mounts", hint="unsquashfs and mksquashfs -comp xz help")
    if not 12 <= log <= 20 or block_size != 1 << log or not inode_count or not id_count or used >= _INT64_LIMIT:
        raise ImageError(_DAMAGED_SQUASHFS, hint=_AGAIN)
    if used > room:
        raise ImageError(f"the squashfs lacks its last {used - room} bytes: incomplete download?", hint=_INCOMPLETE)
    in_order = _SQUASHFS_SIZE <= inodes < directories <= ids < used
    if not in_order or root >> 16 >= directories - inodes or root & 0xFFFF >= _METADATA_SIZE:
        raise ImageError(f"{_DAMAGED_SQUASHFS}: its tables lie in no possible place", hint=_AGAIN)
    return True


def is_ext(file: BinaryIO, offset: int, room: int) -> bool:
    """Whether an ext file system begins at `offset`, where `room` bytes are. Raises ImageError for an unusable one."""
    if room < _EXT_AT + _EXT_SIZE:
        return False
    file.seek(offset + _EXT_AT)
    block = file.read(_EXT_SIZE)
    if len(block) < _EXT_SIZE or _u16(block, 56) != _EXT_MAGIC:
        return False
    log, incompatible = _u32(block, 24), _u32(block, 96)
    blocks = _u32(block, 4) | (_u32(block, 336) << 32 if incompatible & _64BIT else 0)
    size = 1024 << min(log, 7)
    if log > 6 or blocks * size >= 1 << 64 or not _is_sane(block, size, blocks):
        raise ImageError(_DAMAGED_EXT, hint=_AGAIN)
    if blocks * size > room:
        missing = blocks * size - room
        raise ImageError(f"the ext3 file system lacks its last {missing} bytes: incomplete download?", hint=_INCOMPLETE)
    if incompatible & _JOURNAL_DEVICE:
        raise ImageError("an ext3 journal, not a file system")
    return True


def is_erofs(file: BinaryIO, offset: int, room: int) -> bool:
    """Whether an EROFS begins at `offset`, where `room` bytes are. Raises ImageError for one that cannot be used."""
    if room < _EROFS_AT + _EROFS.size:
        return False
    file.seek(offset + _EROFS_AT)
    block = file.read(_EROFS.size)
    if len(block) < _EROFS.size or _u32(block, 0) != _EROFS_MAGIC:
        return False
    _, log, high, inodes, blocks, first, features, devices = _EROFS.unpack(block)
    wide = bool(features & _EROFS_WIDE)  # numbers of blocks have 48 bits, and the field for inodes another meaning
    blocks |= high << 32 if wide else 0
    if not 9 <= log <= 16 or first >= blocks or not (wide or inodes):
        raise ImageError("damaged EROFS superblock", hint=_AGAIN)
    if blocks << log > room:
        missing = (blocks << log) - room
        raise ImageError(f"the EROFS lacks its last {missing} bytes: incomplete download?", hint=_INCOMPLETE)
    if devices:
        raise ImageError("an EROFS whose data lies in further files", hint="make it again, without --blobdev")
    return True


def _is_sane(block: bytes, size: int, blocks: int) -> bool:
    inode_size = _u16(block, 88) if _u32(block, 76) else 128
    first = _u32(block, 20)
    return (
        _u32(block, 0) > 0
        and blocks > first <= 1
        and _u32(block, 32) > 0
        and 0 < _u32(block, 40) <= 8 * size
        and 128 <= inode_size <= size
        and inode_size & (inode_size - 1) == 0
    )


def _u16(block: bytes, at: int) -> int:
    return int.from_bytes(block[at : at + 2], "little")


def _u32(block: bytes, at: int) -> int:
    return int.from_bytes(block[at : at + 4], "little")
