"""Launching archives: an image is made of each once, in the user's cache, and then it is launched like any other."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from images import Images
    from launching import Launcher

pytestmark = [
    pytest.mark.needs("root", "fuse", "mksquashfs", "cpio"),
    pytest.mark.modes("suid", "userns"),
]

KINDS = ("tar", "tar.gz", "tgz", "tar.bz2", "tar.xz", "tar.zst", "cpio", "cpio.gz")
UNPACKING = "INFO:    Unpacking "


@pytest.fixture(scope="module")
def archives(storage: Path, images: Images) -> Path:
    """The modern root file system in archives of every kind."""
    place = storage / "archives"
    place.mkdir(mode=0o755)
    root = images.sandbox
    subprocess.run(["tar", "-C", root, "-cf", place / "x.tar", "."], check=True)
    names = subprocess.run(["find", ".", "-print0"], cwd=root, check=True, capture_output=True).stdout
    packed = subprocess.run(["cpio", "-0", "-o", "-H", "newc"], cwd=root, input=names, check=True, capture_output=True)
    (place / "x.cpio").write_bytes(packed.stdout)
    plain = (place / "x.tar").read_bytes()
    (place / "x.tar.gz").write_bytes(gzip.compress(plain, 1))
    (place / "x.tgz").write_bytes(gzip.compress(plain, 2))
    (place / "x.tar.bz2").write_bytes(bz2.compress(plain))
    (place / "x.tar.xz").write_bytes(lzma.compress(plain, preset=0))
    (place / "x.cpio.gz").write_bytes(gzip.compress(packed.stdout, 1))
    subprocess.run(["zstd", "-q", place / "x.tar", "-o", place / "x.tar.zst"], check=True)
    for path in place.iterdir():
        path.chmod(0o644)
    return place


def cached(launch: Launcher) -> list[Path]:
    return sorted((launch.home / ".singularity/cache/archive").glob("*/image.sif"))


@pytest.mark.parametrize("kind", KINDS)
def test_archives_of_every_kind(launch: Launcher, archives: Path, kind: str) -> None:
    first = launch(
        "exec", archives / f"x.{kind}", "sh", "-c", "echo $SINGULARITY_NAME; cat /.singularity.d/labels.json"
    )
    assert first.status == 0, str(first)
    assert first.out.splitlines()[0] == "x.sif"
    assert '"org.label-schema.build-arch"' in first.out
    assert [line for line in first.err.splitlines() if line.startswith("INFO")] == [
        f"{UNPACKING}{archives}/x.{kind} into an image"
    ]
    again = launch("exec", archives / f"x.{kind}", "cat", "/etc/passwd").ok()
    assert again.err == ""
    assert len(cached(launch)) == 1


@pytest.mark.modes("suid", "userns", "root")
def test_each_verb_launches_an_archive(launch: Launcher, archives: Path) -> None:
    archive = archives / "x.tar.gz"
    assert launch("exec", archive, "sh", "-c", "exit 7").status == 7
    assert launch("shell", archive, stdin=b"echo from a shell\n").out == "from a shell\n"
    assert launch("run", archive, "word").status == 0
    assert launch("test", archive).status == 0
    assert len(cached(launch)) == 1


def test_everything_else_is_as_it_was_typed(launch: Launcher, archives: Path, directory: Path) -> None:
    (directory / "seen").mkdir()
    words = ("--bind", f"{directory}/seen:/mnt", "--env=A=b c", "-C", archives / "x.tar.gz", "sh", "-c")
    result = launch(
        "exec", *words, 'echo "$A" "$1" "$#"; ls -d /mnt; kill -9 $$', "sh", archives / "x.tar.gz", "--", ""
    )
    assert result.out == f"b c {archives}/x.tar.gz 3\n/mnt\n"
    assert result.status == -signal.SIGKILL


def test_the_image_in_a_variable(launch: Launcher, archives: Path) -> None:
    archive = archives / "x.tar.gz"
    for words in (("exec", "echo", "said"), ("exec", archive, "echo", "said")):
        assert launch(*words, env={"SINGULARITY_IMAGE": str(archive)}).out == "said\n"


def test_messages_keep_to_the_level_that_was_asked_for(launch: Launcher, archives: Path) -> None:
    assert launch("exec", archives / "x.tar", "true", first=["-q"]).ok().err == ""
    assert "VERBOSE: " in launch("exec", archives / "x.cpio", "true", first=["-v"]).err


def test_the_environment_is_not_changed_by_the_way_through_python(
    launch: Launcher, archives: Path, images: Images
) -> None:
    def variables(image: Path) -> list[str]:
        out = launch("exec", image, "env", env={"OWN": "1"}).out.splitlines()
        return sorted(line for line in out if not line.startswith(("SINGULARITY_", "APPTAINER_", "PS1", "SCIF_")))

    assert variables(archives / "x.tar") == variables(images.sandbox)
    signals = ("exec", archives / "x.tar", "grep", "SigIgn", "/proc/self/status")
    assert launch(*signals).out == launch("exec", images.sandbox, *signals[2:]).out


def test_the_same_content_is_unpacked_once_and_a_change_is_seen(
    launch: Launcher, archives: Path, directory: Path
) -> None:
    """F5: by content, whatever the file's name or time."""
    copy = directory / "copy.tar"
    shutil.copy(archives / "x.tar", copy)
    copy.chmod(0o644)
    assert UNPACKING in launch("exec", archives / "x.tar", "true").err
    assert launch("exec", copy, "sh", "-c", "echo $SINGULARITY_NAME").out == "copy.sif\n"
    os.utime(copy)
    assert UNPACKING not in launch("exec", copy, "true").err
    assert len(cached(launch)) == 1
    extra = directory / "extra"
    extra.mkdir()
    (extra / "added").write_text("added\n")
    subprocess.run(["tar", "-C", extra, "-rf", copy, "./added"], check=True)
    assert launch("exec", copy, "cat", "/added").out == "added\n"
    assert len(cached(launch)) == 2


