"""Programs in namespaces of their own, so that whatever they mount or leave running ends with them.

Three processes stand between us and the program: an outer one that asks for the namespaces, the first process of the
PID namespace, which reaps, and the program. When the program ends, or we are killed, the first process ends too and
the kernel takes everything along: processes, mounts, IPC objects.
"""

import contextlib
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from singularity import kernel, process
from singularity.errors import BuildError, SingularityError

logger = logging.getLogger(__name__)

_TYPED = (signal.SIGINT, signal.SIGQUIT)  # at a terminal, to all processes of the foreground
_FAILED = 255


def isolated(
    start: Callable[[], NoReturn],
    *,
    on_line: Callable[[str], None] | None = None,
    interactive: bool = False,
    seconds: int = 0,
) -> int:
    """Runs `start`, which executes a program, in new mount, PID and IPC namespaces; returns the program's exit status.

    The program's death by a signal is 128 and its number. `on_line` sees each line of output, which otherwise goes
    where ours goes. After so many `seconds`, if any, all of it is killed. An `interactive` program keeps our input, and
    what is typed to stop it is its affair alone. Nothing of the namespaces is left when this returns or raises. Raises
    BuildError for what `start` raises, and when there can be no namespaces.
    """
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    output_read, output_write = os.pipe2(os.O_CLOEXEC) if on_line else (-1, -1)
    typed = {number: signal.signal(number, signal.SIG_IGN) for number in _TYPED if interactive}
    outer = 0
    try:
        with process.signals_held():
            run = partial(_run_outer, start, error_write, output_write, interactive=interactive, seconds=seconds)
            outer = process.fork(run)
        os.close(error_write)
        if on_line:
            os.close(output_write)
            with open(output_read, encoding="utf-8", errors="surrogateescape") as lines:
                for line in lines:
                    on_line(line.rstrip("\n"))
        os.waitid(os.P_PID, outer, os.WEXITED | os.WNOWAIT)  # its id stays its own for the `kill` below
        with open(error_read, encoding="utf-8", errors="replace") as file:
            error = file.read()
    except BaseException:
        if outer:
            os.kill(outer, signal.SIGTERM)
            os.waitpid(outer, 0)
        raise
    finally:
        for number, handler in typed.items():
            signal.signal(number, handler)
    status = os.waitstatus_to_exitcode(os.waitpid(outer, 0)[1])
    if error:
        raise BuildError(error)
    return status if status >= 0 else 128 - status


def _run_outer(start: Callable[[], NoReturn], error: int, output: int, *, interactive: bool, seconds: int) -> NoReturn:
    """The outer process: makes the namespaces, waits for their first process, and kills it when told to stop."""
    first = 0

    def stop(number: int, frame: object) -> None:
        del number, frame
        with contextlib.suppress(ProcessLookupError):  # it has ended, and this process is about to
            os.kill(first, signal.SIGKILL)

    try:
        for number in process.STOPPING:
            signal.signal(number, signal.SIG_IGN if interactive and number in _TYPED else stop)
        parent = os.getppid()
        kernel.die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(_FAILED)
        try:
            kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC)
        except OSError as failure:
            what = f"no namespaces for the build: {failure.strerror}"
            raise BuildError(what, hint="root is needed for it") from failure
        first = process.fork(partial(_run_first, start, error, output, interactive=interactive))
        signal.signal(signal.SIGALRM, stop)
        signal.alarm(seconds)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, process.STOPPING)  # held since our fork: now there is whom to kill
        if output >= 0:
            os.close(output)
        os._exit(_wait(first))
    except BaseException as failure:
        _report(failure, error)


def _run_first(start: Callable[[], NoReturn], error: int, output: int, *, interactive: bool) -> NoReturn:
    """The first process of the PID namespace: reaps everything, and ends when the program has ended."""
    try:
        for number in process.STOPPING:
            signal.signal(number, signal.SIG_IGN)
        kernel.die_with_parent(signal.SIGKILL)
        program = process.fork(partial(_run_program, start, error, output, interactive=interactive))
        if output >= 0:
            os.close(output)
        os._exit(_wait(program))
    except BaseException as failure:
        _report(failure, error)


def _run_program(start: Callable[[], NoReturn], error: int, output: int, *, interactive: bool) -> NoReturn:
    try:
        for number in (*process.STOPPING, *_TYPED, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, process.STOPPING)
        if not interactive:
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            os.dup2(null, 0)
        if output >= 0:
            os.dup2(output, 1)
            os.dup2(output, 2)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        start()
    except BaseException as failure:
        _report(failure, error)


def _wait(child: int) -> int:
    """Reaps all children until `child` has ended; its exit status."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _report(failure: BaseException, error: int) -> NoReturn:
    """Hands a failure to the process that asked, and ends."""
    text = f"{failure.filename}: {failure.strerror}" if isinstance(failure, OSError) else str(failure)
    if not isinstance(failure, (SingularityError, OSError)):
        text = f"internal fault: {type(failure).__name__}: {text}"
    with contextlib.suppress(OSError):
        os.write(error, text.encode("utf-8", "replace")[:4096])
    os._exit(_FAILED)
