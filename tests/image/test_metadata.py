"""What an image says about itself: the same from its metadata object, its files, and in JSON."""

from __future__ import annotations

import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity.errors import ImageError
from singularity.image import metadata
from singularity.image.identify import identify
from singularity.image.metadata import Metadata, Scripts
from singularity.image.root import Root

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
scripts = {
    "environment": st.dictionaries(texts, texts, max_size=3),
    "labels": st.dictionaries(texts, texts, max_size=3),
    **{name: st.one_of(st.just(""), texts) for name in ("runscript", "startscript", "test", "helpfile")},
}
documents = st.builds(
    Metadata,
    **scripts,
    deffile=st.one_of(st.just(""), texts),
    apps=st.dictionaries(texts, st.builds(Scripts, **scripts), max_size=2),
)


@given(documents)
def test_json_carries_everything_and_leaves_out_what_is_absent(document: Metadata) -> None:
    written = metadata.to_json(document)
    assert metadata.from_json(json.dumps(written).encode(), "x") == document
    attributes = written["data"]["attributes"]
    members = [attributes, *attributes.get("apps", {}).values()]
    assert all(value not in ("", {}) for each in members for value in each.values())


@given(st.one_of(st.binary(max_size=60), st.recursive(st.none() | st.text(max_size=3), lambda inner: (
    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "attributes", "labels", "apps", "x"]), inner)
)).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_documents_of_others_are_read_or_refused(data: bytes) -> None:
    """R-P5: members of the wrong kind are left out."""
    try:
        assert isinstance(metadata.from_json(data, "x"), Metadata)
    except ImageError as error:
        assert str(error).startswith("x: its metadata is not JSON")


@pytest.mark.parametrize("depth", [65, 100_000])
def test_deep_documents_are_refused(depth: int) -> None:
    """R-P4."""
    with pytest.raises(ImageError):
        metadata.parse_json(b"[" * depth + b"]" * depth)


def test_files_of_a_root_file_system(tmp_path: Path) -> None:
    files = {
        ".singularity.d/labels.json": '{"A": "b", "Number": 3}',
        ".singularity.d/Singularity": "Bootstrap: scratch\n",
        ".singularity.d/runscript": "#!/bin/sh\necho hello\n\n",
        ".singularity.d/env/10-docker2singularity.sh": "export A=1\n",
        ".singularity.d/env/90-environment.sh": "export B=2\n",
        ".singularity.d/env/99-base.sh": "export C=3\n",
        "scif/apps/tool/scif/runscript.help": "Helps.\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with Root(tmp_path) as root:
        found = metadata.from_root(root)
    assert found == Metadata(
        labels={"A": "b", "Number": "3"},
        deffile="Bootstrap: scratch",
        runscript="#!/bin/sh\necho hello",
        environment={
            "/.singularity.d/env/10-docker2singularity.sh": "export A=1",
            "/.singularity.d/env/90-environment.sh": "export B=2",
        },
        apps={"tool": Scripts(helpfile="Helps.")},
    )


def test_links_of_a_root_file_system_do_not_show_the_host(tmp_path: Path) -> None:
    """R-B6."""
    (tmp_path / "root" / ".singularity.d").mkdir(parents=True)
    (tmp_path / "secret").write_text("of the host")
    (tmp_path / "root" / ".singularity.d" / "runscript").symlink_to(tmp_path / "secret")
    (tmp_path / "root" / ".singularity.d" / "test").symlink_to("../../secret")
    with Root(tmp_path / "root") as root:
        assert metadata.from_root(root) == Metadata()


@pytest.mark.needs("fixtures")
def test_images_of_other_programs() -> None:
    found = metadata.read(identify(FIXTURES / "busybox-apptainer-1.4.sif"))
    assert found.labels["Maintainer"] == "Nobody"
    assert found.apps["hello"].helpfile == "    Says hello."
    assert found.deffile == (FIXTURES / "busybox.def").read_text().rstrip("\n")


@pytest.mark.needs("fixtures", "mksquashfs")
def test_a_squashfs_file_tells_the_same_as_the_sif_around_it(tmp_path: Path) -> None:
    image = identify(FIXTURES / "busybox-apptainer-1.4.sif")
    bare = tmp_path / "bare.sqfs"
    with image.path.open("rb") as file:
        file.seek(image.root.offset)
        bare.write_bytes(file.read(image.root.size))
    assert metadata.read(identify(bare)) == metadata.read(image)
    assert sorted(path.name for path in tmp_path.iterdir() if "work" in path.name) == []


@pytest.mark.needs("fixtures", "mke2fs")
def test_an_image_of_version_2_has_its_scripts_elsewhere(tmp_path: Path) -> None:
    old = tmp_path / "old.img"
    old.write_bytes(lzma.decompress((FIXTURES / "busybox-2.2.img.xz").read_bytes()))
    assert 'echo "old image' in metadata.read(identify(old)).runscript
