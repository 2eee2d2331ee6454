"""Files of web servers: what a server says of one, its bytes from any place on, and parts of it."""

import base64
import hashlib
import urllib.parse
from typing import BinaryIO, cast

from singularity.errors import NetworkError, RegistryError
from singularity.web.http import Answer, Client, Patience, number, shown
from singularity.web.stream import Resuming, part

_OK, _PARTIAL = 200, 206
_WORDS = {401: "wants a password", 403: "denied", 404: "not found", 410: "not found any more"}


def refused(name: str, status: int, what: str = "") -> RegistryError:
    """The error for an answer that is none of those that were hoped for."""
    said = f"{_WORDS.get(status, 'refused')} {what}".rstrip()
    return RegistryError(f"{name}: {said} (StatusCode: {status})", status=status)


class WebFile:
    """A file at an `http:` or `https:` URL; a user and a password in the URL are for its server alone.

    What the server says of it is known after `describe`, or after `open`; bytes of two versions are never mixed. What
    cannot be reached is a NetworkError; what is not to be had, or has changed since, a RegistryError.
    """

    def __init__(
        self, url: str, *, size: int | None = None, authorization: str = "", patience: Patience | None = None
    ) -> None:
        self.name = shown(url)  # for messages
        self.size = size  # bytes, where somebody says it
        self.validators: tuple[str, ...] = ()  # all that the server tells versions apart by: a date, an ETag
        self._url = url
        self._bare, of_url = without_user(url)
        self._authorization = of_url or authorization
        self._client = Client(patience)
        self._version: str | None = None  # what If-Range takes: a strong ETag, else a date; None: not asked yet
        self._pending: Answer | None = None  # a transfer that has begun, and nobody has read of yet

    @property
    def key(self) -> str:
        """Changes with the file, as far as the server says so; empty where it does not."""
        words = (self._url, *self.validators, str(self.size))
        return hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest() if self.validators else ""

    def describe(self) -> None:
        """Asks what the file is now."""
        answer = self._client.send("HEAD", self._bare, authorization=self._authorization)
        if answer.status == _OK:
            self._learn(answer)
            answer.close()
        else:  # there are servers without HEAD
            answer.drain()
            self._pending = self._get(0)

    def open(self, offset: int = 0) -> BinaryIO:
        """The bytes from an offset on, which a read gives as they come; a transfer that breaks goes on by itself."""
        if self._version is None:
            self._pending = self._get(offset)
        stream = Resuming(self.name, self._at, size=self.size, offset=offset, patience=self._client.patience)
        return cast("BinaryIO", stream)

    def part(self, offset: int, size: int) -> bytes:
        """Exactly these bytes of a file that was described, of a server that gives parts of it."""
        self.close()

        def ask(start: int) -> Answer:
            return self._get(start, offset + size)

        return part(self.name, ask, offset=offset, size=size, patience=self._client.patience)

    def close(self) -> None:
        """Ends a transfer that nobody wanted."""
        if self._pending is not None:
            self._pending.close()
            self._pending = None

    def _at(self, offset: int) -> Answer:
        pending, self._pending = self._pending, None
        if pending is not None and (pending.status == _PARTIAL or not offset):
            return pending
        if pending is not None:
            pending.close()
        return self._get(offset)

    def _get(self, offset: int, end: int | None = None) -> Answer:
        """The file from an offset on; up to `end`, where it is given, from a server that gives parts."""
        headers = {"Range": f"bytes={offset}-{'' if end is None else end - 1}"} if offset or end is not None else {}
        if headers and self._version:
            headers["If-Range"] = self._version
        answer = self._client.send(
            "GET", self._bare, headers=headers, authorization=self._authorization, accept=(_OK, _PARTIAL)
        )
        if answer.status not in (_OK, _PARTIAL):
            answer.drain()
            raise refused(self.name, answer.status)
        try:
            self._learn(answer)
            if end is not None and answer.status == _OK:
                raise RegistryError(f"{self.name}: the server gives no parts of it")
        except RegistryError:
            answer.close()
            raise
        return answer

    def _learn(self, answer: Answer) -> None:
        """What an answer says of the file; the same as those before it."""
        tag, modified = answer.headers.get("ETag", ""), answer.headers.get("Last-Modified", "")
        version = tag if tag and not tag.startswith("W/") else modified
        size = _size(answer)
        is_other = bool(self._version and version) and version != self._version
        if is_other or (None not in (self.size, size) and self.size != size):
            raise RegistryError(f"{self.name}: changed while it was fetched", hint="try again")
        if self._version is None:
            self.validators = tuple(each for each in (modified, tag) if each)
        self._version = self._version or version
        self.size = size if self.size is None else self.size


def without_user(url: str) -> tuple[str, str]:
    """The URL without a user, and the header that says who it was."""
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.username is None:
            return url, ""
    except ValueError as error:
        raise NetworkError(f"{shown(url)}: no URL") from error
    login = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return bare, "Basic " + base64.b64encode(login.encode()).decode()


def _size(answer: Answer) -> int | None:
    if answer.status == _PARTIAL:
        return number(answer.headers.get("Content-Range", "").rpartition("/")[2].strip())
    return answer.length
