"""From the command line to one verb, and from every failure to one line and an exit status."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import NoReturn, TextIO

from singularity import console
from singularity.cli.messages import begin_messages
from singularity.errors import FileError, Interrupted, SingularityError, UsageError
from singularity.variables import named, variable

logger = logging.getLogger(__name__)

_PLAIN = {
    "pull": "pulled",
    "launch": "launched",
    "check": "checked",
    "answer": "answered",
    "complete": "completed",
}  # what workflows do all day goes without what options need


def main(arguments: Sequence[str]) -> int:
    """Runs the verb that `arguments` ask for; returns the exit status of the process."""
    _mend_inheritance()
    status = _status(arguments)
    console.tell("end", status=status)
    for stream in (sys.stdout, sys.stderr):
        if not _is_written(stream):  # what is held back would be tried again, and complained about, at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return status


def _status(arguments: Sequence[str]) -> int:
    begin_messages(None, colour=True)
    try:
        with signals_raise():
            status = _perform(arguments)
            sys.stdout.flush()
            return status
    except Interrupted as interruption:
        logger.info("Stopped by %s", signal.Signals(interruption.signal).name)
        return 128 + interruption.signal
    except BrokenPipeError:  # the reader of our output has left: nothing more to say to it
        return 128 + signal.SIGPIPE
    except SingularityError as error:
        return _end(error)
    except OSError as error:
        return _end(FileError.because(error.filename or "file", error))
    except Exception as error:  # the one place where a fault of ours becomes a line
        return _end(SingularityError(f"internal fault: {type(error).__name__}: {error}", hint="--debug shows where"))


def _perform(arguments: Sequence[str]) -> int:
    if said := variable("CONFIG_FILE"):  # as the front door says it of a launch
        hint = "another configuration file: its path is fixed when the program is built"
        raise UsageError(f"variable {named('CONFIG_FILE', said, '')} is not available here", hint=hint)
    module = _PLAIN.get(arguments[0]) if arguments else None
    status: int | None = import_module(f"singularity.cli.{module}").plain(arguments[1:]) if module else None
    if status is not None:
        return status
    from singularity.cli import group

    return group.perform(arguments)


def _is_written(stream: TextIO) -> bool:
    """Whether a stream holds nothing back that it could not write."""
    try:
        stream.flush()
    except OSError:
        return False
    return True


def _mend_inheritance() -> None:
    """What a careless caller hands down: closed standard streams, and SIGCHLD ignored, which hides how tools end."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # each gets the lowest number that is free
        if getattr(sys, name) is None:
            fd = os.open(os.devnull, console.CLOSED)
            os.set_inheritable(fd, True)
            setattr(sys, name, open(fd, mode))  # noqa: SIM115 - to the end of the process
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _end(error: SingularityError) -> int:
    level = logging.ERROR if isinstance(error, UsageError) else logging.CRITICAL  # as the front door does
    logger.log(level, "%s", error)
    if console.debugging():
        console.show_traceback()
    return error.exit_status


@contextmanager
def signals_raise() -> Iterator[None]:
    """Ctrl-C, TERM and HUP raise once, so that every `with` cleans up; while that goes on, further ones wait."""
    stopping = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        del frame
        for each in stopping:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number)

    before = {each: signal.signal(each, stop) for each in stopping if signal.getsignal(each) is not signal.SIG_IGN}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
