"""Downloads that go on where they were interrupted, and have their name only when they are what they should be."""

import errno
import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from singularity import files, locks
from singularity.content.digest import Digest
from singularity.errors import FileError, ImageError, RegistryError

_CHUNK = 1 << 20
_UNSETTLED = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)

logger = logging.getLogger(__name__)

Told = Callable[[int], object]
"""Is told how many bytes have come, each time some have: also those that were there already."""


def _nothing(count: int) -> None:
    del count


class _OtherBytesError(ImageError):
    """What came is not what was announced: another attempt may bring it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file that is to be had in pieces; `open` gives its bytes from an offset on, and what it gives is closed."""

    name: str  # for messages
    open: Callable[[int], BinaryIO]
    size: int | None = None  # bytes; None: nobody has said
    digest: Digest | None = None  # None: nobody has said

    def into(self, target: Path, partial: Path, *, mode: int, done: Callable[[], bool], told: Told = _nothing) -> None:
        """Brings the file to `target`, by way of `partial`, which stays behind when this is interrupted.

        Processes that want the same file at the same time bring it once: the others wait until `done` is true. What
        is left of an earlier time is read and counted in. Bytes that are not those announced are fetched once more, and
        are an ImageError then. Raises FileError, and whatever `open` and its stream raise.
        """
        with locks.locked(partial, f"fetches {self.name}", done=done) as fd:
            if fd is None or done():
                if fd is not None:
                    partial.unlink(missing_ok=True)
                return
            try:
                self._complete(fd, told)
                os.fchmod(fd, mode)
                os.rename(partial, target)
            except (ImageError, RegistryError):
                partial.unlink(missing_ok=True)
                raise
            except OSError as error:
                if error.errno in _UNSETTLED:
                    partial.unlink(missing_ok=True)
                raise FileError.because(target, error) from error

    def _complete(self, fd: int, told: Told) -> None:
        resumed = os.fstat(fd).st_size
        if self.size is not None and resumed > self.size:
            resumed = 0
        if resumed:
            with suppress(_OtherBytesError):
                return self._fill(fd, resumed, told)
            told(-os.fstat(fd).st_size)  # what was there came to nothing: it is not of this file
        try:
            self._fill(fd, 0, told)
        except _OtherBytesError as error:
            logger.warning("%s: it is fetched again", error.what)
            told(-os.fstat(fd).st_size)
            self._fill(fd, 0, told)

    def _fill(self, fd: int, resumed: int, told: Told) -> None:
        os.ftruncate(fd, resumed)
        position = 0
        hashed = self.digest.hasher() if self.digest else None
        while position < resumed:
            data = os.pread(fd, min(_CHUNK, resumed - position), position)
            if not data:
                break
            if hashed:
                hashed.update(data)
            position += len(data)
            told(len(data))
        if self.size is None or position < self.size:
            source = self.open(position)
            try:
                while data := source.read(_CHUNK):
                    if self.size is not None and position + len(data) > self.size:
                        raise _OtherBytesError(f"{self.name}: longer than the {self.size} bytes that were announced")
                    if hashed:
                        hashed.update(data)
                    files.write_at(fd, data, position)
                    position += len(data)
                    told(len(data))
            finally:
                source.close()
        if self.size is not None and position < self.size:
            missing = self.size - position
            raise FileError(f"{self.name}: its last {missing} bytes did not come", hint="try again: it goes on there")
        if hashed and self.digest and hashed.hexdigest() != self.digest.digits:
            what = f"{self.name}: what came is not what {str(self.digest)[:19]} names"
            raise _OtherBytesError(what, hint="damaged on its way, or changed there")
