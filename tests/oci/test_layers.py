"""Layers over layers: whiteouts wherever they stand, links on the way, and what no layer may do."""

from __future__ import annotations

import gzip
import os
import stat
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
import trees
from builders import LAYER, described, layer

from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.image.archive import reader as archive
from singularity.oci import layers, local, merge

if TYPE_CHECKING:
    from pathlib import Path

    from builders import Layout

WANTED = Platform(os="linux", architecture="amd64")
LOWER = layer(
    ("a", None),
    ("a/one", b"1"),
    ("a/two", b"2"),
    ("a/b", None),
    ("a/b/deep", b"d"),
    ("file", b"f"),
    ("usr", None),
    ("usr/lib", None),
    ("usr/lib/old", b"o"),
    ("lib", "usr/lib"),
)
TOP = {"a", "file", "lib", "usr"}


def unpacked(layout: Layout, root: Path, *stack: bytes) -> set[str]:
    """The paths of what a stack of layers makes."""
    layout.add(layout.image(stack))
    with local.opened("oci", str(layout.path), WANTED, root.parent) as found:
        layers.unpack(found, root)
    return {str(each.relative_to(root)) for each in root.rglob("*") if each.is_symlink() or not each.is_dir()}


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        ([("a/.wh.one", b"")], {"a/two", "a/b/deep"}),
        ([("a/.wh.b", b"")], {"a/one", "a/two"}),
        ([(".wh.a", b"")], set()),
        ([("a/.wh..wh..opq", b""), ("a/new", b"n")], {"a/new"}),
        ([("a/new", b"n"), ("a/b", None), ("a/b/new", b"n"), ("a/.wh..wh..opq", b"")], {"a/new", "a/b/new"}),
        ([("a/b/new", b"n"), ("a/.wh.b", b"")], {"a/one", "a/two", "a/b/new"}),
        ([("a/one", b"again"), ("a/.wh.one", b"")], {"a/one", "a/two", "a/b/deep"}),
        ([("a/.wh.none", b""), ("none/.wh.x", b""), ("file/.wh.x", b"")], {"a/one", "a/two", "a/b/deep"}),
        ([(".wh.a", b""), ("a", None), ("a/new", b"n")], {"a/new"}),
        ([("a", None), ("a/new", b"n"), (".wh.a", b"")], {"a/new"}),
        ([("a/.wh..wh.plnk", None), ("a/.wh..wh.plnk/12.34", b"aufs"), (".wh..wh.aufs", b"")], None),
    ],
)
def test_whiteouts_touch_what_is_below_and_nothing_of_their_own_layer(
    layout: Layout, root: Path, upper: list[tuple[str, bytes | None]], left: set[str] | None
) -> None:
    """R-T6."""
    found = unpacked(layout, root, LOWER, layer(*upper))
    expected = {"a/one", "a/two", "a/b/deep"} if left is None else left
    assert found == expected | {"file", "lib", "usr/lib/old"}
    assert not any(".wh." in name for name in found)


def test_an_opaque_root_leaves_only_its_own_layer(layout: Layout, root: Path) -> None:
    assert unpacked(layout, root, LOWER, layer((".wh..wh..opq", b""), ("x", b"x"))) == {"x"}


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh...", "a/.wh.", ".wh.x/inside", "a/.wh.b/c/d"])
def test_what_looks_like_a_whiteout_and_is_none_is_refused(layout: Layout, root: Path, name: str) -> None:
    """R-T6."""
    with pytest.raises(ImageError, match=r"no whiteout that can be|below a whiteout"):
        unpacked(layout, root, LOWER, layer((name, b"")))
    assert (root / "a/one").read_text() == "1"


def test_members_and_whiteouts_follow_links_inside_the_root(layout: Layout, root: Path) -> None:
    """An image whose /lib is a link keeps it when a layer has files below lib/, or takes some away (R-T2, R-T6)."""
    found = unpacked(layout, root, LOWER, layer(("lib/new", b"n")), layer(("lib/.wh.old", b"")))
    assert {"lib", "usr/lib/new"} <= found
    assert "usr/lib/old" not in found
    assert os.readlink(root / "lib") == "usr/lib"


