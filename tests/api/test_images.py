"""`Image`: what images of every format are and say, and their files, without a mount."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import pytest

import singularity
from singularity import FileError, Image, ImageError, Kind

if TYPE_CHECKING:
    from images import Images


@pytest.fixture
def each(images: Images) -> dict[str, Path]:
    """The same root file system in each format."""
    return {"sandbox": images.sandbox, "squashfs": images.squashfs(), "sif": images.sif, "ext3": images.extfs()}


@pytest.mark.parametrize("name", ["sandbox", "squashfs", "sif", "ext3"])
def test_files_are_the_same_in_every_format(each: dict[str, Path], images: Images, name: str) -> None:
    root = images.sandbox
    with Image(each[name]) as image:
        assert image.format == name
        found = {file.path: file for file in image.files if file.path.name != "lost+found"}
        expected = {PurePosixPath("/", path.relative_to(root)) for path in [root, *root.rglob("*")]}
        assert set(found) == expected
        for path, file in found.items():
            real = root / path.relative_to("/")
            status = real.lstat()
            assert file.mode == status.st_mode & 0o7777, path
            assert path.name == "" or file.mtime // 10**9 == int(status.st_mtime), path  # the root is of mke2fs
            looked = image.files.stat(path, follow=False)
            assert (looked.kind, looked.mode, looked.mtime, looked.target) == (
                file.kind,
                file.mode,
                file.mtime,
                file.target,
            )
            if file.kind is Kind.FILE:
                assert looked.size == file.size == status.st_size
                assert image.files.read(path) == real.read_bytes()
            if file.kind is Kind.DIRECTORY:
                assert set(image.files.names(path)) - {"lost+found"} == set(os.listdir(real))
            if file.kind is Kind.LINK:
                assert file.target == os.readlink(real)
        assert image.labels == singularity.inspect(image).labels


def test_links_lead_to_files_and_never_out_of_the_image(directory: Path) -> None:
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/real").write_bytes(b"0123456789")
    for link, target in {
        "a": "bin/real",
        "b": "/bin/real",
        "c": "../../../../bin/real",
        "out": "/etc/passwd",
        "loop": "loop",
    }.items():
        (root / link).symlink_to(target)
    subprocess.run(["mksquashfs", root, directory / "x.squashfs", "-quiet", "-no-progress"], check=True)
    for path in (root, directory / "x.squashfs"):
        with Image(path) as image:
            for name in ("a", "/b", "c", "bin/../bin/real", "//bin//real", "../bin/real"):
                assert image.files.read(name) == b"0123456789"
                assert image.files.stat(name).path == PurePosixPath("/bin/real")
            assert image.files.stat("c", follow=False).kind is Kind.LINK
            with image.files.open("a") as file:
                file.seek(-3, os.SEEK_END)
                assert file.read() == b"789"
            for name in ("out", "none", "bin/real/x", ""):
                assert image.files.exists(name) == (name == "")
            with pytest.raises(FileNotFoundError):
                image.files.read("out")
            with pytest.raises(IsADirectoryError):
                image.files.read("/bin")
            with pytest.raises(NotADirectoryError):
                image.files.names("/a")
            with pytest.raises(OSError, match="levels of symbolic links"):
                image.files.read("loop")
            assert image.files.stat("/").kind is Kind.DIRECTORY


def test_what_it_says_of_itself(tool: Path) -> None:
    with Image.open(tool) as image:
        assert image.labels["Colour"] == "blue"
        assert image.environment["/.singularity.d/env/90-environment.sh"].endswith("export FROM_IMAGE=1")
        assert image.metadata.runscript.endswith('echo "ran $*"')
        assert image.definition is not None
        assert image.definition.header["Bootstrap"] == "localimage"
        assert image.definition.labels == {"Colour": "blue"}
        assert image.architecture
        assert os.fspath(image) == str(tool)


@pytest.mark.usefixtures("directory")
def test_an_archive_is_gone_through(images: Images) -> None:
    subprocess.run(["tar", "-czf", "x.tar.gz", "-C", images.sandbox, "."], check=True)
    with Image("x.tar.gz") as image:
        assert "/bin/busybox" in {str(file.path) for file in image.files}
        with pytest.raises(ImageError, match="build an image of it"):
            image.files.read("/bin/busybox")


def test_what_is_none_says_so(directory: Path) -> None:
    (directory / "text").write_text("x" * 5000)
    (directory / "empty").mkdir()
    for name, kind in {"none": FileError, "text": ImageError, "empty": ImageError, "/dev/null": ImageError}.items():
        with pytest.raises(kind):
            Image(name)
    with pytest.raises(ImageError, match="unknown transport"):
        Image.open("dokcer://x")


@pytest.mark.needs("mksquashfs")
def test_a_damaged_image_is_an_image_error_wherever_it_is_noticed(directory: Path, images: Images) -> None:
    damaged = shutil.copy(images.squashfs(), directory / "x.squashfs")
    data = bytearray(Path(damaged).read_bytes())
    data[200:-200] = bytes(len(data) - 400)
    Path(damaged).write_bytes(data)
    with Image(damaged) as image:
        with pytest.raises(ImageError, match=r"x\.squashfs"):
            list(image.files)
        with pytest.raises(ImageError, match=r"x\.squashfs"):
            image.files.read("/bin/busybox")


@pytest.mark.needs("mksquashfs")
def test_an_image_of_a_uri_is_in_the_cache_or_only_as_long_as_it_is_open(
    tool: Path, directory: Path, private_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    singularity.push(tool, "oci:layout:1")
    with Image.open("oci:layout:1") as image:
        assert image.path.is_relative_to(private_home / "cache")
        assert image.files.read_text("/etc/os-release").startswith("NAME=")
    assert image.path.exists()
    monkeypatch.setenv("TMPDIR", str(directory))
    with Image.open("oci:layout:1", disable_cache=True) as image:
        assert image.path.is_relative_to(directory)
        assert image.labels["Colour"] == "blue"
    assert sorted(os.listdir(directory)) == ["layout"]
    with pytest.raises(TypeError, match="has no option 'bind'"):
        Image.open("oci:layout:1", bind="x")  # type: ignore[call-arg]


def test_a_file_of_holes_is_not_read_into_memory(directory: Path) -> None:
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_bytes(b"0123456789")
    with (root / "holes").open("wb") as file:
        file.truncate(2 << 30)
    subprocess.run(["mksquashfs", root, directory / "x.sqfs", "-quiet", "-no-progress"], check=True)
    for place in (root, directory / "x.sqfs"):
        with Image(place) as image:
            with pytest.raises(OSError, match="File too large"):
                image.files.read("/holes")
            with pytest.raises(OSError, match="File too large"):
                image.files.read("/bin/sh", limit=9)
            assert image.files.read_text("/bin/sh", limit=10) == "0123456789"
            with image.files.open("/holes") as file:
                file.seek(1 << 30)
                assert file.read(4) == bytes(4)
