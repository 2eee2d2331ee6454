"""One page for one person: on the loopback interface, below a path that nobody can guess.

Other users of the machine reach the port, so the path has a secret. Other pages in the person's browser may too, by a
name of theirs that leads here (DNS rebinding), so the host that a request names must be the loopback address itself.
"""

import hmac
import http.server
import logging
import secrets
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from singularity.errors import FileError

logger = logging.getLogger(__name__)

_ADDRESS = "127.0.0.1"
_SECONDS = 10  # that a request may take to arrive
_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def serve(page: bytes, port: int, told: Callable[[str, int], None]) -> None:
    """Serves the page until a signal ends it; `told` hears of its address and its port, when both are ready.

    A port of 0 is any that is free. Raises FileError where the port cannot be had.
    """
    secret = secrets.token_urlsafe(24)
    try:
        server = http.server.ThreadingHTTPServer((_ADDRESS, port), partial(_Handler, page, secret))
    except OSError as error:
        raise FileError(f"port {port}: {error.strerror}", hint="--port names another") from error
    server.daemon_threads = True
    with server:
        told(f"http://{_ADDRESS}:{server.server_port}/{secret}/", server.server_port)
        server.serve_forever()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the page, or without a word."""

    timeout = _SECONDS
    server_version, sys_version = "singularity", ""

    def __init__(self, page: bytes, secret: str, *about: Any) -> None:
        self._page, self._path = page, f"/{secret}/"
        self.server: http.server.HTTPServer
        super().__init__(*about)

    def do_GET(self) -> None:
        """The page."""
        self._answer(self._page)

    def do_HEAD(self) -> None:
        """Its headers."""
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        port = self.server.server_port
        hosts = {f"{_ADDRESS}:{port}", f"localhost:{port}"}
        if self.headers.get_all("Host", []) not in ([each] for each in hosts):
            self.send_error(HTTPStatus.FORBIDDEN)
        elif not hmac.compare_digest(self.path.encode("latin-1", "replace"), self._path.encode()):
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self.send_response(HTTPStatus.OK)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(self._page)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Under --debug alone; without the secret."""
        logger.debug("%s", (format % args).replace(self._path, "/.../"))
