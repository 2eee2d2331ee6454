"""The journal of ext3 and ext4 (JBD2), read only: which blocks of the file system it has newer content of.

All numbers are big-endian. Layout: the kernel's `Documentation/filesystems/ext4/journal.rst`. As the kernel does after
a crash, every transaction with a commit record counts, in order, up to the first that lacks one.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from singularity.errors import ImageError

if TYPE_CHECKING:
    from singularity.image.ext.filesystem import Run

_MAGIC = 0xC03B3998
_HEADER = struct.Struct(">III")  # magic, type of block, transaction
_DESCRIPTOR, _COMMIT, _SUPERBLOCK_1, _SUPERBLOCK_2, _REVOKE = 1, 2, 3, 4, 5
_ESCAPED, _SAME_UUID, _LAST_TAG = 1, 2, 8
_REVOKES, _WIDE, _ASYNC, _CHECKSUM_2, _CHECKSUM_3, _FAST_COMMIT = 0x1, 0x2, 0x4, 0x8, 0x10, 0x20
_KNOWN = _REVOKES | _WIDE | _ASYNC | _CHECKSUM_2 | _CHECKSUM_3 | _FAST_COMMIT


class _Copy(NamedTuple):
    """Where the journal has a block, and whether its first word is hidden because it looks like a header."""

    physical: int
    escaped: bool


class _Step(NamedTuple):
    """What a transaction does, in the order of the journal."""

    transaction: int
    block: int
    copy: _Copy | None  # None: older copies of the block do not count


class Journal:
    """What a journal that must be played back holds: `newer`, by number of the block in the file system."""

    def __init__(self, runs: Iterable["Run"], read: Callable[[int, int], bytes], block_size: int, blocks: int) -> None:
        self.newer: dict[int, _Copy] = {}
        self._start = self._end = self._first = self._sequence = self._features = 0
        self._read, self._size, self._blocks = read, block_size, blocks
        self._places = [run.physical + at for run in runs for at in range(run.length)]
        if not self._places:
            raise ImageError("an ext file system whose journal is elsewhere, and not played back")
        self._superblock()
        if self._start:
            self._apply(list(self._transactions()))

    def among(self, first: int, count: int) -> list[int]:
        """The numbers of the blocks, of `count` from `first` on, that the journal has newer."""
        if count > len(self.newer):
            return [number for number in self.newer if first <= number < first + count]
        return [number for number in range(first, first + count) if number in self.newer]

    def block(self, number: int, at: Callable[[int, int], bytes]) -> bytes:
        """The content of a block in `newer`; `at` reads bytes of the file system."""
        copy = self.newer[number]
        data = at(copy.physical * self._size, self._size)
        return _MAGIC.to_bytes(4, "big") + data[4:] if copy.escaped else data

    def _block(self, number: int) -> bytes:
        if number >= len(self._places):
            raise ImageError("damaged ext journal")
        return self._read(self._places[number], 1)

    def _superblock(self) -> None:
        block = self._block(0)
        magic, kind, _ = _HEADER.unpack_from(block)
        if magic != _MAGIC or kind not in (_SUPERBLOCK_1, _SUPERBLOCK_2):
            raise ImageError("damaged ext journal: no superblock")
        size, self._end, self._first, self._sequence, self._start = struct.unpack_from(">IIIII", block, 12)
        features = int.from_bytes(block[40:44], "big") if kind == _SUPERBLOCK_2 else 0
        if size != self._size or not 0 < self._first < self._end <= len(self._places) or features & ~_KNOWN:
            raise ImageError("damaged ext journal, or one with unknown features")
        if features & _FAST_COMMIT:  # what is after the last commit is in these blocks; it is not read
            self._end -= int.from_bytes(block[84:88], "big") or 256
        if self._start and not self._first <= self._start < self._end:
            raise ImageError("damaged ext journal")
        self._features = features

    def _transactions(self) -> Iterator[_Step]:
        """The steps of all transactions that were committed."""
        at, sequence, steps, left = self._start, self._sequence, list[_Step](), self._end - self._first
        while left > 0:
            block = self._block(at)
            magic, kind, number = _HEADER.unpack_from(block)
            if magic != _MAGIC or number != sequence:
                return
            used = 1
            if kind == _DESCRIPTOR:
                for block_number, escaped in self._tags(block):
                    place = self._places[self._after(at, used)]
                    steps.append(_Step(sequence, block_number, _Copy(place, escaped)))
                    used += 1
            elif kind == _REVOKE:
                steps.extend(_Step(sequence, revoked, None) for revoked in self._revoked(block))
            elif kind == _COMMIT:
                yield from steps
                steps = []
                sequence = (sequence + 1) & 0xFFFFFFFF
            else:
                return
            at, left = self._after(at, used), left - used

    def _after(self, at: int, count: int) -> int:
        """The log goes round."""
        return self._first + (at - self._first + count) % (self._end - self._first)

    def _tags(self, block: bytes) -> Iterator[tuple[int, bool]]:
        """The blocks that follow a descriptor: number in the file system, and whether escaped."""
        end = self._size - (4 if self._features & (_CHECKSUM_2 | _CHECKSUM_3) else 0)
        wide = bool(self._features & _WIDE)
        size = 16 if self._features & _CHECKSUM_3 else 12 if wide else 8
        at = _HEADER.size
        while at + size <= end:
            if self._features & _CHECKSUM_3:
                low, flags, high = struct.unpack_from(">III", block, at)
            else:
                low, _, flags = struct.unpack_from(">IHH", block, at)
                high = int.from_bytes(block[at + 8 : at + 12], "big") if wide else 0
            yield low | (high << 32 if wide else 0), bool(flags & _ESCAPED)
            if flags & _LAST_TAG:
                return
            at += size + (0 if flags & _SAME_UUID else 16)

    def _revoked(self, block: bytes) -> Iterator[int]:
        end = int.from_bytes(block[12:16], "big")
        if not 16 <= end <= self._size:
            raise ImageError("damaged ext journal")
        size = 8 if self._features & _WIDE else 4
        for at in range(16, end - size + 1, size):
            yield int.from_bytes(block[at : at + size], "big")

    def _apply(self, steps: list[_Step]) -> None:
        revoked = {step.block: step.transaction for step in steps if step.copy is None}
        for step in steps:
            if step.copy is None or revoked.get(step.block, -1) >= step.transaction:
                continue
            if step.block >= self._blocks:
                raise ImageError("damaged ext journal")
            self.newer[step.block] = step.copy
