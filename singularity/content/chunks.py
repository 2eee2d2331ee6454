"""Chunks of a file, cut where its bytes say, so that two files have the same chunks where they have the same bytes.

An index lists the chunks of one file; whoever has other files with some of them fetches only the rest. It is data of
strangers: what it says is bounded here, and each chunk, and in the end the whole, is checked by whoever uses it.

Form, numbers little-endian: `SIFCHNK1`, size of the file (64 bits), its SHA-256, and for each chunk, in order, its
length (32 bits) and the first 16 bytes of its SHA-256. Offsets follow from lengths, so no two chunks overlap.
"""

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from singularity.content.digest import Digest
from singularity.errors import ImageError

MEDIA_TYPE = "application/vnd.singularity.chunks.v1"
ANNOTATION = "org.singularity.chunks"  # of a file's descriptor: digest and size of the index, with a blank between
SUFFIX = ".chunks"  # of an index that lies beside its file
_MAGIC = b"SIFCHNK1"
_HEAD, _ENTRY = struct.Struct("<8sQ32s"), struct.Struct("<I16s")
_LEAST, _MOST = 1 << 10, 256 << 10  # bytes of a chunk; the last one may have fewer
_FIRST = (32 << 10) + 96  # bytes of the first one: the head of a SIF file and the superblock, which always change
# A chunk ends where a frame of zstd begins: there are the borders of squashfs's blocks, and so those of files. Where
# none is near, it ends after two bytes that compressed data has every 8 KiB. Both are searched for at gigabytes a
# second; a rolling hash finds no better places in compressed data, and would be a hundred times slower in Python.
_FRAME, _NEAR = b"\x28\xb5\x2f\xfd", 32 << 10
_END, _LEAST_TO_END = re.compile(rb"\xa5[\x58-\x5f]", re.DOTALL), 2 << 10
_LIMIT = 64 << 20  # bytes of an index: of a file of 40 GB, about
_WINDOW = 8 << 20  # bytes that are looked at together


class Chunk(NamedTuple):
    """A part of a file."""

    offset: int
    size: int
    name: bytes  # of its content


@dataclass(frozen=True, slots=True)
class Index:
    """The chunks of a file of `size` bytes with this digest."""

    size: int
    digest: Digest
    entries: bytes  # as they are written

    def __iter__(self) -> Iterator[Chunk]:
        offset = 0
        for size, name in _ENTRY.iter_unpack(self.entries):
            yield Chunk(offset, size, name)
            offset += size

    def encoded(self) -> bytes:
        """The bytes that `parse` reads."""
        return _HEAD.pack(_MAGIC, self.size, bytes.fromhex(self.digest.digits)) + self.entries


def name_of(data: bytes) -> bytes:
    """What a chunk with this content is called."""
    return hashlib.sha256(data).digest()[:16]


def size_limit(size: int) -> int:
    """The bytes that the index of a file of `size` bytes has at most."""
    return min(_HEAD.size + _ENTRY.size * (size // _LEAST + 1), _LIMIT)


def is_index(data: bytes) -> bool:
    """Whether bytes begin as an index does."""
    return data.startswith(_MAGIC)


def parse(data: bytes, name: str) -> Index:
    """An index; `name` stands in messages. Raises ImageError for what is none, or makes no sense."""
    if not is_index(data) or len(data) < _HEAD.size or (len(data) - _HEAD.size) % _ENTRY.size:
        raise ImageError(f"{name}: no index of chunks", hint="singularity chunks makes one")
    _, size, digest = _HEAD.unpack_from(data)
    index = Index(size, Digest("sha256", digest.hex()), data[_HEAD.size :])
    sizes = [each for each, _ in _ENTRY.iter_unpack(index.entries)]
    possible = all(_LEAST <= each <= _MOST for each in sizes[:-1]) and all(0 < each <= _MOST for each in sizes[-1:])
    if not possible or sum(sizes) != size:
        raise ImageError(f"{name}: an index with impossible chunks", hint="damaged, or made to deceive")
    return index


def of(file: BinaryIO, name: str) -> Index:
    """The index of a file, which is read once from its beginning. Raises ImageError for one that is too large."""
    whole, size = hashlib.sha256(), 0
    entries = bytearray()
    for chunk in _cut(file):
        whole.update(chunk)
        size += len(chunk)
        entries += _ENTRY.pack(len(chunk), name_of(chunk))
        if len(entries) > _LIMIT - _HEAD.size:
            raise ImageError(f"{name}: too large for an index of its chunks ({size >> 30} GiB have been read)")
    return Index(size, Digest("sha256", whole.hexdigest()), bytes(entries))


def _cut(file: BinaryIO) -> Iterator[bytes]:
    """The chunks of a file."""
    rest, at, end, ended = b"", 0, _FIRST, False
    while not ended:
        data = file.read(_WINDOW)
        ended = not data
        rest = rest[at:] + data
        at = 0
        while at < len(rest) and (ended or len(rest) >= at + _MOST):
            end = end or _end(rest, at)
            yield rest[at:end]
            at, end = min(end, len(rest)), 0


def _end(data: bytes, at: int) -> int:
    """Where the chunk ends that begins at `at`."""
    frame = data.find(_FRAME, at + _LEAST, at + _NEAR)
    if frame >= 0:
        return frame
    found = _END.search(data, at + _LEAST_TO_END - 2, at + _MOST)
    return found.end() if found else min(at + _MOST, len(data))


def missing(index: Index, held: Iterable[Index]) -> int:
    """The bytes of a file that none of some others has: of chunks that it has several times, once."""
    names = {chunk.name for each in held for chunk in each}
    new = {chunk.name: chunk.size for chunk in index}
    return sum(size for name, size in new.items() if name not in names)
