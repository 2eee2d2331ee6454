"""Manifests, indexes, configurations and references: what is meant, and what is refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import CONFIG, INDEX, LAYER, MANIFEST, Blob, Layout, layer
from hypothesis import given
from hypothesis import strategies as st

from singularity.content import digest, document
from singularity.content.digest import Digest
from singularity.content.document import Config, Index, Manifest
from singularity.content.platform import Platform
from singularity.errors import FileError, ImageError
from singularity.oci import local, reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from singularity.oci.image import Image

WANTED = Platform(os="linux", architecture="amd64")
HEX = "0" * 64
KEYS = [
    "schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "platform", "rootfs", "diff_ids",
    "Env", "Cmd", "Labels", "annotations", "urls", "os", "architecture", "x",
]  # fmt: skip
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("sha256:" + HEX) | st.just(MANIFEST),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6),
    max_leaves=20,
)


def found(place: Path, text: str = "", wanted: Platform = WANTED, transport: str = "oci") -> Image:
    with local.opened(transport, f"{place}{text}", wanted, place.parent) as image_:
        return image_


def refusal(place: Path, text: str = "", transport: str = "oci") -> str:
    with pytest.raises(ImageError) as raised:
        found(place, text, transport=transport)
    assert "\n" not in str(raised.value)
    return str(raised.value).removeprefix(f"{place}: ")


@given(st.one_of(json_values.map(lambda value: json.dumps(value).encode()), st.binary(max_size=50)))
def test_documents_of_others_are_understood_or_refused(data: bytes) -> None:
    """R-P5."""
    for read in (lambda: document.parse(data, "", "x"), lambda: document.parse_config(data, "x")):
        try:
            assert isinstance(read(), Index | Manifest | Config)
        except ImageError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "text",
    ["sha256:" + "A" * 64, "sha256:" + "0" * 63, "sha256:../../etc", "md5:" + "0" * 32, "sha256:" + HEX + "\n", 7, ""],
)
def test_what_is_no_digest_is_refused(text: object) -> None:
    """R-N4."""
    with pytest.raises(ImageError, match="is no digest"):
        digest.parse(text)


@pytest.mark.parametrize(
    ("content", "announced", "message"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "", "an image in Docker's old format (schema 1)"),
        ({"schemaVersion": 2, "layers": [], "manifests": []}, "", "both an index and a manifest"),
        ({"schemaVersion": 2, "mediaType": INDEX, "layers": [], "config": {}}, "", "its content is not of the type"),
        ({"schemaVersion": 2, "manifests": []}, MANIFEST, "its content is not of the type"),
        (
            {"schemaVersion": 2, "mediaType": MANIFEST, "layers": [], "config": {}},
            "application/vnd.docker.distribution.manifest.v2+json",
            "but it was announced as",
        ),
        ({"schemaVersion": 2}, "", "neither an index nor a manifest"),
        ({"manifests": [{"digest": "sha256:" + HEX, "size": -1}]}, "", "a blob without a possible size"),
        ({"manifests": [{"digest": "sha256:" + HEX, "size": True}]}, "", "a blob without a possible size"),
        ({"manifests": [{"digest": "../x", "size": 1}]}, "", '"../x" is no digest'),
        ({"manifests": {}}, "", "manifests is no list"),
        ([], "", "no JSON object"),
    ],
)
def test_documents_that_make_no_sense_are_refused(content: object, announced: str, message: str) -> None:
    """R-N5."""
    with pytest.raises(ImageError) as raised:
        document.parse(json.dumps(content).encode(), announced, "x")
    assert message in str(raised.value)


def test_documents_are_limited_in_size_and_depth() -> None:
    with pytest.raises(ImageError, match="more than the 4194304"):
        document.parse(b'{"layers": []}' + b" " * (4 << 20), "", "x")
    with pytest.raises(ImageError, match="nested deeper than 64"):
        document.parse(b'{"x":' + b"[" * 70 + b"]" * 70 + b"}", "", "x")


def test_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("lay", "lay:odd", "a.tar"):
        Path(name).mkdir()
    parse = reference.parse
    assert parse("lay") == reference.Reference(path=Path("lay"))
    assert parse("lay:t").tag == "t"
    assert parse("lay:docker.io/library/debian:stable").tag == "docker.io/library/debian:stable"
    assert parse("lay:odd") == reference.Reference(path=Path("lay:odd"))
    assert parse(f"{tmp_path}/a.tar:x@sha256:{HEX}").digest == Digest("sha256", HEX)
    assert parse(f"lay@sha256:{HEX}") == reference.Reference(path=Path("lay"), digest=Digest("sha256", HEX))
    with pytest.raises(FileError, match="none: No such file"):
        parse("none:tag")
    with pytest.raises(ImageError, match="names no file"):
        parse(":tag")


def test_images_are_found_by_tag_digest_and_platform(layout: Layout) -> None:
    blobs = {}
    for number, (architecture, variant) in enumerate(
        [("amd64", ""), ("amd64", "v3"), ("arm64", "v8"), ("arm", "v6"), ("arm", "v7"), ("unknown", "")]
    ):
        blob = layout.image([layer((str(number), b""))], architecture=architecture)
        blobs[architecture + variant] = blob
    several = [
        blob.descriptor(
            platform={
                "os": "unknown" if name == "unknown" else "linux",
                "architecture": name.partition("v")[0],
                "variant": f"v{name.partition('v')[2]}" if "v" in name else "",
            }
        )
        for name, blob in blobs.items()
        if name != "unknown"
    ]
    several.append(blobs["unknown"].descriptor(platform={"os": "unknown", "architecture": "unknown"}))
    index = layout.document(INDEX, {"schemaVersion": 2, "mediaType": INDEX, "manifests": several})
    layout.add(index, "many")
    layout.add(blobs["arm64v8"], "one")
    for wanted, name in (("amd64", "amd64"), ("arm64", "arm64v8"), ("arm", "armv7")):
        platform = Platform(os="linux", architecture=wanted)
        assert str(found(layout.path, ":many", platform).digest) == blobs[name].digest
    exact = Platform(os="linux", architecture="arm", variant="v6")
    assert str(found(layout.path, ":many", exact).digest) == blobs["armv6"].digest
    assert str(found(layout.path, f"@{index.digest}").digest) == blobs["amd64"].digest
    with pytest.raises(ImageError, match=r"no image for linux/s390x in it \(there are linux/amd64, linux/amd64/v3"):
        found(layout.path, ":many", Platform(os="linux", architecture="s390x"))
    assert refusal(layout.path, ":other") == 'no image "other" in it (name one: many, one)'
    assert refusal(layout.path) == "2 images in it (name one: many, one)"
    assert "an image for arm64, not for amd64" in refusal(layout.path, ":one")
    assert refusal(layout.path, f"@sha256:{HEX}") == f"no image sha256:{HEX} in it"


def test_names_as_containerd_writes_them(layout: Layout) -> None:
    blob = layout.image([layer(("a", b""))])
    layout.add(blob, "1.2", platform={"os": "linux", "architecture": "amd64"})
    layout.manifests[0]["annotations"] = {"io.containerd.image.name": "docker.io/library/debian:1.2"}
    layout.add(layout.image([layer(("b", b""))]), "other")
    for tag in (":1.2", ":docker.io/library/debian:1.2"):
        assert str(found(layout.path, tag).digest) == blob.digest


def test_what_is_kept_beside_an_image_is_none(layout: Layout) -> None:
    """A list of packages (SBOM) or a signature in the image's index, without a platform; nested in another index."""
    made = layout.image([layer(("a", b"1"))])
    kind = "application/spdx+json"
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:" + "0" * 64, "size": 2}
    beside = layout.document(MANIFEST, {"schemaVersion": 2, "artifactType": kind, "config": empty, "layers": [empty]})
    platform = {"architecture": "amd64", "os": "linux"}
    for itself in (made.descriptor(platform=platform), made.descriptor(artifactType=CONFIG), made.descriptor()):
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [beside.descriptor(artifactType=kind), itself]}
        outer = {"schemaVersion": 2, "manifests": [layout.document(INDEX, index).descriptor(platform=platform)]}
        layout.manifests.clear()
        layout.add(layout.document(INDEX, outer), "t")
        assert str(found(layout.path, ":t").digest) == made.digest


