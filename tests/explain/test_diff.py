"""How images differ: in every format, told and as JSON, against what diff(1) and stat(2) see in the trees."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from images import erofs, extfs, squashfs

from singularity.explain import diff
from singularity.image.identify import identify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.needs("mksquashfs", "mke2fs", "mkfs.erofs")

FORMATS: dict[str, Callable[[Path, Path], Path]] = {
    "directory": lambda tree, _: tree,
    "gzip": lambda tree, path: squashfs(tree, path, compression="gzip"),
    "zstd": lambda tree, path: squashfs(tree, path, compression="zstd"),
    "ext3": lambda tree, path: extfs(tree, path, kind="ext3"),
    "erofs": lambda tree, path: erofs(tree, path, "-zlz4"),
}


def types(place: Path, *words: str | Path, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), **more}
    argv = [sys.executable, "-I", "-m", "singularity", *map(str, words)]
    done = subprocess.run(argv, env=environment, cwd=place, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def grown(tree: Path) -> Path:
    """Small files that share fragments, files of several blocks, holes, links, hard links, and empty ones."""
    chance = Random(17)  # noqa: S311 - the same each time
    for directory in ("bin", "data/small", "etc"):
        (tree / directory).mkdir(parents=True)
    for number in range(300):
        (tree / f"data/small/f{number:03}").write_bytes(chance.randbytes(chance.randrange(2000)))
    for number in range(6):
        (tree / f"data/big{number}").write_bytes(chance.randbytes(300_000) + bytes(200_000) + b"end")
    with (tree / "data/holes").open("wb") as file:
        file.truncate(1_000_000)
        file.seek(700_000)
        file.write(b"island")
    (tree / "data/empty").touch()
    (tree / "bin/link").symlink_to("../data/big0")
    os.link(tree / "data/big1", tree / "data/second")
    return tree


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The second lacks, has and has changed a little of everything."""
    place = tmp_path_factory.mktemp("diff")
    one = grown(place / "one")
    other = place / "other"
    shutil.copytree(one, other, symlinks=True)
    (other / "data/second").unlink()
    os.link(other / "data/big1", other / "data/second")
    (other / "data/a-new-first-file").write_bytes(b"moves the fragments of all that follow" * 9)
    (other / "data/small/f007").unlink()
    changed = bytearray((other / "data/big2").read_bytes())
    changed[-1] ^= 1
    (other / "data/big2").write_bytes(changed)
    changed = bytearray((other / "data/small/f100").read_bytes())
    changed[0] ^= 1
    (other / "data/small/f100").write_bytes(changed)
    (other / "data/big3").write_bytes(b"shorter")
    (other / "bin/link").unlink()
    (other / "bin/link").symlink_to("../data/big4")
    (other / "data/big5").chmod(0o600)
    (other / "etc").rmdir()
    (other / "etc").write_text("a file where a directory was")
    (other / "data/holes").write_bytes((one / "data/holes").read_bytes())  # the same, without holes
    os.utime(other / "data/big0", (1, 1))
    return one, other


EXPECTED = {
    "/bin/link": ["target"],
    "/data/a-new-first-file": [],
    "/data/big2": ["content"],
    "/data/big3": ["content"],
    "/data/big5": ["mode"],
    "/data/small/f007": [],
    "/data/small/f100": ["content"],
    "/etc": ["kind", "mode"],
}


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FORMATS, FORMATS)))
def test_files_that_differ_are_found_between_all_formats(
    first: str, second: str, trees: tuple[Path, Path], tmp_path: Path
) -> None:
    one, other = (
        FORMATS[form](tree, tmp_path / name) for form, tree, name in zip((first, second), trees, "ab", strict=True)
    )
    found = diff.compare(identify(one), identify(other), frozenset({diff.Part.FILES}))
    assert {each.path: [aspect.value for aspect in each.aspects] for each in found.files} == EXPECTED
    by_path = {each.path: each for each in found.files}
    assert by_path["/data/small/f007"].after is None
    assert by_path["/data/a-new-first-file"].before is None


@pytest.mark.parametrize(("first", "second"), list(itertools.product(FORMATS, FORMATS)))
def test_the_same_tree_is_the_same_in_all_formats(
    first: str, second: str, trees: tuple[Path, Path], tmp_path: Path
) -> None:
    one, other = (FORMATS[form](trees[0], tmp_path / name) for form, name in ((first, "a"), (second, "b")))
    assert not diff.compare(identify(one), identify(other))


@pytest.mark.needs("root")
def test_owners_devices_and_attributes_are_compared(tmp_path: Path) -> None:
    for name, owner, minor, capability in (("one", 0, 3, b"1"), ("other", 7, 5, b"2")):
        tree = tmp_path / name
        tree.mkdir()
        (tree / "file").touch()
        os.mknod(tree / "null", 0o20666, os.makedev(1, minor))
        (tree / "owned").touch()
        os.chown(tree / "owned", owner, 0)
        os.setxattr(tree / "file", "user.note", capability)
    expected = {"/file": ["attributes"], "/null": ["device"], "/owned": ["owner"]}
    subprocess.run(["mksquashfs", tmp_path / "other", tmp_path / "other.sqfs", "-quiet", "-no-progress"], check=True)
    for other in ("other", "other.sqfs"):
        found = diff.compare(identify(tmp_path / "one"), identify(tmp_path / other))
        assert {each.path: [aspect.value for aspect in each.aspects] for each in found.files} == expected


