"""The one client of the network: requests over http and https, redirects, retries; urllib3 below it.

Servers of https prove who they are, to the system's certificates or those that SSL_CERT_FILE or a `certs.d` directory
names. What authorizes a request goes to the server that it is for, never to one that this sends us on to, and never
from https to http (security requirements N1 and N3). URLs are shown without their queries, which may hold signatures.
"""

import email.utils
import logging
import ssl
import time
import urllib.parse
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Self

import urllib3
from urllib3 import exceptions

from singularity import __version__
from singularity.errors import NetworkError, RegistryError, SingularityError
from singularity.web import proxies, trust

logger = logging.getLogger(__name__)
logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # it would show queries
urllib3.disable_warnings(exceptions.InsecureRequestWarning)  # only where a file of the user's or the site's says so

_AGENT = f"singularity/{__version__}"
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_REDIRECTS_LIMIT = 10
_NOT_STRICT = range(80, 94)  # X509_V_ERR_*: what OpenSSL refuses where it checks strictly, as Python does since 3.13
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})  # what OpenSSL makes of servers without it
_UPLOAD_BLOCK = 1 << 18  # bytes that are read and sent at a time
_DIGITS = 20
_ERROR_LIMIT = 64 << 10  # bytes of an error's text that are looked at

Body = bytes | Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a server is waited for; seconds."""

    connect: float = 30
    stall: float = 60  # without a byte
    taking_in: float = 600  # the same, of a server that was given a file, which it checks
    delays: tuple[float, ...] = (1, 2, 4, 8)  # before each new attempt
    longest: float = 120  # that a server may ask us to stay away


@dataclass(frozen=True, slots=True)
class Origin:
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


def shown(url: str) -> str:
    """A URL for messages: without a query or a password."""
    before, slashes, rest = url.partition("://")
    if not slashes:
        return url.partition("?")[0][:300]
    place, slash, path = rest.partition("/")
    return f"{before}://{place.rpartition('@')[2]}{slash}{path}".partition("?")[0].partition("#")[0][:300]


def number(text: str) -> int | None:
    """A number that a server says; None for what is none, or more than any file has: of such, int() raises."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else None


