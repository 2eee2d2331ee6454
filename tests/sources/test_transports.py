"""Ways to images beside docker://: SIF files in registries, libraries, hubs, web servers, and the daemon of Docker.

The library, the hub and the daemon are small servers of these tests, which speak as those do: none of the three can run
here. The daemon serves what skopeo makes in the form of `docker save`.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import socketserver
import subprocess
import threading
import urllib.parse
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import servers
from builders import Layout, layer
from servers import Fault
from test_pull import listed, singularity

from singularity import uri
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.errors import ImageError, UsageError
from singularity.image.identify import Format, identify
from singularity.registry import reference
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client
from singularity.sources import daemon, shub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import Front, Registry

pytestmark = [pytest.mark.needs("mksquashfs"), pytest.mark.usefixtures("no_proxy")]
SIF_LAYER = "application/vnd.sylabs.sif.layer.v1.sif"
SIF_CONFIG = "application/vnd.sylabs.sif.config.v1+json"


def cache() -> Path:
    return Path(os.environ["SINGULARITY_CACHEDIR"]) / "cache"


@pytest.fixture(scope="module")
def layout(storage: Path) -> Path:
    made = Layout(storage / "transported")
    made.add(made.image([layer(("etc", None), ("etc/greeting", b"hello\n"))], config={"Cmd": ["/bin/cat"]}), "t")
    return made.path


@pytest.fixture(scope="module")
def sif(storage: Path, layout: Path) -> Path:
    path = storage / "transported.sif"
    singularity("build", path, f"oci:{layout}:t", cwd=storage)
    return path


# ---- oras ------------------------------------------------------------------------------------------------------------
def artifact(registry: Registry, name: str, *layers: tuple[bytes, str], config: str = SIF_CONFIG) -> None:
    """Puts blobs and their manifest into a registry."""
    client, named = Client(registry.host, Access(no_https=True)), reference.parse(f"{registry.host}/{name}")

    def put(data: bytes, kind: str) -> dict[str, Any]:
        import io

        blob = Descriptor(media_type=kind, digest=Digest("sha256", sha256(data).hexdigest()), size=len(data))
        client.upload(named.repository, blob, lambda: io.BytesIO(data))
        return {"mediaType": kind, "digest": str(blob.digest), "size": blob.size}

    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2, "mediaType": kind, "config": put(b"{}", config), "layers": [put(*each) for each in layers],
    }  # fmt: skip
    client.put_manifest(named, json.dumps(manifest).encode(), kind)


@pytest.mark.parametrize("kind", [SIF_LAYER, "appliciation/vnd.sylabs.sif.layer.tar"])
def test_a_sif_file_comes_out_of_a_registry_as_it_went_in(
    front: Front, plain_registry: Registry, sif: Path, tmp_path: Path, kind: str
) -> None:
    artifact(plain_registry, "oras/tool:1", (sif.read_bytes(), kind), config="application/x+json")
    words = ["pull", "--no-https", "--force", f"oras://{front.host}/oras/tool:1"]
    singularity(*words, cwd=tmp_path)
    assert (tmp_path / "tool_1.sif").read_bytes() == sif.read_bytes()
    asked = len(front.asked)
    assert re.fullmatch(
        r"INFO:    Digest: sha256:\w{64}\nINFO:    Image: tool_1.sif, \d+ KiB\n",
        singularity(*words, cwd=tmp_path).stderr,
    )
    assert {each.method for each in front.asked[asked:]} == {"HEAD"}
    (entry,) = (cache() / "oras").iterdir()
    assert entry.name == f"sha256.{sha256(sif.read_bytes()).hexdigest()}.kept"


def test_what_is_no_sif_artifact_is_told(plain_registry: Registry, sif: Path, tmp_path: Path) -> None:
    data = sif.read_bytes()
    artifact(plain_registry, "oras/two:1", (data, SIF_LAYER), (data + b"x", SIF_LAYER))
    artifact(plain_registry, "oras/other:1", (data, "application/x-other"))
    artifact(plain_registry, "oras/false:1", (b"no SIF file", SIF_LAYER))
    host = f"oras://{plain_registry.host}/oras"
    for name, said in (
        ("two", "ORAS SIF image should have a single layer"),
        ("other", "no SIF image"),
        ("false", "no SIF file: unknown format"),
    ):
        done = singularity("pull", "--no-https", f"{host}/{name}:1", cwd=tmp_path, status=255)
        assert said in done.stderr.splitlines()[-1]
        assert not (tmp_path / f"{name}_1.sif").exists()
    done = singularity("pull", "--no-https", f"docker://{plain_registry.host}/oras/two:1", cwd=tmp_path, status=255)
    assert "it is pulled with oras://" in done.stderr


# ---- web servers -----------------------------------------------------------------------------------------------------
@pytest.fixture
def site(tmp_path: Path, sif: Path) -> Path:
    place = tmp_path / "site"
    place.mkdir()
    (place / "tool.sif").write_bytes(sif.read_bytes())
    (place / "page.sif").write_bytes(b"<html>Sorry</html>")
    return place


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_of_a_web_server_is_fetched_when_it_has_changed(site: Path, tmp_path: Path, ranges: bool) -> None:
    with servers.static(site, ranges=ranges) as server:
        words = ["pull", "--force", f"{server.url}/tool.sif?token=secret"]
        done = singularity(*words, cwd=tmp_path)
        assert "secret" not in done.stderr
        assert (tmp_path / "tool.sif").read_bytes() == (site / "tool.sif").read_bytes()
        assert [each.method for each in server.asked] == ["HEAD", "GET"]
        singularity(*words, cwd=tmp_path)
        assert [each.method for each in server.asked[2:]] == ["HEAD"]
        data = (site / "tool.sif").read_bytes() + bytes(4096)
        (site / "tool.sif").write_bytes(data)
        singularity(*words, cwd=tmp_path)
        assert (tmp_path / "tool.sif").read_bytes() == data


def test_a_transfer_that_breaks_goes_on(site: Path, tmp_path: Path) -> None:
    with servers.static(site) as server, servers.front(server.url.partition("://")[2]) as front:
        front.faults.append(Fault(path="tool", method="GET", close_at=3000))
        singularity("pull", f"{front.url}/tool.sif", cwd=tmp_path)
        assert (tmp_path / "tool.sif").read_bytes() == (site / "tool.sif").read_bytes()
        assert [each.headers.get("range") for each in front.asked[2:]] == ["bytes=3000-"]


def test_a_page_with_an_error_is_no_image(site: Path, tmp_path: Path) -> None:
    with servers.static(site) as server:
        done = singularity("pull", f"{server.url}/none.sif", cwd=tmp_path, status=255)
        assert "StatusCode: 404" in done.stderr
        done = singularity("pull", f"{server.url}/page.sif", cwd=tmp_path, status=255)
        assert done.stderr.splitlines()[-1].startswith("FATAL:   ")
        assert not (tmp_path / "page.sif").exists()


def test_definition_files_and_images_of_web_servers_are_built_from(site: Path, tmp_path: Path) -> None:
    (site / "tool.def").write_text("Bootstrap: nothing\n\n%post\n  true\n")
    with servers.static(site) as server:
        done = singularity("build", "x.sif", f"{server.url}/tool.def", cwd=tmp_path, status=255)
        assert 'tool.def:1: unknown bootstrap agent "nothing"' in done.stderr
        singularity("build", "x.tar", f"{server.url}/tool.sif", cwd=tmp_path)
        assert listed(tmp_path / "x.tar")["etc/greeting"] == b"hello\n"


# ---- libraries and hubs ----------------------------------------------------------------------------------------------
@contextmanager
def answering(answers: dict[str, tuple[int, bytes]]) -> Iterator[tuple[str, list[str]]]:
    """A web server with these answers to these paths; `HOST:PORT`, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version: ClassVar[str] = "HTTP/1.1"  # type: ignore[misc]

        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            status, body = answers.get(urllib.parse.unquote(self.path), (404, b"{}"))
            self.send_response(status)
            if status // 100 == 3:
                self.send_header("Location", body.decode())
                body = b""
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{sha256(body).hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - as the server wants it

        def log_message(self, *words: object) -> None:
            del words

    with servers.serving(Handler) as host:
        yield host, asked


def test_an_image_comes_out_of_a_library(sif: Path, tmp_path: Path) -> None:
    data = sif.read_bytes()
    about = {"data": {"hash": f"sha256.{sha256(data).hexdigest()}", "size": len(data), "arch": "amd64"}}
    wrong = {"data": {"hash": f"sha256.{'0' * 64}", "size": len(data)}}
    answers = {
        "/v1/images/library/default/tool:latest?arch=amd64": (200, json.dumps(about).encode()),
        "/v1/imagefile/library/default/tool:latest?arch=amd64": (303, b"/files/tool"),
        "/files/tool": (200, data),
        "/v1/images/me/mine/tool:2?arch=amd64": (200, json.dumps(wrong).encode()),
        "/v1/imagefile/me/mine/tool:2?arch=amd64": (200, data),
        "/v1/images/me/mine/odd:1?arch=amd64": (200, b'{"data": []}'),
    }
    with answering(answers) as (host, asked):
        words = ["pull", "--no-https", "--arch", "amd64", "--force"]
        (cache() / "library").mkdir(mode=0o700, parents=True)
        (cache() / f"library/sha256.{sha256(data).hexdigest()}").write_bytes(
            data
        )  # as another program of the family has it
        for name in (["--library", f"http://{host}", "library://tool"], [f"library://{host}/library/default/tool"]):
            singularity(*words, *name, cwd=tmp_path)
            assert (tmp_path / "tool_latest.sif").read_bytes() == data
        assert asked.count("GET /files/tool") == 1
        done = singularity(*words, f"library://{host}/me/mine/none:1", cwd=tmp_path, status=255)
        assert "StatusCode: 404" in done.stderr
        done = singularity(*words, f"library://{host}/me/mine/tool:2", cwd=tmp_path, status=255)
        assert "is not what sha256:0000" in done.stderr.splitlines()[-1]
        done = singularity(*words, f"library://{host}/me/mine/odd:1", cwd=tmp_path, status=255)
        assert "makes no sense" in done.stderr


def test_an_image_comes_out_of_a_hub(sif: Path, tmp_path: Path) -> None:
    with answering({"/image": (200, sif.read_bytes())}) as (files, asked):
        about = {"image": f"http://{files}/image", "name": "me/tool", "version": "0123"}
        with answering({"/api/container/me/tool:latest": (200, json.dumps(about).encode())}) as (host, _):
            words = ["pull", "--no-https", "--force", f"shub://{host}/me/tool"]
            singularity(*words, cwd=tmp_path)
            singularity(*words, cwd=tmp_path)
            done = singularity("pull", "--no-https", f"shub://{host}/me/other", cwd=tmp_path, status=255)
    assert (tmp_path / "tool_latest.sif").read_bytes() == sif.read_bytes()
    assert asked.count("GET /image") == 1
    assert "StatusCode: 404" in done.stderr


def test_names_in_hubs() -> None:
    assert shub.parse("me/tool") == ("singularity-hub.org", "me/tool:latest")
    assert shub.parse("host.org:80/me/tool:2@0af") == ("host.org:80", "me/tool:2@0af")
    for place in ("tool", "a/b/c/d", "../tool", "me/tool?x=y", "me/to ol"):
        with pytest.raises(ImageError):
            shub.parse(place)


# ---- the daemon of Docker --------------------------------------------------------------------------------------------
class Daemon(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False


@contextmanager
def docker(place: Path, archive: Path, cut: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A daemon that has one image, `tool:1`; its address, and what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if not urllib.parse.unquote(self.path).startswith("/images/tool:1/"):
                self.send_response(404)
                self.end_headers()
                self.wfile.write(b'{"message":"No such image"}')
                return
            self.send_response(200)
            body = archive.read_bytes() if self.path.endswith("/get") else b'{"Id": "sha256:77"}'
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut] if self.path.endswith("/get") else body)

        def log_message(self, *words: object) -> None:
            del words

        def address_string(self) -> str:
            return "socket"

    with Daemon(str(place), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"unix://{place}", asked
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def saved(storage: Path, layout: Path) -> Path:
    archive = storage / "transported.tar"
    words = ["skopeo", "copy", "--quiet", "--insecure-policy", f"oci:{layout}:t", f"docker-archive:{archive}:tool:1"]
    subprocess.run(words, check=True)
    return archive


def test_an_image_comes_out_of_the_daemon(saved: Path, tmp_path: Path) -> None:
    with docker(tmp_path / "s", saved) as (address, asked):
        words = ["pull", "--docker-host", address, "--force", "docker-daemon:tool:1"]
        singularity(*words, cwd=tmp_path)
        singularity(*words, cwd=tmp_path, more={"DOCKER_HOST": "unix:///nowhere"})
        assert [each.rpartition("/")[2] for each in asked] == ["json", "get", "json"]
        assert listed(tmp_path / "tool_1.sif")["etc/greeting"] == b"hello\n"
        singularity("build", "x.tar", "docker-daemon://tool:1", cwd=tmp_path, more={"DOCKER_HOST": address})
        assert listed(tmp_path / "x.tar")["etc/greeting"] == b"hello\n"
        done = singularity(*words[:3], "docker-daemon:other", cwd=tmp_path, status=255)
        assert "no such image" in done.stderr


def test_a_daemon_that_is_not_there_or_breaks_off(saved: Path, tmp_path: Path) -> None:
    words = ["pull", "--docker-host", f"unix://{tmp_path}/s", "docker-daemon:tool:1"]
    assert "no Docker daemon there" in singularity(*words, cwd=tmp_path, status=255).stderr
    with docker(tmp_path / "s", saved, cut=4000):
        done = singularity(*words, cwd=tmp_path, status=255)
    assert done.stderr.splitlines()[-1].startswith("FATAL:   ")
    assert not (tmp_path / "tool_1.sif").exists()


def test_addresses_and_names_of_daemons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    assert str(daemon.address("")) == "/var/run/docker.sock"
    assert str(daemon.address("tcp://host:99")) == "host:99"
    with pytest.raises(UsageError, match="no address"):
        daemon.address("ssh://me@host")
    assert daemon.name("a/b") == "a/b:latest"
    assert daemon.name("host:5/a/b:1") == "host:5/a/b:1"
    with pytest.raises(ImageError):
        daemon.name("../../containers/json?x")


# ---- names of files --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("docker://debian", "debian_latest.sif"),
        ("docker://host:5000/a/b:1.2", "b_1.2.sif"),
        (f"docker://a/b@sha256:{'0' * 64}", f"b@sha256_{'0' * 64}.sif"),
        (f"docker://a/b:1@sha256:{'0' * 64}", "b_1.sif"),
        ("oras://host/a:t", "a_t.sif"),
        ("library://a/b/c:t", "c_t.sif"),
        ("shub://me/x", "x_latest.sif"),
        ("https://host/a/b%20c.sif?x=/y", "b c.sif"),
        ("https://host/a/..%2Fb.sif", "b.sif"),
        ("http://host/", "image.sif"),
        ("docker-daemon:tool:1", "tool_1.sif"),
        ("oci-archive:/a/x.tar.gz", "x.tar.gz_latest.sif"),
        ("docker-archive://x.tar", "x.tar_latest.sif"),
        ("oci:/a/layout:t", "layout_t.sif"),
    ],
)
def test_names_of_files(text: str, name: str) -> None:
    named = uri.parse(text)
    assert named is not None
    assert named.file_name == name


@pytest.mark.parametrize("text", ["x.sif", "./docker:x", "http:/x", "", "debian:stable", "c:/x"])
def test_what_is_no_uri(text: str) -> None:
    assert uri.parse(text) is None


def test_import_unpacks_an_image_with_its_command(plain_registry: Registry, layout: Path, tmp_path: Path) -> None:
    plain_registry.fill(f"oci:{layout}:t", "transported/tool:1")
    (tmp_path / "box").mkdir()
    singularity("import", "--no-https", "box", f"docker://{plain_registry.host}/transported/tool:1", cwd=tmp_path)
    assert (tmp_path / "box/etc/greeting").read_text() == "hello\n"
    assert '"/bin/cat"' in (tmp_path / "box/.singularity.d/runscript").read_text()
    assert identify(tmp_path / "box").format is Format.DIRECTORY
