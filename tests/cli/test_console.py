"""Progress is one line of a terminal that leaves no trace; elsewhere there is none."""

from __future__ import annotations

import subprocess
import sys

import pytest

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


def run(level: int, *, terminal: bool) -> str:
    argv = [sys.executable, "-c", SCRIPT, str(level)]
    if terminal:
        pty = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
        argv = [sys.executable, "-c", pty, *argv]
    done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, check=True)
    return (done.stdout if terminal else done.stderr).decode()


def test_a_terminal_shows_one_line_that_messages_push_away() -> None:
    text = run(1, terminal=True)
    assert text.startswith("\r\x1b[Kstep one of a very long line xxx")
    assert "\r\x1b[KINFO:    a message\r\n" in text
    assert text.endswith("\r\x1b[Kstep \\x1b two\r\x1b[Kend\r\n")


@pytest.mark.parametrize(("level", "terminal"), [(1, False), (-1, True), (2, True), (5, True)])
def test_elsewhere_and_at_other_levels_there_is_none(level: int, terminal: bool) -> None:
    text = run(level, terminal=terminal)
    assert "step" not in text
    assert "\x1b[K" not in text
