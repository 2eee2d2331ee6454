"""Archives by their bytes: whatever compression and form, from files and pipes, whole or damaged."""

from __future__ import annotations

import io
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
import trees

from singularity import process
from singularity.errors import FileError, ImageError, ToolError
from singularity.image import identify
from singularity.image.archive import compression
from singularity.image.archive import reader as archive
from singularity.image.limits import LIMITS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

PROGRAMS = {"gzip": ["gzip", "-c"], "bzip2": ["bzip2", "-c"], "xz": ["xz", "-c"], "zstd": ["zstd", "-cq"]}
KINDS = ["plain", *PROGRAMS]
CONTENT = {b"a": b"1", b"dir/big": os.urandom(1_300_000), b"dir/zeros": bytes(2_500_000), b"z": b"last"}


def compressed(data: bytes, kind: str) -> bytes:
    if kind == "plain":
        return data
    machine.require(*({"xz", "zstd"} & {kind}))
    return subprocess.run(PROGRAMS[kind], input=data, capture_output=True, check=True, timeout=60).stdout


@pytest.fixture(scope="module")
def plain() -> bytes:
    return trees.archive(*(trees.file(path, data) for path, data in CONTENT.items()))


@pytest.fixture(params=["programs", "library"])
def tools(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """With the programs that decompress, and with none but zstd."""
    if request.param == "library":
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "zstd").symlink_to("/usr/bin/zstd")
        monkeypatch.setattr(process, "SYSTEM_PATH", str(tmp_path / "bin"))
    return str(request.param)


def piped(data: bytes) -> Iterator[BinaryIO]:
    """The reading end of a pipe into which the data comes bit by bit."""
    read_end, write_end = os.pipe()

    def feed() -> None:
        with open(write_end, "wb", buffering=0) as out:
            try:
                for at in range(0, len(data), 70_001):
                    out.write(data[at : at + 70_001])
            except BrokenPipeError:
                pass

    thread = threading.Thread(target=feed)
    thread.start()
    with open(read_end, "rb") as file:
        yield file
    thread.join()


def content(source: Path | BinaryIO, **options: object) -> dict[bytes, bytes]:
    with archive.opened(source, **options) as tree:  # type: ignore[arg-type]
        return {path: data for path, (_, data) in trees.members(tree).items()}


def from_pipe(data: bytes, **options: object) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for pipe in piped(data):
        found = content(pipe, **options)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_compression_is_read_from_files_and_pipes(plain: bytes, kind: str, tools: str, tmp_path: Path) -> None:
    del tools
    data = compressed(plain, kind)
    path = tmp_path / "name that says nothing"
    path.write_bytes(data)
    assert content(path) == CONTENT
    assert from_pipe(data) == CONTENT
    assert content(io.BytesIO(data), name="x") == CONTENT
    with path.open("rb") as file:
        assert content(file) == CONTENT
    behind = tmp_path / "behind"
    behind.write_bytes(b"before" + data)
    with behind.open("rb") as file:
        file.seek(6)
        assert content(file) == CONTENT


@pytest.mark.parametrize("kind", PROGRAMS)
def test_compressed_parts_one_after_another_are_one(plain: bytes, kind: str, tools: str, tmp_path: Path) -> None:
    del tools
    path = tmp_path / "x"
    path.write_bytes(compressed(plain[:100_000], kind) + compressed(plain[100_000:], kind))
    assert content(path) == CONTENT


def skippable(data: bytes, number: int = 0) -> bytes:
    """A frame of zstd that readers pass over: RFC 8878, 3.1.2."""
    return bytes([0x50 + number]) + b"\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


@pytest.mark.parametrize("where", ["first", "between", "last", "everywhere", "large"])
def test_zstd_frames_to_be_skipped_are_skipped(plain: bytes, where: str, tmp_path: Path) -> None:
    """As pzstd writes them first, and zstd:chunked last."""
    one, two = compressed(plain[:100_000], "zstd"), compressed(plain[100_000:], "zstd")
    cases = {
        "first": skippable(b"size") + one + two,
        "between": one + skippable(b"", 7) + two,
        "last": one + two + skippable(b"a table", 15),
        "everywhere": skippable(b"") + one + skippable(b"x") + skippable(b"y") + two + skippable(b"z"),
        "large": skippable(bytes(3 << 20)) + one + two,
    }
    path = tmp_path / "x"
    path.write_bytes(cases[where])
    assert content(path) == CONTENT
    assert from_pipe(cases[where]) == CONTENT
    assert identify.identify(path).format is identify.Format.COMPRESSED


