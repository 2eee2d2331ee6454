"""The one place that starts the programs we rely on: argument lists, an environment built from nothing, empty stdin."""

import errno
import logging
import os
import select
import selectors
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, BinaryIO, NoReturn, cast

from singularity import kernel
from singularity.errors import ToolError

logger = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {
    "debootstrap": "debootstrap",
    "e2fsck": "e2fsprogs",
    "gpg": "gnupg",
    "gpgconf": "gnupg",
    "ssh-add": "openssh-client",
    "ssh-keygen": "openssh-client",
    "fuse2fs": "fuse2fs",
    "mke2fs": "e2fsprogs",
    "mkfs.erofs": "erofs-utils",
    "resize2fs": "e2fsprogs",
    "mksquashfs": "squashfs-tools",
    "nvidia-container-cli": "libnvidia-container-tools, or leave it to --nv",
    "pacman": "pacman-package-manager",
    "pacman-key": "pacman-package-manager",
    "rpmkeys": "rpm",
    "unsquashfs": "squashfs-tools",
    "xz": "xz-utils",
    "newuidmap": "uidmap",
    "newgidmap": "uidmap",
}
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # what users and systems end us with
_FULL_TO_E2FSPROGS = "resulted in short write"
_GRACE = 1.0  # seconds between TERM and KILL
_MOMENT = 0.2  # seconds in which a tool that made us fail has ended
_CHUNK = 1 << 16  # bytes of output that are read at once
_LOOK = 200  # milliseconds between two looks at how far a tool is
_COMPLAINTS_LIMIT = 1 << 20  # bytes of stderr that are looked at
_OUTPUT_LIMIT = 128 << 20  # bytes that a tool whose output we keep may write


def search_path() -> str:
    """Where tools are looked for: root's must come from the system, a user's may also come from the user."""
    if os.geteuid() == 0:
        return SYSTEM_PATH
    return f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}".lstrip(":")


def find(name: str, *, purpose: str) -> Path:
    """The path of a tool. Raises ToolError naming the package that has it."""
    found = shutil.which(name, path=search_path())
    if found is None:
        raise ToolError(f"{name} not found, needed to {purpose}", hint=f"install {PACKAGES.get(name, name)}")
    return Path(found)


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What every tool gets: a search path, the C locale, and what the caller of this function adds."""
    return {"PATH": search_path(), "LC_ALL": "C.UTF-8", **(extra or {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a tool ended: its status (negative: the signal that killed it) and what it wrote."""

    name: str
    status: int
    output: str
    complaints: str  # stderr

    def failure(self, purpose: str) -> ToolError:
        """The error for a tool that could not do what it was started for."""
        if self.status < 0:
            reason = f"killed by {signal.Signals(-self.status).name}"
        else:
            reason = telling_line(self.complaints.strip() or self.output) or f"exit status {self.status}"
        what = f"{self.name} could not {purpose}: {reason}"
        return ToolError(what, hint="--debug shows the command", status=self.status, reason=reason)


def run(
    argv: Sequence[str | Path],
    *,
    purpose: str,
    environment: Mapping[str, str] | None = None,
    accept: Collection[int] = (0,),
    keep: Collection[int] = (),
    through: Sequence[str | Path] = (),
) -> str:
    """Run one tool to its end; return its stdout. Raises ToolError: missing, killed, or a status not in `accept`.

    The rest is as for `call`.
    """
    finished = call(argv, purpose=purpose, environment=environment, keep=keep, through=through)
    if finished.status not in accept:
        raise finished.failure(purpose)
    return finished.output