def test_a_damaged_image_in_the_cache_is_made_anew(launch: Launcher, archives: Path) -> None:
    launch("exec", archives / "x.tar", "true")
    (image,) = cached(launch)
    with image.open("r+b") as file:
        file.truncate(70_000)
    result = launch("exec", archives / "x.tar", "echo", "whole")
    assert result.out == "whole\n"
    assert UNPACKING in result.err


def test_launches_at_the_same_time_make_one_image(launch: Launcher, archives: Path) -> None:
    """B3: all succeed, and one of them does the work."""
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda number: launch("exec", archives / "x.tar.xz", "echo", number), range(8)))
    assert [result.out for result in results] == [f"{number}\n" for number in range(8)]
    assert sum(UNPACKING in result.err for result in results) == 1


def test_without_a_cache_nothing_stays(launch: Launcher, archives: Path) -> None:
    for word, env in (("--disable-cache", {}), ("--env=A=b", {"SINGULARITY_DISABLE_CACHE": "1"})):
        result = launch("exec", word, archives / "x.tar", "sh", "-c", "echo $SINGULARITY_NAME; exit 9", env=env)
        assert (result.out, result.status) == ("x.sif\n", 9)
    assert cached(launch) == []
    inside = launch("exec", "--disable-cache", archives / "x.tar", "sh", "-c", "kill -TERM $$").status
    assert inside == 128 + signal.SIGTERM


def test_a_cache_that_cannot_be_made_is_done_without(launch: Launcher, archives: Path) -> None:
    result = launch("exec", archives / "x.tar", "echo", "said", env={"SINGULARITY_CACHEDIR": "/proc/nowhere"})
    assert result.out == "said\n"
    assert "WARNING: /proc/nowhere" in result.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_program_whose_image_is_temporary(launch: Launcher, archives: Path, number: int) -> None:
    """B1: forwarded, and the temporary image is gone afterwards."""
    temporary = launch.directory / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    script = "trap 'echo got it; exit 3' TERM USR1; echo ready; while :; do sleep 0.05; done"
    argv = launch.argv("exec", "--disable-cache", archives / "x.tar", "sh", "-c", script)
    with launch.start(*argv, env={"SINGULARITY_TMPDIR": str(temporary)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert list(temporary.iterdir()) != []
        os.kill(process.pid, number)
        out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == (b"got it\n", 3)
    assert list(temporary.iterdir()) == []


def test_a_launch_that_is_stopped_while_it_unpacks_leaves_nothing(launch: Launcher, archives: Path) -> None:
    """B1: within two seconds on an idle machine, five times that on a busy one; the next launch begins anew."""
    slow = launch.directory / "slow.tar"
    shutil.copy(archives / "x.tar", slow)
    extra = launch.directory / "data"
    with extra.open("wb") as file:
        for _ in range(60):
            file.write(os.urandom(1 << 20))
    subprocess.run(["tar", "-C", launch.directory, "-rf", slow, "data"], check=True)
    slow.chmod(0o644)
    with launch.start(*launch.argv("exec", slow, "true")) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith(UNPACKING.encode())
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        process.communicate(timeout=20)
    assert time.monotonic() - start < 10
    assert process.returncode == 128 + signal.SIGTERM
    assert cached(launch) == []
    assert launch("exec", slow, "echo", "now").out == "now\n"


def test_a_damaged_archive_is_one_line(launch: Launcher, directory: Path) -> None:
    (directory / "x.tar.gz").write_bytes(gzip.compress(b"no archive" * 100))
    (directory / "x.tar.gz").chmod(0o644)
    launch("exec", directory / "x.tar.gz", "true").refused("x.tar.gz", "no archive that is known")
    assert cached(launch) == []


def test_a_program_that_is_not_in_the_archive(launch: Launcher, archives: Path) -> None:
    assert launch("exec", archives / "x.tar", "no-such-program").status == 127
