"""Pulls that fetch only what no image of the cache has: from a registry, from a web server, into a cache of a site."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import servers
from builders import run as run_tool
from servers import Fault
from test_pull import ARGV, singularity

from singularity import paths
from singularity.content import digest as digests
from singularity.content.document import Descriptor
from singularity.registry import reference
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Asked, Front, Registry, Static

pytestmark = [pytest.mark.needs("mksquashfs"), pytest.mark.usefixtures("no_proxy")]
ADDED = 1 << 20  # bytes that the second version has more, of which none can be compressed
TABLES = 150_000  # bytes of the index, and of tables that change with each file


def built(target: Path, source: Path) -> Path:
    subprocess.run([*ARGV, "--quiet", "build", "--chunks", target, source], check=True)
    return target


@pytest.fixture(scope="module")
def versions(storage: Path) -> tuple[Path, Path]:
    """An image, and one with two files more, before and behind the others, and one that was changed."""
    place = storage / "chunked"
    root = place / "root"
    numbers = random.Random(9)  # noqa: S311
    for number in range(400):
        path = root / f"d{number % 20}/f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(numbers.randbytes(numbers.randrange(60_000)))
    first = built(place / "1.sif", root)
    for name in ("a", "z"):
        (root / name).mkdir()
        (root / name / "added").write_bytes(numbers.randbytes(ADDED // 2))
    (root / "d3/f23").write_bytes(b"changed")
    return first, built(place / "2.sif", root)


def fetched(asked: list[Asked]) -> int:
    """The bytes that were asked for by ranges."""
    found = [re.fullmatch(r"bytes=(\d+)-(\d+)", each.headers["range"]) for each in asked if "range" in each.headers]
    return sum(int(each[2]) - int(each[1]) + 1 for each in found if each)


def sizes(said: str) -> str:
    (line,) = [each for each in said.splitlines() if each.startswith("INFO:    Fetching ")]
    return line


def pushed(image: Path, registry: Registry, name: str, *, cwd: Path) -> None:
    words = [*ARGV, "push", "--chunks", "--no-https", image, f"oras://{registry.host}/{name}"]
    subprocess.run(words, check=True, cwd=cwd, capture_output=True)


@pytest.fixture(scope="module")
def registered(plain_registry: Registry, versions: tuple[Path, Path], storage: Path) -> str:
    for number, image in enumerate(versions, 1):
        pushed(image, plain_registry, f"chunks/tool:{number}", cwd=storage)
    return "chunks/tool"


@pytest.fixture
def both(front: Front, registered: str, versions: tuple[Path, Path], tmp_path: Path) -> Iterator[tuple[str, bytes]]:
    """The URI of the second version, and its bytes; the first one is in the cache."""
    singularity("pull", "--no-https", "1.sif", f"oras://{front.host}/{registered}:1", cwd=tmp_path)
    assert (tmp_path / "1.sif").read_bytes() == versions[0].read_bytes()
    assert not front.count("/blobs/.*", "HEAD")
    front.asked.clear()
    yield f"oras://{front.host}/{registered}:2", versions[1].read_bytes()
    assert (tmp_path / "2.sif").read_bytes() == versions[1].read_bytes()


def test_what_an_image_in_the_cache_has_is_not_fetched(front: Front, both: tuple[str, bytes], tmp_path: Path) -> None:
    """Issue 17, 4: within 1.3 of the ideal, which is what was added and changed."""
    uri, data = both
    said = singularity("pull", "--no-https", "2.sif", uri, cwd=tmp_path).stderr
    assert re.search(r"^INFO:    Fetching oras://\S+ \(1\.\d MiB of \d+\.\d MiB\)$", said, re.MULTILINE)
    assert ADDED < fetched(front.asked) < 1.3 * ADDED
    index = [each for each in front.asked if "/blobs/" in each.path and "range" not in each.headers]
    assert len(index) == 1
    (entry,) = (paths.cache_directory() / "oras").glob(f"sha256.{hashlib.sha256(data).hexdigest()}.kept")
    assert sorted(each.name for each in entry.iterdir()) == ["chunks", "image.sif", "made"]
    # From here on its own index is known, and the next pull asks for nothing but the tag.
    front.asked.clear()
    singularity("pull", "--no-https", "--force", "2.sif", uri, cwd=tmp_path)
    assert {each.method for each in front.asked} == {"HEAD"}


def test_plain_clients_pull_the_plain_file(
    plain_registry: Registry, registered: str, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    """The index is an artifact that refers to the image, under a tag for registries that list no such ones."""
    source = f"docker://{plain_registry.host}/{registered}:2"
    run_tool("skopeo", "copy", "--src-tls-verify=false", source, f"dir:{tmp_path}/copied", cwd=tmp_path)
    manifest = json.loads((tmp_path / "copied/manifest.json").read_bytes())
    (layer,) = manifest["layers"]
    assert (tmp_path / "copied" / layer["digest"].partition(":")[2]).read_bytes() == versions[1].read_bytes()
    digest = hashlib.sha256((tmp_path / "copied/manifest.json").read_bytes()).hexdigest()
    raw = run_tool(
        "skopeo", "inspect", "--raw", "--tls-verify=false",
        f"docker://{plain_registry.host}/{registered}:sha256-{digest}", cwd=tmp_path,
    )  # fmt: skip
    (entry,) = json.loads(raw)["manifests"]
    assert entry["artifactType"] == "application/vnd.singularity.chunks.v1"
    named, size = layer["annotations"]["org.singularity.chunks"].split()
    index = json.loads(plain_registry.blob(entry["digest"]).read_bytes())["layers"][0]
    assert (index["digest"], index["size"]) == (named, int(size))


def test_a_copy_without_the_index_is_pulled_whole(front: Front, both: tuple[str, bytes], tmp_path: Path) -> None:
    uri, data = both
    front.faults.append(Fault(path="/blobs/", status=404, times=1))
    said = singularity("pull", "--no-https", "2.sif", uri, cwd=tmp_path).stderr
    assert " MiB of " not in said
    assert "WARNING" not in said
    assert fetched(front.asked) == 0
    assert len(data) > ADDED


def test_a_registry_without_ranges_is_read_whole(front: Front, both: tuple[str, bytes], tmp_path: Path) -> None:
    front.faults.append(Fault(path="/blobs/", without_ranges=True, times=99))
    said = singularity("pull", "--no-https", "2.sif", both[0], cwd=tmp_path).stderr
    assert "WARNING" not in said


def test_a_part_that_comes_damaged_is_told_and_all_is_fetched(
    front: Front, both: tuple[str, bytes], tmp_path: Path
) -> None:
    def damage(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    front.faults.append(Fault(path="/blobs/", times=1))  # the index
    front.faults.append(Fault(path="/blobs/", change=damage, times=1))
    said = singularity("pull", "--no-https", "2.sif", both[0], cwd=tmp_path).stderr
    assert said.count("WARNING: ") == 1
    assert "a part of it is not what its index of chunks says (damaged?): it is fetched whole\n" in said


def test_a_damaged_image_in_the_cache_is_no_source(front: Front, both: tuple[str, bytes], tmp_path: Path) -> None:
    """Its index says what it was; each chunk is looked at."""
    uri, data = both
    (kept,) = (paths.cache_directory() / "oras").glob("*.kept/image.sif")
    status = kept.stat()
    with kept.open("r+b") as file:
        for place in range(100_000, status.st_size, 1 << 20):
            file.seek(place)
            file.write(b"!")
    os.utime(kept, ns=(status.st_atime_ns, status.st_mtime_ns))
    singularity("pull", "--no-https", "2.sif", uri, cwd=tmp_path)
    assert fetched(front.asked) < len(data)


def test_a_pull_that_was_killed_goes_on_where_it_was(front: Front, both: tuple[str, bytes], tmp_path: Path) -> None:
    uri, data = both
    front.faults.append(Fault(path="/blobs/", rate=700_000, times=99))
    pull = [*ARGV, "pull", "--no-https", "2.sif", uri]
    process = subprocess.Popen(pull, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while not (partial := [*(paths.cache_directory() / "oras").glob("*.kept/partial")]) or (
        partial[0].stat().st_size < len(data) // 3
    ):
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "2.sif").exists()
    time.sleep(0.3)
    front.faults.clear()
    front.asked.clear()
    singularity("pull", "--no-https", "2.sif", uri, cwd=tmp_path)
    assert fetched(front.asked) < 0.75 * ADDED


def test_two_at_once_fetch_it_once(front: Front, both: tuple[str, bytes], tmp_path: Path) -> None:
    front.faults.append(Fault(path="/blobs/", rate=1_000_000, times=99))

    def pull(number: int) -> None:
        singularity("pull", "--no-https", f"{number}.sif", both[0], cwd=tmp_path)

    threads = [threading.Thread(target=pull, args=(number,)) for number in (2, 3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (tmp_path / "3.sif").read_bytes() == both[1]
    assert fetched(front.asked) < 1.3 * ADDED


def test_a_cache_of_a_site_is_a_source_and_is_seeded_by_the_difference(
    front: Front, registered: str, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    for number in (1, 2):
        front.asked.clear()
        singularity("cache", "seed", "--no-https", site, f"oras://{front.host}/{registered}:{number}", cwd=tmp_path)
    assert 0 < fetched(front.asked) < 1.3 * ADDED
    for each in site.glob("oras/*.kept"):
        assert (each / "chunks").stat().st_mode & 0o777 == 0o644
        if each.name.removesuffix(".kept").endswith(hashlib.sha256(versions[1].read_bytes()).hexdigest()):
            shutil.rmtree(each)
    front.asked.clear()
    more = {"SINGULARITY_CACHEPATH": str(site)}
    before = sorted(site.rglob("*"))
    singularity("pull", "--no-https", "2.sif", f"oras://{front.host}/{registered}:2", cwd=tmp_path, more=more)
    assert (tmp_path / "2.sif").read_bytes() == versions[1].read_bytes()
    assert 0 < fetched(front.asked) < 1.3 * ADDED
    assert sorted(site.rglob("*")) == before


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("nonsense 5", "is no digest"),
        (f"sha256:{'0' * 64} 99999999999999999999", "of an impossible size"),
        (f"sha256:{'0' * 64} -1", "of an impossible size"),
        (f"sha256:{'0' * 64}", "of an impossible size"),
        (f"sha256:{'0' * 64} 500", ""),  # which is not there
        (f"{digests.of(b'x' * 500)} 500", "no index of chunks"),
    ],
)
def test_what_a_manifest_says_of_an_index_is_not_believed(
    front: Front, plain_registry: Registry, both: tuple[str, bytes], tmp_path: Path, said: str, why: str
) -> None:
    client = Client(plain_registry.host, Access(no_https=True))
    named = reference.parse(f"{plain_registry.host}/chunks/tool:2")
    manifest = json.loads(client.manifest(named).data)
    manifest["layers"][0]["annotations"]["org.singularity.chunks"] = said
    blob = Descriptor(media_type="x", digest=digests.of(b"x" * 500), size=500)
    client.upload(named.repository, blob, lambda: io.BytesIO(b"x" * 500))
    client.put_manifest(named._replace(tag="hostile"), json.dumps(manifest).encode(), manifest["mediaType"])
    uri = f"oras://{front.host}/chunks/tool:hostile"
    done = singularity("pull", "--no-https", "2.sif", uri, cwd=tmp_path)
    warnings = [each for each in done.stderr.splitlines() if each.startswith("WARNING: ")]
    assert len(warnings) == bool(why)
    assert not why or why in warnings[0]
    assert both[1]


# ---- web servers -----------------------------------------------------------------------------------------------------
@pytest.fixture
def site(versions: tuple[Path, Path], tmp_path: Path) -> Path:
    place = tmp_path / "www"
    place.mkdir()
    for path in versions:
        shutil.copy(path, place)
        singularity("chunks", place / path.name, cwd=tmp_path)
    return place


@pytest.fixture
def web(site: Path, tmp_path: Path) -> Iterator[Static]:
    with servers.static(site) as static:
        singularity("pull", "1.sif", f"{static.url}/1.sif", cwd=tmp_path)
        assert not any(each.path.endswith(".chunks") for each in static.asked)
        static.asked.clear()
        yield static


def test_an_index_beside_a_file_on_a_web_server(web: Static, versions: tuple[Path, Path], tmp_path: Path) -> None:
    said = singularity("pull", "2.sif", f"{web.url}/2.sif", cwd=tmp_path).stderr
    assert re.search(r"Fetching \S+ \(1\.\d MiB of ", said)
    assert (tmp_path / "2.sif").read_bytes() == versions[1].read_bytes()
    assert ADDED < fetched(web.asked) < 1.3 * ADDED
    assert sum(each.path.endswith("/2.sif.chunks") for each in web.asked) == 1


def test_a_server_without_an_index_or_ranges_is_read_whole(
    versions: tuple[Path, Path], site: Path, web: Static, tmp_path: Path
) -> None:
    with servers.static(site, ranges=False) as static:
        said = singularity("pull", "2.sif", f"{static.url}/2.sif?token=x", cwd=tmp_path).stderr
        assert "WARNING" not in said
        assert [each.path for each in static.asked].count("/2.sif.chunks?token=x") == 1
    assert (tmp_path / "2.sif").read_bytes() == versions[1].read_bytes()
    for page in (None, b"<html>not here"):
        (site / "2.sif.chunks").unlink(missing_ok=True)
        if page:
            (site / "2.sif.chunks").write_bytes(page)
        singularity("cache", "clean", "--force", cwd=tmp_path)
        singularity("pull", "--force", "1.sif", f"{web.url}/1.sif", cwd=tmp_path)
        said = singularity("pull", "--force", "2.sif", f"{web.url}/2.sif", cwd=tmp_path).stderr
        assert said.splitlines()[0].startswith("INFO:    Fetching")
        assert "WARNING" not in said


HEAD = 48  # bytes before the entries


def entry(data: bytes, number: int) -> slice:
    del data
    return slice(HEAD + 20 * number, HEAD + 20 * (number + 1))


def swapped(data: bytes) -> bytes:
    """Chunks in another order, whose sizes add up."""
    first, second = data[entry(data, 4)], data[entry(data, 5)]
    return data[: HEAD + 80] + second + first + data[HEAD + 120 :]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: data[:-7], "no index of chunks"),
        (lambda data: data[:8] + (1 << 63).to_bytes(8, "little") + data[16:], "impossible chunks"),
        (lambda data: data[:HEAD] + b"\xff\xff\xff\xff" + data[HEAD + 4 :], "impossible chunks"),
        (lambda data: data + data[HEAD:] * 50, "no index of chunks|impossible chunks"),
        (lambda data: data[:16] + bytes(32) + data[48:], "what came is not what sha256:000000000000 names"),
        (swapped, "what came is not what sha256|not what its index of chunks says"),
    ],
    ids=["cut", "size", "length", "long", "digest", "swapped"],
)
def test_a_hostile_index_costs_a_line_and_the_whole_file_is_fetched(
    web: Static, site: Path, versions: tuple[Path, Path], tmp_path: Path, change: object, why: str
) -> None:
    path = site / "2.sif.chunks"
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]
    done = singularity("pull", "2.sif", f"{web.url}/2.sif", cwd=tmp_path)
    warnings = [each for each in done.stderr.splitlines() if each.startswith("WARNING: ")]
    assert 1 <= len(warnings) <= 2
    assert re.search(why, warnings[-1])
    assert warnings[-1].endswith("fetched whole")
    assert (tmp_path / "2.sif").read_bytes() == versions[1].read_bytes()


def test_an_index_of_an_older_file_is_not_used(
    web: Static, site: Path, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copy(site / "1.sif.chunks", site / "2.sif.chunks")
    said = singularity("pull", "2.sif", f"{web.url}/2.sif", cwd=tmp_path).stderr
    assert "its index of chunks is of another file: it is fetched whole" in said
    assert (tmp_path / "2.sif").read_bytes() == versions[1].read_bytes()


def test_an_index_that_was_left_behind_brings_no_older_file_of_the_same_size(
    web: Static, site: Path, versions: tuple[Path, Path], tmp_path: Path
) -> None:
    """All that such an index names is in the cache: without a look at the server it would be the old image."""
    data = bytearray(versions[0].read_bytes())
    data[48:52] = b"else"  # of the identity
    data[len(data) // 2] ^= 1
    (site / "3.sif").write_bytes(data)
    shutil.copy(site / "1.sif.chunks", site / "3.sif.chunks")
    said = singularity("pull", "3.sif", f"{web.url}/3.sif", cwd=tmp_path).stderr
    assert (tmp_path / "3.sif").read_bytes() == data
    assert "not what its index of chunks says" in said


# ---- the verb --------------------------------------------------------------------------------------------------------
def test_the_index_of_a_file_is_written_beside_it_and_replaces_no_other_file(
    versions: tuple[Path, Path], tmp_path: Path
) -> None:
    image = tmp_path / "a image.sif"
    shutil.copy(versions[0], image)
    index = tmp_path / "a image.sif.chunks"
    done = singularity("chunks", image, cwd=tmp_path)
    assert re.fullmatch(rf"INFO:    Index: {index}, \d+ KiB\n", done.stderr)
    assert index.stat().st_mode & 0o777 == 0o644
    first = index.read_bytes()
    singularity("chunks", image, cwd=tmp_path)
    assert index.read_bytes() == first
    index.write_text("mine")
    done = singularity("chunks", image, cwd=tmp_path, status=255)
    assert done.stderr == f"FATAL:   {index}: exists, and is no index of chunks (it is not replaced)\n"
    assert index.read_text() == "mine"
    done = singularity("chunks", tmp_path, cwd=tmp_path, status=255)
    assert done.stderr == f"FATAL:   {tmp_path}: no file (singularity build makes one of a directory)\n"
    done = singularity("chunks", "none.sif", cwd=tmp_path, status=255)
    assert done.stderr.startswith("FATAL:   none.sif: ")


def test_a_comparison_says_what_a_pull_would_fetch(versions: tuple[Path, Path]) -> None:
    words = [sys.executable, "-I", "-m", "singularity", "chunks", "--compare", *versions]
    said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    found = re.fullmatch(r"(\d+) of (\d+) bytes\n", said)
    assert found
    assert int(found[2]) == versions[1].stat().st_size
    assert ADDED < int(found[1]) < ADDED + TABLES
