"""--host-cmd at a terminal: keys, the background, and its end."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
import time
from pathlib import Path

import pytest
from host_site import HELPER, Site, comm, running, state, until

# ---- a terminal ----

CATCHER = r"""
import os, signal, sys, time
counts = {}
def count(number, frame):
    counts[number] = counts.get(number, 0) + 1
    os.write(1, f"got {number} {counts[number]}\n".encode())
signal.signal(signal.SIGINT, count)
signal.signal(signal.SIGCONT, count)
signal.signal(signal.SIGWINCH, count)
print("tty", os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), flush=True)
while True:
    line = input() if sys.argv[1] == "read" else time.sleep(0.05)
    if line == "end":
        sys.exit(4)
    if line:
        print("line", line, flush=True)
"""


class Terminal:
    """A shell in a container on a terminal of its own."""

    def __init__(self, site: Site, *options: str) -> None:
        self.controller, terminal = os.openpty()
        os.fchown(terminal, site.launch.account.uid, -1)
        argv = site.launch.argv("exec", "--host-cmd=onhost", *options, site.image, "sh", "-i")
        launch = site.launch.changed(before=[*site.launch.world.before, lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)])
        self.process = launch.start(*argv, stdin=terminal, stdout=terminal, stderr=terminal)
        os.close(terminal)
        os.set_blocking(self.controller, False)
        self.seen = ""

    def type(self, text: str) -> None:
        os.write(self.controller, text.encode())

    def expect(self, text: str) -> str:
        """All that came up to this text."""
        deadline = time.monotonic() + 15
        while text not in self.seen:
            assert time.monotonic() < deadline, f"no {text!r} in {self.seen!r}"
            try:
                self.seen += os.read(self.controller, 4096).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        os.close(self.controller)
        self.process.wait(timeout=10)


@pytest.mark.parametrize("options", [[], ["--pid"]], ids=["plain", "pid"])
def test_keys_of_the_terminal_reach_the_command_once(site: Site, directory: Path, options: list[str]) -> None:
    catcher = directory / "catcher.py"
    catcher.write_text(CATCHER)
    terminal = Terminal(site, *options)
    try:
        terminal.type(f"echo beg''in; onhost python3 {catcher} sleep\n")
        terminal.expect("begin")
        terminal.expect("tty True True")
        helper = site.helper()
        children = Path(f"/proc/{helper}/task/{helper}/children").read_text().split()
        (performer,) = [int(child) for child in children if comm(int(child)) == HELPER]
        os.kill(performer, signal.SIGSTOP)  # a busy machine: the keys are one to it
        for number in (1, 2, 3):
            terminal.type("\x03")
            terminal.expect(f"got 2 {number}\r\n")
        os.kill(performer, signal.SIGCONT)
        time.sleep(0.3)
        terminal.type("\x1a")
        before = terminal.expect("topped")
        assert "got 2" not in before
        (process,) = [pid for pid in running(str(catcher)) if comm(pid).startswith("python")]
        until(lambda: state(process) == "T")
        terminal.type("echo in the sh''ell\n")
        terminal.expect("in the shell")
        terminal.type("fg\n")
        terminal.expect("got 18 1")
        until(lambda: state(process) in "SR")
        terminal.type("\x03")
        terminal.expect("got 2 4")
        terminal.type("\x1c")
        terminal.expect("uit")
        terminal.type("echo end $?\n")
        terminal.expect("end 131")
        assert not running(str(catcher))
    finally:
        terminal.close()


def test_the_command_reads_the_terminal_and_waits_in_the_background(site: Site, directory: Path) -> None:
    catcher = directory / "catcher.py"
    catcher.write_text(CATCHER)
    terminal = Terminal(site)
    try:
        terminal.type(f"onhost python3 {catcher} read\n")
        terminal.expect("tty True True")
        terminal.type("word\n")
        terminal.expect("line word")
        terminal.type("\x1a")
        terminal.expect("topped")
        terminal.type("fg\n")
        terminal.expect("got 18")
        terminal.type("other\n")
        terminal.expect("line other")
        terminal.type("end\n")
        terminal.type("echo st''atus $?\n")
        terminal.expect("status 4")
        terminal.type("onhost cat &\n")
        time.sleep(0.5)
        terminal.type("\njobs\n")
        terminal.expect("topped")
        terminal.type("kill -9 %1; echo kill''ed\n")
        terminal.expect("killed")
    finally:
        terminal.close()


def test_a_terminal_that_hangs_up(site: Site) -> None:
    terminal = Terminal(site)
    mark = str(7_000_000 + os.getpid())
    terminal.type(f"onhost sleep {mark}\n")
    until(lambda: running(mark))
    terminal.close()
    until(lambda: not [pid for pid in running(mark) if comm(pid) == "sleep"])
