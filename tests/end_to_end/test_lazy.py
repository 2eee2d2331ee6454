"""`--lazy`: containers that run before their images are there, from a web server and from a registry."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import chunked
import pytest
import servers
from builders import Layout, layer, skopeo, unpacked_by_umoci
from machine import FIXTURES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images
    from launching import Launcher
    from servers import Registry, Static

pytestmark = [
    pytest.mark.needs("root", "fuse", "mksquashfs", "busybox"),
    pytest.mark.modes("suid", "userns", "root"),
    pytest.mark.usefixtures("no_proxy"),
]
PADDING = random.Random(3).randbytes(8 << 20)  # noqa: S311
PROGRAMS = ("sh", "cat", "echo", "id", "sleep", "sha256sum", "find", "ls", "stat")


@pytest.fixture(scope="module")
def web(storage: Path, images: Images) -> Iterator[Static]:
    """A web server with an image whose greater part nobody needs, and with a page."""
    place = storage / "lazy-web"
    place.mkdir()
    root = storage / "lazy-root"
    subprocess.run(["cp", "-a", images.sandbox, root], check=True)
    (root / "zz-padding").write_bytes(PADDING)
    subprocess.run(["mksquashfs", root, place / "x.sqfs", "-quiet", "-no-progress", "-noappend"], check=True)
    (place / "page.sif").write_text("<html>no image</html>")
    with servers.static(place, rate=8e6) as static:
        yield static


@pytest.fixture(scope="module")
def slow_web(web: Static, storage: Path) -> Iterator[Static]:
    """The same files from a server that needs more than ten seconds for the image."""
    assert web
    with servers.static(storage / "lazy-web", rate=8e5) as static:
        yield static


@pytest.fixture(scope="module")
def stargz(plain_registry: Registry, storage: Path) -> str:
    """An image of two eStargz layers in a registry, and one of zstd:chunked."""
    layout = Layout(storage / "lazy-layers")
    busybox = Path("/bin/busybox").read_bytes()
    links = [(f"bin/{each}", "busybox") for each in PROGRAMS]
    lower = layer(("bin", None), ("bin/busybox", busybox), *links, ("etc/gone", b"x"), ("data/padding", PADDING))
    upper = layer(("etc/.wh.gone", b""), ("etc/greeting", b"hello\n"), ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"))
    gzip = "application/vnd.oci.image.layer.v1.tar+gzip"
    zstd = "application/vnd.oci.image.layer.v1.tar+zstd"
    config = {"Cmd": ["/bin/cat", "/etc/greeting"], "Env": ["COLOUR=blue $X"], "Labels": {"maker": "me"}}
    for tag, kind, made in (
        ("gz", gzip, [chunked.estargz(lower), chunked.estargz(upper)]),
        ("zstd", zstd, [chunked.zstd_chunked(lower), chunked.zstd_chunked(upper)]),
    ):
        image = layout.image(
            [each.tar for each in made],
            types=[kind] * 2,
            stored=[each.stored for each in made],
            annotations=[each.annotations for each in made],
            config=config,
        )
        layout.add(image, tag)
        plain_registry.fill(f"oci:{layout.path}:{tag}", f"lazy/greeting:{tag}", "--preserve-digests")
    return f"docker://{plain_registry.host}/lazy/greeting"


def fetched(static: Static) -> int:
    """Bytes that were asked for in parts."""
    total = 0
    for asked in static.asked:
        span = asked.headers.get("range", "")
        if span:
            first, last = span.removeprefix("bytes=").split("-")
            total += int(last) - int(first) + 1
    return total


def test_an_image_of_a_web_server_runs_before_it_is_there(launch: Launcher, slow_web: Static) -> None:
    slow_web.asked.clear()
    done = launch("exec", "--lazy", f"{slow_web.url}/x.sqfs", "sh", "-c", "echo $SINGULARITY_NAME; exit 7")
    assert (done.status, done.out, done.err) == (7, "x.sqfs\n", "")
    assert 0 < fetched(slow_web) < len(PADDING)
    assert list((launch.home / ".singularity/cache/net").glob("*/lazy/map"))


def test_what_is_read_in_parts_is_what_is_there(launch: Launcher, web: Static) -> None:
    whole = launch("exec", "--lazy", f"{web.url}/x.sqfs", "sha256sum", "/zz-padding").ok().out
    assert whole == launch("exec", f"{web.url}/x.sqfs", "sha256sum", "/zz-padding").out


def test_what_has_begun_to_come_in_parts_can_be_fetched_whole(launch: Launcher, web: Static) -> None:
    launch("exec", "--lazy", f"{web.url}/x.sqfs", "id").ok()
    done = launch("exec", f"{web.url}/x.sqfs", "echo", "whole")
    assert (done.status, done.out) == (0, "whole\n"), str(done)


def test_the_rest_comes_while_the_program_runs(launch: Launcher, web: Static) -> None:
    place = launch.home / ".singularity/cache/net"
    end = time.monotonic() + 20
    while not list(place.glob("*/made")):
        assert time.monotonic() < end
        launch("exec", "--lazy", f"{web.url}/x.sqfs", "sleep", "0.5").ok()
    web.asked.clear()
    launch("exec", f"{web.url}/x.sqfs", "id").ok()
    assert fetched(web) == 0
    assert all(asked.method == "HEAD" for asked in web.asked)


@pytest.mark.parametrize("tag", ["gz", "zstd"])
def test_layers_with_tables_run_before_they_are_there(launch: Launcher, stargz: str, tag: str) -> None:
    words = ["--lazy", "--no-https"]
    script = "cat /etc/greeting; echo $COLOUR; ls /etc/gone 2>/dev/null; cat /.singularity.d/labels.json"
    done = launch("exec", *words, f"{stargz}:{tag}", "sh", "-c", script)
    assert done.status == 0, str(done)
    assert done.err == ""
    assert done.lines[:2] == ["hello", "blue $X"]
    assert '"maker": "me"' in done.out
    assert not list((launch.home / ".singularity/cache/blob/blobs/sha256").glob("*/data"))
    assert launch("run", *words, f"{stargz}:{tag}").ok().out == "hello\n"
    found = "find / -xdev -type f -not -path '/.singularity.d/*' | sort | xargs sha256sum"
    listing = ["sh", "-c", f"{found}; stat -c '%A %Y %n' /bin/* /etc/g*"]
    lazy = launch("exec", "--contain", "--no-mount", "bind-paths,home", *words, f"{stargz}:{tag}", *listing)
    whole = launch(
        "exec", "--userns", "--contain", "--no-mount", "bind-paths,home", "--no-https", f"{stargz}:{tag}", *listing
    )
    assert (
        lazy.out.replace("stargz.index.json", "")
        == "\n".join(line for line in whole.out.splitlines() if "stargz.index.json" not in line) + "\n"
    )


@pytest.mark.needs("fixtures", "umoci", "skopeo")
def test_a_layer_that_skopeo_made_runs_before_it_is_there(
    launch: Launcher, plain_registry: Registry, storage: Path
) -> None:
    """Every file is as umoci unpacks it: of many parts, of zeros, a hard link, names as long as a header's field."""
    place = storage / f"lazy-skopeo-{launch.mode.value}"
    layout = place / "layout"
    layout.mkdir(parents=True)
    subprocess.run(["tar", "-C", layout, "-xf", FIXTURES / "oci-zstd-chunked-skopeo-1.22.tar"], check=True)
    name = f"lazy/skopeo-{launch.mode.value}:t"
    plain_registry.fill(f"oci:{layout}:t", name, "--preserve-digests")
    skopeo(f"oci:{layout}:t", f"oci:{place}/gzip:t", place, "--dest-compress", "--dest-compress-format", "gzip")
    root = unpacked_by_umoci(place / "gzip")
    uri = f"docker://{plain_registry.host}/{name}"
    words = ["--lazy", "--no-https", "--contain", "--no-mount", "bind-paths,home", "--pwd", "/", uri, "/bin/busybox"]
    for top in ("bin", "etc/link", "etc/small", "opt", "usr"):
        script = f"find /{top} | sort | while read x; do stat -c '%n %f %Y %h' $x; test -d $x || sha256sum $x; done"
        done = launch("exec", *words, "sh", "-c", script)
        assert (done.status, done.err) == (0, ""), str(done)
        argv = ["chroot", root, "/bin/busybox", "sh", "-c", script]
        wanted = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        assert done.out == wanted
        assert wanted
    assert not list((launch.home / ".singularity/cache/blob/blobs/sha256").glob("7acbd1ff*"))


