"""`overlay create`: files and partitions that e2fsck finds sound, with the owners that launches need."""

from __future__ import annotations

import lzma
import os
import re
import subprocess
import sys
from pathlib import Path

import machine
import ordinary_user
import pytest
from images import superblock
from sif_checker import check

from singularity.cli.main import main

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
pytestmark = pytest.mark.needs("mke2fs")


def create(*words: str | Path) -> int:
    return main(["overlay", "create", *map(str, words)])


def listed(image: Path, directory: str = "/") -> dict[str, tuple[str, int, int]]:
    """Mode and owner by name, as debugfs has them."""
    argv = ["debugfs", "-R", f'ls -p "{directory}"', str(image)]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    rows = (line.split("/") for line in text.splitlines() if line.startswith("/"))
    return {row[5]: (row[2], int(row[3]), int(row[4])) for row in rows if row[5] not in (".", "..")}


def is_sound(image: Path) -> bool:
    return subprocess.run(["e2fsck", "-fn", str(image)], capture_output=True, check=False).returncode == 0


def test_a_new_file_is_an_ext3_with_upper_and_work(tmp_path: Path) -> None:
    image = tmp_path / "o.img"
    assert create(image) == 0
    status = image.stat()
    assert (status.st_size, status.st_mode & 0o7777) == (64 << 20, 0o600)
    assert status.st_blocks * 512 >= 64 << 20
    assert is_sound(image)
    features = superblock(image)
    assert "has_journal" in features
    assert "extent" not in features
    owner = (os.getuid(), os.getgid())
    assert {name: listed(image)[name] for name in ("upper", "work")} == {
        "upper": ("040755", *owner),
        "work": ("040755", *owner),
    }


def test_a_sparse_file_takes_space_when_it_is_written_to(tmp_path: Path) -> None:
    image = tmp_path / "o.img"
    assert create("--sparse", "--size", "500", image) == 0
    assert image.stat().st_size == 500 << 20
    assert image.stat().st_blocks * 512 < 40 << 20
    assert is_sound(image)


def test_directories_are_there_from_the_beginning(tmp_path: Path) -> None:
    image = tmp_path / "o.img"
    assert create("-S", "--create-dir", "/data,/opt/my site", "--create-dir", "opt/other", image) == 0
    assert set(listed(image, "/upper")) == {"data", "opt"}
    assert set(listed(image, "/upper/opt")) == {"my site", "other"}
    assert is_sound(image)


def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = tmp_path / "o.img"
    cases: dict[tuple[str, ...], str] = {
        ("--size", "63"): "ERROR:   an overlay of 63 MiB (from 64 to 16777216 MiB)\n",
        ("--create-dir", "/a/../b"): 'ERROR:   "/a/../b" is no directory that can be made in an overlay\n',
        ("--create-dir", "/"): 'ERROR:   "/" is no directory that can be made in an overlay\n',
    }
    for words, message in cases.items():
        assert create(*words, image) == 1
        assert capsys.readouterr().err == message
    assert not image.exists()
    image.write_bytes(b"something")
    assert create(image) == 255
    message = f"FATAL:   {image}: exists, and is no SIF file (overlays are added to SIF files only)\n"
    assert capsys.readouterr().err == message
    assert image.read_bytes() == b"something"
    assert create(tmp_path) == 255
    assert capsys.readouterr().err == f"FATAL:   {tmp_path}: a directory (name a new file, or a SIF file)\n"


@pytest.mark.needs("root")
def test_an_ordinary_user_makes_one_for_herself_and_one_for_fakeroot(storage: Path) -> None:
    for options, owner in ((["-S"], 10001), (["-S", "-f", "--create-dir", "/a/b"], 0)):
        image = storage / f"overlay-{owner}"
        image.mkdir()
        os.chown(image, 10001, 10001)
        words = [sys.executable, "-I", "-m", "singularity", "overlay", "create", *options, str(image / "o.img")]
        argv = [sys.executable, ordinary_user.__file__, "--", *words]
        subprocess.run(argv, check=True, cwd="/")
        assert is_sound(image / "o.img")
        found = {**listed(image / "o.img"), **listed(image / "o.img", "/upper")}
        found.pop("lost+found")
        assert {(mode, uid, gid) for mode, uid, gid in found.values()} == {("040755", owner, owner)}
        assert (image / "o.img").stat().st_uid == 10001


@pytest.mark.needs("fixtures")
def test_a_partition_is_added_to_a_sif_file_once(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = tmp_path / "x.sif"
    image.write_bytes((FIXTURES / "busybox-apptainer-1.4.sif").read_bytes())
    assert create("--sparse", "--create-dir", "/data", image) == 0
    found = check(image).objects[3]
    assert (found.type, found.group, found.offset % 4096, len(found.data)) == (0x4004, 1, 0, 64 << 20)
    assert found.extra[:11] == b"\2\0\0\0\4\0\0\0" + b"02\0"
    assert image.stat().st_blocks * 512 < 20 << 20
    part = tmp_path / "part.img"
    part.write_bytes(found.data)
    assert is_sound(part)
    assert set(listed(part, "/upper")) == {"data"}
    before = image.stat()
    assert create(image) == 255
    assert re.search("has an overlay partition already", capsys.readouterr().err)
    after = image.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


@pytest.mark.needs("fixtures")
def test_the_partition_is_what_another_program_makes(tmp_path: Path) -> None:
    """The same overlay added to the same file: every byte but times and the file system itself."""
    image = tmp_path / "x.sif"
    image.write_bytes((FIXTURES / "busybox-apptainer-1.4.sif").read_bytes())
    assert create("--sparse", image) == 0
    theirs = lzma.decompress((FIXTURES / "busybox-overlay.sif.xz").read_bytes())
    ours = image.read_bytes()
    times = [range(72, 80), *(range(4096 + 3 * 585 + at, 4096 + 3 * 585 + at + 8) for at in (41, 49))]
    differing = [at for at in range(1_081_344) if ours[at] != theirs[at]]
    assert all(any(at in time for time in times) for at in differing)
    assert len(ours) == len(theirs)
    other = tmp_path / "y.sif"
    other.write_bytes(theirs)
    check(other)
    assert create(other) == 255


@pytest.mark.needs("fixtures")
def test_a_signed_file_gets_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    image = tmp_path / "x.sif"
    before = (FIXTURES / "busybox-signed.sif").read_bytes()
    image.write_bytes(before)
    assert create(image) == 255
    assert f"SIF image {image} is signed: could not add writable overlay" in capsys.readouterr().err
    assert image.read_bytes() == before


@pytest.mark.needs("root")
def test_a_full_disk_is_one_line_and_leaves_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """R-F4."""
    small = tmp_path / "small"
    small.mkdir()
    machine.require("fixtures")
    ordinary_user.mount("tmpfs", small, "tmpfs", data="size=8M")
    try:
        assert create(small / "o.img") == 255
        assert capsys.readouterr().err.endswith("No space left on device\n")
        assert list(small.iterdir()) == []
        image = small / "x.sif"
        before = (FIXTURES / "busybox-apptainer-1.4.sif").read_bytes()
        image.write_bytes(before)
        assert create(image) == 255
        assert capsys.readouterr().err == f"FATAL:   {image}: No space left on device\n"
        assert image.read_bytes() == before
    finally:
        subprocess.run(["umount", str(small)], check=True)
