"""How bytes get to the programs that sign and check, and passphrases to us."""

import getpass
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from singularity import files
from singularity.errors import UsageError

_LIMIT = 4096  # bytes of a passphrase: what any pipe takes at once


@contextmanager
def in_memory(data: bytes) -> Iterator[int]:
    """A file that holds `data` and has no name."""
    with files.closing(os.memfd_create("input", os.MFD_CLOEXEC)) as fd:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd


@contextmanager
def in_pipe(secret: bytes) -> Iterator[int]:
    """A pipe that a program can read `secret` from, once."""
    if len(secret) > _LIMIT:
        raise UsageError(f"a passphrase of more than {_LIMIT} bytes")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    with files.closing(reading):
        with files.closing(writing):
            os.write(writing, secret)
        yield reading


def ask(what: str, *, twice: bool = False) -> str:
    """A passphrase from the terminal, which does not show it, or else the next line of standard input."""
    if sys.stdin is None or not sys.stdin.isatty():
        with suppress(OSError, UnicodeDecodeError, AttributeError):
            line = sys.stdin.readline(_LIMIT)
            if line:
                return line.rstrip("\r\n")
        raise UsageError(f"there is nobody to ask for {what}", hint="give it as a line of standard input")
    given = getpass.getpass(f"Enter {what}: ")
    if twice and getpass.getpass(f"Retype {what}: ") != given:
        raise UsageError("the two are not the same")
    return given
