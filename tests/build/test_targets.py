"""A finished root file system in each format, whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ordinary_user import ALICE, World

from singularity.build import architecture, targets
from singularity.build.request import BuildRequest, Target
from singularity.errors import FileError, ImageError, ToolError
from singularity.image import contents
from singularity.image.identify import Format, identify
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.needs("root", "mksquashfs", "mke2fs", "mkfs.erofs")

FILES = (Target.SIF, Target.SQUASHFS, Target.EROFS, Target.EXT3, Target.TAR)
CONVERSIONS = Path(__file__).with_name("conversions.py")
PEOPLE = {
    "root": World(private=False),
    "subordinate-ids": World(account=ALICE),
    "one-id": World(account=replace(ALICE, listed=False)),
}


@pytest.fixture
def tree(storage: Path, tmp_path: Path) -> Path:
    """A root file system with files that nobody may read."""
    root = storage / tmp_path.name / "root"
    for name in ("etc", "closed/in/side", "bin"):
        (root / name).mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"tool" * 100_000)
    (root / "etc/secret").write_text("nobody may read this")
    (root / "closed/in/file").write_text("in a closed directory")
    for name in ("etc/secret", "closed/in/file", "closed/in", "closed"):
        (root / name).chmod(0)
    return root


@pytest.fixture
def request_of(tree: Path) -> Callable[..., BuildRequest]:
    def make(form: Target, target: str, **more: object) -> BuildRequest:
        path = tree.parent / target
        return BuildRequest(target=path, source=str(tree), format=form, temporary=tree.parent, **more)  # type: ignore[arg-type]

    return make


def write(tree: Path, request: BuildRequest) -> Path:
    targets.write(tree, request, architecture.host())
    return request.target


def seen(image: Path) -> dict[str, tuple[Kind, int, bytes]]:
    """Kind, mode and data of every file."""
    with contents.tree(identify(image)) as tree:
        return {
            os.fsdecode(entry.member.path): (entry.member.kind, entry.member.mode, b"".join(entry.data))
            for entry in tree
        }


@pytest.mark.parametrize("form", FILES)
def test_each_format_holds_what_is_there(tree: Path, request_of: Callable[..., BuildRequest], form: Target) -> None:
    previous = os.umask(0o027)
    try:
        made = write(tree, request_of(form, "x"))
    finally:
        os.umask(previous)
    found = seen(made)
    assert found["bin/tool"] == (Kind.FILE, 0o644, b"tool" * 100_000)
    assert found["etc/secret"] == (Kind.FILE, 0, b"nobody may read this")
    assert found["closed/in/file"] == (Kind.FILE, 0, b"in a closed directory")
    assert (found["closed"][:2], found["closed/in"][:2]) == ((Kind.DIRECTORY, 0), (Kind.DIRECTORY, 0))
    assert stat.S_IMODE(made.stat().st_mode) == 0o750
    wanted = {
        Target.SIF: Format.SIF,
        Target.SQUASHFS: Format.SQUASHFS,
        Target.EROFS: Format.EROFS,
        Target.EXT3: Format.EXT,
        Target.TAR: Format.TAR,
    }
    assert identify(made).format is wanted[form]


@pytest.mark.needs("userns")
@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("person", PEOPLE)
def test_nothing_that_is_hard_to_read_gets_lost(tree: Path, person: str, form: Target) -> None:
    """B: a directory of hers, with files of mode 000, by root, by users with ids of their own and with one id."""
    world = PEOPLE[person]
    uid = 0 if person == "root" else world.account.uid
    for path in (tree.parent, tree, *tree.rglob("*")):
        os.chown(path, uid, uid)
    argv = [sys.executable, "-I", CONVERSIONS, tree, tree.parent / "x", form.value]
    done = subprocess.run(
        argv,
        env={"PATH": os.environ["PATH"], "HOME": str(tree.parent), "TMPDIR": str(tree.parent)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=replace(world, cwd=tree.parent).enter,
    )
    assert done.returncode == 0, done.stderr
    found = seen(tree.parent / "x")
    assert found["etc/secret"] == (Kind.FILE, 0, b"nobody may read this")
    assert found["closed/in/file"] == (Kind.FILE, 0, b"in a closed directory")
    assert found["closed"][:2] == (Kind.DIRECTORY, 0)
    assert stat.S_IMODE((tree / "closed").stat().st_mode) == 0


@pytest.mark.parametrize("form", FILES)
def test_permissions_are_mended_when_asked_for(
    tree: Path, request_of: Callable[..., BuildRequest], form: Target
) -> None:
    found = seen(write(tree, request_of(form, "x", fix_permissions=True)))
    assert (found["etc/secret"][1], found["closed/in"][1], found["bin/tool"][1]) == (0o600, 0o700, 0o644)


@pytest.mark.parametrize(
    ("suffix", "magic"),
    [
        (".tar", b""),
        (".tar.gz", b"\x1f\x8b"),
        (".tgz", b"\x1f\x8b"),
        (".tar.bz2", b"BZh"),
        (".tar.xz", b"\xfd7zXZ"),
        (".tar.zst", b"\x28\xb5\x2f\xfd"),
    ],
)
def test_archives_are_compressed_as_their_name_says(
    tree: Path, request_of: Callable[..., BuildRequest], suffix: str, magic: bytes
) -> None:
    made = write(tree, request_of(Target.TAR, f"x{suffix}"))
    assert made.read_bytes().startswith(magic)
    listed = subprocess.run(["tar", "-tf", made], check=True, capture_output=True, text=True).stdout.splitlines()
    assert {"./bin/tool", "./closed/in/file"} <= set(listed)


def test_an_ext3_image_has_the_size_that_was_asked_for(tree: Path, request_of: Callable[..., BuildRequest]) -> None:
    made = write(tree, request_of(Target.EXT3, "x.img", size=32))
    assert made.read_bytes()[:31] == b"#!/usr/bin/env run-singularity\n"
    assert made.stat().st_size == (32 << 20) + 31
    (tree / "large").write_bytes(os.urandom(20 << 20))
    with pytest.raises(ImageError):
        write(tree, request_of(Target.EXT3, "y.img", size=16))
    assert not (tree.parent / "y.img").exists()


def test_mksquashfs_takes_further_words(tree: Path, request_of: Callable[..., BuildRequest]) -> None:
    made = write(tree, request_of(Target.SQUASHFS, "x", mksquashfs_arguments=("-comp", "xz", "-b", "64K")))
    said = subprocess.run(["unsquashfs", "-s", made], check=True, capture_output=True, text=True).stdout
    assert "Compression xz" in said
    assert "Block size 65536" in said


@pytest.mark.parametrize("form", FILES)
def test_a_target_is_whole_or_as_it_was(tree: Path, request_of: Callable[..., BuildRequest], form: Target) -> None:
    """F3, F4: nothing is replaced without being told, and nothing is left when it fails."""
    target = tree.parent / "x.tar.gz"
    target.write_text("old")
    with pytest.raises(FileError, match=r"exists \(--force replaces it\)"):
        write(tree, request_of(form, target.name))
    small = tree.parent / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", small], check=True)
    try:
        (tree / "more").write_bytes(os.urandom(1 << 20))
        with pytest.raises((ToolError, FileError, ImageError), match="No space left on device"):
            write(tree, request_of(form, "small/x.tar.gz"))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert target.read_text() == "old"
