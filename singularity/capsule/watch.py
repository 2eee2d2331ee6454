"""Runs a launch under the recorder, a small program of the launcher's that is its parent (`launcher/record/`)."""

import os
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from singularity import kernel, paths, process
from singularity.capsule import seen
from singularity.errors import FileError, SingularityError

RECORDER = "recorder"
_NOT_WRITTEN = 255  # the recorder's status then


def watched(
    words: Callable[[int], Sequence[str]], environment: Mapping[bytes, bytes], *, image: Path, limit: int
) -> seen.Seen:
    """What a launch did, once its program has ended.

    `words` of the front door, given the number of the descriptor by which the launch reaches the recorder. `image` is
    not outside where it is a directory; files of more than `limit` bytes are not read. Raises SingularityError.
    """
    door, recorder = paths.front_door(), paths.beside(RECORDER)
    if not os.access(recorder, os.X_OK):
        raise SingularityError(f"{recorder}, which records runs, is missing", hint="the installation is incomplete")
    inside = os.path.realpath(image) if image.is_dir() else ""
    with ExitStack() as stack:
        with FileError.about(paths.temporary()):
            log = stack.enter_context(tempfile.TemporaryFile(dir=paths.temporary()))
        ours, theirs = (stack.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        numbers = [log.fileno(), ours.fileno(), theirs.fileno()]
        line = [RECORDER, *map(str, numbers), inside, str(limit), str(door), "singularity", *words(numbers[2])]
        parent = os.getpid()

        def start() -> NoReturn:
            kernel.die_with_parent(signal.SIGTERM, parent)
            for number in numbers:
                os.set_inheritable(number, True)
            os.execve(recorder, line, environment)  # noqa: S606 - a list of words, without a shell

        if process.foreground(start, lambda: seen.is_whole(log)) == _NOT_WRITTEN:
            raise FileError(
                f"{paths.temporary()}: no room for what is seen of the program, which has ended",
                hint="TMPDIR names another place",
            )
        return seen.read(log)
