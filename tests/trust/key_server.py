"""A key server on loopback: Debian's sks, and what stands in front of one that wants a password."""

from __future__ import annotations

import base64
import http.client
import http.server
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 20.0  # seconds


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@contextmanager
def sks(place: Path) -> Iterator[str]:
    """A server without keys; its address."""
    machine.require("sks")
    for name in ("etc/sks", "var/log/sks", "var/lib/sks/DB", "var/spool/sks", "var/run/sks"):
        (place / name).mkdir(parents=True)
    port = free_port()
    lines = ["hostname: localhost", "hkp_address: 127.0.0.1", f"hkp_port: {port}", "disable_mailsync:"]
    (place / "etc/sks/sksconf").write_text("\n".join(lines) + "\n")
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sks", "db", "-basedir", place], cwd=place, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        try:
            _wait(process, port, place / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text()
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextmanager
def guarded(url: str, user: str, password: str) -> Iterator[str]:
    """What lets only one user through to a server; its address."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    behind = url.removeprefix("http://")

    class Guard(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != wanted:
                self.send_error(401)
                return
            connection = http.client.HTTPConnection(behind)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kept = {name: value for name, value in self.headers.items() if name in ("Content-Type", "Content-Length")}
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            data = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815 - the library's names

        def log_message(self, *about: object) -> None:
            del about

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Guard) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