class Answer:
    """What a server answers: status and headers, and the body, which is read as a stream. Closed by `with`."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self.url = url  # after redirects
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers  # names in any case

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the server says it."""
        return number(self.headers.get("Content-Length", ""))

    def every(self, name: str) -> list[str]:
        """All values of a header that may be there more than once."""
        return list(self._response.headers.getlist(name))

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as they come; none at the end. Raises NetworkError when the connection breaks."""
        try:
            return self._response.read1(size, decode_content=False)
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise NetworkError(f"{shown(self.url)}: {_reason(error)}") from error

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
        if self._response.length_remaining == 0:
            self._response.drain_conn()  # nothing is left, but the connection must see the end
            self._response.release_conn()
        else:
            self._response.close()


class Client:
    """Connections to servers, kept for the next request; used by several threads at once.

    Servers that want to know who asks are shown the user's certificates for them, if the client is to be `known`.
    """

    def __init__(self, patience: Patience | None = None, *, known: bool = True) -> None:
        self.patience = patience or Patience()
        self._known = known
        self._pools: dict[tuple[str, str, bool], urllib3.PoolManager] = {}

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
        is_secret: bool = False,
        followed: bool = True,
    ) -> Answer:
        """One request, through redirects; the answer's status is one of `accept`, or an error that is no passing one.

        A `body` that is a function opens a stream of `length` bytes, anew for each attempt. With `again`, broken
        connections and busy servers are tried again, which is told in one line each. `authorization` goes to the
        origin of `url` only, and so does a body that `is_secret`: a redirect to another one is the answer then, and any
        redirect where it is not `followed`. Raises NetworkError.
        """
        delays = iter(self.patience.delays if again else ())
        connecting = 1  # attempts more, where nobody answers at all
        while True:
            failure: NetworkError
            asked_for: float | None = None
            try:
                answer = self._through(
                    method, url, dict(headers or {}), authorization, body, length, verified, is_secret, followed
                )
                if answer.status in accept or answer.status not in _BUSY:
                    return answer
                failure = NetworkError(f"{shown(answer.url)}: {_busy(answer)}")
                asked_for = _retry_after(answer)
                answer.drain()
            except _UnreachableError as error:
                if not connecting or error.final:
                    raise
                connecting -= 1
                failure = error
            except _BrokenError as error:
                failure = error
            self.wait(next(delays, None), failure, asked_for)

    def wait(self, delay: float | None, failure: SingularityError, asked_for: float | None = None) -> None:
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
        is_secret: bool,
        follows: bool,
    ) -> Answer:
        origin = Origin.of(url)
        for _ in range(_REDIRECTS_LIMIT + 1):
            if Origin.of(url) != origin:  # and it stays dropped, should another origin send us back
                authorization, verified = "", True
            secret = {"Authorization": authorization} if authorization else {}
            answer = self._once(method, url, headers | secret, body, length, verified=verified)
            if not follows or answer.status not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            if method not in ("GET", "HEAD") and answer.status not in _SAME_METHOD:
                return answer
            there = followed(url, answer.headers["Location"])
            if is_secret and Origin.of(there) != origin:
                return answer
            answer.drain()
            url = there
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
        extra = {"Content-Length": str(length)} if callable(body) and length is not None else {}
        stream = body() if callable(body) else None
        silence = self.patience.stall if stream is None else self.patience.taking_in
        try:
            response = self._pool(url, verified=verified).request(
                method,
                url,
                headers={"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers, **extra},
                body=stream if stream is not None else body if isinstance(body, bytes) else None,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self.patience.connect, read=silence),
            )
        except (exceptions.HTTPError, OSError, ValueError) as error:
            raise _translated(error, url) from error
        finally:
            if stream is not None:
                stream.close()
        logger.debug("%s %s: %d", method, shown(url), response.status)
        return Answer(response, url)

    def _pool(self, url: str, *, verified: bool) -> urllib3.PoolManager:
        """The connections to one host: as it proves who it is, through the proxy that is for it."""
        parts = urllib.parse.urlsplit(url)
        proxy = proxies.proxy_for(url)
        key = (parts.scheme, parts.netloc.rpartition("@")[2], verified)
        if key not in self._pools:
            is_https = parts.scheme == "https"
            context = trust.context(key[1], verified=verified, known=self._known) if is_https else None
            more = {"ssl_context": context, "blocksize": _UPLOAD_BLOCK, "maxsize": 8}
            if proxy is None:
                self._pools[key] = urllib3.PoolManager(**more)  # type: ignore[arg-type]  # of a connection pool
            else:
                logger.debug("%s: through the proxy %s", key[1], shown(proxy.url))
                more["proxy_ssl_context"] = trust.context("", verified=True) if proxy.url[:6] == "https:" else None
                headers = urllib3.make_headers(proxy_basic_auth=proxy.login) if proxy.login else None
                self._pools[key] = urllib3.ProxyManager(proxy.url, proxy_headers=headers, **more)  # type: ignore[arg-type]
        return self._pools[key]


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


class _UnreachableError(NetworkError):
    """Nobody answers. `final`: nor will soon."""

    final = False


class _BrokenError(NetworkError):
    """A connection that came about, and ended too early."""


def _translated(error: Exception, url: str) -> NetworkError:
    host = Origin.of(url).host
    if isinstance(error, exceptions.ProxyError):
        return _final(f"{shown(url)}: the proxy cannot be used: {_reason(error.original_error)}")
    if isinstance(error, exceptions.NameResolutionError):
        return _final(
            f"{shown(url)}: dial tcp: lookup {host}: no such host", hint="is the name right, and is there a network?"
        )
    if isinstance(error, exceptions.ConnectTimeoutError):  # and those that refuse
        return _UnreachableError(f"{shown(url)}: dial tcp {host}:{Origin.of(url).port}: {_reason(error)}")
    if isinstance(error, exceptions.SSLError):
        return _final(f"{shown(url)}: {_reason(error)}", hint=_advice(error))
    if isinstance(error, exceptions.LocationValueError | ValueError):
        return _final(f"{shown(url)}: no URL that can be used")
    return _BrokenError(f"{shown(url)}: {_reason(error)}")


def _final(what: str, *, hint: str = "") -> _UnreachableError:
    error = _UnreachableError(what, hint=hint)
    error.final = True
    return error


def _advice(error: exceptions.SSLError) -> str:
    """What can be done where TLS does not come about."""
    cause = _innermost(error)
    if isinstance(cause, ssl.SSLError) and cause.reason in _NO_TLS:
        return "it speaks http? then: --no-https"
    if isinstance(cause, ssl.SSLCertVerificationError) and cause.verify_code in _NOT_STRICT:
        return "the authority must issue it anew, with what RFC 5280 wants: docs/registries.md: certificates"
    return "docs/registries.md: certificates"


def _innermost(error: BaseException) -> BaseException:
    """The exception that the others are about; those of urllib3 speak of its own objects."""
    seen: list[BaseException] = []
    while error not in seen:
        seen.append(error)
        inner = [each for each in (*error.args, error.__cause__, error.__context__) if isinstance(each, BaseException)]
        error = inner[0] if inner else error
    return error


def _reason(error: BaseException) -> str:
    """The words of the innermost exception."""
    error = _innermost(error)
    if isinstance(error, exceptions.IncompleteRead) or type(error) is ValueError:  # where a piece's length should be
        return "the connection ended too early"
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return "no answer in time (i/o timeout)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"no TLS connection: {error.reason.lower().replace('_', ' ')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _busy(answer: Answer) -> str:
    if answer.status == 429:
        return "toomanyrequests: the server limits how much is fetched (StatusCode: 429)"
    return f"the server is busy or broken (StatusCode: {answer.status})"


def _retry_after(answer: Answer) -> float | None:
    """Seconds that the server asks us to wait."""
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{round(minutes / 60)} hours"
