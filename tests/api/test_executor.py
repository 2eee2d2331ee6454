"""`ContainerExecutor`: functions of Python in an image, by pickles that travel over pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import BrokenExecutor, as_completed
from typing import TYPE_CHECKING

import machine
import pytest

from singularity import ContainerExecutor, LaunchError, RemoteError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.needs("installation", "mksquashfs")


def test_functions_run_in_the_image(tool: Path) -> None:
    scale = 3
    with ContainerExecutor(tool, max_workers=2) as pool:
        assert list(pool.map(lambda x: x * scale, range(20))) == [x * 3 for x in range(20)]
        assert pool.submit(lambda: open("/etc/os-release").read()).result() == 'NAME="Image of a test"\n'  # noqa: SIM115
        assert pool.submit(os.getenv, "FROM_IMAGE").result() == "1"
        assert pool.submit(lambda: b"x" * 20_000_000).result() == b"x" * 20_000_000
        futures = [pool.submit(pow, 2, n) for n in range(10)]
        assert sorted(each.result() for each in as_completed(futures)) == [2**n for n in range(10)]
        numbers = pool.map(lambda _: (time.sleep(0.2), os.getpid())[1], range(4))
        assert len(set(numbers)) == 2


def test_exceptions_come_back_as_they_are(tool: Path) -> None:
    class Own(Exception):  # noqa: N818
        pass

    class Odd(Exception):  # noqa: N818
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    def fail(kind: type[Exception], *args: object) -> None:
        raise kind(*args)

    with ContainerExecutor(tool, max_workers=1) as pool:
        with pytest.raises(ZeroDivisionError) as caught:
            pool.submit(lambda: 1 / 0).result()
        assert isinstance(caught.value.__cause__, RemoteError)
        assert "ZeroDivisionError" in str(caught.value.__cause__)
        with pytest.raises(Own, match="mine"):
            pool.submit(fail, Own, "mine").result()
        with pytest.raises(RuntimeError, match="Odd: 1 and 2"):
            pool.submit(fail, Odd, 1, 2).result()
        with pytest.raises(SystemExit):
            pool.submit(sys.exit, 3).result()
        with pytest.raises(TypeError, match="pickle"):
            pool.submit(print, threading.Lock())
        with pytest.raises(Exception, match="pickle"):
            pool.submit(threading.Lock).result()
        assert pool.submit(abs, -1).result() == 1


def test_one_that_ends_in_a_call_does_no_harm_to_others(tool: Path) -> None:
    with ContainerExecutor(tool, max_workers=2) as pool:
        lost = [pool.submit(os._exit, 3), pool.submit(lambda: os.kill(os.getpid(), 9))]
        kept = [pool.submit(abs, -n) for n in range(6)]
        for each, status in zip(lost, ("status 3", "status -9"), strict=True):
            with pytest.raises(BrokenExecutor, match=status):
                each.result()
        assert [each.result() for each in kept] == list(range(6))


def test_what_functions_print_is_no_answer(tool: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with ContainerExecutor(tool, max_workers=1) as pool:
        assert pool.submit(print, "printed").result() is None
        assert pool.submit(os.write, 1, b"written\n").result() == 8
        assert pool.submit(os.system, "echo shouted").result() == 0
        assert pool.submit(sys.stdin.read if False else lambda: sys.stdin.read()).result() == ""
        captured = capfd.readouterr()
    assert captured.err == "printed\nwritten\nshouted\n"
    assert captured.out == ""


def test_another_python_or_none_is_refused_in_one_line(tool: Path, sif: Path, directory: Path) -> None:
    other = directory / "other"
    other.write_text("#!/bin/sh\nprintf '\\0\\0\\0\\0\\0\\0\\0\\013%s' '3.6 cpython'\n")
    other.chmod(0o755)
    with pytest.raises(
        LaunchError, match=rf"is 3.6 cpython, and this one {sys.version_info[0]}.{sys.version_info[1]} cpython"
    ):
        ContainerExecutor(tool, python=str(other), bind=[str(directory)])
    other.write_text("#!/bin/sh\necho welcome to this image\n")
    with pytest.raises(LaunchError, match="answers as no Python does"):
        ContainerExecutor(tool, python=str(other), bind=[str(directory)])
    with pytest.raises(LaunchError, match="cannot be started in the container"):
        ContainerExecutor(sif)
    with pytest.raises(LaunchError, match="no such image"):
        ContainerExecutor("none.sif")


def test_what_waits_can_be_cancelled_and_shutdown_waits(tool: Path) -> None:
    pool = ContainerExecutor(tool, max_workers=1)
    first = pool.submit(time.sleep, 0.5)
    rest = [pool.submit(time.sleep, 600) for _ in range(3)]
    pool.shutdown(cancel_futures=True)
    assert first.done()
    assert all(each.cancelled() for each in rest)
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(abs, 1)
    pool = ContainerExecutor(tool, max_workers=1)
    late = pool.submit(lambda: (time.sleep(0.3), 5)[1])
    pool.shutdown(wait=False)
    assert late.result() == 5


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_functions_end_with_whoever_called_them(tool: Path, number: signal.Signals) -> None:
    """Though they are in the middle of something, and read nothing."""
    text = (
        "import sys, time, singularity\npool = singularity.ContainerExecutor(sys.argv[1], 2)\n"
        "pool.submit(time.sleep, 600), pool.submit(time.sleep, 600)\ntime.sleep(1)\n"
        "print('busy', flush=True)\ntime.sleep(600)\n"
    )
    before = machine.children()
    with subprocess.Popen([sys.executable, "-c", text, tool], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"busy\n"
        os.kill(program.pid, number)
    deadline = time.monotonic() + 10
    while (left := machine.children() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left, [machine.command_of(each) for each in left]
