"""`http://` and `https://`: files of web servers, which are fetched again only when they have changed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

from singularity.errors import ImageError, RegistryError
from singularity.image.identify import identify
from singularity.oci.digest import Digest
from singularity.oci.partial import Download
from singularity.registry import http
from singularity.registry.http import Answer, Client
from singularity.registry.stream import Resuming
from singularity.sources.fetch import Fetch
from singularity.sources.whole import Whole

_KIND = "net"
_OK, _PARTIAL, _NOT_FOUND = 200, 206, 404


def locate(url: str, fetch: Fetch) -> Whole:
    """The file at a URL, as its server describes it. Raises NetworkError and RegistryError."""
    del fetch
    source = Source(url)
    validators = source.describe()
    key = hashlib.sha256("\0".join((url, *validators, str(source.size))).encode()).hexdigest() if validators else ""
    download = Download(name=http.shown(url), open=source.open, size=source.size)
    return Whole(kind=_KIND, key=key, download=download, release=source.close)


def is_image(name: str) -> Callable[[Path], None]:
    """A check that raises ImageError for what is no image, a page with an error for instance."""

    def check(path: Path) -> None:
        try:
            identify(path)
        except ImageError as error:
            raise ImageError(f"{name}: no image: {str(error).removeprefix(f'{path}: ')}") from error

    return check


def refused(name: str, status: int, what: str = "") -> RegistryError:
    """The error for an answer that is none of those that were hoped for."""
    said = f"nothing there {what}".rstrip() if status == _NOT_FOUND else "refused"
    return RegistryError(f"{name}: {said} (StatusCode: {status})", status=status)


class Source:
    """A file of a web server, which is read from any place on."""

    def __init__(self, url: str, *, size: int | None = None, digest: Digest | None = None) -> None:
        self.url = url
        self.size = size
        self.digest = digest
        self._client = Client()
        self._first: Answer | None = None  # a transfer that has begun, and nobody has read of yet
        self._validator = ""  # that says whether the file has changed

    def describe(self) -> list[str]:
        """Learns the size, and what tells whether the file has changed since: all that the server says of that."""
        answer = self._client.send("HEAD", self.url)
        if answer.status != _OK:  # there are servers without HEAD
            answer.drain()
            answer = self._first = self._get(0)
        headers = answer.headers
        self.size = answer.length
        tag = headers.get("ETag", "")
        self._validator = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")
        if self._first is None:
            answer.close()
        return [each for each in (headers.get("Last-Modified", ""), tag) if each]

    def _get(self, offset: int) -> Answer:
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and self._validator:
            headers["If-Range"] = self._validator
        answer = self._client.send("GET", self.url, headers=headers, accept=(_OK, _PARTIAL))
        if answer.status not in (_OK, _PARTIAL):
            answer.drain()
            raise refused(http.shown(self.url), answer.status)
        return answer

    def open(self, offset: int) -> BinaryIO:
        """The bytes from an offset on; a transfer that breaks goes on by itself."""
        name = http.shown(self.url)
        return cast("BinaryIO", Resuming(name, self._at, size=self.size, offset=offset, patience=self._client.patience))

    def _at(self, offset: int) -> Answer:
        first, self._first = self._first, None
        if first is not None and not offset:
            return first
        if first is not None:
            first.close()
        answer = self._get(offset)
        if answer.status == _OK and self.size is not None and answer.length not in (None, self.size):
            answer.close()
            raise RegistryError(f"{http.shown(self.url)}: changed while it was fetched", hint="try again")
        return answer

    def close(self) -> None:
        """Ends a transfer that nobody wanted."""
        if self._first is not None:
            self._first.close()
            self._first = None
