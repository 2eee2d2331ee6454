"""An EROFS in a file, by its parts: inodes, directories, attributes, data. Neither mounted nor unpacked.

What is read again and again counts, so that reading ends, whatever the image says. Layout: the kernel's
`Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h`; all numbers are little-endian.
"""

import os
import stat
import struct
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from singularity.errors import ImageError
from singularity.image.erofs import clusters
from singularity.image.erofs.clusters import STORED, Extent
from singularity.image.limits import LIMITS
from singularity.image.tree import Kind

_AT, _MAGIC = 1024, 0xE0F5E1E2
_SUPERBLOCK = struct.Struct("<I8xBxHQQIIII32xIHH8xQ")
_KNOWN = 0x37  # features: padding before data, clusters of several blocks, chunks, second algorithm, tails, fragments
_SLOT = 32  # bytes of an inode's number
_SHORT, _LONG = struct.Struct("<HHHHI4xI4xHH4x"), struct.Struct("<HHHHQI4xIIqII16x")
_PLAIN, _FULL, _INLINE, _COMPACT, _CHUNKS = range(5)  # where the data of a file is
_NAME = struct.Struct("<QHBx")
_ATTRIBUTES, _ATTRIBUTE = struct.Struct("<4xB7x"), struct.Struct("<BBH")
_PREFIXES = {
    1: b"user.",
    2: b"system.posix_acl_access",
    3: b"system.posix_acl_default",
    4: b"trusted.",
    6: b"security.",
}
_PIECE = 1 << 20  # bytes of plain data read at once
_NO_BLOCK = 0xFFFFFFFF
_LINK_LIMIT = 4096
_KEPT = 4  # pieces of files, decompressed
_SECOND = 10**9
_DAMAGED = "damaged EROFS"


class Inode(NamedTuple):
    """One file as its inode tells."""

    number: int
    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int  # nanoseconds
    links: int
    size: int
    layout: int
    start: int  # the block of its data, or its device, or how its chunks are
    attributes: int  # where they begin
    end: int  # behind them: its data, or what says where that is


