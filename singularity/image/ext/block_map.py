"""Where the data of a new file goes: pointers to blocks in up to three levels, as ext2 and ext3 have them."""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image.ext.allocator import Blocks
from singularity.image.ext.room import Room
from singularity.image.tree import Member, Segment

_CHUNK = 1 << 20  # bytes of a file written at once
_LARGE = 1 << 31  # bytes of a file, from which on the file system must say that it has such
_LARGEST = (1 << 41) - (1 << 32)  # bytes of a file, whose blocks are counted in 32 bits
DIRECT, POINTERS = 12, 15


class BlockMap:
    """The pointers to the blocks of a new file, given in order."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.pointers = array("I", bytes(4 * POINTERS))
        self.count = 0  # blocks in use, those of pointers too
        self._per_block = room.block_size // 4
        self._chain: list[tuple[tuple[int, ...], int, array[int]]] = []  # place, block and pointers, from the top

    def write(self, logical: int, data: memoryview) -> None:
        """Puts whole blocks of data at a block of the file."""
        size, done, total = self.room.block_size, 0, len(data) // self.room.block_size
        while done < total:
            table, index, room = self._leaf(logical + done)
            found = self.room.blocks(min(total - done, room))
            self._fill(table, index, found)
            self.room.allocator.write(found.first * size, data[done * size : (done + found.length) * size])
            done += found.length

    def put(self, blocks: "array[int]") -> None:
        """Makes blocks that have been written the first of the file."""
        for logical, block in enumerate(blocks):
            table, index, _ = self._leaf(logical)
            self._fill(table, index, Blocks(block, 1))

    def _fill(self, table: "array[int]", index: int, found: Blocks) -> None:
        table[index : index + found.length] = array("I", range(found.first, found.first + found.length))
        self.count += found.length

    def _leaf(self, logical: int) -> tuple["array[int]", int, int]:
        """Where the pointer to a block of the file belongs: the table, the index, and how many follow in the table."""
        if logical < DIRECT:
            return self.pointers, logical, DIRECT - logical
        rest, per_block, depth = logical - DIRECT, self._per_block, 1
        while rest >= per_block**depth:
            rest -= per_block**depth
            depth += 1
        indices = [rest // per_block**level % per_block for level in range(depth - 1, -1, -1)]
        table, index = self.pointers, DIRECT - 1 + depth
        for level in range(depth):
            place = (depth, *indices[:level])
            if level == len(self._chain) or self._chain[level][0] != place:
                self.close(level)
                block = self.room.blocks(1).first
                table[index] = block
                self.count += 1
                self._chain.append((place, block, array("I", bytes(self.room.block_size))))
            table, index = self._chain[level][2], indices[level]
        return table, index, per_block - index

    def close(self, level: int = 0) -> None:
        """Writes the blocks of pointers that are complete: those below `level`."""
        for _, block, table in self._chain[level:]:
            self.room.allocator.write(block * self.room.block_size, table.tobytes())
        del self._chain[level:]


def write_link(member: Member, mapped: BlockMap, named: Callable[[bytes], str]) -> None:
    """The text of a symbolic link, among the pointers where it is short. Raises ImageError for one that is too long."""
    if len(member.target) < 4 * POINTERS:
        mapped.pointers = array("I", member.target.ljust(4 * POINTERS, b"\0"))
    elif len(member.target) >= mapped.room.block_size:
        raise ImageError(f"{named(member.path)}: a link of {len(member.target)} bytes, too long for ext3")
    else:
        mapped.write(0, memoryview(member.target.ljust(mapped.room.block_size, b"\0")))


def write_data(member: Member, data: Iterable[bytes], mapped: BlockMap, named: Callable[[bytes], str]) -> None:
    """The data of a file, its holes left out. Raises ImageError for a file that is too large."""
    size = mapped.room.block_size
    per_block = size // 4
    pointed = (DIRECT + per_block + per_block**2 + per_block**3) * size
    if member.size > min(_LARGEST, pointed):
        raise ImageError(f"{named(member.path)}: {member.size} bytes, too large for ext3")
    if member.size >= _LARGE:
        raw = mapped.room.allocator.raw_super
        raw[100] |= layout.LARGE_FILE
    buffer, start = bytearray(), 0  # bytes of the file from `start` on, at the beginning of a block
    for at, piece in _placed(member, data):
        end = start + len(buffer)
        if not buffer and at % size == len(piece) % size == 0:
            mapped.write(at // size, memoryview(piece))
            start = at + len(piece)
            continue
        if at != end and (not buffer or at // size > (end - 1) // size):
            _write_blocks(mapped, start, buffer)
            buffer, start = bytearray(at % size), at - at % size
        else:
            buffer.extend(bytes(at - end))
        buffer.extend(piece)
        if len(buffer) >= _CHUNK:
            whole = len(buffer) // size * size
            _write_blocks(mapped, start, buffer[:whole])
            buffer, start = buffer[whole:], start + whole
    _write_blocks(mapped, start, buffer)


def _write_blocks(mapped: BlockMap, start: int, buffer: bytearray) -> None:
    if buffer:
        buffer.extend(bytes(-len(buffer) % mapped.room.block_size))
        mapped.write(start // mapped.room.block_size, memoryview(buffer))


def _placed(member: Member, data: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The data of a file with the places where it belongs, in order; checks that it is all that was promised."""
    segments = iter((Segment(offset=0, size=member.size),) if member.segments is None else member.segments)
    at = left = 0
    for whole in data:
        piece = whole
        while piece:
            while not left:
                segment = next(segments, None)
                if segment is None:
                    raise ImageError(f"{shown(member.path)}: more data than its {member.size} bytes")
                at, left = segment.offset, segment.size
            part = piece[:left] if len(piece) > left else piece
            yield at, part
            at, left, piece = at + len(part), left - len(part), piece[len(part) :]
    if left or any(segment.size for segment in segments):
        raise ImageError(f"{shown(member.path)}: its data ends early")


def shown(path: bytes) -> str:
    """A path for messages."""
    return f"/{os.fsdecode(path)}"
