"""Builds that end before they are done: signals, kills, full disks; nothing is left, and what was there stays."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs")
Definition = Callable[[str], Path]

BEHIND, BEFORE = (5000 + 2 * os.getpid() + each for each in range(2))  # seconds: what other tests do not wait for
WAITING = f"%post\n    echo waiting\n    sleep {BEHIND} &\n    sleep {BEFORE}\n"


@contextmanager
def waiting(build: Build, *words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A build that has come to its %post, which waits."""
    process = subprocess.Popen(
        build.argv("build", *words),
        cwd=build.directory,
        env=build.env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "waiting\n", process.communicate()
            yield process
        finally:
            process.kill()  # where the test's signal did not


def inside(number: int) -> list[int]:
    """The processes that wait in a %post."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"sleep", str(number).encode()]:
            found.append(int(place.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_build_and_takes_everything_along(
    build: Build, definition: Definition, number: signal.Signals
) -> None:
    """R-B1, R-F3. Two seconds on an idle machine; five times that is what a busy one gets."""
    build.write("x.sif", "old")
    with waiting(build, "--force", "x.sif", definition(WAITING)) as process:
        start = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
        assert time.monotonic() - start < 10
    assert process.returncode == 128 + number
    assert "FATAL" not in errors
    assert inside(BEHIND) == inside(BEFORE) == []
    assert (build.directory / "x.sif").read_text() == "old"
    assert build.leftovers() == []


def test_ctrl_c_in_a_terminal_ends_the_build_once(build: Build, definition: Definition) -> None:
    """The whole process group gets the signal, as from a terminal."""
    with waiting(build, "x.sif", definition(WAITING)) as process:
        os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGINT, said
    assert inside(BEFORE) == []
    assert build.leftovers() == []


@pytest.mark.parametrize("options", [[], ["--sandbox"]])
def test_a_killed_build_leaves_a_directory_that_the_next_one_removes(
    build: Build, definition: Definition, options: list[str]
) -> None:
    """R-F1, R-F3: processes and mounts are gone at once; the target is as it was."""
    path = definition(WAITING)
    with waiting(build, *options, "x", path) as process:
        process.kill()
        process.communicate(timeout=20)
    deadline = time.monotonic() + 5
    while inside(BEFORE) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert inside(BEHIND) == inside(BEFORE) == []
    assert not (build.directory / "x").exists()
    places = [*build.temporary.iterdir(), *build.directory.glob("singularity-work-*")]
    assert len(places) == 1 + len(options)
    for place in places:
        os.utime(place, (0, 0))
    build.ok("build", *options, "y", definition(""))
    assert build.leftovers() == []


def test_a_build_that_goes_on_keeps_its_directory(build: Build, definition: Definition) -> None:
    with waiting(build, "x.sif", definition(WAITING)) as process:
        (place,) = build.temporary.iterdir()
        os.utime(place, (0, 0))
        build.write("y.def", "Bootstrap: scratch\n")
        build.ok("build", "y.sif", "y.def")
        assert place.exists()
        process.terminate()
        process.communicate(timeout=20)
    assert build.leftovers() == []


def test_the_working_directory_stays_when_asked(build: Build, definition: Definition) -> None:
    done = build.ok("build", "--no-cleanup", "x.sif", definition(""))
    (place,) = build.temporary.iterdir()
    assert f"INFO:    Working directory: {place}" in done.stderr
    assert (place / "root" / "bin" / "busybox").exists()
    os.utime(place, (0, 0))
    build.ok("build", "--force", "x.sif", definition(""))
    assert place.exists()
    shutil.rmtree(place)


@pytest.fixture
def mounts(build: Build) -> Iterator[Path]:
    """A file system with room for 400 KiB."""
    place = build.directory / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.needs("root")
def test_a_full_disk_is_one_line_and_leaves_nothing(build: Build, definition: Definition, mounts: Path) -> None:
    """R-F4: where the image goes, and where the working directory is."""
    (mounts / "x.sif").write_text("old")
    message = build.fails("build", "--force", "small/x.sif", definition(""))
    assert message.startswith("mksquashfs could not write small/x.sif: No space left on device")
    for options in ([], ["--disable-cache"]):
        message = build.fails("build", "--sandbox", *options, "small/x", definition(""))
        hint = "(no space left in small: make room there, or name another TARGET)"
        assert message.endswith(f"No space left on device {hint}")
    writing = definition("%post\n    cat /bin/busybox >/copy\n")
    wanted = r"x.def:4: %post failed with status 1 \(no space left in \S*small\S*: name another .*"
    for words, cache in ((["--tmpdir", "small", "--disable-cache"], "cache"), ([], "small")):
        message = build.fails("build", *words, "y.sif", writing.name, SINGULARITY_CACHEDIR=cache)
        assert re.fullmatch(wanted, message)
        assert build.leftovers() == []
    shutil.rmtree(mounts / "cache")
    assert [path.name for path in mounts.iterdir()] == ["x.sif"]
    assert (mounts / "x.sif").read_text() == "old"
    assert build.leftovers() == []


@pytest.mark.needs("root")
@pytest.mark.parametrize("options", [[], ["--disable-cache"]])
def test_no_room_for_names_is_said_as_well(
    build: Build, definition: Definition, mounts: Path, options: list[str]
) -> None:
    """A file system without free inodes, at whichever step it is full."""
    path = definition("%post\n    mkdir /a /b /c\n%files\n    x.def /d/e/f/g\n")
    failed = 0
    for inodes in range(6, 60, 6):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"nr_inodes={inodes}", "none", mounts], check=True)
        environment = {"TMPDIR": str(mounts), "SINGULARITY_CACHEDIR": str(mounts)}
        done = build("build", "--force", *options, "x.sif", path, **environment)
        subprocess.run(["umount", mounts], check=True)
        if done.returncode == 0:
            break
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("FATAL:")]
        assert "no space left in" in line or "No space left on device" in line, line
        assert str(mounts) in line, line
        failed += 1
    assert failed > 2
