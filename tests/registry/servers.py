"""Servers of the tests, all on loopback: registries of the distribution, and what may stand in front of them.

A `Registry` is Debian's docker-registry, in the clear or by TLS, open, with passwords, or with tokens of a
`TokenService`. A `Front` relays to one and has the faults it is given. `static` serves a directory, with ranges or
without. A `Proxy` is a forward proxy that knows names which no resolver knows. Each notes what it was asked.
"""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import math
import re
import select
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

USER, PASSWORD = "alice", "rabbit: hole 7"
_HTPASSWD = "alice:$2b$04$kak4/.eN7i4H.Ui2srYUo..cZU3bD3HfBVdlK7vVc2j8wlO1F/HbK\n"  # of the above
_START_LIMIT = 20.0  # seconds
_CHUNK = 1 << 16
_HOP = {"connection", "keep-alive", "transfer-encoding", "proxy-connection", "proxy-authorization", "host"}


def _run(*words: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run([str(word) for word in words], input=data, capture_output=True, check=True).stdout


@dataclass(frozen=True)
class Certificates:
    """An authority that nobody knows but the tests, and what it says about this machine's own name."""

    authority: Path
    certificate: Path
    key: Path

    @classmethod
    def make(cls, place: Path, *, usage: bool = True) -> Certificates:
        """In a directory, which is made; valid for localhost, 127.0.0.1 and the name that only a proxy knows.

        As RFC 5280 wants them; without `usage` the authority does not say what its key is for, as many do not.
        """
        place.mkdir(mode=0o755, parents=True)
        subject = "subjectAltName=DNS:localhost,IP:127.0.0.1,DNS:registry.invalid"
        new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        authority = ["-x509", "-days", "7", "-subj", "/CN=tests"]
        authority += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"] if usage else []
        _run(*new, *authority, "-keyout", place / "ca.key", "-out", place / "ca.crt")
        _run(*new, "-keyout", place / "key.pem", "-out", place / "request.pem", "-subj", "/CN=localhost")
        use = "keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n"
        (place / "extensions").write_text(f"{subject}\n{use}subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
        sign = ["openssl", "x509", "-req", "-in", place / "request.pem", "-days", "7", "-CAcreateserial"]
        sign += ["-CA", place / "ca.crt", "-CAkey", place / "ca.key", "-extfile", place / "extensions"]
        _run(*sign, "-out", place / "cert.pem")
        for path in place.iterdir():
            path.chmod(0o644)
        return cls(place / "ca.crt", place / "cert.pem", place / "key.pem")

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


@dataclass(frozen=True)
class Asked:
    """One request as a server saw it; header names in lower case."""

    method: str
    path: str  # with the query
    headers: Mapping[str, str]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30
    asked: ClassVar[list[Asked]]

    def __getattr__(self, name: str) -> Callable[[], None]:
        """All methods are answered in one place."""
        if name.startswith("do_") and name != "do_CONNECT":
            return self.respond
        raise AttributeError(name)

    def respond(self) -> None:
        raise NotImplementedError

    def note(self) -> Asked:
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers)
        self.asked.append(asked)
        return asked

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        del words


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that leave in the middle are what some tests are about."""


@contextmanager
def serving(handler: type[http.server.BaseHTTPRequestHandler], context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server of a handler's answers; its `localhost:PORT`."""
    with _Server(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


# ---- registries ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Registry:
    """A running docker-registry."""

    host: str  # localhost:PORT
    root: Path  # what it stores
    tls: bool = False

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def blob(self, digest: str) -> Path:
        """Where it keeps the content of a blob."""
        hexadecimal = digest.removeprefix("sha256:")
        return self.root / "docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"

    def fill(self, source: str, name: str, *options: str) -> str:
        """Copies an image (`oci:DIR:TAG` and what else skopeo knows) to `name`, `a/b:tag`; its manifest's digest."""
        words = ["skopeo", "copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"]
        words += ["--dest-creds", f"{USER}:{PASSWORD}", *options]
        digest = self.root.parent / f"digest-{time.monotonic_ns()}"
        _run(*words, "--digestfile", digest, source, f"docker://{self.host}/{name}")
        return digest.read_text().strip()


@contextmanager
def registry(
    place: Path,
    *,
    certificates: Certificates | None = None,
    passwords: bool = False,
    tokens: TokenService | None = None,
    mirror_of: str = "",
) -> Iterator[Registry]:
    """Starts a docker-registry that stores below `place`, which is made; it is gone at the end."""
    place.mkdir(mode=0o755, parents=True)
    root = place / "storage"
    settings: dict[str, Any] = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(root)}, "delete": {"enabled": True}},
        "http": {"addr": "", "headers": {"X-Content-Type-Options": ["nosniff"]}, "secret": "of the tests"},
    }
    if certificates:
        settings["http"]["tls"] = {"certificate": str(certificates.certificate), "key": str(certificates.key)}
    if passwords:
        (place / "htpasswd").write_text(_HTPASSWD)
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(place / "htpasswd")}}
    if tokens:
        settings["auth"] = {"token": tokens.settings()}
    if mirror_of:
        settings["proxy"] = {"remoteurl": mirror_of}
    for _ in range(5):  # another process may be faster at the port
        port = _free_port()
        settings["http"]["addr"] = f"127.0.0.1:{port}"
        (place / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
        log = (place / "log").open("ab")
        process = subprocess.Popen(
            ["docker-registry", "serve", str(place / "config.yml")],
            env={"PATH": "/usr/bin:/bin", "OTEL_TRACES_EXPORTER": "none"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        try:
            if _listens(port, process):
                yield Registry(f"localhost:{port}", root, tls=certificates is not None)
                return
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    raise AssertionError(f"docker-registry does not start: {(place / 'log').read_text(errors='replace')}")


def _free_port() -> int:
    with socket.socket() as each:
        each.bind(("127.0.0.1", 0))
        port: int = each.getsockname()[1]
        return port


def _listens(port: int, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + _START_LIMIT
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as each:
            if each.connect_ex(("127.0.0.1", port)) == 0:
                return process.poll() is None
        time.sleep(0.02)
    return False


# ---- tokens ----------------------------------------------------------------------------------------------------------
@dataclass
class TokenService:
    """Gives tokens that a docker-registry believes: for pulling to everybody, for pushing to `USER` alone.

    `lifetime` is what it says, in seconds; `real_lifetime` what the registry goes by.
    """

    url: str
    place: Path
    key: Path
    certificate: Path
    asked: list[Asked]
    given: list[Mapping[str, Any]] = field(default_factory=list)  # claims
    lifetime: int | None = 300
    real_lifetime: float = 300
    anonymous: bool = True
    refresh_token: str = "an identity"
    change: Callable[[bytes], bytes] = bytes

    def settings(self) -> Mapping[str, str]:
        return {
            "realm": f"{self.url}/token",
            "service": "tests of registries",
            "issuer": "tests",
            "rootcertbundle": str(self.certificate),
        }

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[int, bytes]:
        """The status and body for a request."""
        query = urllib.parse.parse_qs(body.decode() if method == "POST" else urllib.parse.urlsplit(path).query)
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        known = authorization == wanted
        if method == "POST":
            known = query.get("grant_type") == ["refresh_token"] and query.get("refresh_token") == [self.refresh_token]
        if not known and (authorization or method == "POST" or not self.anonymous):
            return 401, b'{"details":"incorrect username or password"}'
        access = [self._access(scope, known) for each in query.get("scope", []) for scope in each.split()]
        token = self.token(query["service"][0], [each for each in access if each["actions"]])
        document: dict[str, object] = {"access_token" if method == "POST" else "token": token}
        if self.lifetime is not None:
            document["expires_in"] = self.lifetime
        return 200, self.change(json.dumps(document).encode())

    def _access(self, scope: str, known: bool) -> dict[str, Any]:
        kind, name, actions = scope.split(":")[0], ":".join(scope.split(":")[1:-1]), scope.split(":")[-1].split(",")
        private = name.startswith("private/")
        allowed = [each for each in actions if known or (each == "pull" and not private)]
        return {"type": kind, "name": name, "actions": allowed}

    def token(self, service: str, access: list[dict[str, Any]]) -> str:
        now = time.time()
        claims = {
            "iss": "tests", "sub": "", "aud": service, "iat": int(now) - 120, "nbf": int(now) - 120,
            "exp": math.ceil(now + self.real_lifetime) - 60,  # the registry is a minute generous
            "jti": str(time.monotonic_ns()), "access": access,
        }  # fmt: skip
        self.given.append(claims)
        der = _run("openssl", "x509", "-in", self.certificate, "-outform", "DER")
        header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        text = ".".join(_base64url(json.dumps(each).encode()) for each in (header, claims))
        return f"{text}.{_base64url(_run('openssl', 'dgst', '-sha256', '-sign', self.key, data=text.encode()))}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def token_service(place: Path, certificates: Certificates | None = None) -> Iterator[TokenService]:
    """A token service; its key and certificate are below `place`, which is made."""
    place.mkdir(mode=0o755, parents=True)
    key, certificate = place / "token.key", place / "token.crt"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", "-subj", "/CN=tokens"]
    _run(*words, "-keyout", key, "-out", certificate)

    class Handler(_Handler):
        asked: ClassVar[list[Asked]] = []

        def respond(self) -> None:
            self.note()
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            status, answer = service.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            self.answer(status, answer, Content_Type="application/json")

    with serving(Handler, certificates.context() if certificates else None) as host:
        scheme = "https" if certificates else "http"
        service = TokenService(f"{scheme}://{host}", place, key, certificate, Handler.asked)
        yield service


# ---- what goes wrong -------------------------------------------------------------------------------------------------
@dataclass
class Fault:
    """What a `Front` does to the next `times` requests that fit: in place of relaying them, or on the way back."""

    path: str = ""  # a regular expression that is found in it
    method: str = ""
    times: int = 1
    status: int = 0  # answers with this, and relays nothing
    headers: Mapping[str, str] = field(default_factory=dict)  # of that answer; or else replace those of the real one
    body: bytes = b""  # of that answer
    close_at: int | None = None  # cuts the connection after so many bytes of the body; -1: without an answer
    stall_at: int | None = None  # goes silent there, for `stall` seconds
    stall: float = 0
    rate: int = 0  # bytes a second
    change: Callable[[bytes], bytes] | None = None  # the body that is sent in place of the real one
    without_ranges: bool = False  # the server knows no ranges
    without: tuple[str, ...] = ()  # headers of the answer that are left out

    def fits(self, asked: Asked) -> bool:
        return (
            self.times > 0
            and (not self.method or asked.method == self.method)
            and re.search(self.path, asked.path) is not None
        )


@dataclass
class Front:
    """A server that stands before another one. Faults are tried in order; the first that fits counts."""

    host: str
    upstream: str
    url: str
    asked: list[Asked]
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fault(self, asked: Asked) -> Fault:
        with self.lock:
            for each in self.faults:
                if each.fits(asked):
                    each.times -= 1
                    return each
        return Fault()

    def count(self, path: str, method: str = "") -> int:
        """How many requests there were with a path like this."""
        return sum(1 for each in self.asked if re.search(path, each.path) and method in ("", each.method))


@contextmanager
def front(
    upstream: str, certificates: Certificates | None = None, *, upstream_certificates: Certificates | None = None
) -> Iterator[Front]:
    """A `Front` of `upstream`, `HOST:PORT`."""

    class Handler(_Handler):
        asked: ClassVar[list[Asked]] = []

        def respond(self) -> None:
            asked = self.note()
            length = int(self.headers.get("Content-Length", "0"))
            _relay(self, server, server.fault(asked), self.rfile.read(length) if length else b"", upstream_certificates)

    with serving(Handler, certificates.context() if certificates else None) as host:
        server = Front(host, upstream, f"{'https' if certificates else 'http'}://{host}", Handler.asked)
        yield server


def _relay(
    handler: _Handler, server: Front, fault: Fault, body: bytes, upstream_certificates: Certificates | None
) -> None:
    if fault.close_at == -1:
        _cut(handler)
        return
    if fault.status:
        headers = {"Content-Length": str(len(fault.body)), **fault.headers}
        _send(handler, fault, fault.status, headers, [] if handler.command == "HEAD" else [fault.body])
        return
    left_out = {*_HOP, "range"} if fault.without_ranges else _HOP
    headers = {name: value for name, value in handler.headers.items() if name.lower() not in left_out}
    headers["Host"] = server.host  # so that the locations it gives lead here
    if upstream_certificates:
        context = ssl.create_default_context(cafile=str(upstream_certificates.authority))
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(server.upstream, context=context)
    else:
        connection = http.client.HTTPConnection(server.upstream)
    with ExitStack() as stack:
        stack.callback(connection.close)
        if server.url.startswith("https:"):
            headers["X-Forwarded-Proto"] = "https"
        connection.request(handler.command, handler.path, body or None, headers)
        answer = connection.getresponse()
        away = {*_HOP, *(name.lower() for name in (*fault.without, *fault.headers))}
        back = {name: value for name, value in answer.getheaders() if name.lower() not in away} | dict(fault.headers)
        pieces: Iterator[bytes] | list[bytes] = iter(lambda: answer.read(_CHUNK), b"")
        if fault.change is not None:
            data = fault.change(answer.read())
            back["Content-Length"] = str(len(data))
            pieces = [data]
        _send(handler, fault, answer.status, back, pieces)


def _send(
    handler: _Handler, fault: Fault, status: int, headers: Mapping[str, str], pieces: Iterator[bytes] | list[bytes]
) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.end_headers()
    sent = 0
    for piece in pieces:
        for part in _parts(piece, sent, fault):
            if fault.close_at is not None and sent >= fault.close_at:
                _cut(handler)
                return
            if fault.stall_at is not None and sent >= fault.stall_at:
                handler.wfile.flush()
                time.sleep(fault.stall)
            handler.wfile.write(part)
            sent += len(part)
            if fault.rate:
                time.sleep(len(part) / fault.rate)
    if fault.close_at is not None:
        _cut(handler)


def _parts(piece: bytes, sent: int, fault: Fault) -> Iterator[bytes]:
    """A piece, cut where something is to happen."""
    step = max(1, min(len(piece), fault.rate // 20)) if fault.rate else max(1, len(piece))
    at = 0
    while at < len(piece):
        end = at + step
        for mark in (fault.close_at, fault.stall_at):
            if mark is not None and sent + at < mark < sent + end:
                end = mark - sent
        yield piece[at:end]
        at = end


def _cut(handler: _Handler) -> None:
    """As if the machine had gone away: what was written goes out, then the connection ends."""
    handler.close_connection = True
    handler.wfile.flush()
    handler.connection.shutdown(socket.SHUT_RDWR)


# ---- files -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Static:
    """A web server of files."""

    url: str
    asked: list[Asked]


@contextmanager
def static(
    place: Path, certificates: Certificates | None = None, *, ranges: bool = True, rate: float = 0
) -> Iterator[Static]:
    """Serves the files below a directory, with Last-Modified; single ranges only; `rate` bytes a second, if not 0."""

    class Handler(_Handler):
        asked: ClassVar[list[Asked]] = []

        def respond(self) -> None:
            self.note()
            path = place / urllib.parse.unquote(urllib.parse.urlsplit(self.path).path).lstrip("/")
            if not path.is_file() or ".." in path.parts:
                self.answer(404, b"not here")
                return
            size = path.stat().st_size
            start, end = 0, size
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if ranges else None
            if match:
                start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
                if start >= size:
                    self.answer(416, Content_Range=f"bytes */{size}")
                    return
            self.send_response(206 if match else 200)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Last-Modified", self.date_time_string(path.stat().st_mtime))
            self.send_header("ETag", f'"{path.stat().st_mtime_ns}-{size}"')
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            if match:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
            self.end_headers()
            if self.command == "GET":
                with path.open("rb") as file:
                    file.seek(start)
                    while start < end and (data := file.read(min(_CHUNK, end - start))):
                        self.wfile.write(data)
                        start += len(data)
                        time.sleep(len(data) / rate if rate else 0)

    with serving(Handler, certificates.context() if certificates else None) as host:
        yield Static(f"{'https' if certificates else 'http'}://{host}", Handler.asked)


# ---- a forward proxy -------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Proxy:
    """A forward proxy; `names` are hosts, `NAME:PORT`, that it knows another address of."""

    url: str
    asked: list[Asked]
    names: dict[str, str]


@contextmanager
def proxy() -> Iterator[Proxy]:
    """A forward proxy for requests in the clear and for tunnels."""
    names: dict[str, str] = {}

    class Handler(_Handler):
        asked: ClassVar[list[Asked]] = []

        def do_CONNECT(self) -> None:
            self.note()
            host, _, port = names.get(self.path, self.path).rpartition(":")
            with socket.create_connection((host, int(port))) as there:
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                _pump(self.connection, there)
            self.close_connection = True

        def respond(self) -> None:
            self.note()
            parts = urllib.parse.urlsplit(self.path)
            length = int(self.headers.get("Content-Length", "0"))
            connection = http.client.HTTPConnection(names.get(parts.netloc, parts.netloc))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP - {"host"}}
            target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
            connection.request(self.command, target, self.rfile.read(length) if length else None, headers)
            answer = connection.getresponse()
            back = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
            _send(self, Fault(), answer.status, back, iter(lambda: answer.read(_CHUNK), b""))
            connection.close()

    with serving(Handler) as host:
        yield Proxy(f"http://{host}", Handler.asked, names)


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carries bytes both ways until one side ends."""
    partner = {one: other, other: one}
    while True:
        ready, _, _ = select.select([one, other], [], [], 30)
        if not ready:
            return
        for each in ready:
            data = each.recv(_CHUNK)
            if not data:
                return
            partner[each].sendall(data)
