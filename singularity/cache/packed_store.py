"""Layers as image files have them: made once of each, by one process, and merged into every image that has the layer.

A file is named by the digest of the layer, uncompressed, and by its form; who reads it checks it. While it is made it
has another name and is locked. Only the user's own are used: what others keep is not signed by anything.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from singularity import locks
from singularity.content.digest import Digest
from singularity.errors import FileError
from singularity.files import touch

logger = logging.getLogger(__name__)

PLACE = "packed"  # the type of entries in a cache
_NEW = ".new"


class Store:
    """Layer files of one form below `directory`, which is there."""

    def __init__(self, directory: Path, form: str) -> None:
        self._directory, self._form = directory, form

    def find(self, content: Digest) -> Path | None:
        """The file of a layer; None where there is none."""
        path = self._path(content)
        return path if path.exists() else None

    def have(self, content: Digest, make: Callable[[int], None], work: str) -> Path:
        """The file of a layer, which `make` writes into an open file where it is missing, while others wait.

        `work` says what that process does, for those that wait. Raises FileError, and what `make` raises.
        """
        path = self._path(content)
        if path.exists():
            touch(path)
            return path
        new = path.with_name(path.name + _NEW)
        with locks.locked(new, work, done=path.exists) as fd:
            if fd is None:
                return path
            try:
                if path.exists():
                    new.unlink()
                    return path
                os.ftruncate(fd, 0)
                make(fd)
                os.rename(new, path)
            except OSError as error:
                raise FileError.because(path, error) from error
            except BaseException:
                with suppress(OSError):
                    new.unlink()
                raise
        return path

    def drop(self, content: Digest) -> None:
        """Removes the file of a layer, where it is there."""
        with suppress(OSError):
            self._path(content).unlink()

    def _path(self, content: Digest) -> Path:
        return self._directory / f"{content.algorithm}-{content.digits}.{self._form}"
