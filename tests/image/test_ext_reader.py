"""ext file systems read without a mount are what the kernel mounts; damaged ones are refused with one exception."""

from __future__ import annotations

import functools
import lzma
import os
import shutil
import subprocess
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
import streams
from hypothesis import given, settings
from hypothesis import strategies as st
from images import tool
from trees import fill, look

from singularity.errors import ImageError
from singularity.image.ext import reader as ext_reader
from singularity.image.ext import tools as ext

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

LAYOUTS = {
    "ext3": ("ext3", "-b", "4096"),
    "ext2 with blocks of 1 KiB": ("ext2", "-b", "1024"),
    "ext3 with inodes of 128 bytes": ("ext3", "-b", "4096", "-I", "128"),
    "ext4": ("ext4", "-b", "4096"),
    "ext4 with data in inodes": ("ext4", "-b", "4096", "-O", "inline_data,64bit,meta_bg,^resize_inode", "-I", "512"),
    "ext4 with clusters": ("ext4", "-b", "4096", "-O", "bigalloc,ea_inode,^64bit"),
}
TIME_LIMIT = 5.0  # seconds of this process, whatever else the machine does


@pytest.mark.needs("root", "loop", "mke2fs")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_read_is_what_the_kernel_shows(layout: str, tmp_path: Path) -> None:
    kind, *options = LAYOUTS[layout]
    image = make(tmp_path / "image", kind, *options, mebibytes=320)
    old = "128" in options
    with streams.mounted(image, kind) as root:
        if old or "1024" in options:
            write_much(root)
        else:
            fill(root, privileged=True)
            write_much(root)
        for number in range(3000):
            (root / "many" / f"file-{number}").parent.mkdir(exist_ok=True)
            (root / "many" / f"file-{number}").write_bytes(b"x" * (number % 200))
        os.setxattr(root / "many", "user.long", b"v" * 700)
        tool("sync", "-f", root)  # before that, SEEK_DATA misses what was in the inode a moment ago
        expected = look(root)
    del expected[b"lost+found"]
    assert streams.ext(image) == expected
    assert len(expected) > 3000


def write_much(root: Path) -> None:
    """Files that need pointers in up to three levels, or extents in several blocks, with holes between them."""
    with (root / "spread").open("wb") as file:
        for number in range(1500):
            file.seek(number * 40_000)
            file.write(b"%08d" % number)
    with (root / "far").open("wb") as file:
        for place in (0, 1 << 16, 1 << 22, 1 << 27, (4 << 30) + 5):
            file.seek(place)
            file.write(b"here")
    (root / "dense").write_bytes(os.urandom(20 << 20))
    (root / "link").symlink_to("y" * 59)
    (root / "longer").symlink_to("y" * 60)


def make(path: Path, kind: str, *options: str, mebibytes: int) -> Path:
    tool("mke2fs", "-q", "-F", "-t", kind, *options, path, f"{mebibytes}M")
    return path


@pytest.mark.needs("fixtures", "xz")
def test_an_image_of_version_2_is_read(tmp_path: Path) -> None:
    image = tmp_path / "old.img"
    image.write_bytes(lzma.decompress((machine.FIXTURES / "busybox-2.2.img.xz").read_bytes()))
    found = streams.ext(image, 31)
    assert found[b"singularity"].kind == "FILE"
    assert found[b"bin/busybox"].mode & 0o111
    assert b"lost+found" not in found
    if os.geteuid() == 0:
        with streams.mounted(image, "ext3", "ro", "offset=31") as root:
            expected = look(root)
        del expected[b"lost+found"]
        assert found == expected


@pytest.mark.needs("root", "loop", "mke2fs")
@pytest.mark.parametrize("kind", ["ext3", "ext4"])
def test_what_only_the_journal_has_is_read_too(kind: str, tmp_path: Path) -> None:
    """As after a crash: the image is copied while its journal holds what its places do not."""
    image, crashed = make(tmp_path / "image", kind, "-b", "4096", mebibytes=64), tmp_path / "crashed"
    with streams.mounted(image, kind, "data=journal") as root:
        for number in range(200):
            (root / f"file-{number}").write_text(f"content {number}\n" * 50)
        os.mkdir(root / "gone")
        (root / "gone" / "with").write_text("it")
        os.sync()
        shutil.rmtree(root / "gone")
        (root / "file-7").rename(root / "renamed")
        os.sync()
        shutil.copy(image, crashed)
        expected = look(root)
    with crashed.open("rb") as file:
        assert ext.needs_recovery(file.fileno(), 0)
    del expected[b"lost+found"]
    assert streams.ext(crashed) == expected
    tool_status = subprocess.run(["e2fsck", "-fy", crashed], capture_output=True, check=False).returncode
    assert tool_status in (0, 1)
    assert streams.ext(crashed) == expected


