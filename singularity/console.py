"""What the program says: one line a message, on standard error; the words, levels and columns of `launcher/message.c`.

Modules log through `getLogger(__name__)`; results go to standard output and never through here.
"""

import logging
import os
import re
import signal
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from typing import Any, NamedTuple, TextIO

CLOSED = os.O_RDWR | os.O_APPEND  # how /dev/null is opened in place of a closed standard stream, as by the front door
VERBOSE = 15  # between logging's DEBUG and INFO: a decision and its reason


def output_is_closed() -> bool:
    """Whether whoever called has closed standard output, so that what is written there is nowhere."""
    import fcntl

    status = os.fstat(1)
    is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev
    return is_null and fcntl.fcntl(1, fcntl.F_GETFL) & (os.O_ACCMODE | os.O_APPEND) == CLOSED


class Level(IntEnum):
    """Message levels of the family, as `SINGULARITY_MESSAGELEVEL` carries them to nested runs."""

    FATAL = -4
    ERROR = -3
    WARNING = -2
    LOG = -1
    INFO = 1
    VERBOSE = 2
    DEBUG = 5


_LOGGED = {  # the least severe message of `logging` that each level shows
    Level.FATAL: logging.CRITICAL,
    Level.ERROR: logging.ERROR,
    Level.WARNING: logging.WARNING,
    Level.LOG: logging.WARNING,
    Level.INFO: logging.INFO,
    Level.VERBOSE: VERBOSE,
    Level.DEBUG: logging.DEBUG,
}
_NAMES = {logging.CRITICAL: "FATAL", VERBOSE: "VERBOSE"}
_RED, _YELLOW, _PLAIN = "\033[31m", "\033[33m", "\033[0m"
_CLEAR = "\r\033[K"  # to the first column, and all after it gone
_DRAWN = 0.2  # seconds between two drawings of a count
_TOLD = 30.0  # seconds between two plain lines, where nothing is drawn
_STALLED = 10.0  # seconds without a byte that are told
_WINDOW = 5.0  # seconds in which a rate is measured
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\udc80-\udcff]|([\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069])")


def escape(text: str) -> str:
    r"""`text` with control characters and undecoded bytes as `\x1b`: foreign names must not drive a terminal.

    Marks by which what follows would be shown in another order than it has are escaped too, as `\u202e`.
    """
    return _CONTROL.sub(lambda each: f"\\u{ord(each[1]):04x}" if each[1] else f"\\x{ord(each[0]) & 0xFF:02x}", text)


class _Formatter(logging.Formatter):
    def __init__(self, level: int, *, colour: bool) -> None:
        super().__init__()
        self.audit = level >= Level.DEBUG
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        name = _NAMES.get(record.levelno, record.levelname)
        text = escape(record.getMessage())
        if self.audit:
            ids = f"[U={os.geteuid()},P={os.getpid()}]"
            origin = f"{record.filename}:{record.lineno}:{record.funcName}()"
            return f"{name:<7} {ids:<18} {origin:<43}: {text}"
        word = f"{name + ':':<9}"
        if self.colour and record.levelno >= logging.WARNING:
            word = f"{_YELLOW if record.levelno == logging.WARNING else _RED}{word}{_PLAIN}"
        return word + text


class _Handler(logging.StreamHandler[TextIO]):
    """Takes a progress line off the terminal before a message is written."""

    progress = False
    prefix = ""  # of progress lines: which step of how many
    began = 0.0  # time.monotonic() at that step's beginning
    shown = ""  # the text of the progress line

    def emit(self, record: logging.LogRecord) -> None:
        self.clear()
        super().emit(record)

    def show(self, text: str) -> None:
        """A line that the next one replaces."""
        width = os.get_terminal_size(self.stream.fileno()).columns or 80
        seconds = f"{int(time.monotonic() - self.began)} s  " if self.prefix else ""
        self.stream.flush()
        line = escape(self.prefix + seconds + text)[: width - 1]
        os.write(self.stream.fileno(), (_CLEAR + line).encode("utf-8", "replace"))  # also inside a signal handler
        self.progress = True
        self.shown = text

    def clear(self) -> None:
        if self.progress:
            self.stream.write(_CLEAR)
            self.stream.flush()
            self.progress = False


