"""Every format of an image is the same stream; a squashfs is read as the kernel mounts it, also inside a SIF."""

from __future__ import annotations

import dataclasses
import os
import shutil
import time
from typing import TYPE_CHECKING

import machine
import pytest
import streams
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Partition, tool, write_sif
from test_ext_reader import interesting, memory_file
from trees import fill, look

from singularity.errors import FileError, ImageError
from singularity.image import contents, directory
from singularity.image.archive import tar_writer
from singularity.image.ext import make as make_ext
from singularity.image.identify import Format, identify
from singularity.image.squashfs import reader as squashfs_reader
from singularity.image.squashfs import tools as squashfs

if TYPE_CHECKING:
    from pathlib import Path

    from trees import Seen

COMPRESSIONS = ("gzip", "lzo", "lz4", "xz", "zstd")
TIME_LIMIT = 5.0
SECOND = 10**9


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything in it."""
    machine.require("root", "mksquashfs", "mke2fs")
    root = tmp_path_factory.mktemp("contents") / "source"
    root.mkdir()
    fill(root, privileged=True)
    (root / "sparse").unlink()  # of 9 GiB: what tools leave of its holes takes long to compare
    (root / "large").write_bytes(os.urandom(3_000_000) + b"x" * 3_000_000)
    for number in range(1500):
        (root / "many" / f"file {number}").parent.mkdir(exist_ok=True)
        (root / "many" / f"file {number}").write_bytes(b"%d" % number * 50)
    return root


def packed(source: Path, target: Path, *options: str) -> Path:
    tool("mksquashfs", source, target, "-quiet", "-no-progress", *options)
    return target


def in_seconds(found: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """What a squashfs can say: no nanoseconds, no time before 1970, no ACL."""
    return {
        path: dataclasses.replace(
            seen,
            mtime=seen.mtime // SECOND % (1 << 32) * SECOND,
            xattrs={name: value for name, value in seen.xattrs.items() if "posix_acl" not in name},
        )
        for path, seen in found.items()
    }


@pytest.mark.needs("root", "mksquashfs")
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("options", [(), ("-no-fragments", "-b", "1M", "-noI", "-noX", "-noD"), ("-b", "4K")], ids=str)
def test_a_squashfs_is_read_whole(compression: str, options: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    image = packed(source, tmp_path / "image", "-comp", compression, *options)
    with squashfs.stream(image, 0) as tree:
        found = streams.seen(tree)
    assert found == in_seconds(look(source))


@pytest.mark.needs("root", "loop", "mksquashfs")
def test_it_is_what_the_kernel_shows(source: Path, tmp_path: Path) -> None:
    image = packed(source, tmp_path / "image", "-comp", "gzip", "-always-use-fragments")
    with squashfs.stream(image, 0) as tree:
        found = streams.seen(tree)
    with streams.mounted(image, "squashfs", "ro") as root:
        assert found == look(root)


@pytest.mark.needs("root", "mksquashfs", "mke2fs")
def test_every_format_gives_the_same_stream(source: Path, tmp_path: Path) -> None:
    plain = packed(source, tmp_path / "plain.squashfs", "-comp", "gzip")
    line = b"#!/usr/bin/env run-singularity\n"
    (tmp_path / "line.squashfs").write_bytes(line + plain.read_bytes())
    write_sif(tmp_path / "squashfs.sif", [Partition(data=plain.read_bytes())])
    with (tmp_path / "image.img").open("w+b") as new:
        make_ext.make(directory.read(source), new.fileno())
    with (tmp_path / "bare.img").open("w+b") as new:
        make_ext.make(directory.read(source), new.fileno(), line=False, size=64 << 20)
    write_sif(tmp_path / "ext.sif", [Partition(data=(tmp_path / "bare.img").read_bytes(), filesystem=2)])
    with (tmp_path / "archive.tar").open("wb") as out:
        tar_writer.write(directory.read(source), out)
    tool("gzip", "--keep", tmp_path / "archive.tar")
    expected = look(source)
    for path in [source, *sorted(each for each in tmp_path.iterdir() if each.is_file())]:
        image = identify(path)
        with contents.tree(image) as tree:
            found = streams.seen(tree)
        wanted = dict(expected)
        if image.format.is_archive:
            del wanted[b"etc/socket"]
        if image.root.format is Format.SQUASHFS:
            wanted = in_seconds(wanted)
        assert found == wanted, path


@pytest.mark.needs("fixtures")
def test_a_sif_of_another_program_is_read() -> None:
    with contents.tree(identify(machine.FIXTURES / "busybox-apptainer-1.4.sif")) as tree:
        found = streams.seen(tree)
    assert found[b".singularity.d/runscript"].size > 0
    assert found[b"bin/busybox"].mode & 0o111


@pytest.mark.needs("mksquashfs")
def test_complaints_name_the_image(tmp_path: Path) -> None:
    image = packed(small(tmp_path), tmp_path / "image", "-comp", "gzip")
    with squashfs.stream(tmp_path / "image", 0) as tree:
        assert b"a/file" in streams.seen(tree)
    data = bytearray(image.read_bytes())
    data[100:140] = bytes(40)  # of the first block of data
    image.write_bytes(data)
    with pytest.raises(ImageError, match=f"^{image}: damaged squashfs"), contents.tree(identify(image)) as tree:
        streams.seen(tree)
    found = identify(image)
    image.unlink()
    with pytest.raises(FileError, match=f"^{image}: No such file"), contents.tree(found):
        pass


@pytest.mark.needs("mksquashfs")
def test_a_stream_need_not_be_read_to_its_end(tmp_path: Path) -> None:
    image = packed(small(tmp_path), tmp_path / "image")
    before = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    with squashfs.stream(image, 0) as tree:
        next(tree)
    assert (len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))) == before


def small(directory: Path) -> Path:
    tree = directory / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "file").write_bytes(b"content " * 30_000)
    (tree / "link").symlink_to("target")
    os.mkfifo(tree / "fifo")
    with (tree / "holes").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"end")
    os.setxattr(tree / "a" / "file", "user.name", b"value")
    for number in range(60):
        (tree / "a" / "b" / f"name {number}").write_text(str(number))
    os.link(tree / "a" / "file", tree / "hard")
    return tree


@pytest.fixture(scope="module", params=["gzip", "none"])
def seed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Without compression, a change of a byte reaches what is in the tables."""
    machine.require("mksquashfs")
    place = tmp_path_factory.mktemp("seed")
    options = ("-noI", "-noD", "-noF", "-noX") if request.param == "none" else ()
    data = packed(small(place), place / "image", "-comp", "gzip", "-nopad", *options).read_bytes()
    shutil.rmtree(place)
    return data


@settings(max_examples=200)
@given(st.data())
def test_only_one_exception_leaves_the_reader(seed: bytes, data: st.DataObject) -> None:
    """R-P5, R-I7's time."""
    places = [at for at in interesting(seed) if at < 96 or at > len(seed) - 12_000]
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = places[data.draw(st.integers(0, len(places) - 1))]
        mutated[at] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(mutated), len(mutated), 2048, 50]))
    begin = time.process_time()
    with memory_file(bytes(mutated[:size])) as file:
        try:
            for entry in squashfs_reader.read(file, 0, size):
                for _ in entry.data:
                    pass
        except ImageError:
            pass
    assert time.process_time() - begin < TIME_LIMIT
