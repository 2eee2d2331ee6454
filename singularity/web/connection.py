"""Connections to servers: straight, through a proxy, or through a tunnel of one.

A connection is asked one thing at a time. What its server does wrong is one of two errors: nobody answers, or a
connection that had come about breaks. Whether another attempt is worth it, `http` decides.
"""

import select
import socket
import urllib.parse
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO, cast

from singularity.errors import NetworkError
from singularity.web.message import ProtocolError, Response, request_head
from singularity.web.proxies import Proxy

if TYPE_CHECKING:
    import ssl

_NOT_STRICT = range(80, 94)  # X509_V_ERR_*: what OpenSSL refuses where it checks strictly, as Python does since 3.13
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})  # what OpenSSL makes of servers without it
_BLOCK = 1 << 18  # bytes of an upload that are read and sent at a time
_IN_TARGETS = "!$%&'()*+,/:;=?@[]~"  # what stays as it is where a URL has it
_WITH_LENGTH = frozenset({"POST", "PUT", "PATCH"})


class UnreachableError(NetworkError):
    """Nobody answers. `final`: nor will soon."""

    final = False


class BrokenError(NetworkError):
    """A connection that came about, and ended too early."""


def shown(url: str) -> str:
    """A URL for messages: without a query or a password."""
    before, slashes, rest = url.partition("://")
    if not slashes:
        return url.partition("?")[0][:300]
    place, slash, path = rest.partition("/")
    return f"{before}://{place.rpartition('@')[2]}{slash}{path}".partition("?")[0].partition("#")[0][:300]


class Connection:
    """One to the server of a URL; connected when it is first used, closed at the latest when nobody has it any more."""

    _sock: socket.socket | None = None
    _response: Response | None = None

    def __init__(
        self, url: str, proxy: Proxy | None, contexts: "Callable[[str], ssl.SSLContext]", patience: float
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._place = parts.netloc.rpartition("@")[2]
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._is_tls else 80)
        self._proxy = proxy
        self._contexts = contexts  # what is asked of a server, by its name; of a proxy, with an empty one
        self._patience = patience  # seconds until it must have come about

    def is_usable(self) -> bool:
        """Whether it can be asked again: the server has not ended it since, nor said more than it was asked for."""
        if self._sock is None or self._response is None or not (self._response.is_ended and self._response.keeps):
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return not poll.poll(0)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Ends it."""
        if self._response is not None:
            self._response.close()
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def ask(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | BinaryIO | None, silence: float
    ) -> Response:
        """One request to this server, which may be silent for so many seconds. Raises NetworkError, and is closed."""
        try:
            sock = self._sock or self._connected(url)
            sock.settimeout(silence)
            self._response = self._asked(sock, method, url, dict(headers), body)
        except BaseException as error:
            self.close()
            if isinstance(error, OSError | ProtocolError):
                raise _tls_fault(error, url) or BrokenError(f"{shown(url)}: {reason(error)}") from error
            if isinstance(error, ValueError):
                raise _final(f"{shown(url)}: no URL that can be used") from error
            raise
        return self._response

    def _asked(
        self, sock: socket.socket, method: str, url: str, headers: dict[str, str], body: bytes | BinaryIO | None
    ) -> Response:
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.quote(f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", safe=_IN_TARGETS)
        if self._proxy and not self._is_tls:
            target = f"http://{self._place}{target}"
            headers |= self._proxy.headers
        if isinstance(body, bytes) or (body is None and method in _WITH_LENGTH):
            headers["Content-Length"] = str(len(body or b""))
        head = request_head(method, target, {"Host": self._place, **headers})
        try:
            sock.sendall(head + body if isinstance(body, bytes) else head)
            while body and not isinstance(body, bytes) and (block := body.read(_BLOCK)):
                sock.sendall(block)
        except (BrokenPipeError, ConnectionResetError):
            if body is None:
                raise  # else a server that does not want to read it all: it may have said why
        return _answer(sock, method)

    def _connected(self, url: str) -> socket.socket:
        """A new one. Raises UnreachableError where nobody is there, or somebody who does not prove who she is."""
        context = self._contexts(self._place) if self._is_tls else None
        if self._proxy is None:
            self._sock = self._dialled(url)
            return self._secured(context) if context else self._sock
        try:
            at = urllib.parse.urlsplit(self._proxy.url)
            is_secure = at.scheme == "https"
            place = at.hostname or "", at.port or (443 if is_secure else 80)
            self._sock = _opened(place, self._patience)
            if is_secure:
                self._sock = self._contexts("").wrap_socket(self._sock, server_hostname=place[0])
            if self._is_tls:
                self._open_tunnel(self._sock, self._proxy)
        except (OSError, ProtocolError) as error:
            broken = _tls_fault(error, url)
            raise broken or _final(f"{shown(url)}: the proxy cannot be used: {reason(error)}") from error
        return self._secured(context, is_inner=is_secure) if context else self._sock

    def _dialled(self, url: str) -> socket.socket:
        try:
            return _opened((self._host, self._port), self._patience)
        except socket.gaierror as error:
            what = f"{shown(url)}: dial tcp: lookup {self._host}: no such host"
            raise _final(what, hint="is the name right, and is there a network?") from error
        except OSError as error:
            what = f"{shown(url)}: dial tcp {self._host}:{self._port}: {reason(error)}"
            raise UnreachableError(what) from error

    def _open_tunnel(self, sock: socket.socket, proxy: Proxy) -> None:
        place = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        sock.sendall(request_head("CONNECT", place, {"Host": place, **proxy.headers}))
        response = _answer(sock, "CONNECT")
        response.close()
        if not response.is_ended:
            raise ProtocolError(f"it opens no tunnel (StatusCode: {response.status})")

    def _secured(self, context: "ssl.SSLContext", *, is_inner: bool = False) -> socket.socket:
        """The socket with TLS, within TLS where the proxy speaks it too."""
        name = self._host.rstrip(".")
        if is_inner:
            from singularity.web.inner_tls import InnerTls

            self._sock = cast("socket.socket", InnerTls(cast("ssl.SSLSocket", self._sock), context, name))
        else:
            self._sock = context.wrap_socket(cast("socket.socket", self._sock), server_hostname=name)
        return self._sock


def _answer(sock: socket.socket, method: str) -> Response:
    file = sock.makefile("rb")
    try:
        return Response(file, method)
    except BaseException:
        file.close()
        raise


def _opened(place: tuple[str, int], patience: float) -> socket.socket:
    host, port = place
    plain = cast("str", host.encode()) if host.isascii() else host  # which Python need not look up how to encode
    sock = socket.create_connection((plain, port), patience)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _final(what: str, *, hint: str = "") -> UnreachableError:
    error = UnreachableError(what, hint=hint)
    error.final = True
    return error


def _tls_fault(error: Exception, url: str) -> UnreachableError | None:
    """What it is called, and what can be done, where TLS does not come about; None for another fault."""
    import ssl

    if not isinstance(error, ssl.SSLError):
        return None
    hint = "docs/registries.md: certificates"
    if error.reason in _NO_TLS:
        hint = "it speaks http? then: --no-https"
    elif isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _NOT_STRICT:
        hint = f"the authority must issue it anew, with what RFC 5280 wants: {hint}"
    return _final(f"{shown(url)}: {reason(error)}", hint=hint)


def reason(error: BaseException) -> str:
    """The words of an exception of the libraries below."""
    import ssl

    if isinstance(error, TimeoutError):
        return "no answer in time (i/o timeout)"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"no TLS connection: {error.reason.lower().replace('_', ' ')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