@pytest.mark.parametrize("zeros", [1, 511, 10_000])
def test_zeros_behind_gzip_and_parts_of_nothing_are_nothing(
    plain: bytes, zeros: int, tools: str, tmp_path: Path
) -> None:
    """As tapes and block devices leave them, and parallel compressors make them."""
    del tools
    path = tmp_path / "x"
    nothing = compressed(b"", "gzip")
    path.write_bytes(nothing + compressed(plain, "gzip") + nothing + bytes(zeros))
    assert content(path) == CONTENT
    assert from_pipe(path.read_bytes()) == CONTENT


@pytest.mark.needs("cpio")
@pytest.mark.parametrize("kind", KINDS)
def test_cpio_archives_are_known_too(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    argv = ["cpio", "--quiet", "-o", "-H", "newc"]
    data = subprocess.run(argv, input=b"file\n", cwd=tmp_path, capture_output=True, check=True, timeout=60).stdout
    assert content(io.BytesIO(compressed(data, kind)), name="x") == {b"file": b"x" * 1000}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_t5_damage_is_an_error_wherever_it_is(plain: bytes, kind: str, tools: str, tmp_path: Path) -> None:
    del tools
    data = compressed(plain, kind)
    path = tmp_path / "x"
    cases = [data[:size] for size in (len(data) - 1, len(data) - 7, len(data) // 2, 100_000, 20)]
    cases += [data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] for at in (len(data) // 2, len(data) // 3)]
    for case in cases:
        path.write_bytes(case)
        with pytest.raises(ImageError) as caught:
            content(path)
        assert str(caught.value).startswith(f"{path}: "), caught.value
        assert "\n" not in str(caught.value)
        with pytest.raises(ImageError, match=r"damaged|middle|checksum|incomplete"):
            from_pipe(case)


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for data, words in (
        (b"", "empty, no archive"),
        (b"hello", "no archive that is known (known are tar and cpio"),
        (os.urandom(5000).replace(b"\x1f", b" "), "no archive that is known"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (compressed(compressed(b"x" * 9999, "gzip"), "gzip"), "compressed twice"),
        (compressed(b"hello", "gzip"), "no archive that is known"),
    ):
        path.write_bytes(data)
        with pytest.raises(ImageError) as caught:
            content(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert words in str(caught.value)
    with pytest.raises(FileError, match=r"nowhere: No such file"):
        content(tmp_path / "nowhere")
    with pytest.raises(FileError, match="Is a directory"):
        content(tmp_path)
    with pytest.raises(ImageError, match=r"^standard input: no archive"):
        from_pipe(b"garbage")


def test_a_missing_program_is_named(plain: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = compressed(plain, "zstd")
    monkeypatch.setattr(process, "SYSTEM_PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"zstd not found, needed to decompress zstd \(install zstd\)"):
        content(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])
def test_t5_more_than_a_thousand_times_as_large_is_refused(kind: str, tools: str, tmp_path: Path) -> None:
    del tools
    small = replace(LIMITS, ratio_after=1 << 20, ratio=100)
    path = tmp_path / "bomb"
    path.write_bytes(compressed(trees.archive(trees.file(b"zeros", bytes(60 << 20))), kind))
    with pytest.raises(ImageError, match="more than 100 times as large"):
        content(path, limits=small)
    with pytest.raises(ImageError, match="more than 100 times as large"):
        from_pipe(path.read_bytes(), limits=small)
    assert content(path) == {b"zeros": bytes(60 << 20)}


def peak() -> int:
    """KiB of memory that this process had at most."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    path = tmp_path / "x.tar.gz"
    path.write_bytes(compressed(trees.archive(trees.file(b"zeros", bytes(300 << 20))), "gzip"))
    Path("/proc/self/clear_refs").write_text("5")  # what other tests needed does not count (proc_pid_clear_refs(5))
    before = peak()
    with archive.opened(path) as tree:
        assert sum(len(chunk) for entry in tree for chunk in entry.data) == 300 << 20
    assert peak() - before < 32 << 10


@pytest.mark.parametrize("kind", PROGRAMS)
def test_who_stops_early_leaves_no_program_behind(plain: bytes, kind: str, tmp_path: Path) -> None:
    machine.adopt_orphans()
    before = machine.children()
    path = tmp_path / "x"
    path.write_bytes(compressed(plain, kind))
    stop = KeyError("enough")

    def look_at_one() -> None:
        with archive.opened(path) as tree:
            next(tree)
            raise stop

    with pytest.raises(KeyError, match="enough"):
        look_at_one()
    assert machine.children() == before


def test_known_compressions() -> None:
    for kind in compression.Compression:
        assert compression.recognise(compressed(b"x", kind.value)) is kind
    assert compression.recognise(b"") is compression.recognise(b"\x1f") is None
