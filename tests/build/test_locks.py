"""Locks: what is in them, and what is said where one does not fit; the builds need nothing but a busybox."""

from __future__ import annotations

import hashlib
import http.server
import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import repositories
import servers

from singularity.build.locked import gather, match, tape
from singularity.build.locked.document import Fetched, Installed, Lock
from singularity.content.digest import Digest
from singularity.errors import NetworkError
from singularity.web.http import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builds import Build
    from repositories import Server

pytestmark = pytest.mark.needs("root", "busybox", "mksquashfs")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def served(tmp_path: Path, build: Build, base: Path) -> Iterator[tuple[Path, Server]]:
    """A directory by HTTP, and a definition that fetches `tool` from there and copies `input.txt`."""
    place = tmp_path / "served"
    place.mkdir()
    (place / "tool").write_text("tool 1\n")
    (base / "bin" / "wget").symlink_to("busybox")
    build.write("input.txt", "input\n")
    with repositories.serving(place) as server:
        script = f"%files\n    input.txt /etc/\n%post\n    wget -q -O /etc/tool {server.url}/tool\n"
        build.write("x.def", f"Bootstrap: localimage\nFrom: base\n{script}")
        yield place, server


def locked(build: Build) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((build.directory / "x.lock").read_bytes())
    return found


@pytest.mark.usefixtures("base")
def test_a_lock_says_what_was_fetched_and_what_the_host_gave(build: Build, served: tuple[Path, Server]) -> None:
    place, server = served
    done = build.ok("build", "--lock", "x.sif", "x.def")
    assert done.stderr.splitlines()[-1] == "INFO:    Lock written: x.lock (fetched: 1, packages: 0)"
    lock = locked(build)
    assert lock["fetched"] == [
        {
            "url": f"{server.url}/tool",
            "sha256": sha256(place / "tool"),
            "size": 7,
            "headers": lock["fetched"][0]["headers"],
        }
    ]
    assert set(lock["fetched"][0]["headers"]) == {"Content-Type", "Last-Modified"}
    assert [each["name"] for each in lock["files"]] == ["input.txt"]
    assert [each["name"] for each in lock["bases"]] == ["localimage base"]
    assert lock["definition"] == {"name": "x.def", "sha256": sha256(build.directory / "x.def")}
    assert lock["image"]["sha256"] == sha256(build.directory / "x.sif")
    assert build.leftovers() == []
    build.ok("build", "--locked", "y.sif", "x.def")
    assert sha256(build.directory / "y.sif") == sha256(build.directory / "x.sif")
    before = (build.directory / "x.lock").read_bytes()
    assert b"/dev/build-authority" not in (build.directory / "x.sif").read_bytes()
    build.ok("build", "--force", "--lock=other.lock", "--keep-sources", "kept", "x.sif", "x.def")
    again, first = json.loads((build.directory / "other.lock").read_bytes()), json.loads(before)
    assert again | {"created": ""} == first | {"created": ""}


def changed_base(build: Build, served: Path) -> str:
    del served
    (build.directory / "base" / "etc" / "more").write_text("more\n")
    return "x.lock: base localimage base is another than the lock says ("


def changed_file(build: Build, served: Path) -> str:
    del served
    build.write("input.txt", "another\n")
    return "x.lock: file input.txt is another than the lock says ("


def changed_definition(build: Build, served: Path) -> str:
    del served
    with (build.directory / "x.def").open("a") as file:
        file.write("%labels\n    A b\n")
    return "x.lock: it is the lock of another definition (build --lock writes a new one)"


def no_lock(build: Build, served: Path) -> str:
    del served
    (build.directory / "x.lock").unlink()
    return "x.lock: no such lock (build --lock writes it)"


def no_json(build: Build, served: Path) -> str:
    del served
    build.write("x.lock", "{")
    return "x.lock: no lock: not JSON: "


def another_version(build: Build, served: Path) -> str:
    del served
    build.write("x.lock", json.dumps(locked(build) | {"version": 2}))
    return "x.lock: no lock: version 2, and this program reads 1 (build --lock writes one)"