# ---- as it is typed ----
@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, version in (("one", "1.0-r0"), ("other", "1.1-r0")):
        tree = tmp_path / name
        (tree / "bin").mkdir(parents=True)
        (tree / "lib/apk/db").mkdir(parents=True)
        shutil.copy("/bin/busybox", tree / "bin/sh")
        more = "P:added\nV:3\n\n" if name == "other" else "P:removed\nV:4\n\n"
        (tree / "lib/apk/db/installed").write_text(f"P:tool\nV:{version}\nA:x86_64\n\nP:still\nV:2\n\n{more}")
        definition = (
            f"Bootstrap: localimage\nFrom: {name}\n%labels\n  Version {version}\n%runscript\n  echo {name}\n  true\n"
        )
        (tmp_path / f"{name}.def").write_text(definition)
        types(tmp_path, "build", f"{name}.sif", f"{name}.def")
    return tmp_path


@pytest.mark.needs("busybox")
def test_it_is_told_in_lines(place: Path) -> None:
    said = types(place, "diff", "one.sif", "other.sif", status=1).stdout
    assert "Packages: 1 added, 1 removed, 1 changed\n" in said
    assert "~ apk tool (x86_64) 1.0-r0 -> 1.1-r0\n" in said
    assert "+ apk added 3\n" in said
    assert "- apk removed 4\n" in said
    assert "~ label Version: 1.0-r0 -> 1.1-r0\n" in said
    assert "    -echo one\n    +echo other\n" in said.replace("    -  ", "    -").replace("    +  ", "    +")
    assert "~ /lib/apk/db/installed  content" in said
    assert "still" not in said
    assert "/bin/sh" not in said


@pytest.mark.needs("busybox")
def test_parts_are_chosen_and_the_same_is_said(place: Path) -> None:
    shutil.copytree(place / "one", place / "copy")
    said = types(place, "diff", "one", "copy").stdout
    assert said == "Packages: the same\n\nConfiguration: the same\n\nFiles: the same\n"
    said = types(place, "diff", "--config", "one.sif", "other.sif", status=1).stdout
    assert "Packages" not in said
    assert "Files" not in said
    document = json.loads(types(place, "diff", "--packages", "--json", "one.sif", "other.sif", status=1).stdout)
    assert document == {
        "packages": [
            {"manager": "apk", "name": "added", "architecture": "", "before": [], "after": ["3"]},
            {"manager": "apk", "name": "removed", "architecture": "", "before": ["4"], "after": []},
            {"manager": "apk", "name": "tool", "architecture": "x86_64", "before": ["1.0-r0"], "after": ["1.1-r0"]},
        ]
    }


@pytest.mark.needs("busybox")
def test_many_files_are_counted_and_listed_when_asked_for(place: Path) -> None:
    shutil.copytree(place / "one", place / "many")
    (place / "many/opt/tool/share").mkdir(parents=True)
    for number in range(200):
        (place / f"many/opt/tool/share/f{number}").touch()
    said = types(place, "diff", "one", "many", status=1).stdout
    assert "Files: 203 added\n" in said
    assert "in /opt/tool/share" in said
    assert "--files lists them" in said
    assert "f199" not in said
    assert "+ /opt/tool/share/f199" in types(place, "diff", "--files", "one", "many", status=1).stdout
    files: list[Any] = json.loads(types(place, "diff", "--json", "one", "many", status=1).stdout)["files"]
    assert len(files) == 203


def test_names_do_not_drive_the_terminal_nor_make_lines(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name / "bin").mkdir(parents=True)
    odd = "a\n+ /etc/shadow\x1b[2J\udcff"
    (tmp_path / "other" / odd.replace("/", "|")).touch()
    said = types(tmp_path, "diff", "one", "other", status=1).stdout
    assert said.count("\n") == 6
    assert "\x1b" not in said
    (entry,) = json.loads(types(tmp_path, "diff", "--files", "--json", "one", "other", status=1).stdout)["files"]
    assert entry["path"] == "/" + odd.replace("/", "|")


@pytest.mark.needs("busybox")
def test_archives_and_uris_are_compared_too(place: Path) -> None:
    subprocess.run(["tar", "-C", place / "one", "-cf", place / "one.tar", "."], check=True)
    types(place, "push", "one.sif", "oci:layout:1")
    said = types(place, "diff", "--packages", "one.tar", "oci:layout:1").stdout
    assert said == "Packages: the same\n"


@pytest.mark.needs("busybox")
def test_what_is_wrong_is_one_line(place: Path) -> None:
    data = bytearray((place / "one.sif").read_bytes())
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    (place / "broken.sif").write_bytes(data)
    (place / "empty").mkdir()
    for words, expected in (
        (("one.sif", "missing.sif"), "missing.sif"),
        (("one.sif", "broken.sif"), "broken.sif"),
        (("one.sif", "empty"), "empty: a directory, but no image"),
    ):
        said = types(place, "diff", *words, status=255).stderr
        assert said.count("\n") == 1, said
        assert expected in said
    assert types(place, "diff", "one.sif", status=1).stderr.count("\n") == 1


def test_two_large_images_take_little_time(tmp_path: Path) -> None:
    """A hundredth of what is promised of 1 GB (docs/contents.md has those figures), and a hundred times the limit."""
    chance = Random(5)  # noqa: S311
    for number in range(10):
        (tmp_path / f"tree/d{number}").mkdir(parents=True)
        for each in range(100):
            (tmp_path / f"tree/d{number}/f{each}").write_bytes(chance.randbytes(10_000))
    one = squashfs(tmp_path / "tree", tmp_path / "one", compression="zstd")
    (tmp_path / "tree/d0/f0").write_bytes(b"another")
    other = squashfs(tmp_path / "tree", tmp_path / "other", compression="zstd")
    before = time.process_time()
    assert [each.path for each in diff.compare(identify(one), identify(other)).files] == ["/d0/f0"]
    assert time.process_time() - before < 2
