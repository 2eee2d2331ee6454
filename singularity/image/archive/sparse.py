"""Sparse files of GNU tar: maps of the parts that are no holes, read and written; and data in whole blocks.

mksquashfs 4.5 reckons with whole blocks, but for the last one of the file, and is stricter: a file that ends within a
block must end with data, which must not be its first part. With other parts it looks for the next header at the wrong
place. Formats: GNU tar's manual, appendix "Tar Internals".
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from singularity.errors import ImageError
from singularity.image.archive.pax import decimal
from singularity.image.archive.stream import Source
from singularity.image.archive.tar_header import BLOCK, GNU, ZEROS, Header, number
from singularity.image.limits import Limits, shown
from singularity.image.tree import Entry, Segment


def segments_of(numbers: list[int], size: int, stored: int, path: bytes, limits: Limits) -> tuple[Segment, ...] | None:
    """The parts of a file that a map of offsets and sizes speaks of; None where there is no hole. Raises ImageError."""
    if len(numbers) % 2 or len(numbers) > 2 * limits.segments:
        raise ImageError(f"{shown(path)}: a sparse file whose map makes no sense")
    segments = []
    end = 0
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        if offset < end or length < 0 or offset + length > size:
            raise ImageError(f"{shown(path)}: a sparse file whose map makes no sense")
        end = offset + length
        if length:
            segments.append(Segment(offset=offset, size=length))
    if sum(each.size for each in segments) != stored or size > limits.file:
        raise ImageError(f"{shown(path)}: a sparse file whose size makes no sense")
    return tuple(segments) if stored < size else None


def old_map(header: Header, source: Source) -> tuple[int, list[int]]:
    """GNU's first form: four pairs in the header, and blocks of 21 more behind it."""
    if header.magic != GNU:
        raise ImageError(f"{shown(header.path)}: a sparse file in a form that is not known")
    fields = [header.block[at : at + 12] for at in range(386, 482, 12)]
    more = header.block[482]
    size = number(header.block[483:495], "size")
    numbers: list[int] = []
    while True:
        for text in fields:
            if not text[0]:
                more = 0
                break
            numbers.append(number(text, "sparse map"))
        if not more:
            return size, numbers
        block = source.exactly(BLOCK)
        fields = [block[at : at + 12] for at in range(0, 504, 12)]
        more = block[504]
        if len(numbers) > 2 * source.limits.segments:
            raise ImageError(f"{shown(header.path)}: a sparse file of too many parts")


def map_before_data(stored: int, source: Source) -> list[int]:
    """GNU's form 1.0: decimal lines at the beginning of the data, padded to 512: how many pairs, then the pairs."""
    numbers: list[int] = []
    wanted, rest, left = 1, b"", stored
    while len(numbers) < wanted:
        if left < BLOCK:
            raise ImageError("a sparse file whose map does not end")
        *lines, rest = (rest + source.exactly(BLOCK)).split(b"\n")
        left -= BLOCK
        numbers += [decimal(line, "sparse map") for line in lines[: wanted - len(numbers)]]
        if wanted == 1 and numbers:
            wanted += 2 * numbers[0]
            numbers += [decimal(line, "sparse map") for line in lines[1:wanted]]
        if not 1 <= wanted <= 2 * source.limits.segments + 1 or len(rest) > BLOCK:
            raise ImageError("a sparse file whose map makes no sense")
    return numbers[1:]


def encoded_map(segments: Iterable[Segment], size: int) -> bytes:
    """GNU's map of a sparse file. A hole at the end is told by a segment of no bytes, else GNU tar cuts it off."""
    pairs = [b"%d\n%d\n" % (each.offset, each.size) for each in segments]
    pairs.append(b"%d\n0\n" % size)
    text = b"%d\n" % len(pairs) + b"".join(pairs)
    return text + ZEROS[: -len(text) % BLOCK]


def in_blocks(entry: Entry) -> Entry:
    """A sparse file with those of its zeros stored that lie in a block with other data; other files as they are."""
    member = entry.member
    segments = member.segments
    if segments is None or (member.size % BLOCK == 0 and all(map(_is_in_blocks, segments))):
        return entry
    if member.size % BLOCK:
        segments = (*segments, Segment(offset=member.size, size=0))
    parts: list[Segment] = []
    zeros: list[tuple[int, int]] = []  # after how many bytes of data, and how many
    end = stored = 0  # of the segment before
    for each in segments:
        start = each.offset - each.offset % BLOCK
        stop = min(each.offset + each.size + -(each.offset + each.size) % BLOCK, member.size)
        before = parts[-1].offset + parts[-1].size if parts else -1
        if start <= before:
            zeros.append((stored, each.offset - end))
            parts[-1] = replace(parts[-1], size=stop - parts[-1].offset)
        else:
            zeros += [(stored, before - end)] if parts else []
            zeros.append((stored, each.offset - start))
            parts.append(Segment(offset=start, size=stop - start))
        end, stored = each.offset + each.size, stored + each.size
    zeros.append((stored, parts[-1].offset + parts[-1].size - end))
    if member.size % BLOCK and len(parts) == 1:
        parts.insert(0, Segment(offset=parts[0].offset, size=0))
    return Entry(replace(member, segments=tuple(parts)), _with_zeros(entry.data, [each for each in zeros if each[1]]))


def _is_in_blocks(part: Segment) -> bool:
    return part.offset % BLOCK == part.size % BLOCK == 0


def _with_zeros(data: Iterable[bytes], holes: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Data with zeros put into it: after how many bytes of it, and how many."""
    pending = iter(holes)
    at, count = next(pending, (-1, 0))
    position = 0
    for chunk in data:
        rest = chunk
        while 0 <= at <= position + len(rest):
            yield rest[: at - position]
            yield bytes(count)
            rest, position = rest[at - position :], at
            at, count = next(pending, (-1, 0))
        yield rest
        position += len(rest)
    while at >= 0:
        yield bytes(count)
        at, count = next(pending, (-1, 0))
