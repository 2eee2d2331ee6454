"""An image opened once for all that is to be done with it: recognised and locked as launches lock it.

Launches take the same lock (`launcher/sexec.c`): writers of an ext file system alone, readers together. What cannot be
written, squashfs, needs none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from singularity import files
from singularity.errors import FileError
from singularity.image.identify import Format, Image, identify_open, open_path
from singularity.locks import holder_of_image, lock_image


@dataclass(frozen=True, slots=True)
class Opened:
    """A recognised image and its open file, or, for a directory, a descriptor that only stands for it."""

    image: Image
    fd: int

    @property
    def path(self) -> Path:
        """As it was named."""
        return self.image.path

    @property
    def held(self) -> str:
        """The name of this very file or directory, whatever its path has come to mean."""
        return f"/proc/self/fd/{self.fd}"


@contextmanager
def opened(path: Path, *, writable: bool, missing: str = "") -> Iterator[Opened]:
    """The image at `path`, until the end of the block. `missing` is the hint where there is nothing.

    Raises FileError: it cannot be opened, is in use, or is the host's own root directory; ImageError for no image.
    """
    while True:
        with files.closing(open_path(path, writable=writable, missing=missing)) as fd:
            _refuse_host_root(fd, path)
            image = identify_open(fd, path)
            _lock(fd, image, writable=writable)
            if _is_still(fd, path):
                yield Opened(image, fd)
                return


def _refuse_host_root(fd: int, path: Path) -> None:
    if os.path.samestat(os.fstat(fd), os.stat("/")):
        raise FileError(f"{path}: the host's root directory, not an image")


def _lock(fd: int, image: Image, *, writable: bool) -> None:
    partitions = (image.root, *image.overlays)
    if not any(each.format is Format.EXT for each in partitions):
        return
    try:
        lock_image(fd, writable=writable)
    except BlockingIOError as error:
        raise _in_use(fd, image.path, writable=writable) from error
    except OSError as error:
        if writable:  # where there are no locks nobody can lock it for writing, and reading is safe
            what = f"{image.path}: cannot be locked for writing: {error.strerror}"
            raise FileError(what, hint="is it on a network file system?") from error


def _in_use(fd: int, path: Path, *, writable: bool) -> FileError:
    by = holder_of_image(fd)
    if writable:
        return FileError(f"{path}: in use{by}", hint="it is written by one at a time, and only when nobody reads it")
    return FileError(f"{path}: being written{by}", hint="wait until the container or command that does so has ended")


def _is_still(fd: int, path: Path) -> bool:
    """Whether the path has not come to mean another file while we waited for the lock."""
    with FileError.about(path):
        return os.path.samestat(path.stat(), os.fstat(fd))
