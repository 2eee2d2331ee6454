"""Which of many pairs of files differ: by stored blocks where both images are squashfs, else by reading them.

Several threads share the work, each with file systems of its own: what decompresses lets the others run meanwhile.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from typing import NamedTuple

from singularity.errors import FileError, ImageError
from singularity.image import stacked
from singularity.image.identify import Image
from singularity.image.lookup import Lookup, Walked, translated
from singularity.image.squashfs.filesystem import Inode
from singularity.image.squashfs.lookup import InSquashfs
from singularity.image.squashfs.same import Pair, place

_CHUNK = 1 << 20
_THREADS = 8


class Files(NamedTuple):
    """A file of one image and a file of another, of the same size."""

    one: Walked
    other: Walked


def differing(one: Image, other: Image, pairs: Sequence[Files]) -> set[str]:
    """The paths, in the first image, of those that differ. Raises ImageError, and FileError for what cannot be read."""
    if not pairs:
        return set()
    in_order = sorted(pairs, key=_place)
    count = min(_THREADS, len(os.sched_getaffinity(0)), len(pairs))
    parts = [in_order[len(pairs) * part // count : len(pairs) * (part + 1) // count] for part in range(count)]
    with ThreadPoolExecutor(count) as pool:
        found = [pool.submit(_differing, one, other, part) for part in parts]
        return {path for each in found for path in each.result()}


def _place(pair: Files) -> tuple[int, int]:
    inode = pair.one.inode
    return place(inode) if isinstance(inode, Inode) else (0, 0)


def _differing(one: Image, other: Image, pairs: Sequence[Files]) -> list[str]:
    with stacked.shown(one) as first, stacked.shown(other) as second:
        by_blocks = None
        if isinstance(first, InSquashfs) and isinstance(second, InSquashfs):
            by_blocks = Pair(first.system, second.system)
        found = []
        for pair in pairs:
            same = _by_blocks(by_blocks, pair) if by_blocks is not None else None
            if same is None:
                same = _by_reading(_pieces(first, pair.one, one), _pieces(second, pair.other, other))
            if not same:
                found.append(pair.one.path)
        return found


def _by_blocks(pair: Pair, files: Files) -> bool | None:
    one, other = files.one.inode, files.other.inode
    try:
        return pair.same(one, other) if isinstance(one, Inode) and isinstance(other, Inode) else None
    except ImageError:  # which of the two is damaged is said by reading them
        return None


def _by_reading(one: Iterator[bytes], other: Iterator[bytes]) -> bool:
    return all(first == second for first, second in zip_longest(one, other))


def _pieces(lookup: Lookup, walked: Walked, image: Image) -> Iterator[bytes]:
    with FileError.about(f"{image.path}: {walked.path}"), translated(image.path), lookup.content(walked) as file:
        while data := file.read(_CHUNK):
            yield data
