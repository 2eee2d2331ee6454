"""Ends instances: a signal, some time, and then the one that nobody can ignore; all at once."""

import os
import select
import signal
import time
from collections.abc import Sequence

from singularity.errors import SingularityError, UsageError
from singularity.instance import processes
from singularity.instance.states import Instance

_LAST = 10.0  # seconds for the kernel to end what was killed


def number(text: str) -> signal.Signals:
    """The signal of that name (`TERM`, `SIGTERM`) or number. Raises UsageError."""
    try:
        if text.isdecimal():
            return signal.Signals(int(text))
        return signal.Signals["SIG" + text.upper().removeprefix("SIG")]
    except (KeyError, ValueError):
        raise UsageError(f"--signal {text}: there is no such signal", hint="kill -l lists them") from None


def stop(instances: Sequence[Instance], first: signal.Signals, timeout: float) -> None:
    """Ends them; returns when all have ended. Raises SingularityError: one has not."""
    left = {fd: each for each in instances if (fd := _opened(each)) >= 0}
    try:
        _send(left, first)
        _wait(left, timeout)
        _send(left, signal.SIGKILL)
        _wait(left, _LAST)
        if left:
            names = ", ".join(each.name for each in left.values())
            raise SingularityError(f"not ended: {names}", hint="a process of it waits for a device or a file server")
    finally:
        for fd in left:
            os.close(fd)


def _opened(instance: Instance) -> int:
    """Its first process, by a descriptor that can be no other's; -1: it has ended."""
    try:
        fd = os.pidfd_open(instance.process)
    except ProcessLookupError:
        return -1
    is_it = processes.identity(instance.process) == instance.identity
    if is_it and processes.is_first_of_container(instance.process, instance.uid):
        return fd
    os.close(fd)
    return -1


def _send(left: dict[int, Instance], which: signal.Signals) -> None:
    for fd in list(left):
        try:
            signal.pidfd_send_signal(fd, which)
        except ProcessLookupError:
            del left[fd]
            os.close(fd)
        except PermissionError as error:
            raise SingularityError(f"{left[fd].name}: {error.strerror}") from error


def _wait(left: dict[int, Instance], timeout: float) -> None:
    """Until all have ended, or so many seconds; takes out those that have."""
    end = time.monotonic() + timeout
    while left:
        poll = select.poll()
        for fd in left:
            poll.register(fd, select.POLLIN)
        ready = poll.poll(max(0.0, end - time.monotonic()) * 1000)
        for fd, _ in ready:
            del left[fd]
            os.close(fd)
        if not ready:
            return
