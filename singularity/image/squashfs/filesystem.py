"""A squashfs in a file, by its parts: inodes, directories, blocks of data, attributes. Neither mounted nor unpacked.

Every table is read to its end at most, so that reading ends, whatever the image says. Layout: squashfs 4.0, the
kernel's `Documentation/filesystems/squashfs.rst` and `fs/squashfs/squashfs_fs.h`; all numbers are little-endian.
"""

import os
import struct
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from singularity.errors import ImageError
from singularity.image.decompress import decompressor
from singularity.image.limits import LIMITS
from singularity.image.squashfs.metadata import Bytes, Cursor, Table
from singularity.image.tree import Kind

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_DATA_STORED, _DATA_SIZE = 1 << 24, (1 << 24) - 1
NONE, _NONE_WIDE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_PIECES = 4096  # sizes of data blocks read at once
_LINK_LIMIT, _DIRECTORY_LIMIT, _ATTRIBUTE_LIMIT = 4096, 1 << 28, 1 << 20
_INODES_LIMIT = 1 << 26
_PREFIXES = {0: b"user.", 1: b"trusted.", 2: b"security."}
_OUT_OF_LINE = 0x100
_KINDS = {
    1: Kind.DIRECTORY,
    2: Kind.FILE,
    3: Kind.LINK,
    4: Kind.BLOCK_DEVICE,
    5: Kind.CHARACTER_DEVICE,
    6: Kind.FIFO,
    7: Kind.SOCKET,
}
_PLAIN_FILE = 2
_EXTENDED = 7  # added to the type of an inode with room for more


