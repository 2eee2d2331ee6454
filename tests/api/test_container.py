"""One container for many calls: what they share, what each has of its own, and that nothing outlives who made it."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest

import singularity
from singularity import Container, LaunchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from images import Images

pytestmark = pytest.mark.needs("installation")

SPACE = ["readlink", "/proc/self/ns/mnt"]


def told(c: Container, program: list[str], **options: object) -> str:
    return str(c.exec(program, capture_output=True, check=True, **options).stdout)  # type: ignore[arg-type]


def test_all_calls_are_in_one_container(sif: Path) -> None:
    with Container(sif) as c:
        assert len({told(c, SPACE) for _ in range(3)}) == 1
        assert told(c, SPACE) not in {os.readlink("/proc/self/ns/mnt") + "\n"}
        assert told(c, ["pwd"], cwd="/etc") == "/etc\n"
        assert told(c, ["sh", "-c", "echo $ONE $GREETING"], env={"ONE": "1"}) == "1 hello from the image\n"
        assert told(c, SPACE) == told(c, SPACE, cwd="/", env={"A": "b"}, cleanenv=True, no_eval=True)
        assert c.run(capture_output=True).returncode == 0
        with c.popen(SPACE, stdout=singularity.PIPE) as process:
            assert process.communicate()[0].decode() == told(c, SPACE)


def test_they_see_what_one_of_them_writes(sif: Path) -> None:
    with Container(sif, writable_tmpfs=True) as c:
        c.exec(["sh", "-c", "echo kept > /kept"], check=True)
        assert told(c, ["cat", "/kept"]) == "kept\n"
    with Container(sif, writable_tmpfs=True) as c:
        assert c.exec(["cat", "/kept"], capture_output=True).returncode == 1


@pytest.mark.needs("mksquashfs")
@pytest.mark.parametrize("kept", [True, False], ids=["cache", "no-cache"])
def test_what_a_uri_names_is_fetched_once(tool: Path, directory: Path, kept: bool) -> None:
    singularity.push(tool, "oci:layout:1")
    with Container("oci:layout:1", disable_cache=not kept, tmpdir=directory) as c:
        Path("layout/index.json").unlink()  # nobody asks again
        assert told(c, ["cat", "/etc/os-release"]) == 'NAME="Image of a test"\n'
    assert os.listdir(directory) == ["layout"]


def test_two_of_the_same_image_at_once_share_nothing(sif: Path) -> None:
    with Container(sif, contain=True) as one, Container(sif, contain=True) as two:
        one.exec(["touch", "/tmp/mine"], check=True)
        assert told(one, SPACE) != told(two, SPACE)
        assert told(two, ["ls", "/tmp"]) == ""


def test_an_image_without_any_program_that_waits(images: Images) -> None:
    """Nothing of the image holds the container."""
    with Container(images.shellless_sandbox) as c:
        assert c.exec("no-such", capture_output=True).returncode == 127


def test_threads_call_at_once(sif: Path) -> None:
    with Container(sif) as c, ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(lambda _: told(c, SPACE), range(40)))) == 1


def test_the_current_directory_may_change_meanwhile(sif: Path, directory: Path) -> None:
    with Container(sif) as c:
        before = told(c, SPACE)
        os.chdir("/")
        assert told(c, SPACE) == before
        assert told(c, ["pwd"]) == f"{directory}\n"


def test_a_process_that_is_forked_from_here_calls_in_it_too(sif: Path) -> None:
    with Container(sif) as c:
        child = os.fork()
        if child == 0:
            status = 9
            try:
                status = c.exec("true").returncode
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert c.exec("true").returncode == 0


def test_options_of_the_container_are_refused_in_calls(sif: Path) -> None:
    with Container(sif) as c:
        with pytest.raises(TypeError, match="one of the container"):
            c.exec("true", bind="/a")  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="known are env"):
            c.exec("true", nonsense="/a")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="shares by itself"):
        Container(sif, join="no")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'bind'"):
        Container(sif, binds="x")  # type: ignore[call-arg]


def test_one_that_is_not_open_says_so(sif: Path, directory: Path) -> None:
    c = Container(sif)
    with pytest.raises(LaunchError, match="is not open"):
        c.exec("true")
    with c, pytest.raises(LaunchError, match="open already"):
        c.open()
    with pytest.raises(LaunchError, match="is not open"):
        c.exec("true")
    with c:  # and again
        c.exec("true", check=True)
    with pytest.raises(LaunchError, match="no such image"), Container(directory / "none.sif"):
        pass


def test_one_whose_holder_was_killed_has_ended(sif: Path) -> None:
    with Container(sif) as c:
        c.exec("true", check=True)
        assert c._holder is not None
        os.kill(c._holder.pid, signal.SIGKILL)
        c._holder.wait()
        with pytest.raises(LaunchError, match="has ended"):
            c.exec("true")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_whoever_made_it_is_killed(sif: Path, number: signal.Signals) -> None:
    """The holder, the keeper and the server of the image end; `nothing_left_behind` sees that of mounts."""
    text = (
        "import sys, singularity\nc = singularity.Container(sys.argv[1])\nc.open()\nc.exec('true', check=True)\n"
        "print('open', flush=True)\nimport time\ntime.sleep(600)\n"
    )
    before = machine.children()
    with subprocess.Popen([sys.executable, "-c", text, sif], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"open\n"
        os.kill(program.pid, number)
    deadline = time.monotonic() + 10
    while (left := machine.children() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, [machine.command_of(each) for each in left]


@pytest.mark.parametrize("userns", [False, True], ids=["plain", "userns"])
def test_a_call_takes_less_than_half_of_a_launch(tool: Path, userns: bool) -> None:
    """By medians of several rounds, since the machine may be busy; bench/calls.py has those of each mode.

    No container is open while launches are measured, nor was a moment before: they would find its mounts.
    """
    if userns:
        machine.require("userns", "fuse")
    alone, joined = [], []
    for _ in range(4):
        time.sleep(0.3)
        alone += [_time(lambda: singularity.exec(tool, "true", userns=userns)) for _ in range(10)]
        with Container(tool, userns=userns) as c:
            joined += [_time(lambda c=c: c.exec("true")) for _ in range(10)]  # type: ignore[misc]
    assert statistics.median(joined) < statistics.median(alone) / 2, (sorted(joined), sorted(alone))


def _time(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