def test_attestations_are_no_images(layout: Layout) -> None:
    real, note = layout.image([layer(("a", b""))]), layout.image([layer(("b", b""))])
    annotations = {"vnd.docker.reference.type": "attestation-manifest"}
    platform = {"os": "linux", "architecture": "amd64"}
    several = [note.descriptor(annotations=annotations, platform=platform), real.descriptor(platform=platform)]
    layout.add(layout.document(INDEX, {"schemaVersion": 2, "manifests": several}))
    assert str(found(layout.path).digest) == real.digest


def test_indexes_in_indexes_end(layout: Layout) -> None:
    blob = layout.image([layer(("a", b""))])
    for _ in range(3):
        blob = layout.document(INDEX, {"schemaVersion": 2, "manifests": [blob.descriptor()]})
    layout.add(blob, "three")
    assert found(layout.path, ":three").layers
    for _ in range(3):
        blob = layout.document(INDEX, {"schemaVersion": 2, "manifests": [blob.descriptor()]})
    layout.add(blob, "six")
    assert refusal(layout.path, ":six") == "indexes in indexes without an end"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"layers": [("application/vnd.example.thing", {})]},
            "no extractable OCI/Docker tar layers found in this image",
        ),
        (
            {"layers": [("application/vnd.sylabs.sif.layer.v1.sif", {})]},
            "no extractable OCI/Docker tar layers found in this image (a SIF image: it is pulled with oras://)",
        ),
        ({"layers": [(LAYER, {}), (LAYER + "+encrypted", {})]}, f'a layer of the unknown type "{LAYER}+encrypted"'),
        ({"layers": [(LAYER, {}), (LAYER, {})]}, "speaks of 1 layers, but there are 2"),
    ],
)
def test_images_that_cannot_be_unpacked_say_why(layout: Layout, changes: Mapping[str, Any], message: str) -> None:
    data = layer(("a", b""))
    described = [layout.put(Blob(kind, data)).descriptor(**more) for kind, more in changes["layers"]]
    diff = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]}
    config = layout.document(CONFIG, {"os": "linux", "architecture": "amd64", "rootfs": diff})
    content = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config.descriptor(), "layers": described}
    layout.add(layout.document(MANIFEST, content))
    assert refusal(layout.path).partition(": ")[2] == message


