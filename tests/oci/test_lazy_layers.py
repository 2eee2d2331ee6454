"""Tables of contents of layers, and the squashfs that they say: the same files as the layers themselves have."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import tarfile
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING

import chunked
import pytest
from builders import layer
from chunked import Chunked

from singularity.content import digest
from singularity.content.digest import Checked
from singularity.content.document import Config, Descriptor
from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.image.squashfs import reader as squashfs_reader
from singularity.image.tree import Kind
from singularity.lazy import layers, toc
from singularity.lazy.image import BLOCK, LazyFile
from singularity.oci import merge
from singularity.oci.image import Image, Layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from singularity.image.tree import Member, Tree

FORMS: dict[str, Callable[..., Chunked]] = {
    "eStargz": chunked.estargz,
    "zstd:chunked": chunked.zstd_chunked,
    "zstd:chunked by stargz": chunked.zstd_chunked_by_stargz,
}
BIG = random.Random(7).randbytes(700_000)  # noqa: S311
NUMBERS = b"".join(b"%d\n" % number for number in range(9000))
MEDIA = "application/vnd.oci.image.layer.v1.tar+gzip"


class Bytes:
    """A blob, and what was asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def fetch(self, offset: int, size: int) -> bytes:
        self.asked.append((offset, size))
        return self.data[offset : offset + size]


