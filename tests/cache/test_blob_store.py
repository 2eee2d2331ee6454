"""The store of blobs: whole or absent, fetched once, never used when damaged."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from typing import TYPE_CHECKING, BinaryIO

import pytest

from singularity.cache.blob_names import listing
from singularity.cache.blob_store import Store, known
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.content.platform import Platform
from singularity.errors import FileError, ImageError
from singularity.oci import layout, reference
from singularity.oci.files import Directory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATA = bytes(range(256)) * 9000  # more than two of the pieces that are read
NAME = "docker.io/library/debian:stable"


def described(data: bytes) -> Descriptor:
    return Descriptor(media_type="x/y", digest=Digest("sha256", hashlib.sha256(data).hexdigest()), size=len(data))


def source(data: bytes, asked: list[int] | None = None) -> Callable[[int], BinaryIO]:
    def open_(offset: int) -> BinaryIO:
        if asked is not None:
            asked.append(offset)
        return io.BytesIO(data[offset:])

    return open_


def nobody(count: int) -> None:
    del count


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "blob")


def partial_of(store: Store, data: bytes) -> Path:
    return store.directory / "partial" / f"sha256-{described(data).digest.digits}"


def test_a_blob_is_fetched_once_and_kept_for_its_owner_alone(store: Store) -> None:
    asked: list[int] = []
    counts: list[int] = []
    path = store.fetch(described(DATA), source(DATA, asked), "x", counts.append)
    assert path == store.fetch(described(DATA), source(DATA, asked), "x", nobody)
    assert (path.read_bytes(), asked, sum(counts)) == (DATA, [0], len(DATA))
    assert (path.stat().st_mode & 0o777, store.directory.stat().st_mode & 0o777) == (0o600, 0o700)
    assert [name for name, _ in listing(store.directory)] == [path.name]


def test_a_fetch_goes_on_where_an_earlier_one_was_cut(store: Store) -> None:
    """N2, and issue 4, 5."""

    class Cut(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise FileError("the line broke")
            return data

    with pytest.raises(FileError, match="the line broke"):
        store.fetch(described(DATA), lambda _: Cut(DATA[: 1 << 20]), "x", nobody)
    assert partial_of(store, DATA).stat().st_size == 1 << 20
    asked: list[int] = []
    store.fetch(described(DATA), source(DATA, asked), "x", nobody)
    assert asked == [1 << 20]
    assert not partial_of(store, DATA).exists()


def test_a_part_that_is_of_something_else_is_thrown_away(store: Store) -> None:
    partial_of(store, DATA).write_bytes(b"no part of it")
    asked: list[int] = []
    counts: list[int] = []
    path = store.fetch(described(DATA), source(DATA, asked), "x", counts.append)
    assert (path.read_bytes(), asked, sum(counts)) == (DATA, [13, 0], len(DATA))


@pytest.mark.parametrize(
    ("sent", "words"), [(DATA[:-1] + b"!", "is not what"), (DATA + b"!", "longer than"), (DATA[:-1], "last 1 bytes")]
)
def test_what_is_not_what_it_should_be_gets_no_name(store: Store, sent: bytes, words: str) -> None:
    """N2: checked before it is given its name, and removed, unless only its end is missing."""
    with pytest.raises((ImageError, FileError), match=words):
        store.fetch(described(DATA), source(sent), "the name", nobody)
    assert store.find(described(DATA).digest) is None
    assert partial_of(store, DATA).exists() == (len(sent) < len(DATA))


def test_a_blob_of_another_size_is_removed_and_fetched_again(store: Store) -> None:
    """F5."""
    path = store.fetch(described(DATA), source(DATA), "x", nobody)
    path.chmod(0o600)
    path.write_bytes(DATA[:-5])
    assert store.open(described(DATA).digest, len(DATA)) is None
    assert store.fetch(described(DATA), source(DATA), "x", nobody).read_bytes() == DATA


def test_a_small_blob_is_checked_whenever_it_is_read(store: Store) -> None:
    digest = store.put(b"a document")
    assert store.read(digest, 100) == b"a document"
    path = store.find(digest)
    assert path is not None
    path.write_bytes(b"b document")
    assert store.read(digest, 100) is None
    assert store.find(digest) is None


def test_damaged_blobs_are_found_and_dropped(store: Store) -> None:
    path = store.fetch(described(DATA), source(DATA), "x", nobody)
    kept = store.put(b"fine")
    path.write_bytes(b"\0" * len(DATA))
    assert store.drop_damaged([described(DATA).digest, kept]) == 1
    assert (store.find(described(DATA).digest), store.read(kept, 10)) == (None, b"fine")


def test_a_cache_of_others_goes_first_and_is_only_read(store: Store, tmp_path: Path) -> None:
    site = Store(tmp_path / "site", public=True)
    there = site.fetch(described(DATA), source(DATA), "x", nobody)
    site.note(NAME, site.put(b"{}"), "a/b", 2)
    assert there.stat().st_mode & 0o777 == 0o644
    both = Store(store.directory, [site.directory])
    assert both.fetch(described(DATA), source(b""), "x", nobody) == there
    assert list(listing(store.directory)) == []
    there.chmod(0o600)
    there.write_bytes(b"short")
    path = both.fetch(described(DATA), source(DATA), "x", nobody)
    assert path.is_relative_to(store.directory)
    assert there.read_bytes() == b"short"
    assert known([store.directory, site.directory], NAME) is not None


def test_names_are_remembered_and_forgotten_with_what_they_name(store: Store) -> None:
    first, second = store.put(b"first"), store.put(b"second")
    store.note(NAME, first, "a/b", 5)
    store.note("other:1", second, "a/b", 6)
    store.note(NAME, second, "a/b", 6)
    assert (known([store.directory], NAME), known([store.directory], "none")) == (second, None)
    store.drop(second)
    store.note("third:1", first, "a/b", 5)
    store.forget_missing()
    index = json.loads((store.directory / "index.json").read_text())
    names = [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]]
    assert names == ["third:1"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"manifests": [{"digest": 5}, 7]}', '{"manifests": null}'])
def test_an_index_that_is_damaged_is_made_anew(store: Store, text: str) -> None:
    (store.directory / "index.json").write_text(text)
    digest = store.put(b"x")
    assert known([store.directory], NAME) is None
    store.forget_missing()
    (store.directory / "index.json").write_text(text if "5" not in text else "")
    store.note(NAME, digest, "a/b", 1)
    assert known([store.directory], NAME) == digest


def test_a_store_is_a_layout_that_others_read(store: Store) -> None:
    config = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}'
    layer = described(DATA)
    data = config % layer.digest.digits.encode()
    about = described(data)
    kind = "application/vnd.oci.image."
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": f"{kind}manifest.v1+json",
        "config": {"mediaType": f"{kind}config.v1+json", "digest": str(about.digest), "size": about.size},
        "layers": [{"mediaType": f"{kind}layer.v1.tar", "digest": str(layer.digest), "size": layer.size}],
    }).encode()  # fmt: skip
    store.put(data)
    store.fetch(layer, source(DATA), "x", nobody)
    store.note(NAME, store.put(manifest), f"{kind}manifest.v1+json", len(manifest))
    named = reference.parse(f"{store.directory}:{NAME}")
    found = layout.find(Directory(store.directory), named, Platform(os="linux", architecture="amd64"))
    stream = found.layers[0].open()
    assert stream.read() == DATA
    stream.close()


SLOW = textwrap.dedent("""
    import sys, time, hashlib
    from pathlib import Path
    sys.path.insert(0, sys.argv[3])
    from singularity.cache.blob_store import Store
    from singularity.content.document import Descriptor
    from singularity.content.digest import Digest
    data = bytes(range(256)) * 9000
    class Slow:
        def __init__(self, offset): self.at = offset
        def read(self, size):
            time.sleep(float(sys.argv[2]))
            piece = data[self.at:self.at + 200000]
            self.at += len(piece)
            return piece
        def close(self): pass
    def open_(offset):
        print("opened", offset, flush=True)
        return Slow(offset)
    blob = Descriptor(media_type="x/y", digest=Digest("sha256", hashlib.sha256(data).hexdigest()), size=len(data))
    print(Store(Path(sys.argv[1])).fetch(blob, open_, "x", lambda count: None), flush=True)
""")


def fetching(store: Store, pause: float) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", SLOW, str(store.directory), str(pause), os.getcwd()]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def test_processes_that_want_the_same_blob_fetch_it_once(store: Store) -> None:
    """B3."""
    running = [fetching(store, 0.02) for _ in range(8)]
    said = [process.communicate(timeout=60)[0] for process in running]
    assert all(process.returncode == 0 for process in running)
    assert "".join(said).count("opened") == 1
    assert {lines.splitlines()[-1] for lines in said} == {str(store.find(described(DATA).digest))}


def test_a_fetch_that_was_killed_goes_on_where_it_was(store: Store) -> None:
    """B1, and issue 4, 5: kill -9."""
    process = fetching(store, 0.05)
    end = time.monotonic() + 20
    while time.monotonic() < end and not (
        partial_of(store, DATA).exists() and partial_of(store, DATA).stat().st_size >= 400000
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    left = partial_of(store, DATA).stat().st_size
    asked: list[int] = []
    assert store.fetch(described(DATA), source(DATA, asked), "x", nobody).read_bytes() == DATA
    assert asked == [left]
    assert left >= 400000
