"""Files of web servers: one request for what there is, and a stream that goes on where the connection breaks."""

import base64
import io
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO, Self, cast

from singularity.errors import NetworkError, RegistryError
from singularity.registry.http import Answer, Client, Patience, shown
from singularity.registry.stream import Resuming

_BUFFER = 1 << 20  # bytes
_PARTIAL = 206


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A file of a web server, open to be read; closed by `with`.

    `version` is what the server tells versions of it apart by, an ETag or a date; empty where it does not.
    """

    url: str  # after redirects
    size: int | None  # bytes of the whole file, where the server says it
    ranges: bool  # whether the server gives parts of it
    version: str
    modified: str  # Last-Modified, as the server writes it
    stream: BinaryIO  # from the offset that was asked for on; not checked against any digest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stream.close()


def download(
    url: str, *, offset: int = 0, version: str = "", client: Client | None = None, patience: Patience | None = None
) -> Download:
    """Opens a file, `http:` or `https:`; a user and a password in the URL are for its server alone.

    With `offset`, from there on, if the file is still the `version` that was read before. Raises NetworkError, and
    RegistryError where it is not to be had, or has changed.
    """
    client = client or Client(patience)
    first = _ask(client, url, offset, version)
    validator = _validator(first)
    if offset and version and validator != version:
        first.close()
        raise RegistryError(f"{shown(url)}: has changed since its beginning was fetched", hint="fetch it anew")
    size = _size(first)
    pending = [first]

    def ask(start: int) -> Answer:
        if pending:
            return pending.pop()
        answer = _ask(client, url, start, validator)
        if _validator(answer) != validator or _size(answer) != size:
            answer.close()
            raise RegistryError(f"{shown(url)}: changes while it is fetched", hint="fetch it again")
        return answer

    stream = Resuming(shown(url), ask, size=size, offset=offset, patience=client.patience)
    return Download(
        url=first.url,
        size=size,
        ranges=first.status == _PARTIAL or first.headers.get("Accept-Ranges", "").strip().lower() == "bytes",
        version=validator,
        modified=first.headers.get("Last-Modified", ""),
        stream=cast("BinaryIO", io.BufferedReader(stream, _BUFFER)),
    )


def head(url: str, *, client: Client | None = None) -> Mapping[str, str]:
    """The headers of a file, without it. Raises NetworkError and RegistryError."""
    bare, authorization = _split(url)
    with (client or Client()).send("HEAD", bare, authorization=authorization) as answer:
        return _allowed(answer, url).headers


def _ask(client: Client, url: str, offset: int, validator: str) -> Answer:
    bare, authorization = _split(url)
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and validator:
        headers["If-Range"] = validator
    return _allowed(client.send("GET", bare, headers=headers, authorization=authorization, accept=(200, _PARTIAL)), url)


def _allowed(answer: Answer, url: str) -> Answer:
    if answer.status in (200, _PARTIAL):
        return answer
    answer.drain()
    words = {401: "wants a password", 403: "denied", 404: "not found", 410: "not found any more"}
    what = f"{shown(url)}: {words.get(answer.status, 'refused')} (StatusCode: {answer.status})"
    raise RegistryError(what, status=answer.status)


def _split(url: str) -> tuple[str, str]:
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


def _validator(answer: Answer) -> str:
    """What If-Range takes: a strong ETag, else a date."""
    etag = answer.headers.get("ETag", "")
    return answer.headers.get("Last-Modified", "") if not etag or etag.startswith("W/") else etag


def _size(answer: Answer) -> int | None:
    if answer.status == _PARTIAL:
        total = answer.headers.get("Content-Range", "").rpartition("/")[2].strip()
        return int(total) if total.isascii() and total.isdecimal() else None
    return answer.length