def special(name: str, kind: bytes, **more: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mtime = 1_600_000_000
    for key, value in more.items():
        setattr(info, key, value)
    return info


LOWER = layer(
    ("etc", None),
    ("etc/passwd", b"root:x:0:0::/:/bin/sh\n"),
    ("etc/gone", b"gone"),
    ("data/big", BIG),
    ("data/zeros", bytes(300_000)),
    special("data/link", tarfile.LNKTYPE, linkname="data/big"),
    special("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666),
    special("pipe", tarfile.FIFOTYPE, mode=0o600, uid=1000, gid=100),
    special(
        "tagged", tarfile.REGTYPE, pax_headers={"SCHILY.xattr.user.colour": "blue"}, mode=0o4755
    ),
    ("closed", b"secret"),
    ("lib", "usr/lib"),
    ("usr/lib/a", b"a"),
)  # fmt: skip
UPPER = layer(
    ("etc/.wh.gone", b""), ("lib/b", b"b" * 5000), ("etc/passwd", b"changed\n"), ("numbers", NUMBERS), ("empty", b"")
)


def image_of(*made: Chunked) -> tuple[Image, dict[str, toc.Table]]:
    """An image of these layers, and their tables."""
    found = []
    tables = {}
    for number, each in enumerate(made):
        name = f"layer {number}"
        stored, content = digest.of(each.stored), digest.of(each.tar)
        found.append(
            Layer(name=name, content=content, stored=stored, open=lambda each=each, stored=stored, name=name: Checked(
                BytesIO(each.stored), stored, name))
        )  # fmt: skip
        tables[name] = toc.read(Bytes(each.stored), described(each), name)
    config = Config(platform=Platform(os="linux"), diff_ids=())
    return Image(name="image", digest=digest.of(b""), config=config, layers=tuple(found)), tables


def described(made: Chunked) -> Descriptor:
    return Descriptor(
        media_type=MEDIA, digest=digest.of(made.stored), size=len(made.stored), annotations=made.annotations
    )


def listed(tree: Tree) -> dict[bytes, tuple[Member, bytes]]:
    """Members by path, with the digests of their data; times in whole seconds, as a squashfs has them."""
    found: dict[bytes, tuple[Member, bytes]] = {}
    for entry in tree:
        data = hashlib.sha256(b"".join(entry.data)).digest() if entry.member.kind is Kind.FILE else b""
        mode = 0o777 if entry.member.kind is Kind.LINK else entry.member.mode
        member = replace(entry.member, mtime=entry.member.mtime // 10**9 * 10**9, segments=None, mode=mode)
        if member.kind is Kind.HARD_LINK:
            member = replace(found[member.target][0], path=member.path)
            data = found[entry.member.target][1]
        found[member.path] = member, data
    return found


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_with_a_table_is_a_layer(form: str) -> None:
    made = FORMS[form](LOWER, chunk=1 << 17)
    if form == "eStargz":
        assert chunked.gunzipped(made.stored) == made.tar
    image, _ = image_of(made)
    assert b"data/big" in listed(merge.merged(image))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("chunk", [1 << 16, 1 << 20])
def test_the_squashfs_has_what_the_layers_leave(form: str, chunk: int, tmp_path: Path) -> None:
    image, tables = image_of(FORMS[form](LOWER, chunk=chunk), FORMS[form](UPPER, chunk=chunk))
    wanted = listed(merge.merged(image))
    wanted.pop(b"stargz.index.json", None)
    source = layers.LayeredSource(layers.merged(image, tables), "x")
    with LazyFile(source, tmp_path / "lazy", tmp_path / "map") as lazy:
        assert lazy.fill(lambda: True)
    with (tmp_path / "lazy").open("rb") as file:
        found = listed(squashfs_reader.read(file, 0, source.size))
    found.pop(b"", None)
    assert found.keys() == wanted.keys()
    for path, each in wanted.items():
        assert found[path] == each
    done = subprocess.run(["unsquashfs", "-lln", tmp_path / "lazy"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "squashfs-root/lib/b" not in done.stdout
    assert "squashfs-root/usr/lib/b" in done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_may_have_no_data(form: str) -> None:
    """As one of whiteouts and directories."""
    image, tables = image_of(FORMS[form](LOWER), FORMS[form](layer(("etc/.wh.gone", b""), ("new", None))))
    lazily = listed(layers.merged(image, tables))
    assert b"new" in lazily
    assert b"etc/gone" not in lazily


@pytest.mark.parametrize("form", FORMS)
def test_much_may_come_behind_the_last_file(form: str) -> None:
    made = FORMS[form](layer(("file", b"data"), *((f"directory-{number}", None) for number in range(200))))
    image, tables = image_of(made)
    assert listed(layers.merged(image, tables))[b"file"][1] == hashlib.sha256(b"data").digest()


@pytest.mark.parametrize("form", FORMS)
def test_only_what_is_read_is_fetched(form: str, tmp_path: Path) -> None:
    made = FORMS[form](LOWER, chunk=1 << 17)
    image, tables = image_of(made)
    blob = tables["layer 0"].blob
    assert isinstance(blob, Bytes)
    before = sum(size for _, size in blob.asked)
    source = layers.LayeredSource(layers.merged(image, tables), "x")
    assert sum(size for _, size in blob.asked) == before
    with LazyFile(source, tmp_path / "lazy", tmp_path / "map") as lazy:
        assert lazy.read(0, 96)[:4] == b"hsqs"
        fetched = sum(size for _, size in blob.asked) - before
    assert fetched <= 2 * BLOCK + (1 << 17)
    assert fetched < len(made.stored) * 2 // 3


@pytest.mark.parametrize("form", FORMS)
def test_a_part_that_is_not_what_the_table_says_is_refused(form: str, tmp_path: Path) -> None:
    """R-N2: nothing that is not verified is handed out."""
    made = FORMS[form](layer(("numbers", NUMBERS)), chunk=1 << 20)
    image, tables = image_of(made)
    blob = tables["layer 0"].blob
    assert isinstance(blob, Bytes)
    other = FORMS[form](layer(("numbers", NUMBERS[:-2] + b"X\n")), chunk=1 << 20)
    source = layers.LayeredSource(layers.merged(image, tables), "x")
    blob.data = other.stored.ljust(len(made.stored), b"\0")
    with LazyFile(source, tmp_path / "lazy", tmp_path / "map") as lazy, pytest.raises(ImageError):
        lazy.read(0, source.size)


def changed(made: Chunked, change: Callable[[dict[str, object]], None]) -> Chunked:
    """A zstd:chunked layer with another table, whose digest the manifest says too."""
    offset, length, _, _ = map(int, made.annotations[chunked.POSITION].split(":"))
    text = subprocess.run(
        ["zstd", "-qdc"], input=made.stored[offset : offset + length], capture_output=True, check=True
    ).stdout
    table = json.loads(text)
    change(table)
    new = json.dumps(table).encode()
    compressed = chunked._zstd(new)
    stored = made.stored[:offset] + compressed
    said = {
        chunked.POSITION: f"{offset}:{len(compressed)}:{len(new)}:1",
        chunked.CHECKSUM: "sha256:" + hashlib.sha256(compressed).hexdigest(),
    }
    return Chunked(stored, made.tar, said)


def entry(table: dict[str, object], name: str) -> dict[str, object]:
    entries = table["entries"]
    assert isinstance(entries, list)
    found: dict[str, object] = next(each for each in entries if each["name"] == name)
    return found


def read_all(made: Chunked, path: Path) -> None:
    image, tables = image_of(made)
    source = layers.LayeredSource(layers.merged(image, tables), "x")
    with LazyFile(source, path, path.with_name("map")) as lazy:
        lazy.read(0, lazy.size)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("numbers", "name", "../numbers"),
        ("numbers", "name", 7),
        ("numbers", "size", -1),
        ("numbers", "size", 1 << 60),
        ("numbers", "size", "many"),
        ("numbers", "type", "rolled up"),
        ("numbers", "endOffset", 1 << 40),
        ("numbers", "offset", -1),
        ("numbers", "chunkDigest", "md5:0"),
        ("numbers", "chunkOffset", 5),
        ("numbers", "chunkSize", 1),
        ("numbers", "innerOffset", 4),
        ("numbers", "uid", 1 << 40),
        ("numbers", "modtime", "yesterday"),
        ("numbers", "xattrs", {"user.a": "no base64"}),
        ("numbers", "xattrs", ["a"]),
        ("lib/b", "linkName", "a\0b"),
    ],
)
def test_hostile_tables_are_refused_in_one_line(name: str, key: str, value: object, tmp_path: Path) -> None:
    """R-P1, R-P5: only ImageError leaves the parser, and the image is not made."""

    def change(table: dict[str, object]) -> None:
        if key == "linkName":
            entry(table, name)["type"] = "symlink"
        entry(table, name)[key] = value

    made = changed(chunked.zstd_chunked(UPPER), change)
    with pytest.raises(ImageError) as error:
        read_all(made, tmp_path / "lazy")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        (1, "offset", 0),
        (1, "offset", None),
        (1, "offset", 1 << 40),
        (2, "offset", 1),
        (1, "chunkOffset", 5),
        (1, "chunkSize", 1 << 40),
        (1, "chunkDigest", None),
        (0, "endOffset", 3),
        (0, "endOffset", 1 << 40),
        (0, "endOffset", (1 << 27) + (1 << 20)),
    ],
)
def test_hostile_parts_are_refused_before_anything_is_fetched(part: int, key: str, value: int | None) -> None:
    """R-P1: in zstd:chunked a part ends where the next one begins, the last one where the first says that all end."""

    def change(table: dict[str, object]) -> None:
        entries = table["entries"]
        assert isinstance(entries, list)
        parts = [each for each in entries if each["name"] == "numbers"]
        assert len(parts) == 3
        assert [sorted(each).count("endOffset") for each in parts] == [1, 0, 0]
        parts[part][key] = value

    made = changed(chunked.zstd_chunked(UPPER, chunk=1 << 14), change)
    with pytest.raises(ImageError):
        image_of(made)


def test_a_name_that_go_could_not_write_is_not_guessed() -> None:
    """What is no UTF-8 stands in a table as U+FFFD: the image is fetched whole, so that the name is right."""
    for bad in ("name", "linkName"):

        def change(table: dict[str, object], bad: str = bad) -> None:
            entry(table, "empty").update({"type": "symlink", "linkName": "x", bad: "caf\ufffd"})

        with pytest.raises(ImageError, match="a name that its table of contents cannot hold"):
            image_of(changed(chunked.zstd_chunked(UPPER), change))


def test_a_table_that_the_manifest_does_not_name_is_refused() -> None:
    made = chunked.estargz(UPPER)
    made.annotations[chunked.ESTARGZ] = "sha256:" + "0" * 64
    with pytest.raises(ImageError, match="is not what sha256:0000"):
        toc.read(Bytes(made.stored), described(made), "layer")
    assert not toc.is_lazy(replace(described(made), annotations={}))


def test_two_readers_at_once_fetch_each_block_once(tmp_path: Path) -> None:
    data = os.urandom(3 * BLOCK + 5)

    class Source:
        size = len(data)
        identity = "random"
        asked: list[tuple[int, int]] = []

        def fetch(self, offset: int, size: int) -> bytes:
            self.asked.append((offset, size))
            return data[offset : offset + size]

    source = Source()
    with LazyFile(source, tmp_path / "x", tmp_path / "map") as first:
        assert first.read(BLOCK - 1, 2) == data[BLOCK - 1 : BLOCK + 1]
        with LazyFile(source, tmp_path / "x", tmp_path / "map") as second:
            assert second.fetched_bytes == 2 * BLOCK
            assert second.read(0, len(data)) == data
            assert first.read(0, len(data)) == data
    assert sum(size for _, size in source.asked) == len(data)
    other = Source()
    other.identity = "another"
    with LazyFile(other, tmp_path / "x", tmp_path / "map") as third:
        assert third.fetched_bytes == 0