def test_foreign_layers_are_used_when_they_are_there_and_never_fetched(layout: Layout) -> None:
    """R-N5."""
    kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    data = layer(("a", b""))
    blob = layout.put(Blob(kind, gzip.compress(data)))
    diff = {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]}
    config = layout.document(CONFIG, {"os": "linux", "architecture": "amd64", "rootfs": diff})
    urls = ["https://127.0.0.1:1/layer"]
    content = {"schemaVersion": 2, "config": config.descriptor(), "layers": [blob.descriptor(urls=urls)]}
    layout.add(layout.document(MANIFEST, content))
    stored = found(layout.path).layers[0].open()
    stored.finish()
    stored.close()
    (layout.path / "blobs" / blob.digest.replace(":", "/")).unlink()
    with pytest.raises(ImageError, match="is to be had from its maker only"):
        found(layout.path).layers[0].open()


def test_damaged_and_missing_blobs_are_named(layout: Layout) -> None:
    """R-N2."""
    blob = layout.image([layer(("a", b""))])
    layout.add(blob)
    path = layout.path / "blobs" / blob.digest.replace(":", "/")
    path.write_bytes(blob.data.replace(b"amd", b"ARM") if b"amd" in blob.data else blob.data[:-1] + b" ")
    assert refusal(layout.path).startswith(f"{blob.digest[:19]}: its content is not what {blob.digest} names")
    path.unlink()
    assert refusal(layout.path).startswith(f"no blobs/sha256/{blob.digest[7:]} in it")


def test_what_is_no_layout_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert refusal(tmp_path / "empty").startswith("no OCI layout")
    (tmp_path / "file").write_bytes(b"x" * 5000)
    assert refusal(tmp_path / "file").startswith("no directory, as an OCI layout is (oci-archive is for files)")
    assert refusal(tmp_path / "empty", transport="oci-archive").startswith("a directory, not an archive")
    for transport in ("oci-archive", "docker-archive"):
        assert "checksum is no number: damaged" in refusal(tmp_path / "file", transport=transport)
    (tmp_path / "empty.tar").write_bytes(layer(("a", b"b")))
    assert refusal(tmp_path / "empty.tar", transport="docker-archive").startswith("no archive of an image")
    os.mkfifo(tmp_path / "empty" / "oci-layout")
    (tmp_path / "empty" / "index.json").write_text("{}")
    assert refusal(tmp_path / "empty").startswith("no OCI layout")


