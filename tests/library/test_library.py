"""Libraries by `remote`, `push`, `pull`, `search` and `delete`, against a server of the tests that speaks their API."""

from __future__ import annotations

import os
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest
from library_server import TOKEN, Library

from singularity.errors import FileError, ImageError, NetworkError
from singularity.library import remotes
from singularity.library.service import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = [Path(__file__).parents[2] / "build/venv/bin/python", "-I", "-m", "singularity"]


@pytest.fixture(params=["1.0.0", "2.0.0"])
def library(request: pytest.FixtureRequest) -> Iterator[Library]:
    server = Library(version=request.param)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def sif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sif")
    tree = place / "tree"
    (tree / "bin").mkdir(parents=True)
    (tree / "bin/sh").write_text("none\n")
    subprocess.run([*PROGRAM, "build", place / "x.sif", tree], check=True, capture_output=True)
    return place / "x.sif"


class Caller:
    """Types commands as somebody with files of her own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *words: str | Path, status: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*PROGRAM, *words], check=False, capture_output=True, text=True, input=stdin, cwd=self.directory,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.directory), "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done


@pytest.fixture
def call(tmp_path: Path) -> Caller:
    return Caller(tmp_path)


def test_an_image_goes_there_and_back(library: Library, sif: Path, call: Caller) -> None:
    call("remote", "add", "--insecure", "lab", library.host, stdin=f"{TOKEN}\n")
    assert (call.directory / ".singularity/remote.yaml").stat().st_mode & 0o777 == 0o600
    assert call("remote", "get-login-password").stdout == f"{TOKEN}\n"
    pushed = call("push", "-U", "--description", "a tool", sif, "library://me/tools/small:1,latest")
    assert pushed.stdout.startswith("sha256:")
    again = call("push", sif, "library://me/tools/small:2")
    assert "had it already" in again.stderr
    call("pull", "x.sif", "library://me/tools/small:2")
    assert (call.directory / "x.sif").read_bytes() == sif.read_bytes()
    found = call("search", "small").stdout.splitlines()
    assert "image       library://me/tools/small:2" in found
    assert "container   library://me/tools/small" in found
    call("delete", "--force", "library://me/tools/small:2")
    call("pull", "--force", "x.sif", "library://me/tools/small:1")
    done = call("pull", "--force", "--disable-cache", "x.sif", "library://me/tools/small:2", status=255)
    assert "StatusCode: 404" in done.stderr


def test_without_a_login_nothing_is_changed(library: Library, sif: Path, call: Caller) -> None:
    call("remote", "add", "--insecure", "--no-login", "lab", f"http://{library.host}")
    done = call("push", sif, "library://me/tools/small:1", status=255)
    assert "singularity remote login" in done.stderr
    done = call("remote", "login", status=255, stdin="wrong\n")
    assert "the token is not taken" in done.stderr
    assert "Not logged in" in call("remote", "status").stdout
    (call.directory / "token").write_text(f"{TOKEN}\n")
    call("remote", "login", "--tokenfile", "token")
    assert "the token is taken" in call("remote", "status").stdout
    call("remote", "logout")
    assert "not logged in" in call("remote", "get-login-password", status=1).stderr
    assert not library.images


def test_remotes_are_listed_used_and_forgotten(library: Library, call: Caller) -> None:
    call("remote", "add", "--no-login", "first", "one.example.org")
    call("remote", "add", "--no-login", "--no-default", "--insecure", "second", library.host)
    lines = call("remote", "list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "URI", "DEFAULT?", "GLOBAL?", "EXCLUSIVE?", "SECURE?"]
    assert lines[1].split() == ["first", "one.example.org", "✓", "✓"]
    assert lines[2].split() == ["second", library.host, "✗!"]
    assert "is there already" in call("remote", "add", "--no-login", "first", "x", status=1).stderr
    call("remote", "use", "second")
    assert "libraryAPI" in call("remote", "status").stdout
    assert "no such remote" in call("remote", "use", "third", status=1).stderr
    call("remote", "remove", "second")
    assert "no remote is active" in call("remote", "status", status=1).stderr
    assert "no such remote" in call("remote", "remove", "second", status=1).stderr


def test_a_token_goes_to_its_library_alone(library: Library, sif: Path, call: Caller) -> None:
    call("remote", "add", "--insecure", "lab", library.host, stdin=f"{TOKEN}\n")
    other = Library()
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    done = call("push", "--library", f"http://{other.host}", sif, "library://me/tools/small:1", status=255)
    assert "StatusCode: 401" in done.stderr
    other.shutdown()
    other.server_close()
    thread.join()


@pytest.mark.parametrize("text", ["- a list", "Remotes: [1]", "{", "Active: 3\nRemotes: {x: {URI: 1}, y: 2}"])
def test_a_damaged_list_is_one_line(call: Caller, text: str) -> None:
    (call.directory / ".singularity").mkdir(mode=0o700)
    (call.directory / ".singularity/remote.yaml").write_text(text)
    done = subprocess.run(
        [*PROGRAM, "remote", "list"], check=False, capture_output=True, text=True, cwd=call.directory,
        env={"PATH": "/usr/bin:/bin", "HOME": str(call.directory)},
    )  # fmt: skip
    assert done.returncode in (0, 255)
    assert len(done.stderr.splitlines()) <= 1


def test_delete_asks_somebody(call: Caller) -> None:
    assert "--force" in call("delete", "library://a/b/c:1", status=1).stderr
    assert "is no image of a library" in call("delete", "--force", "shub://a/b", status=1).stderr


@pytest.mark.parametrize(
    ("place", "server", "expected"),
    [
        ("tool", "", "library/default/tool:latest"),
        ("mine/tool:1", "", "library/mine/tool:1"),
        ("me/mine/tool:1", "", "me/mine/tool:1"),
        ("host.org/me/mine/tool", "host.org", "me/mine/tool:latest"),
        ("localhost:5/tool:a,b", "localhost:5", "library/default/tool:a,b"),
    ],
)
def test_names_in_libraries(place: str, server: str, expected: str) -> None:
    found = parse(place)
    assert (found[0], str(found[1])) == (server, expected)


@pytest.mark.parametrize("place", ["", "/", "a/b/c/d", "../x/y", "me/mine/to ol", "me//tool"])
def test_what_is_no_name_in_a_library_is_refused(place: str) -> None:
    with pytest.raises(ImageError, match="names no image"):
        parse(place)


# ---- hostile servers, and lists that are not what they should be ----


class Hostile(Library):
    """Answers some questions as its test says."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[tuple[str, str], tuple[int, object]] = {}

    def do(
        self, method: str, path: list[str], query: dict[str, str], body: bytes, authorization: str
    ) -> tuple[int, object]:
        return self.said.get((method, "/".join(path))) or super().do(method, path, query, body, authorization)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("url", ["", 5, "file:///etc/passwd", "ftp://x/y", "http://user@localhost/x", "http://[x/"])
