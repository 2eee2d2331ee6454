"""Damaged images: every command that looks into one says what is wrong, or shows what can be read, and ends soon."""

from __future__ import annotations

import json
import shutil
import time
from random import Random
from typing import TYPE_CHECKING

import pytest
from images import erofs, extfs, squashfs

from singularity.errors import SingularityError
from singularity.explain import diff, page, page_data, why
from singularity.image.identify import identify
from singularity.packages import bill
from singularity.packages.bill import Standard

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "gzip": lambda tree, path: squashfs(tree, path, compression="gzip"),
    "zstd": lambda tree, path: squashfs(tree, path, compression="zstd"),
    "ext3": lambda tree, path: extfs(tree, path, kind="ext3", mebibytes=4),
    "erofs": lambda tree, path: erofs(tree, path, "-zlz4"),
}
NOTHING = page_data.Table(text="")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("hostile") / "tree"
    for directory in ("bin", "lib/apk/db", "var/lib/dpkg/info", "srv/node_modules/x", "opt/env/conda-meta"):
        (tree / directory).mkdir(parents=True)
    shutil.copy("/bin/true", tree / "bin/true")
    (tree / "lib/apk/db/installed").write_text("P:tool\nV:1\nF:bin\nR:true\n\n")
    (tree / "var/lib/dpkg/status").write_text("Package: a\nStatus: install ok installed\nVersion: 1\n")
    (tree / "var/lib/dpkg/info/a.list").write_text("/.\n/bin\n")
    (tree / "srv/node_modules/x/package.json").write_text('{"name": "x", "version": "1"}')
    (tree / "opt/env/conda-meta/y.json").write_text(json.dumps({"name": "y", "version": "1", "files": ["a"]}))
    for number in range(40):
        (tree / f"srv/f{number}").write_bytes(bytes([number]) * 700 * number)
    (tree / "bin/sh").symlink_to("true")
    return tree


def looked_at(path: Path, other: Path) -> None:
    """All that commands do with an image; raises what is no failure of the image's."""
    for use in (
        lambda: bill.of_image(identify(path), Standard.SPDX, epoch=0),
        lambda: diff.compare(identify(path), identify(other)),
        lambda: diff.compare(identify(other), identify(path)),
        lambda: why.explain(identify(path), "/bin/sh"),
        lambda: page.html(
            page_data.collect(
                page_data.Asked(image=identify(path), name="x", signatures=NOTHING, check=NOTHING, epoch=0)
            )
        ),
    ):
        try:
            use()
        except SingularityError as error:
            assert str(path) in str(error) or "/bin/sh" in str(error), error
            assert str(other) not in str(error).replace(str(path), ""), error


@pytest.mark.needs("mksquashfs", "mke2fs", "mkfs.erofs")
@pytest.mark.parametrize("form", FORMATS)
def test_damage_anywhere_is_an_error_of_that_image(form: str, tree: Path, tmp_path: Path) -> None:
    good = FORMATS[form](tree, tmp_path / "good")
    looked_at(good, good)
    data = good.read_bytes()
    chance = Random(form)  # noqa: S311 - the same each time
    used = [at for at in range(0, len(data), 16) if any(data[at : at + 16])]
    for number in range(60):
        broken = bytearray(data)
        for _ in range(chance.randrange(1, 6)):
            broken[chance.choice(used) + chance.randrange(16)] = chance.randrange(256)
        path = tmp_path / f"broken{number}"
        path.write_bytes(broken[: chance.randrange(len(broken) // 2, len(broken))] if number % 10 == 0 else broken)
        before = time.monotonic()
        looked_at(path, good)
        assert time.monotonic() - before < 20, number
        path.unlink()
