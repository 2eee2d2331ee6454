"""Single files of an image, looked up by path and read at any place."""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING

import pytest
from images import erofs, extfs, squashfs

from singularity.image import lookup
from singularity.image.identify import identify
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.needs("mksquashfs", "mke2fs", "mkfs.erofs")
FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "directory": lambda tree, _: tree,
    **{
        f"squashfs {name}": (lambda tree, path, name=name: squashfs(tree, path, compression=name))
        for name in ("gzip", "xz", "lz4", "zstd", "lzo")
    },
    **{kind: (lambda tree, path, kind=kind: extfs(tree, path, kind=kind)) for kind in ("ext2", "ext3", "ext4")},
    **{
        f"erofs {' '.join(options)}": (lambda tree, path, options=options: erofs(tree, path, *options))
        for options in ((), ("-zlz4",), ("-zlz4hc", "-C65536"), ("-zlz4", "-Eztailpacking"), ("--chunksize=4096",))
    },
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    top = tmp_path_factory.mktemp("lookup") / "tree"
    (top / "dir/below").mkdir(parents=True)
    chance = Random(3)  # noqa: S311 - the same each time
    (top / "dir/random").write_bytes(chance.randbytes(700_001))
    (top / "dir/small").write_bytes(b"small\n")
    (top / "dir/empty").write_bytes(b"")
    with (top / "dir/holes").open("wb") as file:
        file.write(b"begin")
        file.seek(900_000)
        file.write(b"middle")
        file.truncate(1_500_000)
    (top / "link").symlink_to("dir/small")
    (top / "long").symlink_to("x" * 200)
    os.link(top / "dir/small", top / "dir/second")
    (top / "dir/small").chmod(0o640)
    for number in range(600):
        (top / f"dir/below/n{number}").touch()
    return top


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_looked_up_is_what_is_there(form: str, tree: Path, tmp_path: Path) -> None:
    image = FORMATS[form](tree, tmp_path / "image")
    with lookup.opened(image, identify(image).root) as found:
        for path in ("/", "/dir", "/dir/random", "/dir/small", "/dir/second", "/dir/empty", "/link", "/long"):
            node, status = found.find(path), (tree / path[1:]).lstat()
            assert node is not None
            assert (node.kind, node.mode) == (Kind(status.st_mode & 0o170000), status.st_mode & 0o7777)
            if node.kind is Kind.FILE:
                assert node.size == status.st_size
        assert found.find("/dir/nothing") is found.find("/dir/small/below") is found.find("/nothing/at/all") is None
        links = [found.find(path) for path in ("/link", "/long")]
        assert [node and node.target for node in links] == ["dir/small", "x" * 200]
        assert sorted(found.names("/dir")) == sorted(os.listdir(tree / "dir"))
        assert len(found.names("/dir/below")) == 600
        assert found.names("/dir/small") == found.names("/nothing") == []


@pytest.mark.parametrize("form", FORMATS)
def test_files_are_read_at_any_place_and_again(form: str, tree: Path, tmp_path: Path) -> None:
    image = FORMATS[form](tree, tmp_path / "image")
    chance = Random(4)  # noqa: S311 - the same each time
    with lookup.opened(image, identify(image).root) as found:
        for name in ("random", "small", "empty", "holes", "second"):
            expected = (tree / "dir" / name).read_bytes()
            for _ in range(3):
                with found.open(f"/dir/{name}") as file:
                    assert file.read() == expected
            with found.open(f"/dir/{name}") as file:
                for _ in range(20):
                    at, size = chance.randrange(len(expected) + 9), chance.randrange(200_000)
                    file.seek(at)
                    assert file.read(size) == expected[at : at + size]
                back = min(3, len(expected))
                assert file.seek(-back, os.SEEK_END) == len(expected) - back
                assert file.read() == expected[len(expected) - back :]
        for path in ("/dir", "/link", "/dir/nothing"):
            with pytest.raises(OSError, match=path):
                found.open(path).read()


def test_files_of_a_full_ext_image_can_be_read_many_times(tree: Path, tmp_path: Path) -> None:
    image = extfs(tree, tmp_path / "image", mebibytes=3)
    with lookup.opened(image, identify(image).root) as found:
        for _ in range(50):
            assert len(found.open("/dir/random").read()) == 700_001
            assert found.find("/long") is not None