def test_an_image_is_sent_to_web_servers_alone(hostile: Hostile, sif: Path, call: Caller, url: object) -> None:
    call("remote", "add", "--insecure", "lab", hostile.host, stdin=f"{TOKEN}\n")
    hostile.said["POST", "v2/imagefile/image0"] = (200, {"data": {"uploadURL": url}})
    assert len(call("push", "-U", sif, "library://me/tools/small:1", status=255).stderr.splitlines()) <= 3
    assert not hostile.files


def test_an_id_is_one_part_of_an_address(hostile: Hostile, sif: Path, call: Caller) -> None:
    call("remote", "add", "--insecure", "lab", hostile.host, stdin=f"{TOKEN}\n")
    hostile.said["POST", "v1/entities"] = (200, {"data": {"id": "e"}})
    hostile.said["POST", "v1/collections"] = (200, {"data": {"id": "c"}})
    hostile.said["POST", "v1/containers"] = (200, {"data": {"id": "c"}})
    hostile.said["POST", "v1/images"] = (200, {"data": {"id": "../../x?y#\n\ud800"}})
    call("push", "-U", sif, "library://me/tools/small:1", status=255)
    assert "POST /v2/imagefile/..%2F..%2Fx%3Fy%23%0A%EF%BF%BD" in hostile.asked


def test_a_token_goes_nowhere_by_http_that_was_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering:
        def __init__(self, *_: object) -> None:
            self.status = 200

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, *_: object) -> Answering:
            return self

        def whole(self, _: int) -> bytes:
            return b'{"libraryAPI": {"uri": "http://lab.example.org"}}'

    monkeypatch.setattr(remotes, "Client", Answering)  # no server here has a certificate of such a name
    with pytest.raises(NetworkError, match="less safe"):
        remotes.Remote(name="lab", uri="lab.example.org", token="x").services()
    assert remotes.Remote(name="lab", uri="lab.example.org", insecure=True).services()


def test_what_the_site_says_of_a_remote_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A login does not undo that there is no other, and its token is for the place that it was for."""
    monkeypatch.setenv("SINGULARITY_CONFIGDIR", str(tmp_path / "mine"))
    monkeypatch.setattr(remotes, "_site", lambda: tmp_path / "remote.yaml")
    site = "Active: lab\nRemotes:\n  lab: {URI: one.example.org, System: true, Exclusive: true}\n"
    (tmp_path / "remote.yaml").write_text(site)
    remotes.set_token(remotes.find("lab"), "secret")
    remotes.add(remotes.Remote(name="other", uri="other.example.org"), site=False)
    remotes.use("other", site=False, exclusive=False)
    found = remotes.find("")
    assert (found.name, found.token, found.exclusive) == ("lab", "secret", True)
    (tmp_path / "remote.yaml").write_text(site.replace("one", "two"))
    assert (remotes.find("").uri, remotes.find("").token) == ("two.example.org", "")
    remotes.set_token(remotes.find("lab"), "new")
    assert (remotes.find("").uri, remotes.find("").token) == ("two.example.org", "new")


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        f"{BOMB}Remotes: {{x: {{URI: *k}}, y: {{URI: h, Token: *k}}}}",
        "x: !!bool maybe",
        "x: !!timestamp y",
        'x: !!int ""',
    ],
    ids=["bomb", "bool", "time", "number"],
)
def test_values_of_a_list_are_taken_for_what_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("SINGULARITY_CONFIGDIR", str(tmp_path))
    (tmp_path / "remote.yaml").write_text(text)
    with suppress(ImageError):
        assert [each.name for each in remotes.remotes()] == ["y"]


def test_a_list_that_is_no_file_or_anothers_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SINGULARITY_CONFIGDIR", str(tmp_path))
    os.mkfifo(tmp_path / "remote.yaml")
    with pytest.raises(FileError, match="no regular file"):
        remotes.remotes()
    (tmp_path / "remote.yaml").unlink()
    if os.geteuid() == 0:
        (tmp_path / "remote.yaml").write_text("")
        os.chown(tmp_path / "remote.yaml", 1234, 1234)
        with pytest.raises(FileError, match="belongs to user 1234"):
            remotes.remotes()