class Inode(NamedTuple):
    """One file as its inode tells."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int  # seconds
    number: int
    links: int
    size: int  # of a file or of a directory's list
    attributes: int
    target: bytes
    device: int
    start: int  # of a file's data; of a directory's list, its block
    offset: int  # in the fragment; in the block
    fragment: int
    sizes: Cursor | None  # at the sizes of a file's blocks
    sparse: int = 0  # bytes of a file that were holes, and not zeros, when it was packed


_COMMON = struct.Struct("<HHHHII")
_DIRECTORY, _LONG_DIRECTORY = struct.Struct("<IIHHI"), struct.Struct("<IIIIHHI")
_FILE, _LONG_FILE = struct.Struct("<IIII"), struct.Struct("<QQQIIII")
_TWO, _ONE = struct.Struct("<II"), struct.Struct("<I")
_LIST_HEADER, _LIST_ENTRY = struct.Struct("<III"), struct.Struct("<HhHH")
_FRAGMENT = struct.Struct("<QII")
_ATTRIBUTE_ID, _ATTRIBUTE_KEY = struct.Struct("<QII"), struct.Struct("<HH")


class Listed(NamedTuple):
    """A name in a directory, and where its inode is."""

    name: bytes
    block: int
    offset: int


class Filesystem(Bytes):
    """One file system by its parts. Methods raise ImageError and OSError."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        super().__init__(fd, offset, size)
        fields = _SUPERBLOCK.unpack(self.pread(0, _SUPERBLOCK.size))
        magic, inodes, _, block_size, fragments, compression, log, _, ids, major, minor, root, used, *tables = fields
        id_table, attribute_table, inode_table, directory_table, fragment_table, _ = tables
        if magic != b"hsqs" or (major, minor) != (4, 0) or not 12 <= log <= 20 or block_size != 1 << log:
            raise ImageError("damaged squashfs superblock")
        if used > size or not _SUPERBLOCK.size <= inode_table < directory_table <= used or inodes > _INODES_LIMIT:
            raise ImageError("damaged squashfs superblock: its tables lie in no possible place")
        self.end, self.block_size, self.root = used, block_size, root
        self.compression = compression
        self.decompress = decompressor(compression)
        self.inodes = Table(self, inode_table, directory_table)
        ends = [each for each in (fragment_table, id_table, attribute_table, used) if each >= directory_table]
        self.directories = Table(self, directory_table, min(ends))
        self._ids = array("I", b"".join(self.indirect(id_table, ids * 4)))
        self._fragment_table = b"".join(self.indirect(fragment_table, fragments * _FRAGMENT.size))
        self._read_attributes(attribute_table)
        self.inode_count = inodes
        self._sizes_left, self._lists_left = self.inodes.capacity, self.directories.capacity

    @property
    def fragment_count(self) -> int:
        """How many blocks of the ends of files there are."""
        return len(self._fragment_table) // _FRAGMENT.size

    def inode(self, block: int, offset: int) -> Inode:
        """The inode at a place of its table."""
        cursor = Cursor(self.inodes, self.inodes.start + block, offset)
        number_of, mode, uid, gid, mtime, number = cursor.numbers(_COMMON)
        extended = number_of > _EXTENDED
        kind = _KINDS.get(number_of - _EXTENDED if extended else number_of)
        if kind is None or not 0 < number <= self.inode_count or max(uid, gid) >= len(self._ids):
            raise ImageError("damaged squashfs: an impossible inode")
        if number_of == _PLAIN_FILE:  # as nearly all are
            start, fragment, place, size = cursor.numbers(_FILE)
            return Inode(kind, mode & 0o7777, self._ids[uid], self._ids[gid], mtime, number, 1, size, NONE, b"", 0,
                         start, place, fragment, cursor)  # fmt: skip
        links, size, attributes, target, device, start, place, fragment = 1, 0, NONE, b"", 0, 0, 0, NONE
        sizes, sparse = None, 0
        if kind is Kind.DIRECTORY and extended:
            links, size, start, _, _, place, attributes = cursor.numbers(_LONG_DIRECTORY)
        elif kind is Kind.DIRECTORY:
            start, links, size, place, _ = cursor.numbers(_DIRECTORY)
        elif kind is Kind.FILE:
            start, size, sparse, links, fragment, place, attributes = cursor.numbers(_LONG_FILE)
            sizes = cursor
        elif kind is Kind.LINK:
            links, length = cursor.numbers(_TWO)
            if not 0 < length <= _LINK_LIMIT:
                raise ImageError("damaged squashfs: a link of an impossible length")
            target = cursor.take(length)
        else:
            (links,) = cursor.numbers(_ONE)
            device = _device(*cursor.numbers(_ONE)) if kind.is_device else 0
        if extended and kind not in (Kind.DIRECTORY, Kind.FILE):
            (attributes,) = cursor.numbers(_ONE)
        return Inode(kind, mode & 0o7777, self._ids[uid], self._ids[gid], mtime, number, links, size, attributes,
                      target, device, start, place, fragment, sizes, sparse)  # fmt: skip

    def top(self) -> Inode:
        """The root directory."""
        root = self.inode(self.root >> 16, self.root & 0xFFFF)
        if root.kind is not Kind.DIRECTORY:
            raise ImageError("damaged squashfs: no root directory")
        return root

    def names(self, inode: Inode) -> Iterator[Listed]:
        """What is in a directory, in the order of its list."""
        left = inode.size - 3  # which counts "." and ".."
        if left <= 0:
            return
        if left > _DIRECTORY_LIMIT or left > self._lists_left:
            raise ImageError("damaged squashfs: a directory of an impossible size")
        self._lists_left -= left
        cursor = Cursor(self.directories, self.directories.start + inode.start, inode.offset)
        while left > 0:
            count, block, _ = cursor.numbers(_LIST_HEADER)
            left -= _LIST_HEADER.size
            if count >= 256:
                raise ImageError("damaged squashfs: a directory with a damaged list")
            for _ in range(count + 1):
                offset, _, _, length = cursor.numbers(_LIST_ENTRY)
                name = cursor.take(length + 1) if length < 256 else b""
                left -= _LIST_ENTRY.size + length + 1
                if not name or len(name) > 255 or name in (b".", b"..") or b"/" in name or b"\0" in name or left < 0:
                    raise ImageError("damaged squashfs: a directory with a name that cannot be")
                yield Listed(name, block, offset)

    def block_sizes(self, inode: Inode) -> tuple["array[int]", int]:
        """The words for a file's blocks, and the bytes of it in a fragment; all that is asked for is counted."""
        if inode.size > LIMITS.file:
            raise ImageError(f"damaged squashfs: a file of {inode.size} bytes")
        blocks = inode.size // self.block_size
        tail = inode.size % self.block_size
        if inode.fragment == NONE and tail:
            blocks, tail = blocks + 1, 0
        self._sizes_left -= 4 * blocks
        if self._sizes_left < 0 or inode.sizes is None:
            raise ImageError("damaged squashfs: a file of an impossible size")
        cursor, sizes = inode.sizes.again(), array("I")
        for at in range(0, blocks, _PIECES):
            sizes.frombytes(cursor.take(4 * min(_PIECES, blocks - at)))
        return sizes, tail

    def block(self, at: int, size: int, stored: bool) -> bytes:
        """A block of data, decompressed unless it is stored as it is."""
        if size > self.block_size:
            raise ImageError("damaged squashfs: a block of an impossible size")
        data = self.pread(at, size)
        return data if stored else self.decompress(data, self.block_size)

    def fragment_place(self, number: int) -> tuple[int, int]:
        """Where a fragment block begins, and the word for its size."""
        if number >= self.fragment_count:
            raise ImageError("damaged squashfs: a fragment that is not there")
        at, word, _ = _FRAGMENT.unpack_from(self._fragment_table, number * _FRAGMENT.size)
        return at, word

    def _read_attributes(self, at: int) -> None:
        self._attribute_ids = b""
        if at == _NONE_WIDE:
            return
        start, count, _ = _ATTRIBUTE_ID.unpack(self.pread(at, _ATTRIBUTE_ID.size))
        self._attribute_values = Table(self, start, at)
        self._attribute_ids = b"".join(self.indirect(at + _ATTRIBUTE_ID.size, count * _ATTRIBUTE_ID.size))

    def attributes(self, number: int) -> dict[bytes, bytes]:
        """The extended attributes that an inode names."""
        if (number + 1) * _ATTRIBUTE_ID.size > len(self._attribute_ids):
            raise ImageError("damaged squashfs: extended attributes that are not there")
        place, count, _ = _ATTRIBUTE_ID.unpack_from(self._attribute_ids, number * _ATTRIBUTE_ID.size)
        cursor, found, total = self._attribute_cursor(place), {}, 0
        for _ in range(count):
            kind, length = cursor.numbers(_ATTRIBUTE_KEY)
            name = _PREFIXES.get(kind & 0xFF, b"") + cursor.take(min(length, 256))
            (size,) = cursor.numbers(_ONE)
            total += size
            if kind & 0xFF not in _PREFIXES or not 0 < length <= 255 or b"\0" in name or total > _ATTRIBUTE_LIMIT:
                raise ImageError("damaged squashfs: extended attributes that cannot be")
            value = cursor.take(size)
            if kind & _OUT_OF_LINE:
                elsewhere = self._attribute_cursor(int.from_bytes(value, "little"))
                (size,) = elsewhere.numbers(_ONE)
                total += size
                if total > _ATTRIBUTE_LIMIT:
                    raise ImageError("damaged squashfs: extended attributes that cannot be")
                value = elsewhere.take(size)
            found[name] = value
        return found

    def _attribute_cursor(self, place: int) -> Cursor:
        return Cursor(self._attribute_values, self._attribute_values.start + (place >> 16), place & 0xFFFF)


def block_size(word: int) -> tuple[int, bool]:
    """The bytes on disk of the block that a word stands for, and whether it is stored as it is."""
    return word & _DATA_SIZE, bool(word & _DATA_STORED)


def _device(number: int) -> int:
    return os.makedev((number & 0xFFF00) >> 8, (number & 0xFF) | (number >> 12 & 0xFFF00))
