"""Processes that mount where nobody else sees it, for others of the same user, who get there by `/proc/PID/root`."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import kernel, process

READY = b"ready"  # what such a process says when it can be used; anything else is why it cannot
LAST_WORDS = 4096  # bytes of that


class UnreadyError(Exception):
    """What a process said that could not begin; empty where it was killed."""


def started(serve: Callable[[int], NoReturn]) -> int:
    """The id of a process that serves, when it has written READY to the pipe that it is given. Raises UnreadyError."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    pid = process.fork(partial(serve, ready_write))
    os.close(ready_write)
    with open(ready_read, "rb") as pipe:
        answer = pipe.read(LAST_WORDS)
    if answer != READY:
        os.waitpid(pid, 0)
        raise UnreadyError(answer.decode("utf-8", "replace"))
    return pid


def enter() -> None:
    """This process gets it, and without root's rights a user namespace to mount in, with its own ids. Raises OSError.

    The process must have one thread.
    """
    uid, gid = os.getuid(), os.getgid()
    if os.geteuid() == 0:
        kernel.unshare(kernel.CLONE_NEWNS)
    else:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
        for what, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{what}").write_text(text, encoding="ascii")
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