def changed_content(build: Build, served: Path) -> str:
    del build
    (served / "tool").write_text("tool 2\n")
    return "x.lock: gone or changed, of 1 files that it names: 1 (--keep-sources "


def gone(build: Build, served: Path) -> str:
    del build
    (served / "tool").unlink()
    return "x.lock: gone or changed, of 1 files that it names: 1 (--keep-sources "


@pytest.mark.parametrize(
    "change",
    [changed_base, changed_file, changed_definition, no_lock, no_json, another_version, changed_content, gone],
    ids=lambda each: each.__name__,
)
def test_what_does_not_fit_the_lock_is_one_line(
    build: Build, served: tuple[Path, Server], change: Callable[[Build, Path], str]
) -> None:
    build.ok("build", "--lock", "x.sif", "x.def")
    expected = change(build, served[0])
    assert build.fails("build", "--locked", "y.sif", "x.def").startswith(expected)
    assert not (build.directory / "y.sif").exists()
    assert build.leftovers() == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--keep-sources", "d", "x.sif", "x.def"], "--keep-sources is for builds with --lock or --locked"),
        (["--snapshot", "http://a", "x.sif", "x.def"], "--snapshot is for builds with --lock or --locked"),
        (["--lock", "--locked", "x.sif", "x.def"], "--lock writes a lock, and --locked keeps to one: give one of them"),
        (["--lock", "--snapshot", "http://a", "x.sif", "x.def"], "--snapshot is for builds with --locked"),
        (["--lock", "--sandbox", "x", "x.def"], "--lock and --locked are for image files: a directory has no digest"),
        (["--lock", "--dry-run", "x.sif", "x.def"], "--lock and --locked: what is fetched is not planned"),
        (["--lock=x.sif", "x.sif", "x.def"], "x.sif: the lock is a file of its own"),
        (["--lock", "x.tar", "b.sqfs"], "--lock and --locked are for definitions: SOURCE is an image"),
    ],
)
def test_options_that_contradict_each_other(
    build: Build, served: tuple[Path, Server], words: list[str], message: str
) -> None:
    del served
    subprocess.run(["mksquashfs", "base", "b.sqfs", "-quiet"], cwd=build.directory, check=True, capture_output=True)
    assert build.fails("build", *words, status=1).startswith(message)


def test_other_options_than_those_of_the_lock(build: Build, served: tuple[Path, Server]) -> None:
    del served
    build.ok("build", "--lock", "x.sif", "x.def")
    expected = "x.lock: format was 'sif' when it was written, and is 'squashfs' (build --lock writes a new one)"
    assert build.fails("build", "--locked", "x.sqfs", "x.def") == expected


def test_an_image_that_comes_out_differently_is_said(build: Build, served: tuple[Path, Server]) -> None:
    del served
    with (build.directory / "x.def").open("a") as file:
        file.write("    cat /proc/sys/kernel/random/uuid >/etc/uuid\n")
    build.ok("build", "--lock", "x.sif", "x.def")
    message = build.fails("build", "--locked", "y.sif", "x.def")
    assert message.startswith("y.sif is not the image that x.lock is of: sha256 ")


def test_a_script_that_asks_for_something_else_is_said(build: Build, served: tuple[Path, Server]) -> None:
    place, server = served
    build.write("which", "tool")
    (place / "other").write_text("other\n")
    with (build.directory / "x.def").open("a") as file:
        file.write(f"    wget -q -O /etc/other {server.url}/$(cat /mnt/which)\n")
    (build.directory / "base" / "mnt").mkdir()
    bind = f"{build.directory}/which:/mnt/which"
    build.ok("build", "--bind", bind, "--lock", "x.sif", "x.def")
    build.write("which", "other")
    done = build("build", "--bind", bind, "--locked", "y.sif", "x.def")
    assert done.returncode == 255
    assert f"ERROR:   {server.url}/other: not in the lock" in done.stderr