def call(
    argv: Sequence[str | Path],
    *,
    purpose: str,
    environment: Mapping[str, str] | None = None,
    keep: Collection[int] = (),
    stdin: int | None = None,
    through: Sequence[str | Path] = (),
) -> Finished:
    """Run one tool to its end, for callers that judge by themselves. Raises ToolError when it is missing, or writes
    more than can be meant.

    `keep` are descriptors the tool inherits, `stdin` one that it reads from. `through` is a program of ours, and words
    for it, that becomes the tool. However this ends, the tool has ended: an exception, or our own death, ends it.
    """
    words = [str(word) for word in argv]
    program = find(words[0], purpose=purpose)
    logger.debug("Running %s", shlex.join(words))
    with _child(
        [*map(str, through), str(program), *words[1:]] if through else words,
        executable=through[0] if through else program,
        env=clean_environment(environment),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=tuple(keep),
    ) as process:
        output, complaints = _written(words[0], process)
    for line in complaints.splitlines():
        logger.debug("%s: %s", words[0], line)
    return Finished(name=words[0], status=process.returncode, output=output, complaints=complaints)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A tool that works while we do; which of its ends are pipes was asked for."""

    stdin: BinaryIO | None
    stdout: BinaryIO | None
    pid: int


@contextmanager
def started(
    argv: Sequence[str | Path],
    *,
    purpose: str,
    stdin: int | None = None,
    stdout: int | None = None,
    environment: Mapping[str, str] | None = None,
    keep: Collection[int] = (),
    accept: Collection[int] = (0,),
) -> Iterator[Running]:
    """A tool that reads or writes a stream while the `with` block runs; its end closes the pipes and waits for it.

    `stdin` and `stdout` are descriptors, or `subprocess.PIPE` for a pipe of ours; None is /dev/null. Whoever gets a
    pipe to read from must read it to its end. However this ends, the tool has ended; an exception kills it and all it
    started. Raises ToolError: missing, killed, or a status not in `accept`; also when the block fails since the tool
    has.
    """
    words = [str(word) for word in argv]
    program = find(words[0], purpose=purpose)
    logger.debug("Running %s", shlex.join(words))
    with open(os.memfd_create("complaints", os.MFD_CLOEXEC), "w+b", buffering=0) as complaints:
        with _child(
            words,
            executable=program,
            env=clean_environment(environment),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.DEVNULL if stdout is None else stdout,
            stderr=complaints,
            pass_fds=tuple(keep),
        ) as process:
            try:
                stdin_pipe, stdout_pipe = (cast("BinaryIO | None", each) for each in (process.stdin, process.stdout))
                yield Running(stdin=stdin_pipe, stdout=stdout_pipe, pid=process.pid)
                _close(process)
                process.wait()
            except Exception as error:
                failed = _failed_before(process, accept)
                _end(process)
                if not failed:
                    raise
                raise _ended(words[0], process, complaints).failure(purpose) from error
            except BaseException:
                _end(process)
                raise
            finally:
                _close(process, quietly=True)
        finished = _ended(words[0], process, complaints)
    if finished.status not in accept:
        raise finished.failure(purpose)


def reading(tool: Running) -> Iterator[int]:
    """How many bytes a tool has read more, again and again until it closes its output, a pipe, which tells nothing.

    Nothing where the kernel does not count them (CONFIG_TASK_XACCT).
    """
    if tool.stdout is None:
        raise ValueError("a tool that was started without a pipe")
    before = 0
    poll = select.poll()
    poll.register(tool.stdout, select.POLLIN)
    while not poll.poll(_LOOK) or os.read(tool.stdout.fileno(), _COMPLAINTS_LIMIT):
        with suppress(OSError, ValueError, IndexError):
            read = int(Path(f"/proc/{tool.pid}/io").read_bytes().split()[1])  # rchar
            yield read - before
            before = read


@contextmanager
def signals_held() -> Iterator[None]:
    """What would stop us waits until the end of the block, which is for a fork; the child begins with it held.

    Python calls functions of modules at a fork, logging's among them, and drops what a signal's handler raises there:
    the run would go on, and obey no further signal. Who must not lose the child's id holds them around `fork` too.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork(work: Callable[[], object]) -> int:
    """The id of a child that does `work`, begins with signals held, and never comes back: it ends with 255 at last."""
    with signals_held():
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(255)
    return pid


_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
_STRAY = 5.0  # seconds after which a child is looked for whose end was told to a thread that does not care


