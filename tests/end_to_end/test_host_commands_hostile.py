"""--host-cmd: strangers and hostile images at the socket of a launch."""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from host_site import HELPER, INSIDE, Site, called, sleeping, state, until
from ordinary_user import Account

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass
class Guest:
    """Someone at the socket of a launch, who needs no stub."""

    path: Path

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        place = os.open(self.path.parent, os.O_PATH)
        connection.connect(f"/proc/self/fd/{place}/{self.path.name}")
        os.close(place)
        connection.settimeout(10)
        return connection

    def ask(self, head: bytes, texts: bytes = b"", fds: Sequence[int] = (), *, close: bool = True) -> bytes:
        """All that comes back."""
        with self.connect() as connection:
            try:
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                if head:
                    connection.sendmsg([head], ancillary)
                if texts:
                    connection.sendall(texts)
                if close:
                    connection.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: connection.recv(1000), b""))
            except OSError:
                return b""


def head(size: int, words: int, variables: int = 0, mask: int = 0o22, ignored: int = 0, blocked: int = 0) -> bytes:
    """struct call_head of launcher/commands/commands.h."""
    return struct.pack("=IIIIQQ", size, words, variables, mask, ignored, blocked)


@pytest.fixture
def guest(site: Site) -> Iterator[Guest]:
    with site.start("echo ready; read end", stdin=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield Guest(Path(f"/proc/{process.pid}/root{INSIDE}/socket"))
        process.stdin.close()


@pytest.fixture
def streams() -> Iterator[list[int]]:
    fds = [os.open("/dev/null", os.O_RDWR) for _ in range(3)] + [os.open("/", os.O_PATH)]
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.mark.modes("root")
def test_hostile_frames_get_nothing_and_harm_nobody(site: Site, guest: Guest, streams: list[int]) -> None:
    server = site.helper()
    before = len(list(Path(f"/proc/{server}/fd").iterdir()))
    good = b"/\0onhost\0true\0"
    assert guest.ask(head(len(good), 2), good, streams, close=False) == b"e\0"
    big = (1 << 32) - 1
    frames: list[tuple[bytes, bytes, list[int]]] = [
        (b"", b"", []),
        (b"x", b"", []),
        (b"x" * 31, good, streams),
        (b"x" * 4000, good, streams),
        (head(len(good), 2), good, []),
        (head(len(good), 2), good, streams[:3]),
        (head(len(good), 2), good, streams + streams[:1]),
        (head(len(good), 2), good, streams * 50),
        (head(len(good), 2), good[:-1] + b"x", streams),
        (head(len(good), 2), good[:5], streams),
        (head(len(good), 1), good, streams),
        (head(len(good), 3), good, streams),
        (head(len(good), 0, 2), good, streams),
        (head(len(good), big, big), good, streams),
        (head(big, 2), good, streams),
        (head(0, 0), b"", streams),
        (head(1, 1), b"\0", streams),
        (head(len(good), 2, mask=big), good, streams),
        (head((2 << 20) + 1, 2), good * 200_000, streams),
    ]
    for frame in frames:
        assert guest.ask(*frame) == b"", frame
    for name in (b"unlisted", b"", b"/bin/sh", b"../onhost", b"onhost/", b"%s%n"):
        texts = b"/\0" + name + b"\0"
        assert guest.ask(head(len(texts), 1), texts, streams, close=False) == b"e\xff"
    for directory in (b"", b"relative", b"/nowhere", b"/proc/self/fd/3", b"/" * 5000):
        texts = directory + b"\0onhost\0true\0"
        assert guest.ask(head(len(texts), 2), texts, streams, close=False) == b"e\0"
    texts = b"/\0onhost\0true\0" + b"noequals\0" * 1000
    assert guest.ask(head(len(texts), 2, 1000), texts, streams, close=False) == b"e\0"
    assert (
        guest.ask(head(len(good), 2, ignored=(1 << 64) - 1, blocked=(1 << 64) - 1), good, streams, close=False)
        == b"e\0"
    )
    until(lambda: not called(HELPER, server))
    assert len(list(Path(f"/proc/{server}/fd").iterdir())) == before
    assert guest.ask(head(len(good), 2), good, streams, close=False) == b"e\0"


@pytest.mark.modes("root")
def test_signals_that_are_none(guest: Guest, streams: list[int], mark: str) -> None:
    texts = b"/\0onhost\0sleep\0" + mark.encode() + b"\0"
    with guest.connect() as connection:
        socket.send_fds(connection, [head(len(texts), 3)], streams)
        connection.sendall(texts)
        until(lambda: sleeping(mark))
        connection.sendall(bytes([0, 65, 100, 255]))
        time.sleep(0.2)
        assert sleeping(mark)
        connection.sendall(bytes([15]))
        assert connection.recv(10) == b"k\x0f"
    until(lambda: not sleeping(mark))


# In an image: asks for a command as no stub does, and tries to leave it behind on the host.
HOSTILE = """
import os, signal, socket, struct, sys, time
mark, how = sys.argv[1:]
os.setpgid(0, 0)
keeper = socket.socketpair()
connection = socket.socket(socket.AF_UNIX)
connection.connect("/.singularity.d/host/socket")
null, place = os.open("/dev/null", os.O_RDWR), os.open("/", os.O_PATH)
streams = [null, null, null]
if how == "holds":
    streams[0] = connection.fileno()
if how == "hides":
    socket.send_fds(keeper[0], [b"x"], [connection.fileno()])
    streams[0] = keeper[1].fileno()
texts = b"\\0".join([b"/", b"onhost", b"sleep", mark.encode(), b""])
socket.send_fds(connection, [struct.pack("=IIIIQQ", len(texts), 3, 0, 0o22, 0, 0)], [*streams, place])
connection.sendall(texts)
sys.stdin.readline()
if how == "stops":
    signal.signal(signal.SIGCONT, signal.SIG_IGN)
    if os.fork() == 0:
        os.setpgid(0, 0)
        os.killpg(os.getppid(), signal.SIGSTOP)
        os._exit(0)
    time.sleep(100)
"""


@pytest.mark.modes("userns", "root")
@pytest.mark.parametrize("how", ["leaves", "holds", "hides", "stops"])
def test_a_hostile_caller_leaves_nothing_on_the_host(site: Site, mark: str, how: str, directory: Path) -> None:
    """Its end of the connection is open in the command itself, or all of the group is stopped: it ends all the same."""
    program = directory / "hostile.py"
    program.write_text(HOSTILE)
    program.chmod(0o644)
    argv = site.launch.argv(
        "exec", "--host-cmd=onhost", "--pid", "--bind=/usr,/lib,/lib64", f"--bind={program}", site.image, "python3",
        program, mark, how,
    )  # fmt: skip
    with site.launch.start(*argv, stdin=subprocess.PIPE) as process:
        assert process.stdin
        until(lambda: sleeping(mark))
        server = site.helper()
        process.stdin.write(b"\n")
        process.stdin.flush()
        if how == "stops":
            until(lambda: state(sleeping(mark)[0]) == "T")
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)
        until(lambda: not sleeping(mark))
        until(lambda: state(server) in ("", "Z"))


