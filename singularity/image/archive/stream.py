"""Bytes of an archive in their order, from a file, a pipe or a decompressor: what the readers of archives share."""

import logging
import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from singularity.errors import FileError, ImageError
from singularity.image.limits import LIMITS, Limits, shown
from singularity.image.tree import Entry, Tree

logger = logging.getLogger(__name__)

CHUNK = 1 << 20  # bytes that are read or copied at once
_DRAINED = 1 << 28  # bytes behind an archive that are read over: /dev/zero is an empty archive without an end


class Source:
    """A stream that is read once, with the counts that limits are about."""

    def __init__(self, file: BinaryIO, name: str, limits: Limits = LIMITS, *, complete: bool = False) -> None:
        self.name = name
        self.limits = limits
        self.complete = complete  # known from elsewhere: what has no meaning may be missing at its end
        self.position = 0  # in bytes
        self._file = file
        self._members = 0
        self._total = 0

    def some(self, size: int) -> bytes:
        """`size` bytes; fewer at the end only. Raises FileError when they cannot be read."""
        with FileError.about(self.name):
            data = self._file.read(size)
            while len(data) < size:
                more = self._file.read(size - len(data))
                if not more:
                    break
                data += more
        self.position += len(data)
        return data

    def exactly(self, size: int) -> bytes:
        """`size` bytes. Raises ImageError when the stream ends before."""
        data = self.some(size)
        if len(data) < size:
            raise self.cut_off()
        return data

    def skip(self, size: int) -> None:
        """Reads over `size` bytes."""
        while size > 0:
            size -= len(self.exactly(min(size, CHUNK)))

    def skip_padding(self, size: int) -> None:
        """Reads over `size` bytes behind some data, which may be missing at the end of a stream that is complete."""
        if size and len(self.some(size)) < size and not self.complete:
            raise self.cut_off()

    def drain(self) -> None:
        """Reads what is left, so that whoever writes into the other end of a pipe is not cut off; not for ever."""
        end = self.position + _DRAINED
        while self.position < end and self.some(CHUNK):
            pass

    def cut_off(self) -> ImageError:
        """The error for a stream that ends too early."""
        what = f"{self.name}: ends in the middle, at byte {self.position}"
        return ImageError(what, hint="incomplete? fetch it again")

    def count(self, path: bytes, size: int) -> None:
        """One more member, with `size` bytes of data. Raises ImageError beyond the limits."""
        self._members += 1
        self._total += size
        if self._members > self.limits.members:
            raise ImageError(f"{self.name}: more than {self.limits.members} members")
        if size < 0 or self._total > self.limits.total:
            raise ImageError(f"{self.name}: {shown(path)}: the data is larger than {self.limits.total >> 30} GiB")


class Data:
    """The data of one member, read when it is asked for; what was not is read over by `finish`."""

    __slots__ = ("_left", "_padding", "_source")

    def __init__(self, source: Source, size: int, padding: int) -> None:
        self._source = source
        self._left = size
        self._padding = padding

    def __iter__(self) -> Iterator[bytes]:
        while self._left:
            chunk = self._source.exactly(min(self._left, CHUNK))
            self._left -= len(chunk)
            yield chunk

    def finish(self) -> None:
        """Goes to the end of the data and its padding; there is no data afterwards."""
        left, self._left, padding, self._padding = self._left, 0, self._padding, 0
        self._source.skip(left)
        self._source.skip_padding(padding)


def told(source: Source, entries: Iterator[Entry], left_out: Mapping[str, int]) -> Tree:
    """The members of an archive to its end, with its name in every complaint; then a warning for what is left out."""
    try:
        yield from entries
    except ImageError as error:
        if str(error).startswith(f"{source.name}: "):
            raise
        raise ImageError(f"{source.name}: {error}") from error
    source.drain()
    for what, count in sorted(left_out.items()):
        logger.warning("%s: %d %s", source.name, count, what)


def device_number(major: int, minor: int, path: bytes) -> int:
    """A device number that the kernel can hold. Raises ImageError."""
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise ImageError(f"{shown(path)}: no device has the number {major}:{minor}")
    return os.makedev(major, minor)
