"""--host-cmd: whoever is killed, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from host_site import GONE, Site, running, sleeping, until

if TYPE_CHECKING:
    from collections.abc import Callable


def test_killing_the_stub_kills_the_command(site: Site, mark: str) -> None:
    with site.start(
        f"onhost sleep {mark} & read go; kill -9 $!; wait $!; echo $?; read end", stdin=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        until(lambda: sleeping(mark))
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"137\n"
        until(lambda: not sleeping(mark))
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(timeout=10) == 0


def test_a_command_that_will_not_end_is_killed(site: Site, mark: str) -> None:
    """It has some seconds to take leave."""
    catch = "trap 'echo leaving >&2' TERM; while :; do sleep 0.1; done"
    script = f'onhost sh -c "{catch}" {mark} & read go; kill -9 $!; sleep 1'
    with site.start(script, stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stderr
        until(lambda: running(mark))
        process.stdin.close()
        assert process.stderr.readline() == b"leaving\n"
        begun = time.monotonic()
        until(lambda: not running(mark))
        assert time.monotonic() - begun > 2


@pytest.mark.parametrize("options", [[], ["--pid"]], ids=["plain", "pid"])
def test_killing_the_program_leaves_nothing(site: Site, mark: str, options: list[str]) -> None:
    with site.start(f"onhost sleep {mark}; true", *options) as process:
        until(lambda: sleeping(mark))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        until(lambda: not sleeping(mark))
        until(lambda: not site.left())


def test_what_the_program_leaves_running_goes_on(site: Site, mark: str) -> None:
    """Without a PID namespace, as without a container; the directory is gone with the launch all the same."""
    with site.start(f"onhost sleep {mark} >/dev/null 2>&1 & read go", stdin=subprocess.PIPE) as process:
        assert process.stdin
        until(lambda: sleeping(mark))
        process.stdin.close()
        assert process.wait(timeout=10) == 1
    until(lambda: not site.left())
    (command,) = sleeping(mark)
    os.kill(command, signal.SIGKILL)
    until(lambda: not running(mark))


def test_killing_the_helper(site: Site, mark: str) -> None:
    with site.start(
        f"onhost sleep {mark} & read go; onhost echo here; echo $?; wait", stdin=subprocess.PIPE
    ) as process:
        assert process.stdin
        until(lambda: sleeping(mark))
        os.kill(site.helper(), signal.SIGKILL)
        until(lambda: not sleeping(mark))
        process.stdin.write(b"\n")
        process.stdin.close()
        out, err = (stream.read().decode() for stream in (process.stdout, process.stderr) if stream)
    assert out.splitlines() == ["255"]
    assert err.count(GONE) == 2, err
    assert err.count("and the command with it") == 1, err
    assert not site.left()


def test_nothing_of_it_lies_on_the_host_while_it_runs(site: Site) -> None:
    """So that nothing can be left behind, though all be killed at once, as batch systems do at the end of a job."""
    for options in ([], ["--pid"], ["--containall"]):
        with site.start("onhost echo here 2>/dev/null; read end", *options, stdin=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            assert process.stdout.readline() == b"here\n"
            until(lambda: not site.left(), seconds=2)
            os.kill(site.helper(), signal.SIGKILL)
            os.killpg(process.pid, signal.SIGKILL)
        assert not site.left()


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["the launch", "its process group"])
def test_killed_while_it_is_set_up(site: Site, kill: Callable[[int, int], None]) -> None:
    """At forty moments of it; the fixture looks for what is left."""
    for moment in range(40):
        with site.start("onhost sleep 5", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(moment * 0.0005)
            kill(process.pid, signal.SIGKILL)
