"""Files that one process at a time has: locks that the kernel takes away from whoever dies."""

import errno
import fcntl
import logging
import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from singularity.errors import FileError

logger = logging.getLogger(__name__)

_PAUSE, _LONGEST_PAUSE = 0.02, 0.2  # seconds between looks at a lock: a hundred that wait leave time for the one
_IMAGE_TRIES, _IMAGE_PAUSE = 20, 0.025  # half a second, as launches have it
_PATIENCE, _LIMIT = 1.0, 3600.0  # seconds: before a word about it, in all
_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid
_MARKS = 1 << 62  # where no file has bytes: from there on a byte for each process that holds an image
_PROCESSES = 1 << 22  # of one machine
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def _never() -> bool:
    return False


def lock_image(fd: int, *, writable: bool) -> None:
    """The lock of launches on an image, for a descriptor that is open for it: one writer, or any readers.

    A lock of the open file (fcntl(2), F_OFD_SETLK), which ends with it: only who can write an image can keep readers
    out. A second one, on a byte that says which process this is, tells others who has it (launcher/image/images.c).
    Raises BlockingIOError after half a second, and OSError where the file system has no locks.
    """
    kind = fcntl.F_WRLCK if writable else fcntl.F_RDLCK
    for last in (*[False] * _IMAGE_TRIES, True):
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(kind, 0, _MARKS))
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            if last:
                raise BlockingIOError(*error.args) from error
            time.sleep(_IMAGE_PAUSE)
        else:
            break
    with suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_RDLCK, _place() + os.getpid(), 1))


def holder_of_image(fd: int) -> str:
    """Who keeps `lock_image` from its lock: " by process 5", or what else can be said; "" for nothing."""
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, _MARKS, 0))
    except OSError:
        return ""
    kind, _, start, *_ = struct.unpack(_FLOCK, found)
    if kind == fcntl.F_UNLCK or start < _MARKS:
        return ""
    if start // _PROCESSES != _place() // _PROCESSES:
        return " on another machine, or from another container"
    return f" by process {start % _PROCESSES}"


def is_held(fd: int, place: int) -> bool:
    """Whether another open file has a lock (F_OFD_SETLK) on the byte at `place`; False where there are no locks."""
    try:
        found = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, place, 1))
    except OSError:
        return False
    return bool(struct.unpack(_FLOCK, found)[0] != fcntl.F_UNLCK)


def _flock(kind: int, start: int, length: int) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, start, length, 0)


def _place() -> int:
    """The byte of process 0 here: as the launcher's lock_place() says."""
    place = 0
    for each in os.fsencode(os.uname().nodename):
        place = (place * 31 + each) & 0xFFFFFFFF
    with suppress(OSError):
        place ^= os.stat("/proc/self/ns/pid").st_ino & 0xFFFFFFFF
    return _MARKS + place * _PROCESSES


@contextmanager
def locked(path: Path, work: str, *, done: Callable[[], bool] = _never) -> Iterator[int | None]:
    """The file `path`, made where it is missing, open and locked for this process alone.

    `work` says what another process is doing that is waited for, after "another process that". As soon as `done` is
    true nothing is waited for, and the value is None. The file at `path` is the one that is locked, also where its last
    owner has moved it away. Only a file system without locks does without. Raises FileError, after an hour too.
    """
    start = time.monotonic()
    said, pause = False, _PAUSE
    while True:
        fd = _opened(path)
        try:
            if _try_lock(fd):
                if is_at(fd, path):
                    break
                os.close(fd)
                continue
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if done():
            yield None
            return
        waited = time.monotonic() - start
        if waited > _LIMIT:
            raise FileError(f"{path}: locked for an hour by another process that {work}", hint="end that one")
        if waited > _PATIENCE and not said:
            said = True
            logger.info("Waiting for another process that %s", work)
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    try:
        yield fd
    finally:
        os.close(fd)


def _opened(path: Path) -> int:
    with FileError.about(path):
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        logger.debug("No lock: %s", error.strerror)
    return True


def is_at(fd: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False
