"""An EROFS is read as the kernel mounts it, whatever mkfs.erofs was told; damaged ones end in one line, and soon."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import machine
import pytest
import streams
from generated_trees import Tree
from hypothesis import given, settings
from hypothesis import strategies as st
from images import Partition, erofs, write_sif
from test_contents import small
from test_ext_reader import interesting, memory_file
from trees import fill, look

from singularity.errors import ImageError
from singularity.image import contents
from singularity.image.erofs import reader
from singularity.image.identify import identify

if TYPE_CHECKING:
    from pathlib import Path

    from trees import Seen

pytestmark = pytest.mark.needs("root", "mkfs.erofs")
COUNT = 300 if os.environ.get("EXHAUSTIVE") else 6
TIME_LIMIT = 5.0
VARIANTS = {
    "nothing compressed": (),
    "lz4": ("-zlz4",),
    "lz4hc, large clusters": ("-zlz4hc", "-C65536"),
    "lz4hc, several clusters in a pack": ("-zlz4hc", "-C16384"),
    "ends of files beside inodes": ("-zlz4hc", "-C65536", "-Eztailpacking"),
    "lists of eight bytes": ("-zlz4", "-Elegacy-compress"),
    "chunks": ("--chunksize=4096",),
    "chunks with holes": ("--chunksize=65536", "-Eforce-chunk-indexes"),
    "short inodes": ("-zlz4", "-T1500000000"),
    "attributes not shared": ("-x-1",),
    "fragments": ("-zlz4hc", "-Efragments"),
    "all fragments": ("-zlz4hc", "-C65536", "-Eall-fragments,dedupe,ztailpacking"),
    "blocks of 1 KiB": ("-zlz4", "-b1024"),
    "deflate": ("-zdeflate", "-C65536"),
    "zstd": ("-zzstd", "-C65536"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with everything in it."""
    machine.require("root", "mkfs.erofs")
    root = tmp_path_factory.mktemp("erofs") / "source"
    root.mkdir()
    fill(root, privileged=True)
    (root / "sparse").unlink()  # of 9 GiB: what tools leave of its holes takes long to compare
    (root / "large").write_bytes(os.urandom(3_000_000) + b"x" * 3_000_000 + os.urandom(100))
    (root / "text").write_bytes(b"".join(b"%d words of a text\n" % (number * number) for number in range(60_000)))
    for number in range(1500):
        (root / "many" / f"file {number}").parent.mkdir(exist_ok=True)
        (root / "many" / f"file {number}").write_bytes(b"%d" % number * 50)
    return root


def packed(source: Path, target: Path, *options: str) -> Path:
    """Skips where this mkfs.erofs does not know the options yet."""
    nothing = target.with_name("nothing")
    nothing.mkdir()
    try:
        erofs(nothing, target, *options)
    except RuntimeError:
        pytest.skip(f"a newer mkfs.erofs: {' '.join(options)}")
    target.unlink()
    return erofs(source, target, *options)


def found_in(image: Path) -> dict[bytes, Seen]:
    with contents.tree(identify(image)) as tree:
        return streams.seen(tree)


@pytest.mark.needs("loop", "erofs")
@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_it_is_what_the_kernel_shows(options: tuple[str, ...], source: Path, tmp_path: Path) -> None:
    image = packed(source, tmp_path / "image", *options)
    found = found_in(image)
    with streams.mounted(image, "erofs", "ro") as root:
        assert found == look(root)


def test_nothing_is_lost(source: Path, tmp_path: Path) -> None:
    image = packed(source, tmp_path / "image", "-zlz4hc")
    assert found_in(image) == look(source)
    write_sif(tmp_path / "erofs.sif", [Partition(data=image.read_bytes(), filesystem=4)])
    assert found_in(tmp_path / "erofs.sif") == look(source)


@pytest.mark.needs("loop", "erofs")
@pytest.mark.parametrize("number", range(COUNT))
def test_trees_of_all_kinds_are_what_the_kernel_shows(number: int, tmp_path: Path) -> None:
    Tree(number, tmp_path / "tree")
    for above, directories, files in os.walk(os.fsencode(tmp_path / "tree"), topdown=False):
        for name in (*directories, *files):
            if len(name) == 255:  # which mkfs.erofs 1.5 cuts
                os.rename(os.path.join(above, name), os.path.join(above, name[1:]))
    image = packed(tmp_path / "tree", tmp_path / "image", *list(VARIANTS.values())[number % 6])
    with streams.mounted(image, "erofs", "ro") as root:
        assert found_in(image) == look(root)
    shutil.rmtree(tmp_path / "tree")


def test_what_is_not_known_is_one_line(tmp_path: Path) -> None:
    image = packed(small(tmp_path), tmp_path / "image", "-zlz4")
    data = bytearray(image.read_bytes())
    data[1024 + 81] |= 0x10
    image.write_bytes(data)
    with pytest.raises(ImageError, match=f"^{image}: EROFS with features that are not known here"):
        found_in(image)


@pytest.fixture(scope="module", params=["-zlz4hc", "-Eforce-inode-extended"])
def seed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Without compression, a change of a byte reaches what is in directories."""
    machine.require("mkfs.erofs")
    place = tmp_path_factory.mktemp("seed")
    data = packed(small(place), place / "image", "-C65536", request.param).read_bytes()
    shutil.rmtree(place)
    return data


@settings(max_examples=200)
@given(st.data())
def test_only_one_exception_leaves_the_reader(seed: bytes, data: st.DataObject) -> None:
    """R-P5, R-I7's time."""
    places = interesting(seed)
    mutated = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 6))):
        at = places[data.draw(st.integers(0, len(places) - 1))]
        mutated[at] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(mutated), len(mutated), 2048, 8192]))
    begin = time.process_time()
    with memory_file(bytes(mutated[:size])) as file:
        try:
            for entry in reader.read(file, 0, size):
                for _ in entry.data:
                    pass
        except ImageError:
            pass
    assert time.process_time() - begin < TIME_LIMIT