class Filesystem:
    """One file system by its parts. Methods raise ImageError and OSError."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.fd, self.offset, self.end = fd, offset, size
        fields = _SUPERBLOCK.unpack(self.pread(_AT, _SUPERBLOCK.size))
        magic, log, root, _, time, fraction, blocks, meta, shared, features, _, devices, packed = fields
        if magic != _MAGIC or not 9 <= log <= 16 or blocks << log > size:
            raise ImageError(f"{_DAMAGED} superblock")
        if features & ~_KNOWN or devices:
            raise ImageError(f"EROFS with features that are not known here ({features:#x})")
        self.block_size = 1 << log
        self._root, self._packed = root, packed
        self._time = time * _SECOND + fraction
        self._meta, self._shared = meta << log, shared << log
        self._left = 64 * size  # bytes of lists that may still be read
        self._parts: dict[int, list[Extent]] = {}
        self._pieces: dict[int, tuple[Extent, bytes]] = {}
        self._fragments: Inode | None = None

    def pread(self, at: int, size: int) -> bytes:
        """Bytes of the file system."""
        if at < 0 or at + size > self.end:
            raise ImageError(f"{_DAMAGED}: something lies behind its end")
        data = os.pread(self.fd, size, self.offset + at)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), self.offset + at + len(data))
            if not more:
                raise ImageError("the EROFS ends early: incomplete download?")
            data += more
        return data

    def spend(self, size: int) -> None:
        """Takes bytes from what may still be read of lists."""
        self._left -= size
        if self._left < 0:
            raise ImageError(f"{_DAMAGED}: lists without end")

    def top(self) -> Inode:
        """The root directory."""
        root = self.inode(self._root)
        if root.kind is not Kind.DIRECTORY:
            raise ImageError(f"{_DAMAGED}: no root directory")
        return root

    def inode(self, number: int) -> Inode:
        """An inode by its number."""
        at = self._meta + number * _SLOT
        extended = self.pread(at, 1)[0] & 1
        form = _LONG if extended else _SHORT
        word, attributes, mode, *fields = form.unpack(self.pread(at, form.size))
        if extended:
            _, size, start, uid, gid, seconds, fraction, links = fields
            time = seconds * _SECOND + fraction
        else:
            links, size, start, uid, gid = fields
            time = self._time
        try:
            kind = Kind(stat.S_IFMT(mode))
        except ValueError as error:
            raise ImageError(f"{_DAMAGED}: a file of no known type") from error
        if word >> 4 or kind is Kind.HARD_LINK or size > LIMITS.file or word >> 1 > _CHUNKS:
            raise ImageError(f"{_DAMAGED}: an impossible inode")
        begin = at + form.size
        end = begin + (_ATTRIBUTES.size + 4 * (attributes - 1) if attributes else 0)
        return Inode(number, kind, stat.S_IMODE(mode), uid, gid, time, links, size, word >> 1, start, begin, end)

    def names(self, inode: Inode) -> Iterator[tuple[bytes, int]]:
        """The names in a directory, without `.` and `..`, and the numbers of their inodes."""
        self.spend(inode.size)
        for at in range(0, inode.size, self.block_size):
            block = self.read(inode, at, self.block_size)
            first = _NAME.unpack_from(block)[1]
            if first % _NAME.size or not 0 < first <= len(block):
                raise ImageError(f"{_DAMAGED}: a directory with a damaged list")
            listed = [_NAME.unpack_from(block, each) for each in range(0, first, _NAME.size)]
            ends = [*(begin for _, begin, _ in listed[1:]), len(block)]
            for (number, begin, _), end in zip(listed, ends, strict=True):
                name = block[begin:end].split(b"\0", 1)[0] if end == len(block) else block[begin:end]
                if not name or len(name) > LIMITS.component or b"/" in name or b"\0" in name:
                    raise ImageError(f"{_DAMAGED}: a directory with a name that cannot be")
                if name not in (b".", b".."):
                    yield name, number

    def link(self, inode: Inode) -> bytes:
        """The text of a symbolic link."""
        if not 0 < inode.size < _LINK_LIMIT:
            raise ImageError(f"{_DAMAGED}: a link of an impossible length")
        return self.read(inode, 0, inode.size)

    def attributes(self, inode: Inode) -> dict[bytes, bytes]:
        """The extended attributes of a file."""
        size = inode.end - inode.attributes
        if not size:
            return {}
        self.spend(size)
        data = self.pread(inode.attributes, size)
        (shared,) = _ATTRIBUTES.unpack_from(data)
        at = _ATTRIBUTES.size + 4 * shared
        found: dict[bytes, bytes] = {}
        for each in struct.unpack_from(f"<{shared}I", data, _ATTRIBUTES.size):
            place = self._shared + 4 * each
            length = _attribute_size(self.pread(place, _ATTRIBUTE.size))
            self.spend(length)
            found |= [_attribute(self.pread(place, length))]
        while at + _ATTRIBUTE.size <= size:
            length = _attribute_size(data[at : at + _ATTRIBUTE.size])
            found |= [_attribute(data[at : at + length])]
            at += -(-length // 4) * 4
        return found

    # ---- data ----

    def has_holes(self, inode: Inode) -> bool:
        """Whether there may be something between the parts of a file."""
        return inode.layout == _CHUNKS

    def extents(self, inode: Inode) -> Iterator[Extent]:
        """The parts of a file's data in order; what is between them is a hole."""
        if inode.layout == _CHUNKS:
            yield from self._chunks(inode)
        elif inode.layout in (_FULL, _COMPACT):
            compact = inode.layout == _COMPACT
            yield from clusters.extents(self, inode.end, inode.size, self.block_size, compact=compact)
        else:
            plain = inode.size
            if inode.layout == _INLINE and plain:
                plain = (plain - 1) // self.block_size * self.block_size
            start = inode.start * self.block_size
            for at in range(0, plain, _PIECE):
                yield Extent(at, min(_PIECE, plain - at), start + at, min(_PIECE, plain - at), STORED)
            if plain < inode.size:
                yield Extent(plain, inode.size - plain, inode.end, inode.size - plain, STORED)

    def _chunks(self, inode: Inode) -> Iterator[Extent]:
        """Of a file of chunks of one size, whose blocks are listed: alone, or in the last four of eight bytes each."""
        size = self.block_size << (inode.start & 31)
        unit = 8 if inode.start & 32 else 4
        at = -(-inode.end // unit) * unit
        self.spend(unit * -(-inode.size // size))
        for begin in range(0, inode.size, size):
            block = int.from_bytes(self.pread(at + unit - 4, 4), "little")
            at += unit
            for within in range(0, min(size, inode.size - begin) if block != _NO_BLOCK else 0, _PIECE):
                length = min(_PIECE, size - within, inode.size - begin - within)
                yield Extent(begin + within, length, block * self.block_size + within, length, STORED)

    def data(self, extent: Extent) -> bytes:
        """All bytes of an extent."""
        if extent.algorithm != clusters.FRAGMENT:
            return clusters.decoded(self.pread(extent.at, extent.stored), extent, self.block_size)
        if self._fragments is None:
            self._fragments = self.inode(self._packed)
            if any(each.algorithm == clusters.FRAGMENT for each in self._parts_of(self._fragments)):
                raise ImageError(f"{_DAMAGED}: fragments of fragments")
        if extent.at + extent.length > self._fragments.size:
            raise ImageError(f"{_DAMAGED}: a fragment that is not there")
        return self.read(self._fragments, extent.at, extent.length)

    def read(self, inode: Inode, at: int, size: int) -> bytes:
        """At most `size` bytes of a file, from `at` on."""
        size = max(0, min(size, inode.size - at))
        result = bytearray(size)
        parts = self._parts_of(inode)
        for number in range(max(0, bisect_right(parts, at, key=attrgetter("logical")) - 1), len(parts)):
            part = parts[number]
            if part.logical >= at + size:
                break
            begin, end = max(at, part.logical), min(at + size, part.logical + part.length)
            if begin < end:
                piece = self._piece(inode, part)
                result[begin - at : end - at] = piece[begin - part.logical : end - part.logical]
        return bytes(result)

    def _piece(self, inode: Inode, part: Extent) -> bytes:
        """The bytes of a part; those that were used last are kept."""
        kept = self._pieces.pop(inode.number, None)
        if kept is None or kept[0] != part:
            kept = part, self.data(part)
        self._pieces[inode.number] = kept
        if len(self._pieces) > _KEPT:
            del self._pieces[next(iter(self._pieces))]
        return kept[1]

    def _parts_of(self, inode: Inode) -> list[Extent]:
        """All parts of a file; those of the files that were used last are kept."""
        found = self._parts.pop(inode.number, None)
        if found is None:
            found = list(islice(self.extents(inode), LIMITS.segments))
            if len(found) == LIMITS.segments:
                raise ImageError(f"a file of more than {LIMITS.segments} parts")
        self._parts[inode.number] = found
        if len(self._parts) > _KEPT:
            del self._parts[next(iter(self._parts))]
        return found


def device(number: int) -> int:
    """The number of a device, as os.makedev makes it."""
    return os.makedev((number & 0xFFF00) >> 8, (number & 0xFF) | (number >> 12 & 0xFFF00))


def _attribute_size(head: bytes) -> int:
    length, _, size = _ATTRIBUTE.unpack(head)
    return _ATTRIBUTE.size + int(length) + int(size)


def _attribute(data: bytes) -> tuple[bytes, bytes]:
    length, prefix, size = _ATTRIBUTE.unpack_from(data)
    name = data[_ATTRIBUTE.size : _ATTRIBUTE.size + length]
    value = data[_ATTRIBUTE.size + length : _ATTRIBUTE.size + length + size]
    whole = _PREFIXES.get(prefix, b"") + name
    if prefix not in _PREFIXES or b"\0" in name or len(whole) > LIMITS.component or len(value) < size or not whole:
        raise ImageError(f"{_DAMAGED}: extended attributes that cannot be")
    return whole, value
