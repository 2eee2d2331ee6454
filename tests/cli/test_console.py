"""Progress is one line of a terminal that leaves no trace; elsewhere there is none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from singularity.console import escape

SCRIPT = """
import logging, sys
from singularity import console
console.begin(int(sys.argv[1]), colour=True)
with console.progress() as show:
    show("step one of a very long line " + "x" * 300)
    logging.getLogger().info("a message")
    show("step \\x1b two")
print("end", file=sys.stderr)
"""

WORKING = """
import os, subprocess, sys, time
from singularity import console
console.begin(int(sys.argv[1]), colour=True)
with console.step(2, 5), console.working("waiting"):
    subprocess.run(["sleep", "1.5"], check=True)
    if os.fork() == 0:
        time.sleep(1.2)
        os._exit(0)
    os.wait()
print("end", file=sys.stderr)
"""


def run(level: int, *, terminal: bool, script: str = SCRIPT, kind: str = "xterm") -> str:
    argv = [sys.executable, "-c", script, str(level)]
    if terminal:
        pty = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
        argv = [sys.executable, "-c", pty, *argv]
    env = {**os.environ, "TERM": kind}
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=True, env=env)
    return (done.stdout if terminal else done.stderr).decode()


def test_a_terminal_shows_one_line_that_messages_push_away() -> None:
    text = run(1, terminal=True)
    assert text.startswith("\r\x1b[Kstep one of a very long line xxx")
    assert "\r\x1b[KINFO:    a message\r\n" in text
    assert text.endswith("\r\x1b[Kstep \\x1b two\r\x1b[Kend\r\n")


def test_a_dumb_terminal_shows_messages_only() -> None:
    text = run(1, terminal=True, kind="dumb")
    assert "step one" not in text
    assert "INFO:    a message\r\n" in text


def test_names_that_are_no_text_are_shown_byte_by_byte() -> None:
    assert escape(os.fsdecode(b"a\xffb\n\x1b\x7f\xc3\xa4 \\")) == "a\\xffb\\x0a\\x1b\\x7fä \\"


def test_the_seconds_of_a_step_go_on_by_themselves() -> None:
    """Nothing is shown twice where the step has forked."""
    text = run(1, terminal=True, script=WORKING)
    shown = [part for part in text.split("\r\x1b[K") if part]
    assert shown.pop() == "end\r\n"
    assert all(part.startswith("[2/5]  ") and part.endswith(" s  waiting") for part in shown)
    seconds = [int(part.split()[1]) for part in shown]
    assert seconds[0] == 0
    assert seconds[-1] >= 2
    assert len(seconds) == len(set(seconds))


@pytest.mark.parametrize(("level", "terminal"), [(1, False), (-1, True), (2, True), (5, True)])
def test_elsewhere_and_at_other_levels_there_is_none(level: int, terminal: bool) -> None:
    text = run(level, terminal=terminal)
    assert "step" not in text
    assert "\x1b[K" not in text
