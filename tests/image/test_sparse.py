"""Sparse files on their way to mksquashfs: whatever their shape, they end where they should, with what they held."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
import trees

from singularity.image import contents
from singularity.image.archive import sparse, tar_writer
from singularity.image.identify import identify
from singularity.image.tree import Entry, Member, Segment

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def whole(member: Member, data: Iterable[bytes]) -> bytes:
    found = bytearray(member.size)
    stored = b"".join(data)
    for each in member.segments if member.segments is not None else (Segment(offset=0, size=member.size),):
        found[each.offset : each.offset + each.size] = stored[: each.size]
        stored = stored[each.size :]
    assert stored == b""
    return bytes(found)


SHAPES = (
    (1 << 20, [(1 << 19, 4)]),
    (1 << 20, []),
    (1000, []),
    (1001, [(0, 4), (900, 101)]),
    (5000, [(100, 4000), (4200, 800)]),
    (3000, [(0, 700), (800, 2200)]),
    (3000, [(10, 700), (715, 2200), (2990, 5)]),
    (1 << 20, [(4096, 100), (5000, 200), (6656, 512), (1 << 19, 513)]),
    (1024, [(0, 512)]),
)


def shaped(path: bytes, size: int, segments: list[tuple[int, int]]) -> tuple[Member, bytes]:
    parts = tuple(Segment(offset=offset, size=length) for offset, length in segments)
    return trees.member(path, size=size, segments=parts), os.urandom(sum(each.size for each in parts))


@pytest.mark.parametrize(("size", "segments"), SHAPES)
@pytest.mark.parametrize("chunk", [1, 7, 512, 1 << 20])
def test_a_file_holds_what_it_held_in_whole_blocks(size: int, segments: list[tuple[int, int]], chunk: int) -> None:
    member, data = shaped(b"s", size, segments)
    chunks = [data[at : at + chunk] for at in range(0, len(data), chunk)]
    made = sparse.in_blocks(Entry(member, chunks))
    assert whole(made.member, made.data) == whole(member, chunks)
    for each in made.member.segments or ():
        assert each.offset % 512 == 0
        assert (each.offset + each.size) % 512 == 0 or each.offset + each.size == size


@pytest.mark.needs("mksquashfs")
def test_mksquashfs_reads_them_and_what_follows_them(tmp_path: Path) -> None:
    files = [shaped(b"s%d" % number, *shape) for number, shape in enumerate(SHAPES)]
    entries = [Entry(member, (data,)) for member, data in files]
    with (tmp_path / "x.tar").open("wb") as out:
        tar_writer.write(map(sparse.in_blocks, [*entries, trees.file(b"last", b"last")]), out)
    with (tmp_path / "x.tar").open("rb") as archive:
        words = ["mksquashfs", "-", tmp_path / "x.sqfs", "-tar", "-quiet", "-no-progress"]
        subprocess.run(words, stdin=archive, check=True, capture_output=True)
    with contents.tree(identify(tmp_path / "x.sqfs")) as tree:
        found = {each.member.path: whole(each.member, each.data) for each in tree if each.member.path}
    assert found == {b"last": b"last"} | {member.path: whole(member, (data,)) for member, data in files}
