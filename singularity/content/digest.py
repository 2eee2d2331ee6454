"""Digests: what a blob is called, and the check that it is what it is called (security requirements N2 and N4)."""

import hashlib
import io
import re
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from singularity.errors import FileError, ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import WriteableBuffer

_FORM = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_CHUNK = 1 << 20
_SHOWN = 12  # digits


class Digest(NamedTuple):
    """A name that is made from the content; safe as part of a path."""

    algorithm: str  # of hashlib
    digits: str  # lower case

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.digits}"

    @property
    def short(self) -> str:
        """Enough of it for a message."""
        return f"{self.algorithm}:{self.digits[:_SHOWN]}"

    def hasher(self) -> "hashlib._Hash":
        """To be fed with what it names. MD5, of archives that have nothing better, tells damage and no intention."""
        return hashlib.new(self.algorithm, usedforsecurity=self.algorithm != "md5")

    def names(self, data: bytes) -> bool:
        """Whether these bytes are what the digest says."""
        return hashlib.new(self.algorithm, data).hexdigest() == self.digits


def parse(text: object) -> Digest:
    """A digest from a foreign document. Raises ImageError."""
    match = _FORM.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ImageError(f'"{str(text)[:80]}" is no digest', hint="sha256: and 64 digits, or sha512: and 128")
    return Digest(match[1] or match[3], match[2] or match[4])


def of(data: bytes) -> Digest:
    """The SHA-256 of some bytes."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())


class Checked:
    """A stream that is what its digest and size say, or raises ImageError: at the latest where it ends.

    Has what readers of archives use of a BinaryIO. `name` stands in messages; where there is no digest, nothing is
    checked, and the name is all that this adds.
    """

    def __init__(self, file: BinaryIO, digest: Digest | None, name: str, size: int | None = None) -> None:
        self._file = file
        self._digest = digest
        self._name = name
        self._size = size
        self._hash = hashlib.new(digest.algorithm) if digest else None
        self._position = 0
        self._ended = False
        self.told: Callable[[int], object] | None = None  # of each number of bytes that were read

    def read(self, size: int = -1) -> bytes:
        """As `BinaryIO.read`."""
        with FileError.about(self._name):
            data = self._file.read(size)
        self._see(data, at_end=size < 0 or (size > 0 and not data))
        return data

    def readinto(self, view: memoryview) -> int:
        """As `BinaryIO.readinto` of files that have it."""
        read = getattr(self._file, "readinto", None)
        if read is None:
            data = self.read(len(view))
            view[: len(data)] = data
            return len(data)
        with FileError.about(self._name):
            count: int = read(view)
        self._see(view[:count], at_end=len(view) > 0 and not count)
        return count

    def _see(self, data: "bytes | memoryview", *, at_end: bool) -> None:
        if self._hash is not None:
            self._hash.update(data)
        self._position += len(data)
        if self.told is not None:
            self.told(len(data))
        if self._size is not None and self._position > self._size:
            raise ImageError(f"{self._name}: longer than the {self._size} bytes that its description says")
        if at_end and not self._ended:
            self._ended = True
            self._check()

    def readable(self) -> bool:
        """As `BinaryIO.readable`."""
        return True

    @property
    def unchecked(self) -> BinaryIO:
        """The file below, for who checks what is in it in another way."""
        return self._file

    def close(self) -> None:
        """Closes the file below."""
        self._file.close()

    def finish(self) -> None:
        """Reads what is left, and checks it all."""
        while not self._ended:
            self.read(_CHUNK)

    def _check(self) -> None:
        if self._size is not None and self._position < self._size:
            missing = self._size - self._position
            raise ImageError(f"{self._name}: its last {missing} bytes are missing", hint="incomplete? fetch it again")
        if self._hash is not None and self._digest is not None and self._hash.hexdigest() != self._digest.digits:
            what = f"{self._name}: its content is not what {self._digest} names"
            raise ImageError(what, hint="damaged? fetch it again")


def buffered(checked: Checked) -> BinaryIO:
    """The same stream for whoever reads a little at a time; what it is checked in is large."""
    return cast("BinaryIO", io.BufferedReader(_Raw(checked), _CHUNK))


class _Raw(io.RawIOBase):
    def __init__(self, checked: Checked) -> None:
        self._checked = checked

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self._checked.readinto(memoryview(buffer).cast("B"))
