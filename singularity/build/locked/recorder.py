"""A proxy on the loopback interface, a process of its own, that all of a build's requests go through.

It speaks HTTP/1.1 as a proxy (RFC 9112, 3.2.2), and answers `CONNECT` in the name of the server, with a certificate of
the build's own authority. Only who knows the password in the proxy's URL is served: other users of this machine are
not. A process, since builds make user namespaces, which a process with threads cannot.
"""

import base64
import http.server
import json
import logging
import os
import re
import secrets
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NoReturn

from singularity import documents, process
from singularity.build.locked.authority import Authority
from singularity.build.locked.document import Fetched
from singularity.build.locked.tape import Asked, Reply, Tape
from singularity.cache.blob_store import Store
from singularity.errors import BuildError, SingularityError

logger = logging.getLogger(__name__)

_USER = "build"
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?|\[?[0-9a-f:.]+\]?", re.ASCII)
_SENT_LIMIT = 64 << 20  # bytes of a request's body
_PORT = {"http": ":80", "https": ":443"}
_BACKLOG = 128
_MOMENT = 5.0  # seconds in which this machine answers itself
_SILENCE = 600  # seconds of a client that says nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a recorder has seen."""

    fetched: tuple[Fetched, ...]
    problems: tuple[str, ...]


class Recorder:
    """A running recorder, from the side of who started it."""

    def __init__(self, store: Store, authority: Authority, known: Iterable[Fetched] | None = None) -> None:
        """Starts one that keeps contents in a store; with `known` it plays that back, and asks no server."""
        password = secrets.token_hex(16)
        listening = _listening()
        self.url = f"http://{_USER}:{password}@127.0.0.1:{listening.getsockname()[1]}"
        self._ours, theirs = socket.socketpair()
        parent = os.getpid()

        def work() -> NoReturn:
            process.begin(parent)
            self._ours.close()
            _serve(listening, Tape(store, known), authority, password, theirs)

        self._process = process.fork(work)
        listening.close()
        theirs.close()

    def finish(self) -> Report:
        """Ends it; what it has seen. Raises BuildError when it has ended before."""
        try:
            self._ours.shutdown(socket.SHUT_WR)
            with self._ours.makefile("rb") as answers:
                found = json.loads(answers.read())
        except (OSError, ValueError) as error:
            raise BuildError("what notes the build's downloads has ended too early", hint="was it killed?") from error
        fetched = tuple(Fetched(**each) for each in found["fetched"])
        return Report(fetched=fetched, problems=tuple(found["problems"]))

    def close(self) -> None:
        """Ends it, if nothing has."""
        with suppress(OSError):
            self._ours.shutdown(socket.SHUT_WR)
        self._ours.close()
        os.waitpid(self._process, 0)


def _listening() -> socket.socket:
    """A socket on the loopback interface. Raises BuildError where that is down, as in a new network namespace."""
    try:
        made = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        socket.create_connection(made.getsockname(), timeout=_MOMENT).close()
    except OSError as error:
        raise BuildError(f"the loopback interface: {error.strerror}", hint="ip link set lo up") from error
    return made


def _serve(
    listening: socket.socket, answers: Tape, authority: Authority, password: str, control: socket.socket
) -> NoReturn:
    """Serves until the other end of `control` is closed; then says there what was seen."""
    login = base64.b64encode(f"{_USER}:{password}".encode()).decode()
    server = _Server(listening, answers, authority, f"Basic {login}")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    while control.recv(1):
        pass
    report = {"fetched": [documents.encoded(each) for each in answers.noted], "problems": answers.problems}
    with suppress(OSError):
        control.sendall(json.dumps(report).encode())
    os._exit(0)


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True

    def __init__(self, listening: socket.socket, answers: Tape, authority: Authority, login: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.answers = answers
        self.authority = authority
        self.login = login

    def handle_error(self, *about: Any) -> None:
        """A client that went away is no fault of ours."""
        logger.debug("The recorder: %s", about[1:], exc_info=True)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _SILENCE
    server: _Server
    within = ""  # https://HOST[:PORT] after CONNECT

    def do_GET(self) -> None:
        """As all requests."""
        self._hand_on("GET")

    def do_HEAD(self) -> None:
        """What GET has is noted, and the half of it is said."""
        self._hand_on("GET")

    def do_POST(self) -> None:
        """With a body, whose length must be known."""
        self._hand_on("POST")

    def do_CONNECT(self) -> None:
        """From here on this connection speaks TLS, with the name of the server that is asked for."""
        if not self._is_ours():
            return
        host, _, port = self.path.rpartition(":")
        if not _HOST.fullmatch(host.lower()) or not port.isdecimal():
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        self.send_response(HTTPStatus.OK)
        self.end_headers()
        try:
            context = self.server.authority.context(host.lower().strip("[]"))
            tls = context.wrap_socket(self.connection, server_side=True)
        except (ssl.SSLError, OSError, SingularityError) as error:
            self.close_connection = True
            what = f"a program of the build does not trust the recorder ({error}): docs/locked-builds.md"
            self.server.answers.problem(f"https://{host}: {what}")
            return
        self.connection = self.request = tls
        self.rfile, self.wfile = tls.makefile("rb"), tls.makefile("wb")
        self.within = f"https://{host}" + ("" if port == "443" else f":{port}")
        self.close_connection = False

    def _hand_on(self, method: str) -> None:
        if not self.within and not self._is_ours():
            return
        url = self.within + self.path
        scheme, colon, rest = url.partition("://")
        if not colon or scheme not in _PORT or not rest:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        host, slash, path = rest.partition("/")
        host = host.rpartition("@")[2].removesuffix(_PORT[scheme]).lower()
        url = f"{scheme}://{host}{slash or '/'}{path}".partition("#")[0]
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > _SENT_LIMIT or "Transfer-Encoding" in self.headers:
            self.close_connection = True
            self.send_error(HTTPStatus.LENGTH_REQUIRED)
            return
        body = self.rfile.read(int(length))
        reply = _Reply(self, silent=self.command == "HEAD")
        self.server.answers.answer(Asked(url=url, method=method, headers=dict(self.headers), body=body), reply)
        if reply.rest:  # less came than was said
            self.close_connection = True

    def _is_ours(self) -> bool:
        if secrets.compare_digest(self.headers.get("Proxy-Authorization", ""), self.server.login):
            return True
        self.send_response(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
        self.send_header("Proxy-Authenticate", 'Basic realm="build"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, *words: Any) -> None:
        """Standard error is the build's."""


class _Reply(Reply):
    """An answer to one request; a client that went away is sent nothing more, and the content is noted all the same."""

    def __init__(self, handler: _Handler, *, silent: bool) -> None:
        self._handler = handler
        self._silent = silent  # no content, as for HEAD
        self._gone = False
        self.rest = 0

    def begin(self, status: int, headers: Mapping[str, str], size: int) -> None:
        self.rest = 0 if self._silent else size
        try:
            self._handler.send_response_only(status)
            for name, value in headers.items():
                self._handler.send_header(name, value)
            self._handler.send_header("Content-Length", str(size))
            self._handler.end_headers()
        except OSError:
            self._gone = True

    def send(self, data: bytes) -> None:
        if self._silent or self._gone:
            return
        try:
            self._handler.wfile.write(data)
            self.rest -= len(data)
        except OSError:
            self._gone = True

    def fail(self, status: int, why: str) -> None:
        if self.rest:  # something was said already: the connection's end says the rest
            return
        text = f"{why}\n".encode("utf-8", "replace")
        self.begin(status, {"Content-Type": "text/plain; charset=utf-8"}, len(text))
        self.send(text)
