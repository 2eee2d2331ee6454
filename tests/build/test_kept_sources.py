"""Kept sources of somebody else's: what they have is handed on as it was checked, or not at all."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar

import pytest

from singularity import documents
from singularity.build import gate
from singularity.build.gate import Gate
from singularity.build.locked import session, tape
from singularity.build.locked.authority import Authority
from singularity.build.locked.document import Fetched
from singularity.build.locked.recorder import Recorder
from singularity.build.locked.tape import Asked, Reply, Tape

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

URL = "http://mirror.example.org/a"


class Heard(Reply):
    """What came back."""

    def __init__(self) -> None:
        self.status = self.failed = 0
        self.data = b""

    def begin(self, status: int, headers: Mapping[str, str], size: int) -> None:
        del headers, size
        self.status = status

    def send(self, data: bytes) -> None:
        self.data += data

    def fail(self, status: int, why: str) -> None:
        del why
        self.failed = status


@pytest.mark.parametrize("size", [0, 1000, (8 << 20) + 1, 17 << 20])
def test_what_is_changed_after_it_was_checked_is_not_handed_on(tmp_path: Path, size: int) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    content = os.urandom(size)
    digest = tape.opened(theirs).put(content)
    known = Fetched(url=URL, sha256=digest.digits, size=size)
    played = Tape(tape.opened(ours, [theirs]), [known])
    asked, good, bad = Asked(url=URL, headers={}), Heard(), Heard()
    played.answer(asked, good)
    assert (good.status, good.data, played.problems) == (200, content, [])
    blob = theirs / "cache/blob/blobs/sha256" / hashlib.sha256(content).hexdigest()
    blob.write_bytes(b"#!/bin/sh\n".ljust(size, b"x")[:size] if size else b"")
    played.answer(asked, bad)
    if size:
        assert bad.failed == 502
        assert len(bad.data) < size
        assert not size <= 8 << 20 or bad.status == 0  # a small one not even begins
        assert "has changed" in played.problems[0]


class Odd(http.server.BaseHTTPRequestHandler):
    """A server whose headers have what no lock has."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.wfile.write(b"".join(self._headers_buffer))  # type: ignore[attr-defined]
        self._headers_buffer = []
        self.wfile.write(b'Content-Disposition: attachment; filename="\xc3\xbc;\t\x1b[31m"\r\n folded: x\r\n')
        self.wfile.write(b"Vary: accept\r\nContent-Length: 2\r\n\r\nhi")

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.mark.usefixtures("no_proxy")
def test_what_a_server_says_is_a_lock_that_is_read_again(tmp_path: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        recorded, heard = Tape(tape.opened(tmp_path), None), Heard()
        recorded.answer(Asked(url=f"http://127.0.0.1:{server.server_port}/x", headers={"Accept": "\xe4"}), heard)
        server.shutdown()
    assert (heard.status, heard.data) == (200, b"hi")
    (noted,) = recorded.noted
    assert noted.headers["Content-Disposition"].startswith('attachment; filename="%C3%BC;%09%1B[31m"')
    assert documents.decoded(json.loads(json.dumps(documents.encoded(noted))), Fetched) == noted


@pytest.mark.usefixtures("no_proxy")
def test_what_a_killed_build_left_is_in_nobodys_way(tmp_path: Path) -> None:
    """In containers, and on the hosts that share a directory, processes have the same numbers."""
    store = tape.opened(tmp_path)
    for number in range(1, 4):
        (store.directory / f"partial/recorded-{os.getpid()}-{number}").touch()
    with http.server.HTTPServer(("127.0.0.1", 0), Odd) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        recorded, heard = Tape(store, None), Heard()
        recorded.answer(Asked(url=f"http://127.0.0.1:{server.server_port}/x", headers={}), heard)
        server.shutdown()
    assert (heard.data, recorded.problems) == (b"hi", [])


class Asking(http.server.BaseHTTPRequestHandler):
    """A server that sends on, and wants a password; `other` is another one, which must not get it."""

    asked: ClassVar[list[tuple[str, str]]] = []
    other = ""

    def do_GET(self) -> None:
        said = self.headers.get("Authorization", "")
        self.asked.append((self.path, said))
        to = {"/first": "/second", "/away": f"{self.other}/elsewhere"}.get(self.path, "")
        self.send_response(302 if to else 200 if said or self.path == "/elsewhere" else 401)
        if to:
            self.send_header("Location", to)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"hi")

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.mark.usefixtures("no_proxy")
def test_a_password_in_a_url_is_for_its_server_and_in_no_lock(tmp_path: Path) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    authority = Authority(directory)
    with ExitStack() as stack:
        servers = [stack.enter_context(http.server.HTTPServer(("127.0.0.1", 0), Asking)) for _ in range(2)]
        Asking.other = f"http://127.0.0.1:{servers[1].server_port}"
        for each in servers:
            threading.Thread(target=each.serve_forever, daemon=True).start()
            stack.callback(each.shutdown)
        recorder = Recorder(tape.opened(tmp_path), authority)
        stack.callback(recorder.close)
        way = Gate(url=recorder.url, certificate=authority.certificate, directory=directory, plays=False)
        with gate.through(way):
            for path in ("first", "away"):
                with gate.opened(f"http://me:pw@127.0.0.1:{servers[0].server_port}/{path}") as stream:
                    assert stream.read() == b"hi"
        noted = recorder.finish().fetched
    login = "Basic bWU6cHc="
    assert Asking.asked == [("/first", login), ("/second", login), ("/away", login), ("/elsewhere", "")]
    assert "pw" not in json.dumps([documents.encoded(each) for each in noted])


def test_no_link_in_an_archive_leads_its_modes_elsewhere(tmp_path: Path) -> None:
    secret, place = tmp_path / "secret", tmp_path / "cache"
    secret.mkdir(mode=0o700)
    key = secret / "key"
    key.touch(0o600)
    (place / "blob").mkdir(0o700, parents=True)
    (place / "blob/file").touch(0o600)
    (place / "blob/link").symlink_to(key)
    (place / "directory").symlink_to(secret)
    os.mkfifo(place / "fifo", 0o600)
    session._share(place)
    assert (key.stat().st_mode & 0o777, secret.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (place / "blob/file").stat().st_mode & 0o444 == 0o444
