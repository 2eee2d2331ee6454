"""Whether two files of squashfs images have the same content, by the compressed blocks where these say so.

Equal blocks that were compressed by the same method are equal files. Blocks that differ say nothing: another level of
compression, or neighbours in the same fragment, make others of the same data.
"""

from collections import OrderedDict

from singularity.image.squashfs.filesystem import Filesystem, Inode, block_size

_PIECE = 1 << 20  # bytes that are compared at once
_FRAGMENTS_KEPT = 16


class Pair:
    """Two file systems; one thread at a time."""

    def __init__(self, one: Filesystem, other: Filesystem) -> None:
        self._systems = one, other
        self._comparable = (one.compression, one.block_size) == (other.compression, other.block_size)
        self._fragments: tuple[OrderedDict[int, bytes], ...] = (OrderedDict(), OrderedDict())
        self._equal: dict[tuple[int, int], bool] = {}  # fragments, as they are stored

    def same(self, one: Inode, other: Inode) -> bool | None:
        """Of two regular files of one size; None where they must be read. Raises ImageError."""
        if not self._comparable:
            return None
        first, second = self._systems
        sizes, tail = first.block_sizes(one)
        if (sizes, tail) != second.block_sizes(other):
            return None
        length = sum(block_size(word)[0] for word in sizes)
        for at in range(0, length, _PIECE):
            count = min(_PIECE, length - at)
            if first.pread(one.start + at, count) != second.pread(other.start + at, count):
                return None
        return not tail or self._same_tails(one, other, tail)

    def _same_tails(self, one: Inode, other: Inode, tail: int) -> bool:
        key = one.fragment, other.fragment
        if one.offset == other.offset:
            if key not in self._equal:
                self._equal[key] = self._stored(0, one.fragment) == self._stored(1, other.fragment)
            if self._equal[key]:
                return True
        first, second = (self._fragment(side, inode.fragment) for side, inode in enumerate((one, other)))
        return first[one.offset : one.offset + tail] == second[other.offset : other.offset + tail]

    def _stored(self, side: int, number: int) -> bytes:
        system = self._systems[side]
        at, word = system.fragment_place(number)
        return system.pread(at, block_size(word)[0])

    def _fragment(self, side: int, number: int) -> bytes:
        kept, system = self._fragments[side], self._systems[side]
        if number not in kept:
            if len(kept) >= _FRAGMENTS_KEPT:
                kept.popitem(last=False)
            at, word = system.fragment_place(number)
            kept[number] = system.block(at, *block_size(word))
        kept.move_to_end(number)
        return kept[number]


def place(inode: Inode) -> tuple[int, int]:
    """Where the data of a file is, to read files in order."""
    return inode.fragment, inode.start
