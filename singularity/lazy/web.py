"""The bytes of an image on a web server, in the parts that are asked for."""

import hashlib
import os

from singularity.errors import RegistryError
from singularity.registry import http
from singularity.registry.http import Answer, Client
from singularity.registry.stream import part

_SQUASHFS, _SIF = b"hsqs", b"SIF_MAGIC\0"
_SIF_AT = 32
_HEAD = 128  # bytes that say what an image is


class WebSource:
    """A file of a web server that has one size, and is the same as long as its server says so."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Client()
        with self._client.send("HEAD", url) as answer:
            if answer.status != 200:
                raise RegistryError(f"{http.shown(url)}: (StatusCode: {answer.status})", status=answer.status)
            tag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
            self.size = answer.length or 0
        self._validator = tag if tag and not tag.startswith("W/") else modified
        validators = [each for each in (modified, tag) if each]
        words = "\0".join((url, *validators, str(self.size)))
        self.key = hashlib.sha256(words.encode()).hexdigest() if validators else ""  # as of the whole file in the cache
        self.identity = self.key or os.urandom(16).hex()

    def fetch(self, offset: int, size: int) -> bytes:
        """Bytes of the file. Raises NetworkError, and RegistryError where the server gives no parts."""

        def ask(start: int) -> Answer:
            headers = {"Range": f"bytes={start}-{offset + size - 1}"}
            if self._validator:
                headers["If-Range"] = self._validator
            answer = self._client.send("GET", self._url, headers=headers, accept=(206,))
            if answer.status != 206:
                answer.close()
                why = "the server gives no parts of it, or it has changed" if answer.status == 200 else "refused"
                raise RegistryError(f"{http.shown(self._url)}: {why} (StatusCode: {answer.status})")
            return answer

        return part(http.shown(self._url), ask, offset=offset, size=size, patience=self._client.patience)

    def is_mountable(self) -> bool:
        """Whether it is an image that needs not be unpacked, by its first bytes. Raises as `fetch`."""
        head = self.fetch(0, min(_HEAD, self.size))
        after_line = head.partition(b"\n")[2] if head.startswith(b"#!") else head
        return head[_SIF_AT : _SIF_AT + len(_SIF)] == _SIF or after_line.startswith(_SQUASHFS)
