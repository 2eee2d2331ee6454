"""What a child process is to do, told before it is started, and how it is done while the caller waits.

For tasks of asyncio there is `tasks`, which does the same. Whatever ends the waiting (an exception, a signal, a
cancelled task) ends the child first.
"""

import functools
import inspect
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any, Generic, ParamSpec, TypeAlias, TypedDict, TypeVar

from singularity.errors import LaunchError

Stream: TypeAlias = int | IO[Any] | None
"""As in `subprocess`: a descriptor or file, PIPE, DEVNULL, STDOUT, or None for that of this process."""
_Result = TypeVar("_Result")
_P = ParamSpec("_P")
HEAD = 4  # bytes before a message of a child, which say how long it is


class _Started(TypedDict):
    stdin: Stream
    stdout: Stream
    stderr: Stream
    process_group: int | None
    pass_fds: tuple[int, ...]
    cwd: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a child has ended."""

    words: tuple[str, ...]
    status: int  # negative: the signal that killed it
    output: bytes | None  # what was to be captured
    errors: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[_Result]):
    """A child process, and what becomes of its end."""

    words: tuple[str, ...]
    result: Callable[[Ended], _Result]
    stdin: Stream = None
    stdout: Stream = None
    stderr: Stream = None
    input: bytes | None = None
    told: Callable[[bytes], bool] | None = None  # gets each message of a child that sends some; True: it was the last
    timeout: float | None = None  # seconds
    grace: float = 2.0  # seconds that it has to end, when it is told to
    directory: str | None = None  # where it is started
    kept: tuple[int, ...] = ()  # descriptors that it gets beside its streams

    def started(self, *, apart: bool) -> _Started:
        """How it is started, as `subprocess` takes it; `apart`, in a process group of its own."""
        stdin = subprocess.PIPE if self.input is not None else self.stdin
        return _Started(
            stdin=stdin,
            stdout=self.stdout,
            stderr=self.stderr,
            process_group=0 if apart else None,
            pass_fds=self.kept,
            cwd=self.directory,
        )

    @property
    def apart(self) -> bool:
        """Whether it can be a process group of its own: one that reads from the terminal has to stay in ours."""
        return self.input is not None or self.stdin is not None or not os.isatty(0)


@contextmanager
def starting(call: Call[Any]) -> Iterator[None]:
    """Around its start: what the system refuses is told as what it is, too long a command line for one."""
    try:
        yield
    except OSError as error:
        raise LaunchError(f"{call.words[0]}: {error.strerror}") from error


def wait(call: Call[_Result]) -> _Result:
    """Has it done. Raises what its `result` does, and subprocess.TimeoutExpired."""
    with starting(call):
        begun = subprocess.Popen(call.words, **call.started(apart=call.told is not None))
    with begun as process:
        try:
            output, errors = _converse(process, call) if call.told else process.communicate(call.input, call.timeout)
        except BaseException:
            _end(process, call)
            raise
        status = process.wait()
    return call.result(Ended(words=call.words, status=status, output=output, errors=errors))


def _converse(process: "subprocess.Popen[bytes]", call: Call[_Result]) -> tuple[bytes, None]:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    with suppress(BrokenPipeError):  # it has ended, and its end says how
        process.stdin.write(call.input or b"")
        process.stdin.close()
    while call.told and len(head := process.stdout.read(HEAD)) == HEAD:
        if call.told(process.stdout.read(int.from_bytes(head))):
            break
    return b"", None


def _end(process: "subprocess.Popen[bytes]", call: Call[_Result]) -> None:
    """Ends it: one that is told things takes away itself what it has begun, and is killed with its group in the end."""
    process.terminate()
    try:
        process.wait(call.grace)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            (os.killpg if call.told else os.kill)(process.pid, signal.SIGKILL)


def waiting(tell: Callable[_P, Call[_Result]]) -> Callable[_P, _Result]:
    """The function that has done what `tell` tells."""

    @functools.wraps(tell)
    def done(*args: _P.args, **options: _P.kwargs) -> _Result:
        return wait(tell(*args, **options))

    return named(done, tell)


def named(done: Callable[_P, _Result], tell: Callable[..., Any]) -> Callable[_P, _Result]:
    """With the name that programs know, and the type of what comes of it."""
    signature = inspect.signature(tell)
    (returned,) = signature.return_annotation.__args__  # of Call[...]
    done.__name__ = done.__qualname__ = tell.__name__.strip("_")
    done.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined] # for help()
    return done