def test_kept_sources_that_are_damaged_are_fetched_again(build: Build, served: tuple[Path, Server]) -> None:
    place, server = served
    build.ok("build", "--lock", "--keep-sources", "kept", "x.sif", "x.def")
    blob = build.directory / "kept/cache/blob/blobs/sha256" / sha256(place / "tool")
    blob.write_text("tool 9\n")
    server.asked.clear()
    done = build.ok("build", "--locked", "--keep-sources", "kept", "y.sif", "x.def")
    assert "kept files that are damaged, and are fetched again: 1" in done.stderr
    assert server.asked == ["/tool"]
    assert blob.read_text() == "tool 1\n"


def test_nobody_else_is_served(build: Build, served: tuple[Path, Server]) -> None:
    """The recorder would fetch anything for other users of the machine, with the rights of who builds."""
    _, server = served
    script = f"""
    address=${{http_proxy#*@}}
    export http_proxy=http://$address
    if wget -q -O /etc/seen {server.url}/tool; then exit 3; fi
    if wget -q -O /etc/seen http://$address/; then exit 4; fi
"""
    with (build.directory / "x.def").open("a") as file:
        file.write(script)
    build.ok("build", "--lock", "x.sif", "x.def")
    assert [each["url"] for each in locked(build)["fetched"]] == [f"{server.url}/tool"]


