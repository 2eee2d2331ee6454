"""Builds of ordinary users: in a user namespace, with ids of their own and without."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builds import USER, as_user
from test_build import WHOLE

from singularity.image import marks
from singularity.image.marks import Mark

if TYPE_CHECKING:
    from builds import Build

pytestmark = pytest.mark.needs("busybox", "mksquashfs", "root", "userns", "installation")
Definition = Callable[[str], Path]


def test_an_ordinary_user_builds_in_a_user_namespace(build: Build, definition: Definition) -> None:
    definition(WHOLE)
    done = as_user(build, "build", "x.sif", "x.def")
    assert done.returncode == 0, done.stderr
    assert "post in / as 0" in done.stdout
    path = build.directory / "x.sif"
    assert path.stat().st_uid == USER
    root = build.root_of("x.sif")
    assert {each.lstat().st_uid for each in root.rglob("*")} == {0}
    assert build.leftovers() == []


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="newuidmap is not installed (package uidmap)")
def test_with_ids_of_their_own_users_build_images_with_many_owners(build: Build, definition: Definition) -> None:
    definition(
        "%post\n    chown 33:34 /made /etc/passwd\n    mkdir /open\n    chown 33:34 /open\n    chmod 1775 /open\n"
        "%files\n    x.def /made\n"
    )
    build.write("base/bin/chown", "").unlink()
    (build.directory / "base/bin/chown").symlink_to("busybox")
    done = as_user(build, "build", "x.sif", "x.def", ids="user:500000:65536\n")
    assert done.returncode == 0, done.stderr
    status = (build.root_of("x.sif") / "made").stat()
    assert (status.st_uid, status.st_gid) == (33, 34)
    assert (build.directory / "x.sif").stat().st_uid == USER
    assert build.leftovers() == []
    done = as_user(build, "build", "--sandbox", "y", "x.sif")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    assert stat.S_IMODE((build.directory / "y/open").stat().st_mode) == 0o1775
    assert {marks.read(build.directory / "y" / name) for name in ("made", "open")} == {Mark(uid=33, gid=34)}
    assert {each.lstat().st_uid for each in (build.directory / "y").rglob("*")} == {USER}


@pytest.mark.skipif(not shutil.which("newuidmap"), reason="newuidmap is not installed (package uidmap)")
def test_what_belongs_to_root_of_the_host_belongs_to_root_of_the_image(build: Build, base: Path) -> None:
    for name, owner in (("theirs", 1), ("mine", USER), ("nobodys", 500000 + 65533)):
        build.write(f"base/{name}", "")
        os.chown(base / name, owner, owner)
    for place in (build.temporary, build.directory / "out", build.directory / "kept"):
        place.mkdir(exist_ok=True)
        os.chown(place, USER, USER)
    done = as_user(build, "build", "out/x.sif", "base", ids="user:500000:65536\n", own=False)
    assert done.returncode == 0, done.stderr
    found = len([base, *base.rglob("*")]) - 2
    assert f"WARNING: base: {found} files belong to others there, and now to root" in done.stderr
    root = build.root_of("out/x.sif")
    assert {each.name for each in root.rglob("*") if each.lstat().st_uid != 0} == {"nobodys"}
    assert (root / "nobodys").stat().st_uid == 65534


def test_a_script_that_fails_with_one_id_does_not_blame_it(build: Build, definition: Definition) -> None:
    """What is done to owners is emulated."""
    definition("%post\n    chown 33 /made\n    false\n%files\n    x.def /made\n")
    (build.directory / "base/bin/chown").symlink_to("busybox")
    (build.directory / "base/bin/false").symlink_to("busybox")
    done = as_user(build, "build", "x.sif", "x.def")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (255, "FATAL:   x.def:5: %post failed with status 1")


@pytest.mark.parametrize("words", [["build", "ro/x.sif"], ["build", "--sandbox", "ro/x"], ["bootstrap", "ro/x"]])
def test_a_directory_of_the_caller_that_is_not_to_be_written_is_not(
    build: Build, definition: Definition, words: list[str]
) -> None:
    """As root of a user namespace he could: but that he is only while it is built."""
    definition("")
    place = build.directory / "ro"
    place.mkdir(mode=0o555)
    done = as_user(build, *words, "x.def")
    assert (done.returncode, done.stderr) == (255, "FATAL:   ro: Permission denied\n")
    assert as_user(build, "create", "ro/x.img").stderr == done.stderr
    assert list(place.iterdir()) == []
