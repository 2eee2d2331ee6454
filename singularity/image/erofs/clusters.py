"""Compressed files of an EROFS: which blocks hold which part of a file, and these parts decompressed.

A file is cut into clusters of a block each, and each has an entry in a list behind the inode: it begins a part (its
block, and where in the cluster), or belongs to the part before it. The list has eight bytes an entry, or packs of 8 and
32 bytes with 2 and 16 entries, whose numbers of blocks count from the one at the pack's end (fs/erofs/zmap.c).
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple, Protocol

from singularity.errors import ImageError
from singularity.image.decompress import lz4_beginning, zstd_beginning

STORED, FRAGMENT, _ROTATED = -1, -2, -3  # algorithms of parts that are not compressed
_LZ4, _LZMA, _DEFLATE, _ZSTD = range(4)
_HEADER = struct.Struct("<IHBB")
_ENTRY = struct.Struct("<HHI")
_TWO_BYTES, _SEVERAL, _TAIL, _INTERLACED, _FRAGMENT_TAIL = 1, 2 | 4, 8, 16, 32  # what the header advises
_STORED_TYPE, _HEAD, _BEHIND, _OTHER_HEAD = range(4)
_CHUNK, _PIECE = 1 << 16, 1 << 20  # bytes of a list, and of fragments, read at once
_COUNT = 1 << 11  # an entry that says how many blocks the part has
_MOST_STORED, _MOST = 1 << 20, 12 << 20  # bytes of a part
_DAMAGED = "damaged EROFS: compressed data that cannot be"


class Extent(NamedTuple):
    """A part of a file, and where its bytes are."""

    logical: int
    length: int
    at: int  # in the file system, or in the file of fragments
    stored: int  # bytes there
    algorithm: int


class Bytes(Protocol):
    """A file system, as far as it is looked at here."""

    def pread(self, at: int, size: int) -> bytes:
        """Bytes of it."""

    def spend(self, size: int) -> None:
        """Takes bytes from what may still be read of lists."""


class _Entry(NamedTuple):
    """One cluster: `low` is where in it a part begins, or of one that belongs to a part, how many blocks that has."""

    type: int
    low: int
    block: int


def extents(system: Bytes, place: int, size: int, block_size: int, *, compact: bool) -> Iterator[Extent]:
    """The parts of a compressed file of `size` bytes, whose header is at or behind `place`. Raises ImageError."""
    place = -(-place // 8) * 8
    data = system.pread(place, _HEADER.size)
    word, advice, algorithms, bits = _HEADER.unpack(data)
    if bits >> 7:
        yield from _fragments(0, size, int.from_bytes(data, "little") ^ 1 << 63)
        return
    count = -(-size // block_size)
    if not count:
        return
    if bits & 0xF or (not compact and advice & 1) or (compact and block_size > 1 << 14):
        raise ImageError("EROFS with clusters of a kind that is not known here")
    system.spend(8 * count)
    if compact:
        packs = _packs(place + 8, count, advice)
        end = packs[-1].end
        entries = _packed(system, packs, max(block_size.bit_length() - 1, 12), advice)
    else:
        end = place + 16 + count * _ENTRY.size
        entries = _listed(system, place + 16, end)
    before: Extent | None = None
    for part in _parts(islice(entries, count), size, block_size, advice, algorithms):
        if before is not None:
            yield _checked(before)
        before = part
    if before is None:
        raise ImageError(_DAMAGED)
    if advice & _FRAGMENT_TAIL:
        high = 0 if compact else before.at // block_size << 32
        yield from _fragments(before.logical, before.length, high | word)
    elif advice & _TAIL:
        yield _checked(before._replace(at=end, stored=word >> 16))
    else:
        yield _checked(before)


def _fragments(logical: int, length: int, start: int) -> Iterator[Extent]:
    """A part in the file of fragments, where it begins at `start`, in pieces."""
    for at in range(0, length, _PIECE):
        yield Extent(logical + at, min(_PIECE, length - at), start + at, 0, FRAGMENT)


def _parts(entries: Iterator[_Entry], size: int, block_size: int, advice: int, algorithms: int) -> Iterator[Extent]:
    """The parts that the entries of a file make."""
    begun: Extent | None = None
    for number, entry in enumerate(entries):
        if entry.type == _BEHIND:
            if advice & _SEVERAL and entry.low & _COUNT and begun is not None:
                begun = begun._replace(stored=(entry.low & _COUNT - 1) * block_size)
            continue
        logical = number * block_size + entry.low
        if logical >= size:  # the file's end, in its last cluster
            break
        if begun is None and logical:
            raise ImageError(_DAMAGED)
        if begun is not None:
            yield begun._replace(length=logical - begun.logical)
        plain = _ROTATED if advice & _INTERLACED else STORED
        algorithm = {_STORED_TYPE: plain, _HEAD: algorithms & 15, _OTHER_HEAD: algorithms >> 4}[entry.type]
        begun = Extent(logical, 0, entry.block * block_size, block_size, algorithm)
    if begun is not None:
        yield begun._replace(length=size - begun.logical)


def _checked(part: Extent) -> Extent:
    if not 0 < part.length <= _MOST or not 0 < part.stored <= _MOST_STORED:
        raise ImageError(_DAMAGED)
    return part


def _listed(system: Bytes, place: int, end: int) -> Iterator[_Entry]:
    """The entries of eight bytes each."""
    for at in range(place, end, _CHUNK):
        for word, within, block in _ENTRY.iter_unpack(system.pread(at, min(_CHUNK, end - at))):
            yield _Entry(word & 3, within if word & 3 != _BEHIND else block & 0xFFFF, block)


class _Run(NamedTuple):
    """Packs that follow each other, of so many entries and bytes each."""

    start: int
    end: int
    entries: int
    size: int


def _packs(place: int, count: int, advice: int) -> list[_Run]:
    """Where the packs are: of two entries up to a multiple of 32 bytes, of 16 where these are allowed, of two again."""
    first = min(count, (32 - place % 32) // 4 % 8)
    short = (count - first) // 16 * 16 if advice & _TWO_BYTES else 0
    found = []
    for clusters, entries, size in ((first, 2, 8), (short, 16, 32), (count - first - short, 2, 8)):
        found.append(_Run(place, place + -(-clusters // entries) * size, entries, size))
        place = found[-1].end
    return found


def _packed(system: Bytes, runs: list[_Run], bits: int, advice: int) -> Iterator[_Entry]:
    """The entries of packs."""
    for run in runs:
        for at in range(run.start, run.end, _CHUNK):
            data = system.pread(at, min(_CHUNK, run.end - at))
            for begin in range(0, len(data), run.size):
                yield from _pack(data[begin : begin + run.size], run.entries, bits, advice)


def _pack(data: bytes, count: int, bits: int, advice: int) -> Iterator[_Entry]:
    """The entries of one pack."""
    each = (len(data) - 4) * 8 // count
    word = int.from_bytes(data[:-4], "little")
    block = int.from_bytes(data[-4:], "little")
    several = bool(advice & _SEVERAL)
    ahead = 0 if several else 1  # blocks of the pack that are taken already
    begun = 0  # 1: of the part that the entry before begins
    for number in range(count):
        value = word >> number * each
        kind, low = value >> bits & 3, value & (1 << bits) - 1
        if kind == _BEHIND:
            if several and low & _COUNT:
                ahead += (low & _COUNT - 1) - begun
            yield _Entry(kind, low, 0)
            begun = 0
            continue
        yield _Entry(kind, low, block + ahead)
        ahead += 1
        begun = 1


def decoded(data: bytes, part: Extent, block_size: int) -> bytes:
    """The bytes of a part from what is stored of it. Raises ImageError, and ToolError without a library."""
    if part.algorithm == STORED:
        result = data[: part.length]
    elif part.algorithm == _ROTATED:  # what fills up the file's block is last
        first = block_size - part.logical % block_size
        result = (data[-first:] + data[:-first])[: part.length]
    else:
        data = data.lstrip(b"\0")  # before the data, so that it ends where its block ends
        if part.algorithm == _LZ4:
            result = lz4_beginning(data, part.length)
        elif part.algorithm == _ZSTD:
            result = zstd_beginning(data, part.length)
        elif part.algorithm == _DEFLATE:
            try:
                result = zlib.decompressobj(-15).decompress(data, part.length)
            except zlib.error as error:
                raise ImageError(_DAMAGED) from error
        else:
            what = "lzma" if part.algorithm == _LZMA else "an unknown algorithm"
            raise ImageError(f"EROFS compressed with {what}, which is not read here")
    if len(result) != part.length:
        raise ImageError(_DAMAGED)
    return result
