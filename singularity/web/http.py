"""The one client of the network: requests over http and https, redirects, retries.

Servers of https prove who they are, to the system's certificates or those that SSL_CERT_FILE or a `certs.d` directory
names. What authorizes a request goes to the server that it is for, never to one that this sends us on to, and never
from https to http (security requirements N1 and N3). URLs are shown without their queries, which may hold signatures.
"""

import logging
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Self

from singularity import __version__
from singularity.errors import NetworkError, RegistryError
from singularity.web import proxies
from singularity.web.connection import BrokenError, Connection, UnreachableError, reason
from singularity.web.connection import shown as shown
from singularity.web.message import ProtocolError, Response

if TYPE_CHECKING:
    import ssl

logger = logging.getLogger(__name__)

_AGENT = f"singularity/{__version__}"
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_REDIRECTS_LIMIT = 10
_IDLE = 8  # connections to one server that are kept
_ERROR_LIMIT = 64 << 10  # bytes of an error's text that are looked at

Body = bytes | Callable[[], BinaryIO]


class Patience(NamedTuple):
    """How long a server is waited for; seconds."""

    connect: float = 30
    stall: float = 60  # without a byte
    taking_in: float = 600  # the same, of a server that was given a file, which it checks
    delays: tuple[float, ...] = (1, 2, 4, 8)  # before each new attempt
    longest: float = 120  # that a server may ask us to stay away


class Origin(NamedTuple):
    """Who answers: what is secret to one origin is not for another."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """The origin of a URL. Raises NetworkError for one that is none of http and https."""
        try:
            parts = urllib.parse.urlsplit(url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as error:
            raise NetworkError(f"{shown(url)}: no URL") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise NetworkError(f"{shown(url)}: neither an http nor an https URL")
        return cls(parts.scheme, parts.hostname.lower(), port)


class Answer:
    """What a server answers: status and headers, and the body, which is read as a stream. Closed by `with`."""

    def __init__(self, response: Response, url: str, connection: Connection, idle: list[Connection]) -> None:
        self._response = response
        self._connection: Connection | None = connection
        self._idle = idle
        self.url = url  # after redirects
        self.status = response.status
        self.headers = response.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the server says it."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdecimal() else None

    def every(self, name: str) -> list[str]:
        """All values of a header that may be there more than once."""
        return self.headers.every(name)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as they come; none at the end. Raises NetworkError when the connection breaks."""
        try:
            return self._response.read(size)
        except (ProtocolError, OSError) as error:
            raise NetworkError(f"{shown(self.url)}: {reason(error)}") from error

    def whole(self, limit: int) -> bytes:
        """The body, of at most `limit` bytes. Raises NetworkError, and RegistryError for a larger one."""
        data = bytearray()
        while piece := self.read(limit + 1 - len(data)):
            data += piece
            if len(data) > limit:
                raise RegistryError(f"{shown(self.url)}: an answer of more than {limit} bytes")
        return bytes(data)

    def drain(self) -> bytes:
        """What an answer that is an error says; the connection can be used again."""
        data = b""
        try:
            while len(data) < _ERROR_LIMIT and (piece := self.read(_ERROR_LIMIT)):
                data += piece
        except NetworkError:
            pass
        self.close()
        return data

    def close(self) -> None:
        """Ends it; a connection whose answer was read to the end is kept."""
        if self._connection is None:
            return
        connection, self._connection = self._connection, None
        self._response.close()
        if len(self._idle) < _IDLE and connection.is_usable():
            self._idle.append(connection)
        else:
            connection.close()


