"""`singularity cache`: what it shows, and what it removes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from singularity.cli.cache_listed import size

if TYPE_CHECKING:
    from pathlib import Path

ARGV = [sys.executable, "-I", "-m", "singularity", "cache"]


@pytest.fixture
def place(private_home: Path) -> Path:
    """A cache with two images, a layer of OCI and a package."""
    directory = private_home / "cache" / "cache"
    for name, count in (
        ("archive/aa.sif", 3 << 20),
        ("library/bb.sif", 0),
        ("blob/blobs/sha256/cc", 1536),
        ("debootstrap/d.deb", 5),
    ):
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(count))
    os.utime(directory / "blob/blobs/sha256/cc", (time.time() - 10 * 86400,) * 2)
    return directory


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ARGV, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )


def left(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_counts_and_sizes(place: Path) -> None:
    assert run("list").stdout == (
        "There are 2 container file(s) using 3.00 MiB and 1 oci blob file(s) using 1.50 KiB of space\n"
        "There are 0 build layer(s) using 0.00 KiB and 1 package file(s) using 0.00 KiB of space\n"
        "Total space used: 3.00 MiB\n"
    )
    lines = run("list", "-v", "--type", "blob,oras").stdout.splitlines()
    assert lines[0] == "NAME                     DATE CREATED           SIZE             TYPE"
    assert lines[1].startswith("cc                       ")
    assert lines[1].endswith("    1.50 KiB         blob")
    assert lines[1][25:44] == time.strftime(
        "%Y-%m-%d %H:%M:%S", time.localtime((place / "blob/blobs/sha256/cc").stat().st_mtime)
    )
    assert lines[2:] == [
        "",
        "There are 0 container file(s) using 0.00 KiB and 1 oci blob file(s) using 1.50 KiB of space",
        "Total space used: 1.50 KiB",
    ]


def test_an_empty_cache_is_not_made_by_looking(private_home: Path) -> None:
    assert run("list", "-v").stdout.endswith("Total space used: 0.00 KiB\n")
    assert run("clean", "--force").returncode == 0
    assert not (private_home / "cache").exists()


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, "0.00 KiB"), (1023, "1.00 KiB"), (1 << 20, "1.00 MiB"), (1536 << 20, "1.50 GiB"), (3 << 50, "3072.00 TiB")],
)
def test_sizes_have_two_decimals(number: int, expected: str) -> None:
    assert size(number) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], []),
        (["--all"], []),
        (["--type", "all"], []),
        (["--type", "blob,library"], ["archive/aa.sif", "debootstrap/d.deb"]),
        (["--days", "5"], ["archive/aa.sif", "debootstrap/d.deb", "library/bb.sif"]),
        (
            ["-T", "archive", "-D", "5"],
            ["archive/aa.sif", "blob/blobs/sha256/cc", "debootstrap/d.deb", "library/bb.sif"],
        ),
    ],
)
def test_what_was_chosen_is_removed(place: Path, words: list[str], expected: list[str]) -> None:
    before = left(place)
    dry = run("clean", "--dry-run", *words)
    assert left(place) == before
    done = run("clean", "--force", *words)
    assert done.returncode == 0
    assert left(place) == expected
    assert dry.stderr.replace("Would remove", "Removing") == done.stderr
    assert len(done.stderr.splitlines()) == len(before) - len(expected)


def test_nothing_is_removed_where_nobody_can_be_asked(place: Path) -> None:
    done = run("clean")
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR:   cache clean: there is nobody to ask (--force cleans without asking)")
    assert len(left(place)) == 4


@pytest.mark.parametrize(("answer", "count"), [("y\n", 0), ("n\n", 4), ("\n", 4)])
def test_a_terminal_is_asked(place: Path, answer: str, count: int) -> None:
    main, other = pty.openpty()
    with subprocess.Popen([*ARGV, "clean"], stdin=other, stdout=subprocess.DEVNULL, stderr=other) as process:
        os.close(other)
        seen = b""
        while b"[y/N]" not in seen:
            seen += os.read(main, 4096)
        os.write(main, answer.encode())
        assert process.wait(timeout=60) == 0
    os.close(main)
    assert b"This will delete everything in your cache." in seen
    assert len(left(place)) == count


def test_unknown_types_and_commands_are_usage_errors(place: Path) -> None:
    del place
    assert "--type: bulk (known are library, " in run("clean", "-f", "--type", "bulk").stderr
    assert run("list", "--type", "oci").returncode == 0
    assert "unknown command cache lst (did you mean list?)" in run("lst").stderr
    assert "blob, archive, build, mounts, debootstrap; or all" in " ".join(run("list", "--help").stdout.split())


def test_names_from_elsewhere_do_not_drive_the_terminal(place: Path) -> None:
    """R-P3."""
    (place / "archive" / "\x1b[2J").write_bytes(b"")
    assert "\x1b" not in run("list", "-v").stdout
    assert "\x1b" not in run("clean", "-n").stderr