def test_memory_stays_small(tmp_path: Path) -> None:
    machine.require("mke2fs")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(b"x" * (48 << 20))
    image = make(tmp_path / "image", "ext3", "-b", "4096", "-d", str(tmp_path / "tree"), mebibytes=96)
    with image.open("rb") as file:
        tracemalloc.start()
        total = sum(len(data) for each in ext_reader.read(file, 0, image.stat().st_size) for data in each.data)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert total == 48 << 20
    assert peak < 8 << 20


@pytest.mark.needs("mke2fs")
@pytest.mark.parametrize(
    ("commands", "words"),
    [
        (["link /a /a/b/loop"], "a directory in two places"),
        (["link / /a/root"], "a directory in two places"),
        (["sif /twin block[0] 999999"], "a file in block"),
        (["sif /a/b block[0] 0xfffffff0"], "a file in block"),
        (["sif /large block[IND] 1"], "a file in block|no block"),
        (["sif /file mode 0"], "of no known type"),
        (["sif / mode 0100644"], "no root directory"),
        (["sif /link size 0"], "a link without a text"),
        (["set_super_value inode_size 300"], "damaged ext superblock"),
        (["set_super_value feature_incompat 0x40000002"], "unknown features"),
        (["set_super_value blocks_count 99999999"], "lacks its last"),
        (["set_bg 0 inode_table 99999999"], "it has no block"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(commands: list[str], words: str, tmp_path: Path) -> None:
    """R-P1, R-P5."""
    image = small(tmp_path, "ext3")
    text = "\n".join(commands) + "\n"
    subprocess.run(["debugfs", "-w", "-f", "-", image], input=text, text=True, capture_output=True, check=True)
    with pytest.raises(ImageError, match=words):
        streams.ext(image)


@pytest.mark.needs("mke2fs")
def test_blocks_of_several_files_do_not_make_reading_endless(tmp_path: Path) -> None:
    """R-P5: pointers that all lead to one block of pointers stand for terabytes."""
    image = small(tmp_path, "ext3")
    out = subprocess.run(["debugfs", "-R", "stat /large", image], capture_output=True, text=True, check=True).stdout
    indirect = int(out.partition("(IND):")[2].split(",")[0].split()[0])
    for change in ("size 0xf0000000", f"block[DIND] {indirect}", f"block[TIND] {indirect}"):
        subprocess.run(["debugfs", "-w", "-R", f"sif /large {change}", image], capture_output=True, check=True)
    data = bytearray(image.read_bytes())
    data[indirect * 1024 : (indirect + 1) * 1024] = indirect.to_bytes(4, "little") * 256
    image.write_bytes(data)
    begin = time.process_time()
    with pytest.raises(ImageError):
        streams.ext(image)
    assert time.process_time() - begin < TIME_LIMIT


def small(directory: Path, kind: str, *options: str) -> Path:
    """An image of a megabyte with a few files."""
    tree = directory / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "file").write_text("content")
    (tree / "twin").write_bytes(b"t" * 5000)
    (tree / "large").write_bytes(b"l" * 100_000)
    (tree / "link").symlink_to("target")
    (tree / "long").symlink_to("x" * 100)
    os.setxattr(tree / "file", "user.name", b"value")
    os.setxattr(tree / "file", "user.longer", b"v" * 300)
    for number in range(40):
        (tree / "a" / f"a longer name {number}").touch()
    os.link(tree / "file", tree / "hard")
    return make(directory / "small", kind, "-b", "1024", *options, "-d", str(tree), mebibytes=1)


@pytest.fixture(scope="module", params=["ext2", "ext4"])
def seed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    machine.require("mke2fs")
    options = ("-O", "inline_data,^metadata_csum") if request.param == "ext4" else ()
    return small(tmp_path_factory.mktemp("seed"), request.param, *options).read_bytes()


@functools.cache
def interesting(data: bytes) -> list[int]:
    """The places of what is no zero: a change elsewhere mostly changes nothing."""
    return [at for at, byte in enumerate(data) if byte and not 200_000 < at < 320_000]


@settings(max_examples=200)
@given(st.data())
def test_only_one_exception_leaves_the_reader(seed: bytes, data: st.DataObject) -> None:
    """R-P5, and R-I7's time."""
    places = interesting(seed)
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = places[data.draw(st.integers(0, len(places) - 1))]
        mutated[at] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(mutated), len(mutated), 2048, 100_000, 1500]))
    begin = time.process_time()
    with memory_file(bytes(mutated[:size])) as file:
        try:
            for entry in ext_reader.read(file, 0, size):
                for _ in entry.data:
                    pass
        except ImageError:
            pass
    assert time.process_time() - begin < TIME_LIMIT


class memory_file:  # noqa: N801 - used like a function
    """A file in memory with these bytes."""

    def __init__(self, data: bytes) -> None:
        self.file = open(os.memfd_create("image"), "w+b")  # noqa: SIM115
        self.file.write(data)
        self.file.flush()

    def __enter__(self) -> io.BufferedRandom:
        return self.file  # type: ignore[return-value]

    def __exit__(self, *_: object) -> None:
        self.file.close()


@pytest.fixture(autouse=True)
def no_mount_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