def test_what_cannot_be_read_in_parts_is_fetched_whole(
    launch: Launcher, web: Static, plain_registry: Registry, storage: Path
) -> None:
    layout = Layout(storage / f"lazy-plain-{launch.mode.value}")
    busybox = Path("/bin/busybox").read_bytes()
    layout.add(layout.image([layer(("bin/busybox", busybox), ("bin/echo", "busybox"))]), "t")
    plain_registry.fill(f"oci:{layout.path}:t", "lazy/plain:1")
    done = launch("exec", "--lazy", "--no-https", f"docker://{plain_registry.host}/lazy/plain:1", "echo", "hi")
    assert (done.status, done.out) == (0, "hi\n")
    assert "is fetched whole: 1 of its 1 layers have no table of contents" in done.err
    refused = launch("exec", "--lazy", f"{web.url}/page.sif", "id")
    assert refused.status == 255
    assert "fetched whole: no SIF or squashfs file" in refused.err


def test_a_missing_file_is_one_line(launch: Launcher, web: Static) -> None:
    done = launch("exec", "--lazy", f"{web.url}/missing.sif", "id")
    assert done.status == 255
    assert "StatusCode: 404" in done.err


def test_a_kill_leaves_nothing(launch: Launcher, web: Static) -> None:
    """R-B1: the server ends with the program, however that ends."""
    with launch.start(*launch.argv("exec", "--lazy", f"{web.url}/x.sqfs", "sleep", "60")) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    end = time.monotonic() + 10
    while any("/net/" in text for text in command_lines()):
        assert time.monotonic() < end
        time.sleep(0.1)


def command_lines() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/mounts"):
        try:
            found.append(path.read_text() if "fuse.singularity" in path.read_text() else "")
        except OSError:
            continue
    return found