def saved(path: Path, *images: tuple[str, list[str], list[bytes]], wrong: bool = False) -> None:
    """An archive as `docker save` makes it, of (name of the directory, tags, layers)."""
    listed = []
    with tarfile.open(path, "w") as archive:

        def put(name: str, data: bytes) -> None:
            import io

            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))

        for name, tags, stack in images:
            diffs = ["sha256:" + hashlib.sha256(each).hexdigest() for each in stack]
            about = {"os": "linux", "architecture": "amd64", "config": {}, "rootfs": {"diff_ids": diffs}, "x": name}
            config = json.dumps(about).encode()
            place = hashlib.sha256(config + (b"x" if wrong else b"")).hexdigest() + ".json"
            for number, each in enumerate(stack):
                put(f"{name}{number}/layer.tar", each)
            put(place, config)
            layers = [f"{name}{number}/layer.tar" for number in range(len(stack))]
            listed.append({"Config": place, "RepoTags": tags or None, "Layers": layers})
        put("manifest.json", json.dumps(listed).encode())


def test_archives_with_several_images(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    stack = [layer(("a", b"a")), layer(("b", b"b" * 100_000))]
    saved(path, ("x", ["example.org/x:1", "x:latest"], stack), ("y", ["y:2"], stack[:1]))
    for tag in (":example.org/x:1", ":x:1", ":1", ":x", ":x:latest", ":latest"):
        assert len(found(path, tag, transport="docker-archive").layers) == 2, tag
    assert len(found(path, ":y:2", transport="docker-archive").layers) == 1
    message = "2 images in it (name one: example.org/x:1, x:latest, y:2)"
    assert refusal(path, transport="docker-archive") == message
    message = 'no image "z" in it (there are example.org/x:1, x:latest, y:2)'
    assert refusal(path, ":z", transport="docker-archive") == message


def test_a_configuration_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    saved(path, ("x", [], [layer(("a", b"a"))]), wrong=True)
    assert "its content is not what its name says" in refusal(path, transport="docker-archive")


def test_an_archive_that_ends_early_is_told(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    saved(path, ("x", [], [layer(("a", b"a" * 3_000_000))]))
    path.write_bytes(path.read_bytes()[:2_000_000])
    assert "ends within x0/layer.tar (incomplete? fetch it again)" in refusal(path, transport="docker-archive")


@pytest.mark.parametrize("padding", [0, 1, 200])
def test_the_last_file_of_an_archive_needs_no_padding(tmp_path: Path, padding: int) -> None:
    """Files are found by their places, and all that matters of them has a digest."""
    path = tmp_path / "saved.tar"
    saved(path, ("x", ["x:1"], [layer(("a", b"a"))]))
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    assert 0 < end % 512 < 300
    path.write_bytes(whole[: end + padding])
    assert len(found(path, ":x:1", transport="docker-archive").layers) == 1


def test_links_of_an_archive_stay_inside_it(tmp_path: Path) -> None:
    path = tmp_path / "saved.tar"
    with tarfile.open(path, "w") as archive:
        for name, target in (("manifest.json", "/etc/passwd"), ("oci-layout", "oci-layout")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    for transport in ("oci-archive", "docker-archive"):
        assert refusal(path, transport=transport).startswith(("no OCI layout", "no archive of an image"))


def test_the_identity_of_a_source_changes_with_what_is_in_it(layout: Layout, tmp_path: Path) -> None:
    """Whatever machine the images are for, and however the archive is compressed."""

    def identity(transport: str, text: object) -> str:
        return local.identity(transport, str(text), tmp_path)

    layout.add(layout.image([layer(("a", b"1"))], architecture="s390x"), "t")
    first = identity("oci", f"{layout.path}:t")
    assert identity("oci", layout.path) == first
    layout.add(layout.image([layer(("a", b"2"))]), "u")
    assert identity("oci", layout.path) != first
    path = tmp_path / "saved.tar"
    found = []
    for content in (b"a", b"b", b"a"):
        saved(path, ("x", [], [layer(("a", content))]))
        found.append(identity("docker-archive", path))
    assert found[0] == found[2] != found[1]
    (tmp_path / "saved.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert identity("docker-archive", tmp_path / "saved.tar.gz") == found[0]
