"""Which instances there are, as files of their user's say it; `launcher/front/instance.c` writes those.

`DIRECTORY/instances/app/HOST/USER/NAME/NAME.json`. Root may ask for those of another user: nothing in such a directory
is followed or believed that the kernel does not say too.
"""

import logging
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from singularity import files, locks, paths
from singularity.errors import FileError, ImageError, UsageError
from singularity.foreign_json import parse_json
from singularity.instance import processes
from singularity.network import enter

logger = logging.getLogger(__name__)

NAME = re.compile(r"(?!\.\.?$)[a-zA-Z0-9._-]{1,200}")
_LIMIT = 4 << 20  # bytes of a file: the launch as it was, and some words
_LOCK = "lock~"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A container that runs under a name."""

    name: str
    process: int  # the first one of its PID namespace, by its number here
    uid: int
    image: str  # as it was named, absolute
    address: str  # of its network, by plugins; root alone sees it
    errors: str  # logs
    output: str
    identity: str  # of that process
    namespace: int  # the number of its PID namespace; 0: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose instances are meant, and where they are written down."""

    uid: int
    name: str
    directory: Path

    @property
    def states(self) -> Path:
        """The directory of the states on this host."""
        return self.directory / "instances" / "app" / _host() / self.name


def owner(user: str) -> Owner:
    """The user of that name; empty: the caller. Raises UsageError: there is no such user, or only root may ask."""
    if not user:
        uid = os.geteuid()
        return Owner(uid=uid, name=_component(_account(uid), str(uid)), directory=paths.user_place())
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UsageError(f"--user {user}: there is no such user") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise UsageError("--user: only root sees the instances of others")
    return Owner(
        uid=entry.pw_uid, name=_component(user, str(entry.pw_uid)), directory=Path(entry.pw_dir, ".singularity")
    )


def _account(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


def _host() -> str:
    return _component(os.uname().nodename, "localhost")


def _component(name: str, otherwise: str) -> str:
    return otherwise if not name or "/" in name or name in (".", "..") else name


def running(whose: Owner, pattern: str = "*") -> list[Instance]:
    """Those whose names match, in order; the states of those that have ended are removed."""
    with _opened(whose, "app") as states:
        if states is None:
            return []
        names = sorted(name for name in os.listdir(states) if NAME.fullmatch(name) and fnmatchcase(name, pattern))
        return [found for name in names if (found := _look(states, name, whose)) is not None]


def open_log(whose: Owner, instance: str, suffix: str) -> int:
    """The log of an instance, which may have ended: `out` or `err`. Raises FileError."""
    path = whose.directory / "instances" / "logs" / _host() / whose.name / f"{instance}.{suffix}"
    with _opened(whose, "logs") as logs:
        if logs is None or NAME.fullmatch(instance) is None:
            raise FileError.missing(path, "no such log")
        with FileError.about(path):
            fd = os.open(path.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=logs)
        if not stat.S_ISREG(os.fstat(fd).st_mode) or os.fstat(fd).st_uid != whose.uid:
            os.close(fd)
            raise FileError(f"{path}: no log of the user's")
        return fd


@contextmanager
def _opened(whose: Owner, kind: str) -> Iterator[int | None]:
    """The directory of states or logs; None: there is none. Raises FileError where it is not the user's alone."""
    fd = None
    try:
        fd = os.open(whose.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for name in ("instances", kind, _host(), whose.name):
            _check(fd, whose)
            above, fd = fd, os.open(name, _DIRECTORY, dir_fd=fd)
            os.close(above)
        _check(fd, whose)
    except FileNotFoundError:
        if fd is not None:
            os.close(fd)
        yield None
        return
    except OSError as error:
        raise FileError.because(whose.states, error) from error
    with files.closing(fd):
        yield fd


def _check(fd: int, whose: Owner) -> None:
    status = os.fstat(fd)
    if status.st_uid != whose.uid or status.st_mode & 0o022:
        raise FileError(
            f"{whose.states}: a directory on the way is not the user's alone", hint="chmod go-w, or remove it"
        )


def _look(states: int, name: str, whose: Owner) -> Instance | None:
    read = _read(states, name, whose)
    if isinstance(read, Instance) and processes.identity(read.process) == read.identity:
        return read if processes.is_first_of_container(read.process, whose.uid) else None
    if read is not None:
        _remove(states, name, whose)
    return None


def _read(states: int, name: str, whose: Owner) -> Instance | str | None:
    """What is written down. A text: it has ended. None: nobody here can say, or it is being started."""
    try:
        fd = os.open(f"{name}/{name}.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=states)
    except OSError:
        return None
    with open(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != whose.uid or status.st_size > _LIMIT:
            return None
        text = file.read(_LIMIT)
    with suppress(ImageError, KeyError, TypeError, ValueError, OverflowError):
        document = parse_json(text)
        started = str(document["started"])
        boot, space, _ = started.split(" ")
        if boot == processes.here().split(" ")[0] and f"{boot} {space}" != processes.here():
            return None
        if not document["pid"]:
            return None if processes.identity(int(document["ppid"])) == started else "ended"
        return Instance(
            name=name,
            process=int(document["pid"]),
            uid=whose.uid,
            image=str(document["image"]),
            address=enter.addresses_of(int(document["pid"])) if os.geteuid() == 0 else "",
            errors=str(document["logErrPath"]),
            output=str(document["logOutPath"]),
            identity=started,
            namespace=int(document["pidNamespace"]),
        )
    logger.debug("%s/%s is no state of an instance", whose.states, name)
    return None


def _remove(states: int, name: str, whose: Owner) -> None:
    """By its owner alone. Looks once more, with the lock: the name may have been taken anew meanwhile."""
    if whose.uid != os.geteuid():
        return
    with suppress(FileError, OSError), locks.locked(Path(f"/proc/self/fd/{states}/{_LOCK}"), "starts an instance"):
        read = _read(states, name, whose)
        if read is not None and not (isinstance(read, Instance) and processes.identity(read.process) == read.identity):
            os.unlink(f"{name}/{name}.json", dir_fd=states)
            os.rmdir(name, dir_fd=states)
