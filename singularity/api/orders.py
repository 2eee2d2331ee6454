"""What another process is to do by the library, since it changes whoever does it: namespaces, signals, directories.

Both sides of the conversation: an order goes in by standard input, and out come messages, each with its length before
it: how far it is, what it says, and at last what came of it, an exception of the tree in `errors` for one.
"""

import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple, TypeVar, cast

from singularity.api.calls import Call, Ended, Stream
from singularity.console import Progress
from singularity.errors import SingularityError

_Result = TypeVar("_Result")
_PROGRAM = (  # where modules are found is told, since our caller may have her own ideas of it
    "import pickle, sys; order = pickle.load(sys.stdin.buffer); sys.path[:] = order[0]; "
    "from singularity.api import worker; worker.serve(*order[1:])"
)
_GRACE = 20.0  # seconds in which what was begun is taken away again


class Message(NamedTuple):
    """A message for the logs of whoever gave the order."""

    logger: str
    level: int
    text: str
    path: str
    line: int


class Outcome(NamedTuple):
    """The last message: the result, or the exception in its place."""

    result: object = None
    error: BaseException | None = None


@dataclass(slots=True)
class _Conversation:
    """What has come of an order so far."""

    on_progress: Callable[[Progress], object] | None
    outcome: Outcome | None = None

    def take(self, message: bytes) -> bool:
        """The next message; True for the last one."""
        said = pickle.loads(message)  # noqa: S301 - from a process that we have started
        if isinstance(said, Outcome):
            self.outcome = said
            return True
        if isinstance(said, Message):
            logger = logging.getLogger(said.logger)
            if logger.isEnabledFor(said.level):
                logger.handle(logger.makeRecord(said.logger, said.level, said.path, said.line, said.text, (), None))
        elif self.on_progress is not None:
            self.on_progress(cast("Progress", said))
        return False


def order(
    what: str,
    arguments: Mapping[str, Any],
    made: Callable[[Any], _Result],
    *,
    on_progress: Callable[[Progress], object] | None = None,
    output: Stream = None,
) -> Call[_Result]:
    """Has a function of `worker` called with these arguments; `made` makes the result of what it returns.

    `output` is where programs write that it starts: standard error where nothing is said.
    """
    if output == subprocess.PIPE:
        raise ValueError("output: nobody would read from that pipe")
    conversation = _Conversation(on_progress)

    def result(ended: Ended) -> _Result:
        outcome = conversation.outcome
        if outcome is None:
            how = f"killed by {Signals(-ended.status).name}" if ended.status < 0 else f"status {ended.status}"
            raise SingularityError(f"{what}: the process that did it has ended ({how})")
        if outcome.error is not None:
            raise outcome.error
        return made(outcome.result)

    given = [*sys.path]
    given[:1] = [str(Path(given[0]).absolute())] if given and given[0] else [os.getcwd()]
    return Call(
        words=(sys.executable, "-P", "-c", _PROGRAM),
        result=result,
        input=pickle.dumps((given, what, dict(arguments))),
        stdout=subprocess.PIPE,
        stderr=output,
        told=conversation.take,
        grace=_GRACE,
    )
