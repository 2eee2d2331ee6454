"""Containers that stay under a name, until they are stopped: `Instance`."""

import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from singularity.api import door, launches
from singularity.api.callee import Callee, Waits, refuse
from singularity.api.calls import Call, Ended, wait, waiting
from singularity.api.door import Word
from singularity.api.words import of_launches, spelled
from singularity.errors import LaunchError, UsageError
from singularity.instance import states, usage

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import InstanceOptions

_Named = TypeVar("_Named", bound="Named")
_GRACE = 30.0  # seconds for the end of what is stopped, beyond the timeout of stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What is known of an instance that runs."""

    image: str
    process: int  # the first one of its PID namespace, by its number here
    address: str  # of a network by plugins, which root has


class Named(Callee):
    """An instance, for `Instance` and for that of `aio`."""

    def __init__(self, name: str) -> None:
        """That of this name, which runs or not. Raises UsageError for what cannot be one."""
        if states.NAME.fullmatch(name) is None:
            raise UsageError(f"{name!r} is no name of an instance", hint="letters, digits and . _ - make one")
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    @property
    def state(self) -> State | None:
        """What is known of it; None where it does not run."""
        found = self._found()
        return State(image=found.image, process=found.process, address=found.address) if found else None

    def usage(self) -> "usage.Usage | None":
        """Processor time, memory, disk traffic and processes until now; None where it does not run."""
        found = self._found()
        return usage.sample(found) if found else None

    def logs(self, *, errors: bool = False) -> str:
        """What it, and those that had its name before, has written to standard output, or with `errors` to standard
        error. Raises FileError where there is no log.
        """
        log = states.open_log(states.owner(""), self.name, "err" if errors else "out")
        with open(log, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()

    def _found(self) -> states.Instance | None:
        return next((each for each in states.running(states.owner("")) if each.name == self.name), None)

    def _called(self, options: Mapping[str, object], program: Sequence[Word], verb: str) -> tuple[str, ...]:
        known = of_launches("exec")
        refuse(options, known)
        if self._found() is None:
            raise LaunchError(f"no instance found with name {self.name}", hint="Instance.start(IMAGE, NAME) starts one")
        return door.launch([verb], spelled("Instance", known, options), f"instance://{self.name}", program)

    def _stop(self, *, signal: str = "SIGINT", timeout: int = 10, force: bool = False) -> Call[None]:
        """Ends it: `signal` to what it was started for, after `timeout` seconds, or with `force` at once, the kernel's.

        One that has ended already is none to be stopped. Raises LaunchError where it cannot be ended.
        """
        words = ["instance", "stop", f"--signal={signal}", f"--timeout={timeout}", *["--force"] * force, "--"]

        def result(ended: Ended) -> None:
            if ended.status != 0 and self._found() is not None:
                raise _failed(ended)

        return Call(
            words=(str(door.program()), *words, self.name),
            result=result,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            grace=timeout + _GRACE,
        )


def started(
    made: type[_Named],
    image: Word,
    name: str | None,
    arguments: Sequence[Word],
    options: "InstanceOptions",
) -> Call[_Named]:
    """Starts an instance. Without a name it gets one that nobody else has."""
    chosen = name or f"python-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    words = [chosen, *launches.several(arguments)]

    def result(ended: Ended) -> _Named:
        if ended.status != 0:
            raise _failed(ended)
        return made(chosen)

    return Call(
        words=door.launch(
            ["instance", "start"], spelled("Instance.start", of_launches("instance start"), options), image, words
        ),
        result=result,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _failed(ended: Ended) -> LaunchError:
    return door.complaint(ended.status, ended.errors) or LaunchError(f"singularity instance: status {ended.status}")


class Instance(Named, Waits):
    """A container that stays under a name: `with Instance.start("postgres.sif", "db") as db: db.exec("psql")`.

    It goes on when this process ends, unless the `with` block has ended before. `Instance("db")` is one that was
    started elsewhere.
    """

    stop = waiting(Named._stop)

    @classmethod
    def start(
        cls, image: Word, name: str | None = None, arguments: Sequence[Word] = (), **options: "Unpack[InstanceOptions]"
    ) -> Self:
        """Starts one of `image`, with its startscript. `options` are those of `singularity instance start`.

        Without a name it gets one that nobody else has. Raises LaunchError where it cannot be set up.
        """
        return wait(started(cls, image, name, arguments, options))

    @classmethod
    def running(cls, pattern: str = "*") -> list[Self]:
        """Those of the user that run on this host, whose names match."""
        return [cls(each.name) for each in states.running(states.owner(""), pattern)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.stop()