class Client:
    """Connections to servers, kept for the next request; used by several threads at once."""

    def __init__(self, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._idle: dict[tuple[str, str, bool], list[Connection]] = {}
        self._contexts: dict[tuple[str, bool], ssl.SSLContext] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
        body: Body | None = None,
        length: int | None = None,
        accept: Collection[int] = (200,),
        verified: bool = True,
        again: bool = True,
    ) -> Answer:
        """One request, through redirects; the answer's status is one of `accept`, or an error that is no passing one.

        A `body` that is a function opens a stream of `length` bytes, anew for each attempt. With `again`, broken
        connections and busy servers are tried again, which is told in one line each. `authorization` goes to the
        origin of `url` only. Raises NetworkError.
        """
        delays = iter(self.patience.delays if again else ())
        connecting = 1  # attempts more, where nobody answers at all
        while True:
            failure: NetworkError
            asked_for: float | None = None
            try:
                answer = self._through(method, url, dict(headers or {}), authorization, body, length, verified)
                if answer.status in accept or answer.status not in _BUSY:
                    return answer
                failure = NetworkError(f"{shown(answer.url)}: {_busy(answer)}")
                asked_for = _retry_after(answer)
                answer.drain()
            except UnreachableError as error:
                if not connecting or error.final:
                    raise
                connecting -= 1
                failure = error
            except BrokenError as error:
                failure = error
            self.wait(next(delays, None), failure, asked_for)

    def wait(self, delay: float | None, failure: NetworkError, asked_for: float | None = None) -> None:
        """Before another attempt, `delay` seconds and at least what the server asks for; says so in one line.

        Raises the failure where there is none.
        """
        if asked_for is not None and asked_for > self.patience.longest:
            raise NetworkError(f"{failure}, and says to come back in {_duration(asked_for)}") from failure
        if delay is None:
            raise failure
        delay = max(delay, asked_for or 0)
        logger.info("%s; trying again in %g s", failure, delay)
        time.sleep(delay)

    def _through(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        authorization: str,
        body: Body | None,
        length: int | None,
        verified: bool,
    ) -> Answer:
        origin = Origin.of(url)
        for _ in range(_REDIRECTS_LIMIT + 1):
            if Origin.of(url) != origin:  # and it stays dropped, should another origin send us back
                authorization, verified = "", True
            secret = {"Authorization": authorization} if authorization else {}
            answer = self._once(method, url, headers | secret, body, length, verified=verified)
            if answer.status not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            if method not in ("GET", "HEAD") and answer.status not in _SAME_METHOD:
                return answer
            answer.drain()
            url = followed(url, answer.headers.get("Location", ""))
        raise NetworkError(f"{shown(url)}: sent on more than {_REDIRECTS_LIMIT} times")

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        length: int | None,
        *,
        verified: bool,
    ) -> Answer:
        place = urllib.parse.urlsplit(url)
        idle = self._idle.setdefault((place.scheme, place.netloc.rpartition("@")[2], verified), [])
        extra = {"Content-Length": str(length)} if callable(body) and length is not None else {}
        stream = body() if callable(body) else None
        silence = self.patience.stall if stream is None else self.patience.taking_in
        try:
            connection = self._connection(url, idle, verified=verified)
            response = connection.ask(
                method,
                url,
                {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers, **extra},
                stream if stream is not None else body if isinstance(body, bytes) else None,
                silence,
            )
        finally:
            if stream is not None:
                stream.close()
        logger.debug("%s %s: %d", method, shown(url), response.status)
        return Answer(response, url, connection, idle)

    def _connection(self, url: str, idle: list[Connection], *, verified: bool) -> Connection:
        """One of the connections to a server that nobody uses just now, or a new one, by the proxy that is for it."""
        while True:
            try:
                connection = idle.pop()  # by one thread at a time, whoever else is at it
            except IndexError:
                break
            if connection.is_usable():
                return connection
            connection.close()
        proxy = proxies.proxy_for(url)
        if proxy is not None:
            logger.debug("%s: through the proxy %s", shown(url), shown(proxy.url))
        return Connection(url, proxy, partial(_context, self._contexts, verified), self.patience.connect)


def _context(known: dict[tuple[str, bool], "ssl.SSLContext"], verified: bool, name: str) -> "ssl.SSLContext":
    """What is asked of a server; of a proxy, which has no name here, always to prove who it is."""
    key = (name, verified or not name)
    if key not in known:
        from singularity.web import trust

        known[key] = trust.context(name, verified=key[1])
    return known[key]


def followed(url: str, location: str) -> str:
    """Where a server sends us on to from `url`. Raises NetworkError for a place that is less safe."""
    try:
        there = urllib.parse.urljoin(url, location.strip())
        parts = urllib.parse.urlsplit(there)
    except ValueError as error:
        raise NetworkError(f"{shown(url)}: sent on to what is no URL") from error
    if Origin.of(there).scheme == "http" and Origin.of(url).scheme == "https":
        raise NetworkError(f"{shown(url)}: sent on to {shown(there)}, which is less safe", hint="not followed")
    if "@" in parts.netloc:
        raise NetworkError(f"{shown(url)}: sent on to a URL with a user in it", hint="not followed")
    return there


def _busy(answer: Answer) -> str:
    if answer.status == 429:
        return "toomanyrequests: the server limits how much is fetched (StatusCode: 429)"
    return f"the server is busy or broken (StatusCode: {answer.status})"


def _retry_after(answer: Answer) -> float | None:
    """Seconds that the server asks us to wait."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    import email.utils

    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
