"""The process that shows a lazy file to a container, for as long as that runs, and fetches the rest of it meanwhile.

It mounts in a mount namespace of its own, without privilege in a user namespace of its own too, so that no mount table
but its own ever shows it. Others of the same user reach the file by `/proc/PID/root`. It follows the process that
started it, which becomes the container's: when that has ended and the file is closed, the server ends.
"""

import logging
import os
import select
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import kernel, process
from singularity.errors import FileError, ImageError, SingularityError
from singularity.lazy.fuse import Server
from singularity.lazy.image import LazyFile
from singularity.namespaces import own

logger = logging.getLogger(__name__)

_DEVICE = "/dev/fuse"
_CLOSING = 10.0  # seconds in which a container that has ended closes its image
_LOOK = 0.02  # seconds between two looks whether it has


def shown(lazy: LazyFile, name: str, place: Path) -> Path:
    """Starts the server; the path by which this user's processes reach the file. `place` is a directory to mount on.

    Raises ImageError where there can be no such mount.
    """
    try:
        pid = own.started(partial(_serve, lazy, name, place, os.getpid()))
    except own.UnreadyError as error:
        what = f"{name} cannot be started before it is there: {error}"
        raise ImageError(what, hint="start it without --lazy") from error
    return Path(f"/proc/{pid}/root{place.absolute()}", name)


def _serve(lazy: LazyFile, name: str, place: Path, followed: int, ready: int) -> NoReturn:
    """The server's process."""
    try:
        os.setsid()
        for number in process.STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, process.STOPPING)
        watched = os.pidfd_open(followed)
        _detach_streams()
        device = _mount(place)
        server = Server(device, os.fsencode(name), lazy.size, lazy.read)
        server.start()
        os.write(ready, own.READY)
        os.close(ready)
        _fill_until_ended(lazy, watched)
        end = time.monotonic() + _CLOSING
        while server.opened and time.monotonic() < end:
            time.sleep(_LOOK)
    except BaseException as error:
        with suppress(OSError):
            os.write(ready, _told(error).encode("utf-8", "replace")[: own.LAST_WORDS])
        os._exit(255)
    os._exit(0)


def _told(error: BaseException) -> str:
    if isinstance(error, OSError):
        return f"{error.filename or 'mount'}: {error.strerror}"
    return str(error) or type(error).__name__


def _detach_streams() -> None:
    """Lets go of standard input and output: a reader of the program's output must not wait for this process."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(null, 1)


def _mount(place: Path) -> int:
    """Mounts an empty FUSE file system; the device to answer through. Raises OSError."""
    uid, gid = os.getuid(), os.getgid()
    own.enter()
    device = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    data = f"fd={device},rootmode=40000,user_id={uid},group_id={gid}"
    flags = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_RDONLY
    kernel.mount("singularity", str(place.absolute()), "fuse.singularity", flags, data)
    return device


def _fill_until_ended(lazy: LazyFile, watched: int) -> None:
    """Fetches what nobody has asked for yet, until the process has ended that is followed."""
    ended = threading.Event()

    def fill() -> None:
        try:
            if lazy.fill(lambda: not ended.is_set()):
                lazy.finish()
        except FileError as error:  # a full disk: what is read is still fetched, and told then
            logger.debug("%s", error)
        except SingularityError as error:
            logger.debug("The rest is not fetched: %s", error)

    threading.Thread(target=fill, name="fill", daemon=True).start()
    select.select([watched], [], [])
    ended.set()
