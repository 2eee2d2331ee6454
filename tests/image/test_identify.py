"""Images are known by their content, and the verdict is the launcher's."""

from __future__ import annotations

import io
import json
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity.errors import FileError, ImageError
from singularity.image.identify import Format, Image, identify, recognise

TESTS = Path(__file__).resolve().parent.parent
FIXTURES = TESTS.parents[1] / "shared" / "fixtures"
VERDICTS = json.loads((TESTS / "vectors" / "verdicts.json").read_text())
NAMES = {Format.SIF: "sif", Format.SQUASHFS: "squashfs", Format.EXT: "ext", Format.EROFS: "erofs"}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("vectors")
    subprocess.run([sys.executable, str(TESTS / "vectors" / "make.py"), str(directory)], check=True)
    return directory


def verdict(image: Image) -> str:
    if image.format is Format.DIRECTORY:
        return "directory"
    if image.format.is_archive:
        return "refused: archive"
    places = [f"{NAMES[each.format]}@{each.offset}+{each.size}" for each in (image.root, *image.overlays)]
    if image.format is Format.SIF:
        places.insert(1, image.architecture.replace("unknown", "-"))
    return " ".join([NAMES[image.format], *places])


@pytest.mark.needs("mksquashfs", "mke2fs")
@pytest.mark.parametrize("name", sorted(VERDICTS))
def test_the_verdict_is_the_one_of_the_launcher(name: str, vectors: Path) -> None:
    expected = VERDICTS[name]
    try:
        found = verdict(identify(vectors / name))
    except ImageError as error:
        found = f"refused: {error}"
    if not expected.startswith("refused: "):
        assert found == expected
        return
    assert found.startswith("refused: ")
    words = expected.removeprefix("refused: ").replace("launched", "used")
    if "archive" not in words:
        assert words in found


@pytest.mark.needs("fixtures", "xz")
def test_images_of_other_programs(tmp_path: Path) -> None:
    old = tmp_path / "old.img"
    old.write_bytes(lzma.decompress((FIXTURES / "busybox-2.2.img.xz").read_bytes()))
    image = identify(old)
    assert (image.format, image.root.offset) == (Format.EXT, 31)
    image = identify(FIXTURES / "busybox-apptainer-1.4.sif")
    assert (image.format, image.root.format, image.architecture) == (Format.SIF, Format.SQUASHFS, "amd64")


def test_what_is_neither_file_nor_directory_is_refused_without_waiting(tmp_path: Path) -> None:
    """R-I1."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(ImageError, match=f"^{path}: a (named pipe|socket|character device), not an image$"):
            identify(path)
    with pytest.raises(FileError, match="nowhere: no such image"):
        identify(tmp_path / "nowhere")


@given(st.binary(max_size=4096))
def test_any_bytes_are_an_image_or_refused(data: bytes) -> None:
    """R-P5."""
    try:
        image = recognise(io.BytesIO(data), Path("x"))
    except ImageError as error:
        assert str(error).startswith("x: ")
        return
    assert image.root.offset + image.root.size <= len(data)