@contextmanager
def foreground_signals() -> Iterator[set[signal.Signals]]:
    """Blocks what `foreground` waits for; a thread that begins here has them blocked for good, and takes none away."""
    waited = {*_FORWARDED, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    try:
        yield waited
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def foreground(start: Callable[[], NoReturn], is_done: Callable[[], bool] = lambda: False) -> int:
    """Runs what `start` becomes, a launch, as a child in our place; its exit status, 128 and its number for a signal.

    Signals that somebody sends us go to the child. Those of the terminal reach it by themselves. The kernel may keep
    a child that was killed: where `is_done` says so, it is waited for no longer, and the status is 0.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    def begin() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
            signal.signal(number, signal.SIG_DFL)
        start()

    with foreground_signals() as waited:
        child = fork(begin)
        while True:
            received = signal.sigtimedwait(waited, _STRAY)
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if received is not None and received.si_signo != signal.SIGCHLD and received.si_code <= 0:
                os.kill(child, received.si_signo)
            if received is None and is_done():
                return 0


@contextmanager
def _child(words: Sequence[str], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A program in a process group of its own; an exception, or our own death, takes it along."""
    process: subprocess.Popen[Any] | None = None
    try:
        with signals_held():
            process = subprocess.Popen(words, process_group=0, preexec_fn=partial(begin, os.getpid()), **options)
        yield process
    except BaseException:
        if process is not None:
            _end(process)
        raise


def begin(parent: int) -> None:
    """What a program that was forked while signals were held does first: `parent` takes it along when it ends."""
    kernel.die_with_parent(signal.SIGKILL, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)


def _close(process: "subprocess.Popen[bytes]", *, quietly: bool = False) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(*((OSError,) if quietly else ())):
                pipe.close()


def _failed_before(process: "subprocess.Popen[bytes]", accept: Collection[int]) -> bool:
    """Whether a tool has failed by itself, so that what we saw of it was only the consequence."""
    try:
        return process.wait(timeout=_MOMENT) not in accept
    except subprocess.TimeoutExpired:
        return False


def _ended(name: str, process: "subprocess.Popen[bytes]", complaints: IO[bytes]) -> Finished:
    complaints.seek(0)
    text = complaints.read(_COMPLAINTS_LIMIT).decode("utf-8", "replace")
    for line in text.splitlines():
        logger.debug("%s: %s", name, line)
    return Finished(name=name, status=process.returncode, output="", complaints=text)


def _written(name: str, process: "subprocess.Popen[bytes]") -> tuple[str, str]:
    """What a tool writes to its end on standard output and standard error."""
    output, complaints = bytearray(), bytearray()
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for pipe, kept in ((process.stdout, output), (process.stderr, complaints)):
            if pipe is not None:
                selector.register(stack.enter_context(pipe), selectors.EVENT_READ, kept)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, _CHUNK)
                if not data:
                    selector.unregister(key.fileobj)
                key.data.extend(data)
            if len(output) + len(complaints) > _OUTPUT_LIMIT:
                raise ToolError(f"{name} writes more than {_OUTPUT_LIMIT >> 20} MiB", hint="--debug shows the command")
    process.wait()
    return _text(output), _text(complaints)


def _text(data: bytearray) -> str:
    """With line ends of all kinds as one."""
    return data.decode("utf-8", "surrogateescape").replace("\r\n", "\n").replace("\r", "\n")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends the tool and all it started, which share its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(timeout=_GRACE)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def telling_line(output: str) -> str:
    """The line of a failed tool's output that says most: the last that speaks of an error, else the last of all."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    full = os.strerror(errno.ENOSPC)
    if any(full in line or _FULL_TO_E2FSPROGS in line for line in lines):
        return full
    telling = [line for line in lines if line.startswith("E: ") or "error" in line.lower() or "fatal" in line.lower()]
    return (telling or lines or [""])[-1]


def attached(argv: Sequence[str | Path], *, environment: Mapping[str, str]) -> int:
    """Runs a script of the user's to its end, its output going where ours goes; returns its exit status.

    Death by a signal is 128 and its number. An exception, or our own death, takes the script along.
    """
    with _child([str(word) for word in argv], env=dict(environment), stdin=subprocess.DEVNULL) as process:
        status = process.wait()
    return status if status >= 0 else 128 - status
