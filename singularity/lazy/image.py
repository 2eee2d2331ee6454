"""A file whose bytes come when they are asked for, kept in a file of the cache as they come.

The kept file is sparse and as large as the whole from the begin. A map, a byte for each block, says what is there. Both
are of one source, and of one boot of the machine: what a crash may have lost is fetched again. When everything is there
the map goes, and the file is as any other of the cache.
"""

import fcntl
import json
import mmap
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

from singularity import files
from singularity.cache import image_store
from singularity.errors import FileError

BLOCK = 1 << 18  # bytes that are fetched at once at least
_AHEAD = 8  # blocks in a row that one request may fetch
_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Source(Protocol):
    """Where the bytes come from."""

    size: int
    identity: str  # another one has other bytes

    def fetch(self, offset: int, size: int) -> bytes:
        """Exactly these bytes; from several threads at once. Raises SingularityError."""


class LazyFile:
    """The bytes of a source, through a file at `path`, of which `about` is the map. Raises FileError."""

    def __init__(self, source: Source, path: Path, about: Path) -> None:
        self.source, self.path = source, path
        self.size = source.size
        self._blocks = -(-self.size // BLOCK)
        self._map_path = about
        self._waiting: set[int] = set()  # blocks that somebody fetches
        self._changed = threading.Condition()
        with FileError.about(path):
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._map_fd = os.open(self._map_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._map = self._opened_map()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        os.close(self._fd)
        os.close(self._map_fd)

    def _opened_map(self) -> mmap.mmap:
        """What is there already. Two launches at once share it: each only ever notes what it has written."""
        fcntl.flock(self._map_fd, fcntl.LOCK_EX)
        try:
            about = json.dumps({"of": self.source.identity, "size": self.size, "boot": _boot()}).encode() + b"\n"
            wanted = len(about) + self._blocks
            same = os.fstat(self._map_fd).st_size == wanted and os.pread(self._map_fd, len(about), 0) == about
            if not same or os.fstat(self._fd).st_size != self.size:
                os.ftruncate(self._map_fd, 0)
                os.ftruncate(self._fd, 0)
                os.ftruncate(self._fd, self.size)
                os.pwrite(self._map_fd, about, 0)
                os.ftruncate(self._map_fd, wanted)
            self._first = len(about)
            return mmap.mmap(self._map_fd, wanted)
        finally:
            fcntl.flock(self._map_fd, fcntl.LOCK_UN)

    @property
    def fetched_bytes(self) -> int:
        """How much is there already."""
        return min(self._map[self._first :].count(1) * BLOCK, self.size)

    def read(self, offset: int, size: int) -> bytes:
        """These bytes, fetched where they must be; fewer at the end of the file only. Raises SingularityError."""
        end = min(offset + size, self.size)
        if end <= offset:
            return b""
        self._need(offset // BLOCK, (end - 1) // BLOCK + 1)
        return os.pread(self._fd, end - offset, offset)

    def fill(self, go_on: Callable[[], bool]) -> bool:
        """Fetches what is missing, from the begin on, as long as `go_on`; whether everything is there."""
        for number in range(self._blocks):
            if not go_on():
                return False
            self._need(number, number + 1)
        with suppress(OSError):
            os.fsync(self._fd)
        return True

    def finish(self) -> None:
        """Declares the file whole, now that all of it is there: an image of the cache as any other."""
        os.fchmod(self._fd, 0o777 & ~files.umask())
        if image_store.declare_complete(self.path, self._fd):
            self._map_path.unlink(missing_ok=True)

    def _need(self, first: int, end: int) -> None:
        """Fetches those of the blocks that are missing; what others fetch at this moment is waited for."""
        number = first
        while number < end:
            with self._changed:
                while number in self._waiting:
                    self._changed.wait()
                if self._map[self._first + number]:
                    number += 1
                    continue
                last = number + 1
                while last < min(end, number + _AHEAD) and self._is_free(last):
                    last += 1
                self._waiting.update(range(number, last))
            try:
                self._fetch(number, last)
            finally:
                with self._changed:
                    self._waiting.difference_update(range(number, last))
                    self._changed.notify_all()
            number = last

    def _is_free(self, number: int) -> bool:
        return not self._map[self._first + number] and number not in self._waiting

    def _fetch(self, first: int, end: int) -> None:
        offset = first * BLOCK
        data = self.source.fetch(offset, min(end * BLOCK, self.size) - offset)
        with FileError.about(self.path):
            files.write_at(self._fd, data, offset)
        for number in range(first, end):
            self._map[self._first + number] = 1


def _boot() -> str:
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""
