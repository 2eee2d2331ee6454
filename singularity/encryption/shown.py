"""The decrypted root file system of an image as a file: for a launch, or in place of the image itself."""

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import files, kernel
from singularity.encryption import gocryptfs
from singularity.encryption.sealed import Sealed
from singularity.errors import ImageError, SingularityError
from singularity.image.identify import open_path
from singularity.namespaces import fakeroot, own

_PLACE = Path("/tmp")  # noqa: S108 - covered in a mount namespace of its own


def for_launch(image: Sealed, secret: bytes) -> Path:
    """The path by which this user's processes reach it, as long as this process, or what it becomes, runs.

    Who has opened it keeps it. Raises ImageError, FileError and ToolError.
    """
    gocryptfs.find()
    try:
        pid = own.started(partial(_show, image, secret, os.getpid()))
    except own.UnreadyError as error:
        raise ImageError(str(error) or f"{image.path}: encrypted, and what decrypts it was killed") from error
    return Path(f"/proc/{pid}/root{_PLACE}/shown/{image.path.name}")


def _show(image: Sealed, secret: bytes, followed: int, ready: int) -> NoReturn:
    """Holds the mount until the launch has ended, or whoever it has become."""
    try:
        watched = os.pidfd_open(followed)
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        gocryptfs.begin_server(said)
        fd = open_path(image.path)  # before another directory lies over it
        _enter(image)
        kernel.mount("singularity", str(_PLACE), "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=0700,size=64k")
        plain, shown = _PLACE / "plain", _PLACE / "shown"
        for each in (plain, shown):
            each.mkdir()
        with gocryptfs.reading(image, fd, secret, plain) as path:
            name = shown / image.path.name
            name.touch()
            kernel.mount(str(path), str(name), None, kernel.MS_BIND)
            os.write(ready, own.READY)
            os.close(ready)
            select.select([watched], [], [])
            os._exit(0)  # and not through the end of the block, which would wait for those who read
    except BaseException as error:
        text = str(error) if isinstance(error, SingularityError) else f"{image.path}: encrypted: {error}"
        with suppress(OSError):
            os.write(ready, text.encode("utf-8", "replace")[: own.LAST_WORDS])
    os._exit(255)


def _enter(image: Sealed) -> None:
    try:
        own.enter()
    except OSError as error:
        what = f"{image.path}: encrypted, which takes a user namespace to mount, and there is none"
        raise ImageError(what, hint=fakeroot.obstacle(error.errno or 0) or error.strerror or "") from error


@contextmanager
def in_place(image: Sealed, secret: bytes, place: Path) -> Iterator[None]:
    """For this process and its children, the image's path leads to what is in it.

    They are in a mount namespace of their own; `place` is an empty directory. Raises as `for_launch`.
    """
    with files.closing(open_path(image.path)) as fd, gocryptfs.reading(image, fd, secret, place) as path:
        target = os.path.realpath(image.path)
        kernel.mount(str(path), target, None, kernel.MS_BIND)
        try:
            yield
        finally:
            with suppress(OSError):
                kernel.unmount(target, kernel.MNT_DETACH)
