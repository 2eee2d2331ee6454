"""Tools that read or write a stream: they never outlive the block, and how they ended counts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, BinaryIO, cast

import machine
import pytest

from singularity import kernel
from singularity.errors import Interrupted, ToolError
from singularity.process import call, reading, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PIPE = subprocess.PIPE


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    machine.adopt_orphans()
    before = machine.children()
    yield
    deadline = time.monotonic() + 5  # the killed need a moment to be gone
    while machine.children() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert machine.children() == before


def read(stream: BinaryIO | None) -> bytes:
    return cast("BinaryIO", stream).read()


def test_what_is_started_while_its_parent_is_killed_ends_too() -> None:
    """The kernel tells of the end of a parent only what has asked before it."""
    said_read, said_write = os.pipe()
    parent = os.fork()
    if parent == 0:
        parent = os.getpid()
        if os.fork() == 0:
            while os.getppid() == parent:
                time.sleep(0.001)
            kernel.die_with_parent(signal.SIGKILL, parent)
            os.write(said_write, b"alive")
        os._exit(0)
    os.close(said_write)
    os.waitpid(parent, 0)
    with open(said_read, "rb") as said:
        assert said.read() == b""


def test_both_ends_can_be_pipes_or_descriptors() -> None:
    with started(["cat"], purpose="copy", stdin=PIPE, stdout=PIPE) as tool:
        cast("BinaryIO", tool.stdin).write(b"hello")
        cast("BinaryIO", tool.stdin).close()
        assert read(tool.stdout) == b"hello"
    fd = os.memfd_create("x")
    os.write(fd, b"from a file")
    os.lseek(fd, 0, os.SEEK_SET)
    with started(["cat"], purpose="copy", stdin=fd, stdout=PIPE) as tool:
        assert tool.stdin is None
        assert read(tool.stdout) == b"from a file"
    os.close(fd)


def test_what_is_written_at_the_end_of_the_block_still_counts() -> None:
    fd = os.memfd_create("x")
    with started(["cat"], purpose="copy", stdin=PIPE, stdout=fd) as tool:
        cast("BinaryIO", tool.stdin).write(b"x" * 3_000_000)
    assert os.fstat(fd).st_size == 3_000_000
    os.close(fd)


def test_a_tool_that_is_missing_or_fails_is_told() -> None:
    with (
        pytest.raises(ToolError, match="no-such-tool not found, needed to try"),
        started(["no-such-tool"], purpose="try"),
    ):
        pass
    words = r"sh could not try: the error is this"
    with (
        pytest.raises(ToolError, match=words),
        started(["sh", "-c", "echo the error is this >&2; exit 3"], purpose="try"),
    ):
        pass
    with started(["sh", "-c", "exit 3"], purpose="try", accept=(0, 3)):
        pass
    with pytest.raises(ToolError, match="killed by SIGKILL"), started(["sh", "-c", "kill -9 $$"], purpose="try"):
        pass


def test_when_the_tool_made_us_fail_its_failure_is_told() -> None:
    argv = ["sh", "-c", "echo No space left on device >&2; exit 1"]

    def write() -> None:
        with started(argv, purpose="write", stdin=PIPE) as tool:
            for _ in range(100):
                cast("BinaryIO", tool.stdin).write(bytes(1 << 20))

    with pytest.raises(ToolError, match="sh could not write: No space left on device"):
        write()
    unread = ["sh", "-c", "echo the error is mine >&2; exit 1"]
    with pytest.raises(ToolError, match="error is mine"), started(unread, purpose="read", stdout=PIPE) as tool:
        assert read(tool.stdout) == b"something"


@pytest.mark.parametrize("failure", [ValueError("ours"), Interrupted(2), KeyboardInterrupt()])
def test_an_exception_ends_the_tool_and_all_it_started(failure: BaseException) -> None:
    argv = ["sh", "-c", "sleep 1000 & sleep 1000 & echo ready; wait"]
    begin = time.monotonic()

    def stop() -> None:
        with started(argv, purpose="wait", stdout=PIPE) as tool:
            cast("BinaryIO", tool.stdout).readline()
            raise failure

    with pytest.raises(type(failure)):
        stop()
    assert time.monotonic() - begin < 60


def test_how_far_a_tool_is_is_what_it_has_read(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(bytes(5 << 20))
    script = "import sys, time; open(sys.argv[1], 'rb').read(); print('read', flush=True); time.sleep(0.5)"
    argv = [sys.executable, "-I", "-c", script, path]
    with started(argv, purpose="test", stdout=PIPE) as tool:
        counts = list(reading(tool))
    assert 5 << 20 <= sum(counts) < 6 << 20
    assert min(counts) >= 0


STOPPED_AT_THE_FORK = """
import os, signal, sys, time
from pathlib import Path
from singularity import process
from singularity.build.script_pipe import offered
from singularity.edit import mounted, staged_copy
from singularity.namespaces.isolation import isolated