class Listener(logging.Handler):
    """Is told what happens: docs/events.md has the events, and what each of them says."""

    def emit(self, record: logging.LogRecord) -> None:
        """A message is an event, too."""
        level = _NAMES.get(record.levelno, record.levelname).lower()
        self.tell("message", level=level, text=record.getMessage())

    def tell(self, event: str, **more: Any) -> None:
        """One event."""
        raise NotImplementedError


class _Events(Listener):
    """Tells other programs: a JSON object a line, on what was standard output.

    A reader that has left is no reason to end: it is told nothing more.
    """

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd

    def tell(self, event: str, **more: Any) -> None:
        """What is None is left out."""
        import json  # which starting would pay for

        said = {"event": event, "time": round(time.time(), 3)} | {k: v for k, v in more.items() if v is not None}
        with suppress(OSError):
            os.write(self._fd, (json.dumps(said) + "\n").encode())


class Progress(NamedTuple):
    """How far something is that takes long, for whoever watches it."""

    text: str  # what is being done, or a message about it
    step: int = 0  # which one of a build, from 1; 0: it is not part of one
    steps: int = 0  # of how many
    done: int | None = None  # bytes; None: they are not counted
    total: int | None = None  # bytes; None: nobody knows


class Observer(Listener):
    """Tells a function how far things are, and another one each message."""

    def __init__(self, tell: Callable[[Progress], object], log: Callable[[logging.LogRecord], object]) -> None:
        super().__init__()
        self._tell, self._log = tell, log
        self._place = (0, 0)  # which step, of how many

    def emit(self, record: logging.LogRecord) -> None:
        """A message."""
        self._log(record)
        if record.levelno >= logging.INFO:
            super().emit(record)

    def tell(self, event: str, **more: Any) -> None:
        """What an event says, as far as it is progress."""
        if event == "step":
            self._place = (more["number"], more["total"])
        elif event == "step-end":
            self._place = (0, 0)
        if event == "message":
            self._tell(Progress(more["text"], *self._place))
        elif event == "progress":
            self._tell(Progress(more["what"], *self._place, more.get("done"), more.get("total")))


def begin_events() -> None:
    """From here on standard output has events, and what programs that are started print there goes to standard error.

    Raises OSError.
    """
    sys.stdout.flush()
    events = _Events(os.dup(1))
    os.dup2(2, 1)
    logging.getLogger().addHandler(events)


def observe(observer: Observer) -> None:
    """From here on this process shows nothing."""
    root = logging.getLogger()
    root.handlers[:] = [observer]
    root.setLevel(logging.INFO)


