"""What servers answered in one build: noted while it comes, or played back from a lock. Used by several threads.

In one build a URL means one thing: who asks again is given the first answer. Of answers only what programs act upon is
kept, and contents go into a store by digest; passwords that a request carries are handed on and noted nowhere.
"""

import hashlib
import secrets
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from singularity.build.locked.document import Fetched
from singularity.cache.blob_names import PARTIAL
from singularity.cache.blob_store import Store
from singularity.content.digest import Digest
from singularity.errors import FileError, NetworkError
from singularity.web.http import Answer, Client

_CHUNK = 1 << 18
_BLOBS = "cache/blob"
_PARTIAL = "recorded-"  # the beginning of names of contents that are still coming
_LOST = 86400  # seconds without a byte after which nobody waits for the rest
_AT_ONCE = 8 << 20  # bytes of a content that is whole before any of it is handed on
_NOTED = frozenset({200, 203, 301, 302, 303, 307, 308, 404, 410})
_NOT_THERE = 404
_WITH_CONTENT = frozenset({200, 203})
_PRINTABLE = "".join(map(chr, range(ord(" "), ord("~") + 1)))
_HEADERS = ("Content-Type", "Content-Encoding", "Content-Disposition", "Last-Modified", "Location")
# Those of one connection, and those that ask for less than the whole content as it is.
_NOT_HANDED_ON = frozenset({
    "connection", "proxy-connection", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding",
    "upgrade", "host", "content-length", "accept-encoding", "range", "if-range", "if-match", "if-none-match",
    "if-modified-since", "if-unmodified-since", "authorization", "expect",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for a URL."""

    url: str
    method: str = "GET"  # or POST
    headers: Mapping[str, str]
    body: bytes = b""

    def noted(self, *, accept: str = "") -> Fetched:
        """What an answer to it is noted as, before it is known."""
        sent = hashlib.sha256(self.body).hexdigest() if self.method == "POST" else ""
        return Fetched(url=self.url, method=self.method, sent=sent, accept=accept)

    @property
    def accept(self) -> str:
        """The header of that name."""
        return next((value for name, value in self.headers.items() if name.lower() == "accept"), "")


class Reply:
    """How an answer goes back to who asked; all of it may be ignored when nobody listens any more."""

    def begin(self, status: int, headers: Mapping[str, str], size: int) -> None:
        """The status, and what the content is; its bytes follow."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Some bytes of it."""
        raise NotImplementedError

    def fail(self, status: int, why: str) -> None:
        """There is no answer."""
        raise NotImplementedError


class Tape:
    """Answers, by what they were an answer to; with `known` those of a lock, whose contents are in the store."""

    def __init__(self, store: Store, known: Iterable[Fetched] | None) -> None:
        self._store = store
        for left in (store.directory / PARTIAL).glob(f"{_PARTIAL}*"):  # by builds that were killed
            with suppress(OSError):
                if time.time() - left.stat().st_mtime > _LOST:
                    left.unlink()
        self._plays = known is not None
        self._noted = {each.key: each for each in known or ()}
        self._client = Client(known=False)  # what a script asks for is asked for in nobody's name
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self.problems: list[str] = []

    @property
    def noted(self) -> tuple[Fetched, ...]:
        """All answers so far."""
        with self._lock:
            return tuple(self._noted.values())

    def problem(self, what: str) -> None:
        """Remembers, once, what may be why a build failed."""
        with self._lock:
            if what not in self.problems:
                self.problems.append(what)

    def answer(self, asked: Asked, reply: Reply) -> None:
        """Answers from what is noted, else from the server, whose answer is noted then."""
        with self._lock:
            one = self._locks.setdefault(asked.url, threading.Lock())
        with one:
            keys = (asked.noted(accept=asked.accept).key, asked.noted().key)
            found = next((self._noted[key] for key in keys if key in self._noted), None)
            if not self._plays and (found is None or found.status >= _NOT_THERE):  # what may come to be there
                self._ask(asked, reply)
                return
        if found is None:
            self.problem(f"{asked.url}: not in the lock")
            reply.fail(404, "not in the lock")
        elif not found.sha256:
            reply.begin(found.status, found.headers, 0)
        else:
            self._play(found, reply)

    def _play(self, found: Fetched, reply: Reply) -> None:
        file = self._store.open(Digest("sha256", found.sha256), found.size)
        if file is None:
            self.problem(f"{found.url}: its content is gone")
            reply.fail(502, "its content is gone")
            return
        with file:
            hashed, left, held, begun = hashlib.sha256(), found.size, b"", False
            while data := file.read(min(_AT_ONCE, left)):
                hashed.update(data)
                left -= len(data)
                if held:
                    if not begun:
                        reply.begin(found.status, found.headers, found.size)
                    begun = True
                    reply.send(held)
                held = data
        if hashed.hexdigest() != found.sha256:  # whose it is may change it at any moment: the end is never handed on
            self.problem(f"{found.url}: its content has changed since it was checked")
            reply.fail(502, "its content has changed")
            return
        if not begun:
            reply.begin(found.status, found.headers, found.size)
        reply.send(held)

    def _ask(self, asked: Asked, reply: Reply) -> None:
        names = {name.lower(): name for name in asked.headers}
        headers = {name: asked.headers[name] for low, name in names.items() if low not in _NOT_HANDED_ON}
        authorization = asked.headers[names["authorization"]] if "authorization" in names else ""
        try:
            with self._client.send(
                asked.method,
                asked.url,
                headers=headers,
                authorization=authorization,
                body=asked.body if asked.method == "POST" else None,
                followed=False,
            ) as answer:
                self._note(asked, answer, reply)
        except (NetworkError, FileError) as error:
            self.problem(str(error))
            reply.fail(502, error.what)

    def _note(self, asked: Asked, answer: Answer, reply: Reply) -> None:
        headers = {name: _plain(answer.headers[name]) for name in _HEADERS if name in answer.headers}
        if answer.status not in _NOTED:
            more = {name: answer.headers[name] for name in ("WWW-Authenticate",) if name in answer.headers}
            data = answer.drain()
            reply.begin(answer.status, headers | more, len(data))
            reply.send(data)
            return
        varies = "accept" in answer.headers.get("Vary", "").lower().replace(",", " ").split()
        varies = varies and asked.accept == _plain(asked.accept)
        made = replace(asked.noted(accept=asked.accept if varies else ""), status=answer.status, headers=headers)
        if answer.status in _WITH_CONTENT:
            digest, size = self._keep(answer, reply, headers)
            made = replace(made, sha256=digest, size=size)
        else:
            answer.drain()
            reply.begin(answer.status, headers, 0)
        with self._lock:
            self._noted[made.key] = made

    def _keep(self, answer: Answer, reply: Reply, headers: Mapping[str, str]) -> tuple[str, int]:
        """Puts a content into the store while it is handed on; digest and size. Raises NetworkError and FileError."""
        place = self._store.directory / PARTIAL / f"{_PARTIAL}{secrets.token_hex(8)}"
        told, hashed, size = answer.length, hashlib.sha256(), 0
        at_once = told is None or told <= _AT_ONCE
        if not at_once:
            reply.begin(answer.status, headers, told or 0)
        try:
            with place.open("x+b") as file:
                while data := answer.read(_CHUNK):
                    hashed.update(data)
                    file.write(data)
                    size += len(data)
                    if not at_once:
                        reply.send(data)
                file.flush()
                self._store.take(place, Digest("sha256", hashed.hexdigest()))
                if at_once:
                    reply.begin(answer.status, headers, size)
                    _send(file, reply.send)
        except OSError as error:
            raise FileError.because(place, error) from error
        finally:
            with suppress(OSError):
                place.unlink()
        return hashed.hexdigest(), size


def _plain(value: str) -> str:
    """A header as a lock has it: letters beyond ASCII, and what would end the line, as in URLs."""
    return urllib.parse.quote(value, safe=_PRINTABLE, encoding="latin-1", errors="replace")


def _send(file: BinaryIO, send: Callable[[bytes], None]) -> None:
    file.seek(0)
    while data := file.read(_CHUNK):
        send(data)


def opened(place: Path, others: Sequence[Path] = ()) -> Store:
    """The store below a directory, as a cache has it; `others` are such directories that are only read."""
    return Store(place / _BLOBS, [each / _BLOBS for each in others])
