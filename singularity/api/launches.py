"""Programs in containers, each in one of its own: `exec`, `run` and `popen`."""

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from subprocess import DEVNULL as DEVNULL
from subprocess import PIPE as PIPE
from subprocess import STDOUT as STDOUT
from subprocess import CompletedProcess
from typing import TYPE_CHECKING, Any

from singularity.api import door
from singularity.api.calls import Call, Ended, Stream, waiting
from singularity.api.door import Word
from singularity.api.words import of_launches, spelled

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import ExecOptions, RunOptions


def exec_(
    image: Word,
    program: Word | Sequence[Word],
    *,
    input: str | bytes | None = None,  # noqa: A002 - as in subprocess
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: "Unpack[ExecOptions]",
) -> Call[CompletedProcess[str]]:
    """Runs a program in a container of `image`: a file, a directory, a URI, or `instance://NAME`.

    `program` is its words, or its name alone. Streams, `timeout` (in seconds) and `check` are those of
    `subprocess.run`; what is captured is text in UTF-8, with "surrogateescape" for bytes that are none. `options` are
    those of the command `singularity exec`, with `_` for `-`: `bind=["/data"], nv=True, env={"A": "1"}`.

    Raises LaunchError where the container cannot be set up and standard error is captured; else the status is 255, as
    on the command line. Raises subprocess.CalledProcessError with `check`, subprocess.TimeoutExpired, and TypeError
    for what is no option.
    """
    return launch(
        door.launch(["exec"], spelled("exec", of_launches("exec"), options), image, words(program)),
        streams(input, stdin, stdout, stderr, capture_output=capture_output, options=options),
        timeout=timeout,
        check=check,
    )


def run_(
    image: Word,
    arguments: Sequence[Word] = (),
    *,
    input: str | bytes | None = None,  # noqa: A002
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: "Unpack[RunOptions]",
) -> Call[CompletedProcess[str]]:
    """Runs the runscript of `image` with these arguments. All else is as for `exec`."""
    return launch(
        door.launch(["run"], spelled("run", of_launches("run"), options), image, several(arguments)),
        streams(input, stdin, stdout, stderr, capture_output=capture_output, options=options),
        timeout=timeout,
        check=check,
    )


def popen(
    image: Word,
    program: Word | Sequence[Word],
    *,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    **options: "Unpack[ExecOptions]",
) -> "subprocess.Popen[bytes]":
    """Starts a program in a container and does not wait for it: its process, whose pipes have bytes.

    The process becomes the program, so its signals and its end are the program's. `options` are as for `exec`.
    """
    command = door.launch(["exec"], spelled("popen", of_launches("exec"), options), image, words(program))
    return subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=kept(options))


def words(program: Word | Sequence[Word]) -> Sequence[Word]:
    """The words of a program. Raises TypeError for none."""
    if isinstance(program, str | os.PathLike):
        return (program,)
    if not program:
        raise TypeError("a program is a list of words, and this one is empty")
    return several(program)


def several(given: Sequence[Word]) -> Sequence[Word]:
    """Arguments as they are. Raises TypeError for one string, whose letters would be taken for them."""
    if isinstance(given, str | bytes | os.PathLike):
        raise TypeError(f"arguments are a list of words, not {given!r}")
    return given


def streams(
    given: str | bytes | None,
    stdin: Stream,
    stdout: Stream,
    stderr: Stream,
    *,
    capture_output: bool,
    options: Mapping[str, object],
) -> dict[str, Any]:
    """The descriptors of a call. Raises ValueError for streams that exclude each other."""
    if given is not None and stdin is not None:
        raise ValueError("stdin and input exclude each other")
    if capture_output and (stdout is not None or stderr is not None):
        raise ValueError("capture_output excludes stdout and stderr")
    if capture_output:
        stdout = stderr = subprocess.PIPE
    data = given.encode("utf-8", "surrogateescape") if isinstance(given, str) else given
    return {"input": data, "stdin": stdin, "stdout": stdout, "stderr": stderr, "kept": kept(options)}


def kept(options: Mapping[str, object]) -> tuple[int, ...]:
    """The descriptors beside the streams that a program gets, which Python would close. Raises TypeError."""
    given: Any = options.get("keep_fd") or ()
    numbers = given.split(",") if isinstance(given, str) else given if isinstance(given, Iterable) else (given,)
    try:
        return tuple(int(each) for each in numbers)
    except ValueError as error:
        raise TypeError(f"keep_fd: {given!r}: numbers of descriptors are wanted") from error


def launch(
    command: Iterable[str],
    streams: dict[str, Any],
    *,
    timeout: float | None,
    check: bool,
    directory: str | None = None,
) -> Call[CompletedProcess[str]]:
    """A launch that somebody waits for."""

    def result(ended: Ended) -> CompletedProcess[str]:
        failed = door.complaint(ended.status, ended.errors)
        if failed is not None:
            raise failed
        done = CompletedProcess(ended.words, ended.status, _text(ended.output), _text(ended.errors))
        if check:
            done.check_returncode()
        return done

    return Call(words=tuple(command), result=result, timeout=timeout, directory=directory, **streams)


def _text(captured: bytes | None) -> str | None:
    return None if captured is None else captured.decode("utf-8", "surrogateescape")


exec = waiting(exec_)  # noqa: A001 - as the command is called
run = waiting(run_)
