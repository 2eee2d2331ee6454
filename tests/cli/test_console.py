"""Progress is one line of a terminal that leaves no trace; elsewhere there is none."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from singularity.console import Meter, counting, duration, escape, size, step

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


COUNTING = """
import fcntl, logging, struct, sys, termios, time
from singularity import console
console.begin(int(sys.argv[1]), colour=True)
if sys.stderr.isatty():
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 30, 0, 0))
with console.counting("packing", 40 << 20) as add:
    for _ in range(10):
        time.sleep(0.15)
        add(1 << 20)
    with console.progress() as show:
        show("fetching meanwhile")
    time.sleep(1.3)
    console._TOLD = 0
    add(10 << 20)
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


def test_a_count_has_a_rate_and_the_time_that_is_left() -> None:
    now = 0.0
    meter = Meter(100 << 20, lambda: now)
    assert meter.text(0) == "0 %, 0 of 100 MiB"
    now = 2.0
    assert meter.text(10 << 20) == "10 %, 10 of 100 MiB, 5.0 MiB/s, 18 s left"
    now = 20.0
    assert meter.text(28 << 20) == "28 %, 28 of 100 MiB, 1.0 MiB/s, 1 min 12 s left"
    now = 22.0
    assert meter.text(120 << 20) == "100 %, 100 of 100 MiB, 5.5 MiB/s"
    assert Meter(None, lambda: now).text(3 << 20) == "3 MiB"


def test_sizes_and_times_for_people() -> None:
    assert [size(each) for each in (0, 1, 2048, 30 << 20, 2000 << 20)] == [
        "0 bytes",
        "1 byte",
        "2 KiB",
        "30.0 MiB",
        "2.0 GiB",
    ]
    assert [duration(each) for each in (0.2, 59, 200, 7500)] == ["0 s", "59 s", "3 min 20 s", "2 h 5 min"]


def test_a_count_fits_a_narrow_terminal_and_goes_on_after_what_came_between() -> None:
    text = run(1, terminal=True, script=COUNTING)
    shown = [part for part in text.split("\r\x1b[K") if part]
    assert shown.pop() == "end\r\n"
    assert max(map(len, shown)) == 29
    assert shown[0] == "packing 0 %, 0 of 40 MiB"
    between = shown.index("fetching meanwhile")
    assert shown[between - 1].startswith("packing 2")
    assert shown[between + 1] == shown[between - 1], "the clock goes on"
    assert shown[-1].startswith("packing 50 %, 20 of 40 MiB")


@pytest.mark.parametrize("terminal", [True, False])
def test_where_nothing_is_drawn_a_count_is_a_line_now_and_then(terminal: bool) -> None:
    text = run(1, terminal=terminal, script=COUNTING, kind="dumb")
    (line, end) = text.splitlines()
    assert line.startswith("INFO:    packing 50 %, 20 of 40 MiB, ")
    assert end == "end"
    assert run(-1, terminal=terminal, script=COUNTING, kind="dumb").strip() == "end"


def test_a_program_with_handlers_of_its_own_has_no_progress(caplog: pytest.LogCaptureFixture) -> None:
    assert len(logging.getLogger().handlers) > 1
    caplog.set_level(logging.INFO)
    with step(1, 2), counting("packing", 5) as add:
        add(5)
    assert caplog.records == []


@pytest.mark.parametrize(("level", "terminal"), [(1, False), (-1, True), (2, True), (5, True)])
def test_elsewhere_and_at_other_levels_there_is_none(level: int, terminal: bool) -> None:
    text = run(level, terminal=terminal)
    assert "step" not in text
    assert "\x1b[K" not in text


def test_foreign_text_neither_drives_a_terminal_nor_turns_it_around() -> None:
    assert escape("a\x1b[31m\x9b\x7f\udcff") == r"a\x1b[31m\x9b\x7f\xff"
    assert escape("gnp.\u202efdp\u2066\u200f\u061c\u2028") == r"gnp.\u202efdp\u2066\u200f\u061c\u2028"
    assert escape("Grüße, עברית") == "Grüße, עברית"
