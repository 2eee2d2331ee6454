"""Scripts handed to a shell line by line, so that it can be told how far the shell has come when it ends.

A shell reads as much of its script as it needs for the next command, and then runs that. The script is a named pipe
that holds one page, and a line is written when what was written before has been read (poll(2) calls such a pipe
writable only then). When the shell ends, the line that was read last is where it ended: a failed command's line, or the
last line of a command of several lines. Other ways lost: `$LINENO` in PS4 and a trap (Debian's dash has no `$LINENO`,
and scripts have traps of their own), a debugger's ptrace (not allowed everywhere).
"""

import fcntl
import mmap
import os
import re
import select
import struct
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from singularity import process

_PAGE = 4096  # bytes that are written at once; no page is smaller
_COUNT = struct.Struct("q")
_REACH = 100  # lines that a command may have, where its first one is looked for
_TEXT_LIMIT = 1 << 16  # characters; half of what an argument may have
_CONTINUED = re.compile(r"^(?!\s*#).*(?:(?<!\\)(?:\\\\)*\\|&&\s*|\|\s*)\n\Z")


class Progress:
    """How far the reader of a script has come."""

    def __init__(self, pipe: int, memory: mmap.mmap) -> None:
        self._pipe = pipe
        self._memory = memory
        self.lines = 0  # that were read, once the script has ended

    def finish(self) -> None:
        """Sets `lines`; to be called when the writer has ended."""
        (written,) = _COUNT.unpack_from(self._memory)
        (unread,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, bytes(4)))
        self.lines = max(written - 1, 0) if unread else written


def first_line(lines: Sequence[str]) -> int:
    """The index of the line in which the command begins that ends with the last of `lines`.

    That is the nearest line from which on a shell finds whole commands; the last where there is none. Nothing is run.
    """
    last = len(lines) - 1
    for start in range(last, max(-1, last - _REACH), -1):
        text = "".join(lines[start:])
        if len(text) > _TEXT_LIMIT:
            break
        if start and _CONTINUED.search(lines[start - 1]):
            continue
        words = ["sh", "-n", "-c", text]
        if process.call(words, purpose="find the line of a failure").status == 0:
            return start
    return last


@contextmanager
def offered(lines: Sequence[str], place: Path) -> Iterator[Progress]:
    """Offers a script at `place`, a name that nothing has, while the block runs, to one reader. Raises OSError."""
    os.mkfifo(place, 0o600)
    pipe = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # so that the writer need not wait for a reader
    stop_read, stop_write = os.pipe2(os.O_CLOEXEC)
    writer = 0
    with mmap.mmap(-1, mmap.PAGESIZE) as memory:
        progress = Progress(pipe, memory)
        try:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PAGE)

            def write() -> None:  # no signal ends it: we tell it when to end
                os.close(stop_write)
                _write([line.encode("utf-8", "surrogateescape") for line in lines], place, stop_read, memory)

            writer = process.fork(write)
            yield progress
        finally:
            os.close(stop_write)
            os.close(stop_read)
            if writer:
                os.waitpid(writer, 0)
                progress.finish()
            os.close(pipe)
            place.unlink()


def _write(lines: Sequence[bytes], place: Path, stop: int, memory: mmap.mmap) -> None:
    """The writer: ends when everything is read, or nobody is interested any more."""
    out = os.open(place, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(out, select.POLLOUT)
    poll.register(stop, select.POLLIN)
    for number, line in enumerate(lines, 1):
        for start in range(0, len(line), _PAGE):
            if any(fd == stop for fd, _ in poll.poll()):
                return
            os.write(out, line[start : start + _PAGE])
        _COUNT.pack_into(memory, 0, number)
    poll.poll()