def test_no_layer_leads_out_of_the_root(layout: Layout, root: Path, tmp_path: Path) -> None:
    """R-T1 to R-T3: through links of lower layers, absolute or upwards, and by names."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    lower = layer(("absolute", str(outside)), ("upwards", "../../../../../.." + str(outside)), ("loop", "loop"))
    upper = layer(("absolute/new", b"n"), ("upwards/new2", b"n"), ("absolute/.wh.kept", b""))
    unpacked(layout, root, lower, upper)
    assert sorted(os.listdir(outside)) == ["kept"]
    circle = layer(("loop/.wh.x", b""))
    for bad in (layer(("../escaped", b"")), layer(("a/../../escaped", b"")), layer(("loop/x", b"")), circle):
        with pytest.raises(ImageError):
            unpacked(type(layout)(tmp_path / os.urandom(4).hex()), root, lower, bad)
    assert not (tmp_path / "escaped").exists()


def test_hard_links_reach_into_lower_layers_and_no_further(layout: Layout, root: Path, tmp_path: Path) -> None:
    """R-T3."""
    link = tarfile.TarInfo("a/again")
    link.type, link.linkname = tarfile.LNKTYPE, "a/one"
    unpacked(layout, root, LOWER, layer(link))
    assert (root / "a/again").samefile(root / "a/one")
    (tmp_path / "secret").write_text("secret")
    link.linkname = str(tmp_path / "secret")
    with pytest.raises(ImageError, match="which is not there"):
        unpacked(type(layout)(tmp_path / "other"), root, layer(link))


def test_files_and_directories_take_each_others_place(layout: Layout, root: Path) -> None:
    upper = layer(("a", b"a file now"), ("file", None), ("file/in", b"i"), ("lib", None), ("lib/own", b"o"))
    found = unpacked(layout, root, LOWER, upper)
    assert found == {"a", "file/in", "lib/own", "usr/lib/old"}
    assert (root / "a").read_text() == "a file now"


def test_a_directory_that_a_layer_only_changes_keeps_its_time(layout: Layout, root: Path) -> None:
    """Else the same image would make other files each time."""
    unpacked(layout, root, LOWER, layer(("a/new", b"n"), ("lib/new", b"n")), layer(("a/b/.wh.deep", b"")))
    for name in ("a", "a/b", "usr/lib"):
        assert (root / name).stat().st_mtime == 1_500_000_000, name


def test_two_unpackings_are_the_same(layout: Layout, tmp_path: Path) -> None:
    stack = [LOWER, layer(("a/.wh..wh..opq", b""), ("a/x/y/z", b"z")), layer(("a/x/.wh.y", b""), ("new/dir/f", b""))]
    layout.add(layout.image(stack))
    found = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with local.opened("oci", str(layout.path), WANTED, tmp_path) as opened:
            layers.unpack(opened, tmp_path / name)
        found.append(described(tmp_path / name))
    assert found[0] == found[1]


def test_layers_may_lack_their_end(layout: Layout, root: Path) -> None:
    """As Go's tools write and read them."""
    size = -(-len(LOWER.rstrip(b"\0")) // 512) * 512
    assert size < len(LOWER)
    assert unpacked(layout, root, LOWER[:size], layer()) >= {"file", "lib"}


@pytest.mark.parametrize("packed", ["", "gzip", "zstd"])
def test_a_layer_is_as_long_as_its_digest_says(layout: Layout, root: Path, packed: str) -> None:
    """Layers of no bytes; of no padding and no end, as `umoci insert` makes them; of a few zeros at the end."""
    upper = layer(("a/new", b"new"))
    end = -(-len(LOWER.rstrip(b"\0")) // 512) * 512
    stack = [LOWER[: end + 700], b"", upper[: upper.rindex(b"new") + 3], bytes(512), bytes(7), b""]
    stored = [subprocess.run([packed, "-qc"], input=each, capture_output=True, check=True).stdout if packed else each
              for each in stack]  # fmt: skip
    layout.add(layout.image(stack, stored=stored, types=[LAYER + (f"+{packed}" if packed else "")] * len(stack)), "t")
    with local.opened("oci", f"{layout.path}:t", WANTED, root.parent) as found:
        layers.unpack(found, root)
        left = [entry.member.path for entry in merge.merged(found)]
    assert (root / "a/new").read_text() == "new"
    assert sorted(os.fsdecode(each) for each in left) == sorted(str(e.relative_to(root)) for e in root.rglob("*"))


def test_what_a_digest_does_not_prove_is_cut_off(layout: Layout, root: Path) -> None:
    """R-T5: in a docker-archive only the content has a digest, and in an archive by itself nothing has."""
    data = layer(("a", b"first"), ("b", b"second"))
    blob = layout.image([data])
    layout.add(blob)
    path = next(each for each in layout.path.glob("blobs/sha256/*") if each.read_bytes() == data)
    path.write_bytes(data[:1024])
    with (
        pytest.raises(ImageError, match="bytes are missing"),
        local.opened("oci", str(layout.path), WANTED, root.parent) as found,
    ):
        layers.unpack(found, root)
    cut = root.parent / "cut.tar"
    for size in (0, 512, 1000, 1024, 1500, 2048):
        cut.write_bytes(data[:size])
        with pytest.raises(ImageError, match=r"ends in the middle|empty, no archive"), archive.opened(cut) as tree:
            trees.members(tree)


@pytest.mark.needs("root")
def test_modes_and_devices_of_a_layer_arrive_as_root(layout: Layout, root: Path) -> None:
    device, pipe, closed = tarfile.TarInfo("null"), tarfile.TarInfo("pipe"), tarfile.TarInfo("closed")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    pipe.type = tarfile.FIFOTYPE
    closed.mode, closed.size = 0, 100
    unpacked(layout, root, layer(device, pipe, closed))
    status = (root / "null").lstat()
    assert (stat.S_ISCHR(status.st_mode), status.st_rdev) == (True, os.makedev(1, 3))
    assert stat.S_ISFIFO((root / "pipe").lstat().st_mode)
    assert (root / "closed").read_bytes() == bytes(100)


def test_a_layer_that_is_not_what_its_digest_says_is_told_as_that(layout: Layout, root: Path) -> None:
    """R-N2: damage in the compressed bytes, a lost end, other bytes, another size."""
    data = gzip.compress(LOWER, mtime=0)
    cases = {
        "its content is not what sha256:": data[:200] + b"XX" + data[202:],
        "its last 7 bytes are missing": data[:-7],
        "longer than the": data + b"more",
    }
    for message, stored in cases.items():
        other = type(layout)(layout.path.with_name(message[4:10].replace(" ", "-")))
        other.add(other.image([LOWER], types=[LAYER + "+gzip"], stored=[data]))
        blob = next(each for each in other.path.glob("blobs/sha256/*") if each.read_bytes() == data)
        blob.write_bytes(stored)
        with (
            pytest.raises(ImageError, match=message),
            local.opened("oci", str(other.path), WANTED, root.parent) as found,
        ):
            layers.unpack(found, root)


def test_the_content_of_a_layer_is_what_the_configuration_says(layout: Layout, root: Path) -> None:
    """A blob may be what its name says, and still not what the image was made from."""
    layout.add(layout.image([LOWER], types=[LAYER + "+gzip"], stored=[gzip.compress(layer(("x", b"x")))]))
    with (
        pytest.raises(ImageError, match=r"decompressed: its content is not what sha256:"),
        local.opened("oci", str(layout.path), WANTED, root.parent) as found,
    ):
        layers.unpack(found, root)