def test_a_build_that_is_killed_leaves_no_recorder(build: Build, served: tuple[Path, Server]) -> None:
    del served
    with (build.directory / "x.def").open("a") as file:
        file.write("    echo waiting; sleep 60\n")
    process = subprocess.Popen(
        build.argv("build", "--lock", "--tmpdir", build.temporary, "x.sif", "x.def"),
        cwd=build.directory, env=build.env(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert "waiting" in process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    time.sleep(0.5)
    assert not (build.directory / "x.lock").exists()
    # That no process is left is looked at after each test (conftest).


def test_a_mirrors_past_is_looked_for_where_archives_have_it() -> None:
    def places(url: str, *snapshots: str) -> list[str]:
        return list(gather.snapshot_places(url, "2026-03-04T05:06:07Z", snapshots))

    own = "http://own/{archive}/{time}/"
    assert places("http://mirror/x/debian/dists/a", own) == ["http://own/debian/20260304T050607Z/dists/a"]
    assert places("http://mirror/dists/a", own) == []
    assert places("http://mirror/x/debian/dists/a") == []
    other = "http://other/{time}/{archive}"
    assert places("http://mirror/debian-security/pool/main/x.deb", own, other) == [
        "http://own/debian-security/20260304T050607Z/pool/main/x.deb",
        "http://other/20260304T050607Z/debian-security/pool/main/x.deb",
    ]


@pytest.mark.parametrize(
    ("manager", "name", "version", "file", "is_it"),
    [
        ("deb", "libc6", "2.36-9+deb12u1", "libc6_2.36-9+deb12u1_amd64.deb", True),
        ("deb", "zlib1g", "1:1.2.13.dfsg-1", "zlib1g_1.2.13.dfsg-1_amd64.deb", True),
        ("deb", "zlib1g", "1:1.2.13", "zlib1g_1%3a1.2.13_amd64.deb", True),
        ("deb", "hello", "2.1", "hello_2.10-3_amd64.deb", False),
        ("deb", "hello", "2", "hello_2.1_amd64.deb", False),
        ("rpm", "bash", "0:5.2.15-1.fc40", "bash-5.2.15-1.fc40.x86_64.rpm", True),
        ("rpm", "bash", "5.2-1", "bash-5.2.rpm", True),
        ("apk", "musl", "1.2.5-r0", "musl-1.2.5-r0.apk", True),
        ("alpm", "gcc-libs", "14.1-1", "gcc-libs-14.1-1-x86_64.pkg.tar.zst", True),
        ("pypi", "typing.extensions", "4.1", "typing_extensions-4.1-py3-none-any.whl", True),
        ("pypi", "six", "1.17.0", "six-1.17.0.tar.gz", True),
        ("conda", "numpy", "1.26", "numpy-1.26-py311_0.conda", True),
        ("npm", "@scope/left-pad", "1.3.0", "left-pad-1.3.0.tgz", True),
        ("cran", "Rcpp", "1.0.12", "Rcpp_1.0.12.tar.gz", True),
    ],
)
def test_packages_are_known_by_the_names_of_their_files(
    manager: str, name: str, version: str, file: str, is_it: bool
) -> None:
    installed = Installed(manager=manager, name=name, version=version)
    found = Fetched(url=f"http://a/b/{file}", sha256="0" * 64, size=1)
    assert [each.file for each in match.matched([installed], [found])] == [found.url if is_it else ""]


def test_packages_of_one_version_are_known_by_their_digests() -> None:
    """Two environments of conda may have two builds of it, and the base another one, which was not fetched."""
    digests = ["1" * 64, "2" * 64, "3" * 64]
    files = [Fetched(url=f"http://a/numpy-2.0-py31{i}_0.conda", sha256=digests[i], size=1) for i in range(2)]
    there = [Installed(manager="conda", name="numpy", version="2.0", sha256=each) for each in digests]
    found = [(each.file, each.sha256) for each in match.matched(there, files)]
    assert found == [(files[0].url, digests[0]), (files[1].url, digests[1]), ("", "")]


def a_lock(*fetched: Fetched) -> Lock:
    return Lock(
        created="2026-03-04T05:06:07Z", program="5.0.0", epoch=0, source="x", definition="0" * 64, options={},
        image="1" * 64, bases=(), files=(), fetched=fetched, packages=(),
    )  # fmt: skip


def test_a_content_is_asked_for_where_one_is_sent_on_from() -> None:
    """A server may have sent on to what is no URL."""
    found = Fetched(url="http://a/file", sha256="2" * 64, size=3)
    sent = [Fetched(url=f"http://a/{i}", status=302, headers={"Location": to}) for i, to in enumerate(("file", "//[x"))]
    other = Fetched(url="http://b/file", sha256="2" * 64, size=3)
    places = gather._Places(a_lock(found, *sent, other), ())
    assert list(places.of(found)) == ["http://a/file", "http://b/file", "http://a/0"]


class Breaking(http.server.BaseHTTPRequestHandler):
    """Ends the connection after a third of CONTENT, from wherever it was asked to begin; or in chunks, after one."""

    content = bytes(range(256)) * 300
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.close_connection = True
        wanted = self.headers.get("Range", "")
        self.asked.append(wanted)
        if self.path == "/chunks":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
            return
        begin = int(wanted.removeprefix("bytes=").removesuffix("-") or 0)
        size, count = len(self.content), len(self.content) // 3 + 1
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(size - begin))
        self.send_header("Content-Range", f"bytes {begin}-{size - 1}/{size}")
        self.end_headers()
        self.wfile.write(self.content[begin : begin + count])

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.mark.usefixtures("no_proxy")
def test_a_connection_that_breaks_is_no_file_that_has_changed(tmp_path: Path) -> None:
    size = len(Breaking.content)
    with servers.serving(Breaking) as address:
        url = f"http://{address}/file"
        lock = a_lock(Fetched(url=url, sha256=hashlib.sha256(Breaking.content).hexdigest(), size=size))
        store = tape.opened(tmp_path)
        gather.gather(lock, store, (), "x.lock")
        with pytest.raises(NetworkError, match=r"/chunks: the connection ended too early$"):
            Client().send("GET", f"http://{address}/chunks").whole(100)
    kept = store.open(Digest("sha256", lock.fetched[0].sha256), size)
    assert kept is not None
    with kept:
        assert kept.read() == Breaking.content
    assert Breaking.asked[:3] == ["", f"bytes={size // 3 + 1}-", f"bytes={(size // 3 + 1) * 2}-"]


def test_a_lock_of_a_stranger_is_read_as_one(tmp_path: Path) -> None:
    from singularity.build.locked import document
    from singularity.errors import BuildError

    lock = a_lock(Fetched(url="http://a/b", sha256="2" * 64, size=3))
    path = tmp_path / "x.lock"
    document.write(path, lock)
    assert document.read(path) == lock
    good = json.loads(path.read_bytes())
    bad: list[tuple[str, object]] = [
        ("created", "now"), ("sourceDateEpoch", True), ("sourceDateEpoch", -1), ("options", []), ("image", {}),
        ("sourceDateEpoch", 1 << 32), ("program", "\x1b[31m"), ("program", "5" * 1000), ("fetched", {}),
        ("packages", [1]), ("definition", {"name": "x", "sha256": "../../etc/passwd"}),
    ]  # fmt: skip
    of_fetched: list[dict[str, object]] = [
        {"url": "file:///etc/passwd"}, {"url": "http://[::1"}, {"url": "http://a:999999/b"},
        {"sha256": "../../etc/shadow"}, {"status": 99}, {"method": "PUT"}, {"size": 1.5},
        {"headers": {"A": "b\r\nC: d"}}, {"headers": {"A": 1}}, {"accept": "a\nb"}, {"sent": "x"},
    ]  # fmt: skip
    documents = [good | {name: value} for name, value in bad]
    documents += [good | {"fetched": [good["fetched"][0] | each]} for each in of_fetched]
    documents += [good | {"fetched": good["fetched"] * 2}, [], None, "x"]
    for each in documents:
        path.write_text(json.dumps(each))
        with pytest.raises(BuildError, match="no lock: "):
            document.read(path)


def test_texts_of_a_stranger_do_not_fill_the_screen(build: Build, served: tuple[Path, Server]) -> None:
    del served
    build.ok("build", "--lock", "x.sif", "x.def")
    lock = locked(build)
    package = {"manager": "deb", "name": "n" * 100_000, "version": "1"}
    build.write("x.lock", json.dumps(lock | {"packages": [package], "image": {"sha256": "1" * 64}}))
    assert len(build("build", "--locked", "y.sif", "x.def").stderr) < 2000
    build.write("x.lock", json.dumps(lock | {"options": {"a" * 100_000: "b" * 100_000}}))
    assert len(build.fails("build", "--locked", "y.sif", "x.def")) < 300


def test_an_archive_whose_inside_is_a_link_makes_nothing_else_readable(
    build: Build, served: tuple[Path, Server]
) -> None:
    """Archives are handed on, packed and unpacked: what is in them is the caller's, and a stranger's choice."""
    del served
    secret = build.directory / "secret"
    secret.mkdir(0o700)
    (secret / "key").touch(0o600)
    (build.directory / "kept").mkdir()
    (build.directory / "kept/cache").symlink_to(secret)
    build.ok("build", "--lock", "x.sif", "x.def")
    for option in ("--locked", "--lock=y.lock"):
        message = build.fails("build", option, "--keep-sources", "kept", "y.sif", "x.def")
        assert message == "kept/cache: a link, and what is in an archive is made readable for others (remove it)"
    assert (secret.stat().st_mode & 0o777, (secret / "key").stat().st_mode & 0o777) == (0o700, 0o600)
    assert [each.name for each in secret.iterdir()] == ["key"]


def test_scripts_of_the_host_are_seen_too(build: Build, served: tuple[Path, Server]) -> None:
    place, server = served
    (place / "other").write_text("other\n")
    with (build.directory / "x.def").open("a") as file:
        fetch = f"import urllib.request; print(urllib.request.urlopen('{server.url}/other').read())"
        file.write(f'%setup\n    {sys.executable} -c "{fetch}" >"$SINGULARITY_ROOTFS/etc/other"\n')
    build.ok("build", "--lock", "x.sif", "x.def", no_proxy="*")
    assert [each["url"] for each in locked(build)["fetched"]] == [f"{server.url}/other", f"{server.url}/tool"]
