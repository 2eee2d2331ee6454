"""Chunks of files, and files put together from them."""

from __future__ import annotations

import io
import os
import random
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from singularity.content import chunks, patchwork
from singularity.content.patchwork import Patchwork, Place
from singularity.errors import ImageError, NetworkError

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = random.Random(5).randbytes(20 << 20)  # noqa: S311
ZEROS = bytes(3 << 20)


def index_of(data: bytes) -> chunks.Index:
    return chunks.of(io.BytesIO(data), "x")


@pytest.mark.parametrize("data", [b"", b"x", ZEROS, RANDOM[: 3 << 20], RANDOM[:5000] * 900], ids=len)
def test_chunks_cover_the_file_and_their_index_is_read_again(data: bytes) -> None:
    index = index_of(data)
    assert b"".join(data[each.offset :][: each.size] for each in index) == data
    assert all(chunks.name_of(data[each.offset :][: each.size]) == each.name for each in index)
    assert index.digest.names(data)
    assert chunks.parse(index.encoded(), "x") == index
    assert len(index.encoded()) <= chunks.size_limit(len(data))


def test_where_files_are_read_in_other_pieces_the_chunks_are_the_same() -> None:
    class Dribbling(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7001))

    assert chunks.of(Dribbling(RANDOM[: 2 << 20]), "x") == index_of(RANDOM[: 2 << 20])


@given(st.integers(0, 20 << 20), st.integers(0, 100_000), st.integers(0, 100_000))
@settings(max_examples=25, deadline=None)
def test_a_change_costs_its_size_and_little_more(place: int, removed: int, added: int) -> None:
    changed = RANDOM[:place] + os.urandom(added) + RANDOM[place + removed :]
    assert chunks.missing(index_of(changed), [index_of(RANDOM)]) < added + 250_000


def test_an_index_is_a_thousandth_of_its_file() -> None:
    index = index_of(RANDOM)
    assert 0.0005 < len(index.encoded()) / len(RANDOM) < 0.0025


def header(size: int, *entries: tuple[int, bytes], magic: bytes = b"SIFCHNK1") -> bytes:
    return struct.pack("<8sQ32s", magic, size, bytes(32)) + b"".join(struct.pack("<I16s", *each) for each in entries)


NAME = bytes(16)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"SIFCHNK1",
        header(5000, (5000, NAME), magic=b"SIFCHNK2"),
        header(5000, (5000, NAME))[:-1],
        header(5000, (5001, NAME)),
        header(5000),
        header(5000, (1023, NAME), (3977, NAME)),
        header(5000, (5000, NAME), (0, NAME)),
        header(1 << 20, (1 << 20, NAME)),
        header(1 << 63, ((1 << 32) - 1, NAME)),
        header((1 << 64) - 1, (1, NAME)),
        header(8192, *[(4096, NAME)] * 5),
        header(1, *[(0, NAME)] * 1000, (1, NAME)),
    ],
    ids=lambda data: data[:60].hex()[-40:],
)
def test_an_index_of_a_stranger_is_refused(data: bytes) -> None:
    with pytest.raises(ImageError) as raised:
        chunks.parse(data, "http://host/x.sif.chunks")
    assert str(raised.value).startswith("http://host/x.sif.chunks: ")


@given(st.binary(max_size=200).map(lambda data: b"SIFCHNK1" + data))
def test_any_bytes_are_an_index_or_an_error(data: bytes) -> None:
    with suppress(ImageError):
        assert sum(each.size for each in chunks.parse(data, "x")) == chunks.parse(data, "x").size


# ---- put together ----------------------------------------------------------------------------------------------------
class Server:
    def __init__(self, data: bytes) -> None:
        self.data, self.asked, self.lock = data, [], threading.Lock()  # type: ignore[var-annotated]

    def part(self, offset: int, size: int) -> bytes:
        with self.lock:
            self.asked.append((offset, size))
        return self.data[offset : offset + size]


def held_in(path: Path, data: bytes, wanted: chunks.Index) -> tuple[int, dict[bytes, Place]]:
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    names = {each.name for each in wanted}
    return fd, {each.name: Place(fd, each.offset) for each in index_of(data) if each.name in names}


@pytest.mark.parametrize("offset", [0, 1, 4096, 5_000_001, (8 << 20) - 1, 8 << 20])
def test_a_file_is_put_together_from_any_place_on(tmp_path: Path, offset: int) -> None:
    old = RANDOM[: 8 << 20]
    new = RANDOM[: 3 << 20] + os.urandom(100_000) + RANDOM[3 << 20 :][: (5 << 20) - 100_000]
    index, server = index_of(new), Server(new)
    fd, held = held_in(tmp_path / "old", old, index)
    with Patchwork("x", index, held, server.part, offset) as stream:
        assert stream.read() == new[offset:]
    assert sum(size for _, size in server.asked) < 350_000
    os.close(fd)


def test_nothing_is_asked_for_twice_and_in_pieces_of_a_bounded_size() -> None:
    data, index = RANDOM, index_of(RANDOM)
    server = Server(data)
    with Patchwork("x", index, {}, server.part, 0) as stream:
        assert stream.read() == data
    assert sorted(server.asked)[0][0] == 0
    assert sum(size for _, size in server.asked) == len(data)
    assert max(size for _, size in server.asked) <= patchwork._PIECE


def test_a_chunk_at_hand_that_was_changed_is_fetched(tmp_path: Path) -> None:
    data = RANDOM[: 2 << 20]
    index, server = index_of(data), Server(data)
    fd, held = held_in(tmp_path / "old", data, index)
    with (tmp_path / "old").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")
        file.truncate((2 << 20) - 5)
    with Patchwork("x", index, held, server.part, 0) as stream:
        assert stream.read() == data
    assert 1 < len(server.asked) < 4
    os.close(fd)


def test_what_comes_as_something_else_is_an_error() -> None:
    index = index_of(RANDOM[: 1 << 20])
    with Patchwork("x", index, {}, Server(bytes(1 << 20)).part, 0) as stream, pytest.raises(ImageError):
        stream.read()
    short = Server(RANDOM[:5000])
    with Patchwork("x", index, {}, short.part, 0) as stream, pytest.raises(ImageError):
        stream.read()


def test_what_goes_wrong_in_a_thread_is_raised_where_it_is_read() -> None:
    def part(offset: int, size: int) -> bytes:
        raise NetworkError(f"gone at {offset} of {size}")

    with Patchwork("x", index_of(RANDOM), {}, part, 0) as stream, pytest.raises(NetworkError, match="gone at 0"):
        stream.read()