def tell(event: str, **more: object) -> None:
    """Tells listeners of an event, where there are any."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, Listener):
            handler.tell(event, **more)


def size(count: int) -> str:
    """A number of bytes for people: `17 bytes`, `12 KiB`, `29.4 MiB`, `1.2 GiB`."""
    if count < 1 << 10:
        return f"{count} byte{'s' if count != 1 else ''}"
    if count < 1 << 20:
        return f"{-(-count // 1024)} KiB"
    return f"{count / (1 << 20):.1f} MiB" if count < 1000 << 20 else f"{count / (1 << 30):.1f} GiB"


def duration(seconds: float) -> str:
    """A time for people: `12 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _nothing(text: str) -> None:
    del text


class Meter:
    """How far something is that is counted in bytes: `24 %, 12 of 50 MiB, 3.1 MiB/s, 12 s left`, as far as known."""

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total or None  # bytes
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])
        self._changed = clock()  # when some came last

    def shown(self, show: Callable[[str], None], what: str, done: int) -> None:
        """Shows people and programs that so many bytes are done."""
        show(f"{what} {self.text(done)}")
        tell("progress", what=what, done=min(done, self._total) if self._total else done, total=self._total)

    def text(self, done: int) -> str:
        """The words for so many bytes; the rate is that of the last seconds."""
        now = self._clock()
        if done != self._seen[-1][1]:
            self._changed = now
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW:
            self._seen.popleft()
        start, before = self._seen[0]
        rate = (done - before) / (now - start) if now - start >= 1 else 0
        words = [f"{done >> 20} MiB"]
        if self._total:
            done = min(done, self._total)
            words = [f"{100 * done // self._total} %", f"{done >> 20} of {max(1, self._total >> 20)} MiB"]
        if rate > 0:
            words.append(f"{rate / (1 << 20):.1f} MiB/s")
            if self._total and done < self._total:
                words.append(f"{duration((self._total - done) / rate)} left")
        if now - self._changed >= _STALLED and done != self._total:
            words.append(f"nothing for {duration(now - self._changed)}")
        return ", ".join(words)


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Shows what a long step is at, at the usual level: in one line of a terminal, elsewhere by a line now and then."""
    handler = _own_handler()
    if handler is None or logging.getLogger().level != logging.INFO:
        yield _nothing
        return
    if not _can_draw(handler.stream):
        yield _in_lines(handler)
        return
    outer = handler.shown
    try:
        with _every_second(handler):
            yield handler.show
    finally:
        handler.clear()
        handler.shown = outer


def _own_handler() -> _Handler | None:
    """Who writes messages here; None in a program that uses the library, and may have several of its own."""
    return next((each for each in logging.getLogger().handlers if isinstance(each, _Handler)), None)


def _in_lines(handler: _Handler) -> Callable[[str], None]:
    told = time.monotonic()

    def show(text: str) -> None:
        nonlocal told
        if time.monotonic() - told >= _TOLD:
            told = time.monotonic()
            logging.getLogger(__name__).info("%s%s", handler.prefix, text)

    return show


@contextmanager
def counting(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Shows how far a step is that is counted in bytes, `what 24 %, ...`; is told of each further number of them."""
    meter, done, drawn = Meter(total), 0, 0.0
    with progress() as show:

        def add(count: int) -> None:
            nonlocal done, drawn
            done += count
            now = time.monotonic()
            if now - drawn >= _DRAWN:
                drawn = now
                meter.shown(show, what, done)

        add(0)
        yield add
        tell("progress", what=what, done=total or done, total=total or None)  # ended: an estimate was what it was


def _can_draw(stream: TextIO) -> bool:
    """Whether a line can be replaced by another: on a terminal that does not call itself dumb, as editors' do."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


@contextmanager
def _every_second(handler: _Handler) -> Iterator[None]:
    """Shows the progress line anew each second, so that its seconds go on; by a timer, since builds fork."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def tick(number: int, frame: object) -> None:
        del number, frame
        if handler.shown:
            handler.show(handler.shown)

    before = signal.signal(signal.SIGALRM, tick)
    signal.siginterrupt(signal.SIGALRM, False)  # system calls go on by themselves
    timer = signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)  # that of a step around this one
        signal.signal(signal.SIGALRM, before)


@contextmanager
def working(text: str) -> Iterator[None]:
    """Shows `text` as what a step is at, and how long it has been."""
    tell("progress", what=text)
    with progress() as show:
        show(text)
        yield


class Step:
    """A step that is being carried out."""

    cached = False  # whether it came from the cache


@contextmanager
def step(number: int, total: int, what: str = "") -> Iterator[Step]:
    """Progress shown meanwhile begins with which step of how many this is, and with its seconds."""
    handler, began, it = _own_handler(), time.monotonic(), Step()
    tell("step", number=number, total=total, what=what)
    if handler is not None:
        handler.prefix, handler.began = f"[{number}/{total}]  ", began
    try:
        yield it
    finally:
        if handler is not None:
            handler.prefix = ""
    tell("step-end", number=number, seconds=round(time.monotonic() - began, 3), cached=it.cached)


def _may_colour(stream: TextIO) -> bool:
    """Whether a stream takes colour: a terminal that is not dumb, where NO_COLOR (no-color.org) is not set."""
    return _can_draw(stream) and not os.environ.get("NO_COLOR")


def begin(level: int, *, colour: bool, stream: TextIO | None = None) -> None:
    """Show messages of `level` and more important ones from here on; `colour` only where a terminal can and may."""
    stream = stream or sys.stderr
    known = max((each for each in Level if each <= level), default=Level.FATAL)
    handler = _Handler(stream)
    handler.setFormatter(_Formatter(known, colour=colour and _may_colour(stream)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(_LOGGED[known])


def debugging() -> bool:
    """Whether every step is shown."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def show_traceback() -> None:
    """Where the exception that is being handled came from, on standard error."""
    import traceback

    traceback.print_exc()
