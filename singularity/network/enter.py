"""The network namespace of a container of root's, entered before its launch.

One that is there already (`--netns-path`), or a new one, which a process that nobody waits for has plugins set up and
take down: when no process is in it any more. What is set up is written down in a file that this process has locked,
and the namespace is mounted beside it, so that a later launch takes down what was left by one that was killed.
"""

import errno
import fcntl
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from singularity import files, kernel, process
from singularity.errors import FileError, ImageError, NetworkError, SingularityError
from singularity.foreign_json import parse_json
from singularity.network import plugins

logger = logging.getLogger(__name__)

_STATES = Path("/run/singularity/networks")
_OWN = Path("/proc/self/ns/net")
_NO_CHILDREN, _PAUSE = 2, 0.1  # looks that find nobody, and seconds between them
_WORD = 1 << 16  # bytes
_GRACE = 5  # seconds for a plugin whose launch has ended
_DAMAGED = (AttributeError, KeyError, TypeError, ValueError)  # what reading a state that makes no sense ends with


def existing(path: Path) -> None:
    """Enters a namespace that is there. Raises FileError where there is none, or not for this user."""
    if os.geteuid() != 0:
        raise SingularityError(
            "--netns-path: only root enters a network namespace that is there", hint="--network bridge"
        )
    try:
        with files.closing(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as fd:
            if os.path.samestat(os.fstat(fd), os.stat(_OWN)):
                return
            kernel.setns(fd, kernel.CLONE_NEWNET)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileError(f"--netns-path {path}: no network namespace") from error
        raise FileError(f"--netns-path {path}: {error.strerror}") from error
    _show_own_devices()


def new(networks: Sequence[plugins.Network]) -> list[str]:
    """Enters a new one with these networks; returns the name servers that they have, which may be none.

    Raises NetworkError, and nothing is left, where a plugin fails.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            pid = process.fork(partial(_leave_behind, ours, theirs, networks))
            os.waitpid(pid, 0)
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
            kernel.raise_loopback()
            with files.closing(os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)) as made:
                socket.send_fds(ours, [b"ready"], [made])
            answer = ours.recv(_WORD)
        except OSError as error:
            raise NetworkError(f"a network for the container: {error.strerror}") from error
    if not answer:
        raise NetworkError("a network for the container: the process that sets it up has ended")
    document = json.loads(answer)
    if document["error"]:
        raise NetworkError(document["error"], hint=document["hint"])
    _show_own_devices()
    return list(document["name_servers"])


def addresses_of(process_id: int) -> str:
    """The addresses that plugins have given to the network of a process, with commas; "" where there are none."""
    with suppress(OSError, ImageError, *_DAMAGED):
        document = parse_json((_STATES / str(os.stat(f"/proc/{process_id}/ns/net").st_ino)).read_bytes())
        return ",".join(each for _, result in document["results"] for each in plugins.addresses(result))
    return ""


def _show_own_devices() -> None:
    """/sys shows the devices of the namespace in which it was mounted: a new one, here alone, with the mounts in it."""
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_SLAVE | kernel.MS_REC)
        inner = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in kernel.mounts_below("/sys")]
        kernel.mount("sysfs", "/sys", "sysfs", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        for path, fd in inner:
            kernel.mount(f"/proc/self/fd/{fd}", path, None, kernel.MS_BIND | kernel.MS_REC)
            os.close(fd)
    except OSError as error:
        raise NetworkError(f"a network for the container: {error.strerror}: {error.filename}") from error


# ---- the process that has them set up and taken down ----


def _leave_behind(other: socket.socket, hand: socket.socket, networks: Sequence[plugins.Network]) -> None:
    other.close()  # or its end would not be seen
    if os.fork() == 0:
        with suppress(BaseException):
            try:
                _serve(hand, networks)
            except OSError as error:
                _say_failed(hand, error)
    os._exit(0)


def _serve(hand: socket.socket, networks: Sequence[plugins.Network]) -> None:
    os.setsid()
    os.umask(0o022)  # what is made here and by plugins is not for everybody to write, whatever the caller's says
    word, made, _, _ = socket.recv_fds(hand, _WORD, 1)
    if word != b"ready":
        return
    _leave_with(hand)
    _sweep()
    identity = os.fstat(made[0]).st_ino
    results: list[tuple[plugins.Network, dict[str, Any]]] = []
    with _state(_STATES / str(identity), made[0]) as state:
        place = plugins.Place(container=os.urandom(16).hex(), namespace=str(_mounted(_STATES / str(identity))))
        try:
            servers = _set_up(state, place, networks, results)
            signal.signal(signal.SIGIO, signal.SIG_IGN)  # whoever has the answer hangs up
            hand.send(json.dumps({"error": "", "name_servers": servers}).encode())
            hand.close()
            _forget_caller(state)
            _wait_until_unused(identity)
        except (SingularityError, OSError) as error:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            _take_down(place, results)
            results.clear()
            _say_failed(hand, error)
        finally:
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            _forget_caller(state)
            _take_down(place, results)


def _leave_with(hand: socket.socket) -> None:
    """Plugins are waited for no longer than somebody wants what they do: but those are ended badly that work."""

    def left(*_: object) -> None:
        if select.select([hand], [], [], 0)[0] and signal.alarm(0):  # its end: nothing is sent this way any more
            signal.alarm(_GRACE)

    signal.signal(signal.SIGIO, left)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGIO, signal.SIGALRM))  # whatever the caller has held
    fcntl.fcntl(hand, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(hand, fcntl.F_SETFL, fcntl.fcntl(hand, fcntl.F_GETFL) | os.O_ASYNC)


def _set_up(
    state: int,
    place: plugins.Place,
    networks: Sequence[plugins.Network],
    results: list[tuple[plugins.Network, dict[str, Any]]],
) -> list[str]:
    for network in networks:
        results.append((network, {}))  # and what is half done is taken down too
        _write(state, place, results)
        results[-1] = (network, plugins.add(network, place))
    _write(state, place, results)
    return [each for _, result in results for each in plugins.name_servers(result)]


def _say_failed(hand: socket.socket, error: SingularityError | OSError) -> None:
    if isinstance(error, SingularityError):
        text, hint = str(error), error.hint
    else:
        text, hint = f"a network for the container: {error.filename or _STATES}: {error.strerror}", ""
    with suppress(OSError):  # nobody listens any more
        hand.send(json.dumps({"error": text, "hint": hint}).encode())


def _forget_caller(state: int) -> None:
    """Whoever reads our output, or the other end of a pipe, waits for its end."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number not in (0, 1, 2, state):
            with suppress(OSError):
                os.close(number)


def _wait_until_unused(identity: int) -> None:
    """Until two looks have found no process in the namespace."""
    alone = 0
    while alone < _NO_CHILDREN:
        user = next(_users(identity), 0)
        if user == 0:
            alone += 1
            time.sleep(_PAUSE)
            continue
        alone = 0
        try:
            ended = os.pidfd_open(user)
        except ProcessLookupError:
            continue
        except OSError:  # before Linux 5.3
            time.sleep(10 * _PAUSE)
            continue
        watched = select.poll()
        watched.register(ended, select.POLLIN)
        watched.poll()
        os.close(ended)


def _users(identity: int) -> Iterator[int]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with suppress(OSError):
                if os.stat(f"/proc/{name}/ns/net").st_ino == identity:
                    yield int(name)


def _take_down(place: plugins.Place, results: Sequence[tuple[plugins.Network, dict[str, Any]]]) -> None:
    for network, result in reversed(results):
        plugins.remove(network, place, result)


# ---- what is written down ----


def _mounted(state: Path) -> Path:
    """Where a network's namespace is to be found."""
    return state.with_suffix(".ns")


@contextmanager
def _alone() -> Iterator[None]:
    """Nobody else makes such a file, or looks for those that nobody has locked."""
    _STATES.mkdir(mode=0o700, parents=True, exist_ok=True)
    with files.closing(os.open(_STATES, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield


@contextmanager
def _state(path: Path, namespace: int) -> Iterator[int]:
    """A file that is locked as long as this lasts; it, and what keeps the namespace, is gone afterwards."""
    with _alone():
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        _mounted(path).touch(mode=0o600)
        kernel.mount(f"/proc/self/fd/{namespace}", str(_mounted(path)), None, kernel.MS_BIND)
        yield fd
    finally:
        _forget(path)
        os.close(fd)


def _forget(path: Path) -> None:
    with suppress(OSError):
        kernel.unmount(str(_mounted(path)), kernel.MNT_DETACH)
    _mounted(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _write(fd: int, place: plugins.Place, results: Sequence[tuple[plugins.Network, dict[str, Any]]]) -> None:
    document = {"container": place.container, "results": [(asdict(network), result) for network, result in results]}
    text = json.dumps(document).encode()
    if os.pwrite(fd, text, 0) < len(text):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, len(text))


def _sweep() -> None:
    """Takes down what a process was killed before it could."""
    with suppress(OSError), _alone():
        for path in sorted(each for each in _STATES.iterdir() if not each.suffix):
            with suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(OSError, ImageError, *_DAMAGED):
                    document = parse_json(file.read())
                    there = _mounted(path).stat().st_ino == int(path.name)  # not, where a mount namespace has ended too
                    namespace = str(_mounted(path)) if there else ""
                    place = plugins.Place(container=document["container"], namespace=namespace)
                    _take_down(place, [(plugins.Network(**network), result) for network, result in document["results"]])
                _forget(path)
