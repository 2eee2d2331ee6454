"""Metadata blocks of a squashfs, and tables made of them, read from any place on; every size in them is checked."""

import os
import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator

from singularity.errors import ImageError

METADATA, _STORED = 8192, 0x8000  # bytes of a metadata block, and the bit of one that is not compressed
_BLOCKS_KEPT = 256  # metadata blocks of a table


class Bytes:
    """The bytes of a squashfs in an open file. Raises ImageError and OSError."""

    decompress: Callable[[bytes, int], bytes]

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.fd, self.offset = fd, offset
        self.end = size

    def pread(self, at: int, size: int) -> bytes:
        """Bytes of the file system."""
        if at < 0 or at + size > self.end:
            raise ImageError("damaged squashfs: something lies behind its end")
        data = os.pread(self.fd, size, self.offset + at)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), self.offset + at + len(data))
            if not more:
                raise ImageError("the squashfs ends early: incomplete download?")
            data += more
        return data

    def indirect(self, at: int, size: int) -> Iterator[bytes]:
        """A table of `size` bytes that is found through a list of its metadata blocks."""
        count = -(-size // METADATA)
        if not count:
            return
        table = Table(self, 0, self.end)
        for number, place in enumerate(array("Q", self.pread(at, 8 * count))):
            data = table.block(place)[0]
            if len(data) < min(METADATA, size - number * METADATA):
                raise ImageError("damaged squashfs: a table that ends early")
            yield data[: size - number * METADATA]


class Table:
    """Metadata blocks that follow each other, between two places of the file system."""

    def __init__(self, system: Bytes, start: int, end: int) -> None:
        self.system, self.start, self.end = system, start, end
        self._blocks: OrderedDict[int, tuple[bytes, int]] = OrderedDict()

    @property
    def capacity(self) -> int:
        """More bytes than can be in it."""
        return ((self.end - self.start) // 3 + 1) * METADATA

    def block(self, at: int) -> tuple[bytes, int]:
        """The content of the block at a place, and where the next one is."""
        found = self._blocks.get(at)
        if found is not None:
            return found
        if not self.start <= at <= self.end - 3:
            raise ImageError("damaged squashfs: a table that ends early")
        header = int.from_bytes(self.system.pread(at, 2), "little")
        size = header & (_STORED - 1)
        if not 0 < size <= METADATA or at + 2 + size > self.end:
            raise ImageError("damaged squashfs: metadata of an impossible size")
        data = self.system.pread(at + 2, size)
        if not header & _STORED:
            data = self.system.decompress(data, METADATA)
        if len(self._blocks) >= _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        self._blocks[at] = found = data, at + 2 + size
        return found


class Cursor:
    """A place in a table, from which on it is read."""

    def __init__(self, table: Table, block: int, offset: int) -> None:
        self.table, self._offset = table, offset
        self._data, self._next = table.block(block)
        if offset > len(self._data):
            raise ImageError("damaged squashfs: a place behind its block")

    def again(self) -> "Cursor":
        """Another cursor at the same place."""
        found = Cursor.__new__(Cursor)
        found.table, found._data, found._next, found._offset = self.table, self._data, self._next, self._offset
        return found

    def take(self, size: int) -> bytes:
        """The next bytes."""
        data = self._data[self._offset : self._offset + size]
        self._offset += len(data)
        while len(data) < size:
            self._data, self._next = self.table.block(self._next)
            if not self._data:
                raise ImageError("damaged squashfs: an empty block of metadata")
            more = self._data[: size - len(data)]
            self._offset = len(more)
            data += more
        return data

    def numbers(self, form: struct.Struct) -> tuple[int, ...]:
        """The next fields."""
        end = self._offset + form.size
        if end > len(self._data):
            return form.unpack(self.take(form.size))
        found = form.unpack_from(self._data, self._offset)
        self._offset = end
        return found
