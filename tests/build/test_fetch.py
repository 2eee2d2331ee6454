"""Small files from servers: what is refused, and how it is said."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

import pytest

from singularity.build.fetch import fetch
from singularity.errors import BuildError, FileError
from singularity.web.http import Patience

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers as the path says: `/to/URL` sends on, `/short` breaks off, `/loop` sends in circles."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith("/to/"):
            self.answer(302, location=self.path.removeprefix("/to/"))
        elif self.path == "/loop":
            self.answer(302, location="/loop")
        elif self.path == "/short":
            self.answer(200, b"half", length=8)
        else:
            self.answer(200, b"content")

    def answer(self, status: int, body: bytes = b"", *, location: str = "", length: int | None = None) -> None:
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        del words


@contextmanager
def odd_server(context: ssl.SSLContext | None = None) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://localhost:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def certified(tmp_path: Path) -> ssl.SSLContext:
    """A server's certificate that nobody vouches for."""
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    argv += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "cert.pem")]
    argv += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(argv, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_what_comes_is_what_was_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    assert fetch(f"file://{tmp_path}/file", limit=100) == b"some bytes"
    assert fetch(f"{tmp_path}/file", limit=10) == b"some bytes"
    with odd_server() as url:
        assert fetch(f"{url}/plain", limit=7) == b"content"


def test_too_much_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"some bytes")
    with odd_server() as url:
        for place in (f"{url}/plain", f"{tmp_path}/file"):
            with pytest.raises(BuildError, match="larger than 0 MiB"):
                fetch(place, limit=6)
    with pytest.raises(FileError, match="/nowhere: No such file"):
        fetch("/nowhere", limit=9)


def test_answers_that_break_off_or_never_end() -> None:
    with odd_server() as url:
        assert fetch(f"{url}/to//plain", limit=100) == b"content"
        with pytest.raises(BuildError, match=r"/short: (the connection ended too early|ends 4 bytes too early)"):
            fetch(f"{url}/short", limit=100, patience=Patience(delays=(0, 0)))
        with pytest.raises(BuildError, match="sent on more than 10 times"):
            fetch(f"{url}/loop", limit=100)
        with pytest.raises(BuildError, match="file:///etc/passwd: neither an http nor an https URL"):
            fetch(f"{url}/to/file:///etc/passwd", limit=100)


def test_servers_of_https_must_prove_who_they_are(
    certified: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with odd_server(certified) as url:
        with pytest.raises(BuildError, match="certificate not trusted: self-signed certificate"):
            fetch(f"{url}/x", limit=100)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
        assert fetch(f"{url}/x", limit=100) == b"content"
        with pytest.raises(BuildError, match="which is less safe"):
            fetch(f"{url}/to/http://localhost/x", limit=100)
