"""The bytes of an image on a web server, in the parts that are asked for."""

import os

from singularity.web.file import WebFile

_SQUASHFS, _SIF = b"hsqs", b"SIF_MAGIC\0"
_SIF_AT = 32
_HEAD = 128  # bytes that say what an image is


class WebSource:
    """A file of a web server that has one size, and is the same as long as its server says so."""

    def __init__(self, url: str) -> None:
        self._file = WebFile(url)
        self._file.describe()
        self.size = self._file.size or 0
        self.key = self._file.key  # as of the whole file in the cache
        self.identity = self.key or os.urandom(16).hex()

    def fetch(self, offset: int, size: int) -> bytes:
        """Bytes of the file. Raises NetworkError, and RegistryError where the server gives no parts."""
        return self._file.part(offset, size)

    def is_mountable(self) -> bool:
        """Whether it is an image that needs not be unpacked, by its first bytes. Raises as `fetch`."""
        head = self.fetch(0, min(_HEAD, self.size))
        after_line = head.partition(b"\n")[2] if head.startswith(b"#!") else head
        return head[_SIF_AT : _SIF_AT + len(_SIF)] == _SIF or after_line.startswith(_SQUASHFS)
