"""What images that are no directories say: the same as the directory that they were made from, links included."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from singularity.errors import ImageError
from singularity.image import metadata
from singularity.image.archive import tar
from singularity.image.archive.held import Held
from singularity.image.identify import identify
from singularity.image.lookup import Followed
from singularity.image.root import Root
from singularity.image.sif import edit as sif_edit
from singularity.image.sif import format as sif
from singularity.image.sif.edit import Addition
from singularity.image.sif.format import DataType, Filesystem, PartitionType

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root file system with links of all kinds among what is looked at."""
    root = tmp_path / "tree"
    files = {
        ".singularity.d/labels.json": '{"A": "b"}',
        ".singularity.d/Singularity": "Bootstrap: scratch\n",
        ".singularity.d/runscript": "#!/bin/sh\necho run\n",
        ".singularity.d/startscript": "x" * 100_000,
        ".singularity.d/env/90-environment.sh": "export B=2\n",
        ".singularity.d/env/91-environment.sh": "export C=3\n",
        "scif/apps/tool/scif/runscript": "#!/bin/sh\necho tool\n",
        "scif/apps/tool/bin/tool": "not looked at",
        "scif/apps/other/scif/runscript.help": "Helps.\n",
        "usr/bin/large": "y" * 1_000_000,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    place = root / ".singularity.d"
    (place / "test").symlink_to("../.singularity.d/./env/../runscript")
    (place / "runscript.help").symlink_to("/.singularity.d/loop")
    (place / "loop").symlink_to("loop")
    (place / "env/92-environment.sh").symlink_to("/../../.singularity.d/env/90-environment.sh")
    (place / "env/93-environment.sh").hardlink_to(place / "env/90-environment.sh")
    (place / "env/94-environment.sh").symlink_to("/etc/passwd")
    (root / "singularity").symlink_to(".singularity.d/runscript")
    return root


def of_directory(tree: Path) -> metadata.Metadata:
    with Root(tree) as root:
        return metadata.from_root(root)


@pytest.mark.parametrize("options", [(), ("-b", "1024"), ("-O", "extent"), ("-O", "inline_data"), ("-O", "^filetype")])
@pytest.mark.needs("mke2fs")
def test_an_ext_file_system(tree: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    image = tmp_path / "x.img"
    kind = "ext4" if "extent" in options or "inline_data" in options else "ext3"
    argv = ["mke2fs", "-q", "-t", kind, *options, "-d", str(tree), str(image), "20M"]
    subprocess.run(argv, check=True)
    found = metadata.read(identify(image))
    assert found == of_directory(tree)
    assert found.startscript == "x" * 100_000
    assert set(found.environment) == {f"/.singularity.d/env/{n}-environment.sh" for n in (90, 91, 92, 93)}


@pytest.mark.parametrize("program", [None, "gzip", "bzip2", "xz", "zstd"])
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_archives(tree: Path, tmp_path: Path, form: int, program: str | None) -> None:
    image = tmp_path / "x.tar"
    with tarfile.open(image, "w", format=form) as archive:
        archive.add(tree, "./")
    if program:
        subprocess.run([program, "-q", str(image)], check=True)
        (image,) = tmp_path.glob("x.tar.*")
    assert metadata.read(identify(image)) == of_directory(tree)


@pytest.mark.needs("mke2fs", "mksquashfs")
@pytest.mark.parametrize("kind", [Filesystem.SQUASHFS, Filesystem.EXT3])
def test_a_sif_file_without_the_object(tree: Path, tmp_path: Path, kind: Filesystem) -> None:
    """The definition is the object that it has; the rest comes from the root file system."""
    part, image = tmp_path / "part", tmp_path / "x.sif"
    if kind is Filesystem.EXT3:
        subprocess.run(["mke2fs", "-q", "-t", "ext3", "-d", str(tree), str(part), "20M"], check=True)
    else:
        subprocess.run(["mksquashfs", str(tree), str(part), "-quiet", "-no-progress"], check=True)
    sif_edit.create(image)
    extra = sif.partition_extra(kind, PartitionType.PRIMARY, "amd64")
    with sif_edit.editing(image) as editor:
        editor.add(Addition(type=DataType.DEFINITION, group=1), io.BytesIO(b"Bootstrap: other\n"))
        with part.open("rb") as file:
            editor.add(Addition(type=DataType.PARTITION, group=1, alignment=4096, extra=extra), file)
    found = metadata.read(identify(image))
    expected = of_directory(tree)
    assert found.deffile == "Bootstrap: other"
    assert (found.apps, found.environment, found.labels) == (expected.apps, expected.environment, expected.labels)
    assert found.runscript == expected.runscript


def entries(*members: tuple[str, bytes | str | None]) -> Followed:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
            else:
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content if isinstance(content, bytes) else b""))
    out.seek(0)
    return Followed(Held(tar.read(out, "x"), lambda path: not path.startswith(b"no")))


def test_later_members_replace_earlier_ones() -> None:
    files = entries(
        ("a/b/c", b"1"), ("a/b/d", b"1"), ("a/b", b"a file"), ("a/b", None), ("a/b/e", b"2"), ("l", "a"), ("l", b"f")
    )  # fmt: skip
    assert files.names("/") == ["a", "l"]
    assert files.names("a/b") == ["e"]
    assert files.read("l") == b"f"
    assert files.names("/missing") == []
    assert files.is_directory("/a/../../a/b/.")
    assert not files.is_directory("l")


def test_failures_are_those_of_a_root(tmp_path: Path) -> None:
    files = entries(("loop", "loop"), ("directory", None), ("dangling", "/none"), ("large", b"x" * 100), ("no", b"no"))
    for path, error in (("none", FileNotFoundError), ("no", FileNotFoundError), ("dangling", FileNotFoundError)):
        with pytest.raises(error):
            files.read(path)
    for path in ("loop", "directory"):
        with pytest.raises(OSError, match=r"symbolic links|not a regular file"):
            files.read(path)
    with pytest.raises(OSError, match="too large"):
        files.read("large", limit=99)
    assert files.read("large", limit=100) == b"x" * 100
    del tmp_path


def test_what_is_held_is_limited() -> None:
    """R-T5: an archive cannot fill memory with scripts."""
    with pytest.raises(ImageError, match="more than 64 MiB"):
        entries(*((f"a{number}", bytes(16 << 20)) for number in range(5)))


@pytest.mark.needs("mke2fs")
def test_a_damaged_ext_file_system_is_refused_in_one_line(tree: Path, tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext3", "-b", "1024", "-d", str(tree), str(image), "8M"], check=True)
    good = image.read_bytes()
    said = set()
    for name in (b"lost+found", b"labels.json", b"90-environment.sh"):
        block = good.index(name) // 1024 * 1024
        for junk in (b"\xff" * 1024, os.urandom(1024)):
            image.write_bytes(good[:block] + junk + good[block + 1024 :])
            try:
                metadata.read(identify(image))
            except ImageError as error:
                assert "\n" not in str(error)
                said.add(str(error).removeprefix(f"{image}: ").partition(":")[0])
    assert said == {"damaged ext file system"}
