"""Sparse files as GNU tar stores them: in whole blocks, but for the last one of the file.

mksquashfs 4.5 reckons with it, and is stricter: a file that ends within a block must end with data, which must not be
its first part. With other parts it looks for the next header at the wrong place.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from singularity.image.archive import tar
from singularity.image.tree import Entry, Segment


def in_blocks(entry: Entry) -> Entry:
    """A sparse file with those of its zeros stored that lie in a block with other data; other files as they are."""
    member = entry.member
    segments = member.segments
    if segments is None or (member.size % tar.BLOCK == 0 and all(map(_is_in_blocks, segments))):
        return entry
    if member.size % tar.BLOCK:
        segments = (*segments, Segment(offset=member.size, size=0))
    parts: list[Segment] = []
    zeros: list[tuple[int, int]] = []  # after how many bytes of data, and how many
    end = stored = 0  # of the segment before
    for each in segments:
        start = each.offset - each.offset % tar.BLOCK
        stop = min(each.offset + each.size + -(each.offset + each.size) % tar.BLOCK, member.size)
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
    if member.size % tar.BLOCK and len(parts) == 1:
        parts.insert(0, Segment(offset=parts[0].offset, size=0))
    return Entry(replace(member, segments=tuple(parts)), _with_zeros(entry.data, [each for each in zeros if each[1]]))


def _is_in_blocks(part: Segment) -> bool:
    return part.offset % tar.BLOCK == part.size % tar.BLOCK == 0


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