def stop(number, frame):
    sys.exit(7)

signal.signal(signal.SIGTERM, stop)
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
sleep = ["sleep", "60"]
if sys.argv[1] == "tool":
    process.call(sleep, purpose="wait")
elif sys.argv[1] == "stream":
    with process.started(sleep, purpose="wait"):
        pass
elif sys.argv[1] == "script":
    process.attached(sleep, environment=os.environ)
elif sys.argv[1] == "cp":
    staged_copy.run(sleep)
elif sys.argv[1] == "lines of a script":
    with offered(["true"], Path(sys.argv[2], "script")):
        time.sleep(60)
elif sys.argv[1] == "mount point":
    with mounted._mount_point(Path(sys.argv[2])):
        time.sleep(60)
else:
    isolated(lambda: os.execvp(sleep[0], sleep))
"""


@pytest.mark.parametrize("what", ["tool", "stream", "script", "isolated", "cp", "lines of a script", "mount point"])
def test_a_signal_that_comes_at_the_fork_is_not_lost(what: str, tmp_path: Path) -> None:
    """Modules have Python called there, whose exceptions are dropped; a loaded machine is there for seconds."""
    machine.require(*(["root"] if what == "isolated" else []))
    argv = [sys.executable, "-c", STOPPED_AT_THE_FORK, what, tmp_path]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (7, "")
    assert not [*tmp_path.glob("script"), *tmp_path.glob("singularity-work-*")]


STOPPED_AT_THE_END = """
import os, signal, sys
from singularity.namespaces.isolation import isolated

ours = os.getpid()

def stopping(wait):
    def waited(*words):
        result = wait(*words)
        if os.getpid() == ours:
            os.kill(ours, signal.SIGTERM)
        return result
    return waited

signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
os.waitpid, os.waitid = stopping(os.waitpid), stopping(os.waitid)
isolated(lambda: os.execvp("true", ["true"]))
"""


@pytest.mark.needs("root")
def test_a_signal_that_comes_at_the_end_of_a_script_is_not_taken_for_a_fault() -> None:
    """As Ctrl-C in a terminal, which ends the script too: it is gone by then, and so may be its id."""
    done = subprocess.run(
        [sys.executable, "-c", STOPPED_AT_THE_END], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (7, "")


@pytest.mark.parametrize("end", ["", " >&2"])
def test_a_tool_that_writes_without_end_is_ended(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not fill memory: plugins of networks are programs of others."""
    monkeypatch.setattr("singularity.process._OUTPUT_LIMIT", 1 << 20)
    with pytest.raises(ToolError, match="sh writes more than 1 MiB"):
        call(["sh", "-c", f"trap '' PIPE; while :; do echo {'x' * 1000}{end}; done"], purpose="try it")


def test_both_streams_are_read_to_their_ends() -> None:
    done = call(["sh", "-c", "head -c 300000 /dev/zero >&2; printf 'a\\r\\nb'; exit 3"], purpose="try it")
    assert (done.status, done.output, len(done.complaints)) == (3, "a\nb", 300000)