@pytest.mark.modes("root")
def test_many_that_say_nothing(site: Site, guest: Guest, streams: list[int]) -> None:
    """More connections than are served: those that wait have their turn when others go."""
    idle = [guest.connect() for _ in range(256 + 20)]
    server = site.helper()
    until(lambda: len(called(HELPER, server)) == 256)
    for connection in idle[:100]:
        connection.close()
    good = b"/\0onhost\0true\0"
    assert guest.ask(head(len(good), 2), good, streams, close=False) == b"e\0"
    for connection in idle[100:]:
        connection.close()
    until(lambda: not called(HELPER, server))


@pytest.mark.modes("suid", "userns")
def test_other_users_are_not_answered(site: Site, guest: Guest, streams: list[int]) -> None:
    """Root comes to the socket, others do not."""
    good = b"/\0onhost\0true\0"
    assert guest.ask(head(len(good), 2), good, streams, close=False) == b""
    stranger = Account(uid=site.launch.account.uid + 7, gid=site.launch.account.uid + 7, groups={})
    status = subprocess.run(
        [
            "setpriv",
            f"--reuid={stranger.uid}",
            f"--regid={stranger.gid}",
            "--clear-groups",
            "ls",
            guest.path.parents[2],
        ],
        check=False,
        capture_output=True,
    )
    assert status.returncode != 0
    assert b"Permission denied" in status.stderr
    assert oct(guest.path.stat().st_mode)[-3:] == "700"


@pytest.mark.modes("suid", "userns")
def test_nobody_else_reads_the_options_or_the_variables(site: Site) -> None:
    with site.start("read end", "--env", "SECRET=word", stdin=subprocess.PIPE, env={"HIDDEN": "thing"}) as process:
        for pid in [site.helper()]:
            assert b"word" not in Path(f"/proc/{pid}/cmdline").read_bytes()
            assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
            assert (
                sorted(os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if int(fd.name) < 3)
                == ["/dev/null"] * 3
            )
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert process.stdin
        process.stdin.close()


def test_two_launches_beside_each_other(site: Site) -> None:
    with (
        site.start("onhost sh -c 'echo one; sleep 0.5; echo end'") as one,
        site.start("onhost sh -c 'echo two; sleep 0.5; exit 3'") as two,
    ):
        assert one.communicate()[0] == b"one\nend\n"
        assert two.communicate()[0] == b"two\n"
        assert two.returncode == 3


def test_a_launch_that_fails_leaves_nothing(site: Site, directory: Path) -> None:
    site.exec("no-such-program").refused("no-such-program", status=127)
    assert site.launch("exec", "--host-cmd=onhost", directory / "no-image", "true").status == 255
    until(lambda: not site.left())
