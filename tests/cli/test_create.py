"""`singularity create`, as on the slides, by root and by anybody."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from images import superblock, tool
from typists import typist

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from containers import Person

MEBIBYTE = 1 << 20
LINE = b"#!/usr/bin/env run-singularity\n"
SLIDE = """\
Creating a new image with a maximum size of {}MiB...
Executing image create helper
Formatting image with ext3 file system
Done.
"""


@pytest.fixture(params=["root", "user"])
def person(request: pytest.FixtureRequest, storage: Path, tmp_path: Path) -> Iterator[Person]:
    with typist(request.param, storage / tmp_path.name) as made:
        yield made


@pytest.fixture
def root(storage: Path, tmp_path: Path) -> Iterator[Person]:
    with typist("root", storage / tmp_path.name) as made:
        yield made


def check(image: Path, mebibytes: int) -> None:
    """It is an empty ext3 image of this size, sparse, and a program."""
    status = image.stat()
    assert status.st_size == len(LINE) + mebibytes * MEBIBYTE
    assert status.st_blocks * 512 < 3 * MEBIBYTE
    assert stat.S_IMODE(status.st_mode) == 0o755
    with image.open("rb") as file:
        assert file.read(len(LINE)) == LINE
    done = subprocess.run(["e2fsck", "-fn", f"{image}?offset=31"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "11/" in done.stdout  # no file but lost+found
    features = superblock(image, offset=31)
    assert "has_journal" in features
    assert "extent" not in features


@pytest.mark.parametrize(
    ("words", "mebibytes"),
    [
        ([], 768),
        (["-F"], 768),
        (["-s", "20"], 20),
        (["--size", "64"], 64),
        (["--size=64"], 64),
        (["-F", "-size", "2048"], 2048),
        (["-size=2048", "--force"], 2048),
        (["-s20"], 20),
        (["-s", "2"], 2),
    ],
    ids=str,
)
def test_the_slides_lines_are_printed_and_true(person: Person, words: list[str], mebibytes: int) -> None:
    result = person("create", *words, "box.img")
    assert (result.status, result.out, result.err) == (0, SLIDE.format(mebibytes), "")
    check(person.directory / "box.img", mebibytes)
    assert (person.directory / "box.img").stat().st_uid == person.ids[0]


def test_options_may_follow_the_image(person: Person) -> None:
    person.does("create", "box.img", "-s", "16")
    check(person.directory / "box.img", 16)


def test_quiet_says_nothing(person: Person) -> None:
    for word in ("-q", "--quiet", "-s"):
        result = person("create", "-F", "-s", "16", "box.img", first=[word])
        assert (result.status, result.out, result.err) == (0, "", "")


def test_the_umask_is_ignored(root: Person) -> None:
    before = os.umask(0o077)
    try:
        root.does("create", "-s", "16", "box.img")
    finally:
        os.umask(before)
    check(root.directory / "box.img", 16)


def test_an_image_that_exists_is_replaced_with_force_only(person: Person) -> None:
    image = person.directory / "box.img"
    image.write_text("valuable")
    result = person("create", "-s", "16", image)
    assert (result.status, result.out, result.err) == (255, "", f"FATAL:   {image}: exists (--force replaces it)\n")
    assert image.read_text() == "valuable"
    person.does("create", "-s", "16", "--force", image)
    check(image, 16)


def test_a_directory_is_never_replaced(person: Person) -> None:
    for words in ([], ["-F"]):
        result = person("create", *words, person.directory)
        assert result.status == 255
        assert result.err.startswith(f"FATAL:   {person.directory}: a directory (")
    (person.directory / "link").symlink_to("nowhere")
    result = person("create", "-F", "link")
    assert (result.status, result.err) == (
        255,
        "FATAL:   link: a link to nothing (remove it, or name another file)\n",
    )
    result = person("create", "no/such/directory.img")
    assert (result.status, result.err) == (255, "FATAL:   no/such: No such file or directory\n")


@pytest.mark.parametrize("size", ["abc", "0", "-1", "1", "", "12x", "1e3", "٣", "99999999", "9" * 5000])
def test_a_size_that_makes_no_sense_is_refused(person: Person, size: str) -> None:
    """2.2 took the digits it found, and said Done."""
    result = person("create", f"--size={size}", "box.img")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith("ERROR:   --size: ")
    assert result.err.count("\n") == 1
    assert not (person.directory / "box.img").exists()


def test_the_same_image_twice_with_source_date_epoch(person: Person) -> None:
    for name in ("one", "two"):
        person.does("create", "-s", "24", f"{name}.img", env={"SOURCE_DATE_EPOCH": "1600000000"})
        time.sleep(1.1)
    assert (person.directory / "one.img").read_bytes() == (person.directory / "two.img").read_bytes()


def test_a_full_disk_leaves_nothing(root: Person) -> None:
    """R-F4."""
    disk = root.directory / "disk"
    disk.mkdir()
    tool("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk)
    try:
        result = root("create", disk / "box.img")
        assert result.status == 255
        assert result.err.startswith("FATAL:   ")
        assert "No space left on device" in result.err
        assert result.err.count("\n") == 1
        assert list(disk.iterdir()) == []
    finally:
        tool("umount", disk)


def test_killed_it_leaves_the_old_image_or_the_new_one(root: Person) -> None:
    """R-F3."""
    image = root.directory / "box.img"
    for pause in (0.05, 0.15, 0.2, 0.25, 0.3, 0.4):
        image.write_text("old")
        with root.start("create", "-F", "-s", "4000", image) as process:
            time.sleep(pause)
            os.killpg(process.pid, signal.SIGKILL)
        if image.stat().st_size > 3:
            check_whole(image)
        else:
            assert image.read_text() == "old"
    assert root.left() == []


def check_whole(image: Path) -> None:
    done = subprocess.run(["e2fsck", "-fn", f"{image}?offset=31"], capture_output=True, check=False)
    assert done.returncode == 0


def test_without_mke2fs_the_package_is_named(root: Person) -> None:
    hidden = "import os, sys; from singularity import process; process.SYSTEM_PATH = '/nowhere'\n"
    script = hidden + "from singularity.cli.main import main; sys.exit(main(['create', 'box.img']))"
    done = subprocess.run(
        [root.argv()[0], "-c", script], cwd=root.directory, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (255, 1)
    assert "mke2fs not found, needed to format box.img (install e2fsprogs)" in done.stderr


def test_help_has_examples(root: Person) -> None:
    assert "Examples:\n  singularity create debian.img\n" in root.does("create", "--help").out
    assert "-s, --size MIB" in root.does("help", "create").out
