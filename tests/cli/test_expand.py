"""`singularity expand`: more room in an image, whoever asks and whatever happens."""

from __future__ import annotations

import lzma
import os
import random
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import machine
import pytest
import streams
from containers import Person, ext3_image
from images import hold, superblock, tool
from trees import fill
from typists import typist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MEBIBYTE, OFFSET = 1 << 20, 31
LINES = "Expanding image by {}MiB...\nChecking the file system\nGrowing the file system\nDone.\n"


@pytest.fixture(params=["root", "user"])
def person(request: pytest.FixtureRequest, storage: Path, tmp_path: Path) -> Iterator[Person]:
    with typist(request.param, storage / tmp_path.name) as made:
        yield made


@pytest.fixture
def root(storage: Path, tmp_path: Path) -> Iterator[Person]:
    with typist("root", storage / tmp_path.name) as made:
        yield made


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with everything in it."""
    machine.require("root", "mke2fs")
    place = tmp_path_factory.mktemp("filled")
    (place / "tree").mkdir()
    fill(place / "tree", privileged=True)
    return ext3_image(place / "tree", place / "box.img", mebibytes=24)


def own(person: Person, source: Path, name: str = "box.img") -> Path:
    target = person.directory / name
    shutil.copy(source, target)
    person.give(target)
    return target


def blocks_of(image: Path, offset: int = OFFSET) -> int:
    """The size of the file system, in MiB."""
    lines = dict(line.split(":", 1) for line in superblock(image, offset=offset).splitlines() if ":" in line)
    return int(lines["Block count"]) * int(lines["Block size"]) // MEBIBYTE


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["box.img"], 512),
        (["-s", "40", "box.img"], 40),
        (["box.img", "--size", "40"], 40),
        (["--size=40", "box.img"], 40),
        (["-size", "2000", "box.img"], 2000),
    ],
    ids=str,
)
def test_the_image_has_more_room_and_the_same_content(
    person: Person, filled: Path, words: list[str], more: int
) -> None:
    image = own(person, filled)
    before = streams.ext(image, OFFSET)
    result = person("expand", *words)
    assert (result.status, result.out, result.err) == (0, LINES.format(more), "")
    assert image.stat().st_size == OFFSET + (24 + more) * MEBIBYTE  # 2.2 added a byte each time
    assert blocks_of(image) == 24 + more
    assert streams.ext(image, OFFSET) == before
    assert streams.is_clean(image, OFFSET)
    assert image.stat().st_mode & 0o777 == 0o755


def test_an_image_without_the_first_line_is_expanded_too(person: Person) -> None:
    image = person.directory / "bare.img"
    tool("mke2fs", "-q", "-F", "-t", "ext3", image, "30M")
    person.give(image)
    for _ in range(3):
        person.does("expand", "-s", "50", image)
    assert (image.stat().st_size, blocks_of(image, 0)) == (180 * MEBIBYTE, 180)
    assert streams.is_clean(image)


@pytest.mark.needs("fixtures", "xz")
def test_an_image_of_version_2_with_its_stray_byte_is_expanded(person: Person) -> None:
    image = person.directory / "old.img"
    data = lzma.decompress((machine.FIXTURES / "busybox-2.2.img.xz").read_bytes())
    image.write_bytes(data + b"0")
    person.give(image)
    before, size = streams.ext(image, OFFSET), blocks_of(image)
    person.does("expand", "-s", "9", image)
    assert streams.ext(image, OFFSET) == before
    assert blocks_of(image) == size + 9
    assert image.stat().st_size == OFFSET + (size + 9) * MEBIBYTE
    assert streams.is_clean(image, OFFSET)


@pytest.mark.parametrize("writable", [False, True])
def test_an_image_in_use_is_refused(person: Person, filled: Path, *, writable: bool) -> None:
    """R-I2: launches hold these locks."""
    image = own(person, filled)
    before = image.read_bytes()
    with image.open("r+b") as file:
        hold(file, writable=writable)
        begin = time.monotonic()
        result = person("expand", image)
        assert time.monotonic() - begin < 60
    assert result.status == 255
    assert result.err.startswith(f"FATAL:   {image}: in use (")
    assert result.err.count("\n") == 1
    assert image.read_bytes() == before


def test_what_is_no_ext3_image_is_refused(person: Person, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    squashfs = person.directory / "box.squashfs"
    tool("mksquashfs", tmp_path / "tree", squashfs, "-quiet", "-no-progress")
    (person.directory / "text").write_text("hello\n" * 1000)
    person.give(person.directory)
    cases = {
        "box.squashfs": "a squashfs file, not an ext3 image",
        "text": "unknown format",
        ".": "a directory, which is as large as its disk",
        "missing": "no such image (make it: singularity create)",
    }
    if machine.FIXTURES.is_dir():
        cases["box.sif"] = "a SIF file, whose root file system is read-only"
        own(person, machine.FIXTURES / "busybox-apptainer-1.4.sif", "box.sif").chmod(0o755)
    for name, words in cases.items():
        result = person("expand", name)
        assert (result.status, result.out, result.err.count("\n")) == (255, "", 1)
        assert words in result.err


def test_an_image_of_somebody_else_is_refused(storage: Path, tmp_path: Path, filled: Path) -> None:
    with typist("user", storage / tmp_path.name) as person:
        image = person.directory / "box.img"
        shutil.copy(filled, image)
        result = person("expand", image)
        assert (result.status, result.err) == (255, f"FATAL:   {image}: you may not write to it: Permission denied\n")


@pytest.mark.parametrize("size", ["0", "x", "-5", ""])
def test_a_size_that_makes_no_sense_is_refused(person: Person, filled: Path, size: str) -> None:
    image = own(person, filled)
    result = person("expand", f"--size={size}", image)
    assert (result.status, result.out) == (1, "")
    assert image.stat().st_size == filled.stat().st_size


def test_a_damaged_file_system_is_mended_first(person: Person, filled: Path) -> None:
    image = own(person, filled)
    tool("debugfs", "-w", "-R", "clri etc/passwd", f"{image}?offset={OFFSET}")
    result = person.does("expand", "-s", "16", image)
    assert result.err == f"INFO:    The file system of {image} was mended\n"
    assert streams.is_clean(image, OFFSET)
    assert blocks_of(image) == 40


def test_killed_it_leaves_an_image_that_works(root: Person, filled: Path) -> None:
    """Either the old file system or the new one, never a damaged one; and it can be expanded again."""
    chance = random.Random(1)  # noqa: S311 - not to keep a secret
    before = streams.ext(filled, OFFSET)
    ended = {True: 0, False: 0}
    for _ in range(12):
        image = own(root, filled)
        with root.start("expand", "-s", "4000", image) as process:
            time.sleep(0.1 + chance.random() * 0.5)
            process.send_signal(signal.SIGKILL)
        assert streams.ext(image, OFFSET) == before
        assert streams.is_clean(image, OFFSET)
        ended[blocks_of(image) > 4000] += 1
        if blocks_of(image) < 4000 and ended[False] < 4:
            root.does("expand", "-s", "4000", image)
            assert blocks_of(image) == 4024
            assert image.stat().st_size == OFFSET + 4024 * MEBIBYTE
    assert ended[False] > 0


def test_a_truncated_image_is_not_expanded(person: Person, filled: Path) -> None:
    image = own(person, filled)
    os.truncate(image, image.stat().st_size - 5000)
    result = person("expand", "-s", "16", image)
    assert (result.status, result.err.count("\n")) == (255, 1)
    assert "lacks its last 5000 bytes" in result.err


def test_a_full_disk_leaves_the_image_as_it_was(root: Person) -> None:
    disk = root.directory / "disk"
    disk.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", disk)
    try:
        root.does("create", "-s", "100", disk / "box.img")
        with (disk / "rest").open("wb") as rest:
            while True:
                try:
                    rest.write(bytes(65536))
                    rest.flush()
                except OSError:
                    break
        result = root("expand", "-s", "20000", disk / "box.img")
        assert (result.status, result.err) == (255, f"FATAL:   {disk}/box.img: No space left on device\n")
        assert blocks_of(disk / "box.img") == 100
        assert streams.is_clean(disk / "box.img", OFFSET)
    finally:
        subprocess.run(["umount", disk], check=True)
