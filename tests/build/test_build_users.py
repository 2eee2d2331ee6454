"""Builds of ordinary users: in a user namespace, with ids of their own and without."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builds import USER, as_user
from test_build import WHOLE

from singularity import files
from singularity.errors import FileError
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


OWNERS = (
    "%post\n    chown 33:34 /made\n    mkdir -p /full/below /shut\n    echo > /shut/file\n"
    "    chown -R 33:34 /full /shut\n"
    "    chmod 555 /full\n    chmod 000 /shut\n    echo > /tool\n    chmod 6755 /tool\n    ln -s /full /link\n"
    "    chown -h 33:34 /link\n"
    "%files\n    x.def /made\n"
)


@pytest.fixture
def owners(build: Build, definition: Definition) -> None:
    """A definition whose image has files of several owners, and directories that their owner cannot empty."""
    definition(OWNERS)
    for name in ("chown", "chmod", "ln"):
        if not (build.directory / "base/bin" / name).exists():
            (build.directory / "base/bin" / name).symlink_to("busybox")


def test_a_sandbox_of_an_ordinary_user_is_his_to_remove(build: Build, owners: None) -> None:
    del owners
    done = as_user(build, "build", "--sandbox", "box", "x.def", ids="user:500000:65536\n")
    assert done.returncode == 0, done.stderr
    assert "remove" not in done.stderr
    box = build.directory / "box"
    assert {(each.lstat().st_uid, each.lstat().st_gid) for each in (box, *box.rglob("*"))} == {(USER, USER)}
    modes = {name: stat.S_IMODE((box / name).lstat().st_mode) for name in ("full", "shut", "tool")}
    assert modes == {"full": 0o755, "shut": 0o700, "tool": 0o755}
    done = as_user(build, "build", "y.sif", "box", ids="user:500000:65536\n")
    assert done.returncode == 0, done.stderr
    assert (build.root_of("y.sif") / "full/below").stat().st_uid == 33
    subprocess.run(["setpriv", "--reuid", str(USER), "--clear-groups", "rm", "-rf", box], check=True)


@pytest.mark.parametrize("option", ["--keep-owners", "--fakeroot"])
def test_a_sandbox_with_owners_is_removed_by_its_command(build: Build, owners: None, option: str) -> None:
    del owners
    done = as_user(build, "build", option, "--sandbox", "box of mine", "x.def", ids="user:500000:65536\n")
    assert done.returncode == 0, done.stderr
    command = "singularity remove 'box of mine'"
    assert f"INFO:    Files in it belong to your subordinate ids; this removes it: {command}" in done.stderr
    box = build.directory / "box of mine"
    assert ((box / "full").stat().st_uid, (box / "link").lstat().st_gid) == (500032, 500033)
    assert stat.S_IMODE((box / "tool").stat().st_mode) == 0o755
    assert "setuid and setgid bits are left out of 1 programs" in done.stderr
    plain = ["setpriv", "--reuid", str(USER), "--clear-groups", "rm", "-rf", box]
    assert subprocess.run(plain, check=False, capture_output=True).returncode == 1
    done = as_user(build, "remove", "box of mine", ids="user:500000:65536\n", own=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not box.exists()


def test_only_sandboxes_are_removed(build: Build) -> None:
    (build.directory / "box/.singularity.d").mkdir(parents=True)
    (build.directory / "link").symlink_to("box")
    (build.directory / "thesis").mkdir()
    (build.directory / "shut/box/.singularity.d").mkdir(parents=True)
    (build.directory / "shut").chmod(0o555)
    for name, said in (
        ("link", "link: no directory (rm link)"),
        ("thesis", "thesis: no sandbox (--force removes it all the same)"),
        ("nothing", "nothing: No such file or directory"),
        ("shut/box", f"{build.directory}/shut: Permission denied"),
    ):
        done = as_user(build, "remove", "box", name)
        assert (done.returncode, done.stderr) == (255, f"FATAL:   {said}\n")
    for name in (".", "..", "thesis/..", "/"):
        done = as_user(build, "remove", "--force", "box", name)
        assert done.returncode == 1
        assert "directory is or lies in it (name another directory)" in done.stderr
    assert (build.directory / "box").exists()
    assert as_user(build, "remove", "--force", "box", "thesis", "nothing").returncode == 0
    assert not (build.directory / "box").exists()
    assert not (build.directory / "thesis").exists()


def test_what_is_mounted_in_a_sandbox_stays(build: Build) -> None:
    """R-F6: of the same file system too, as with `mount --bind /home box/home`."""
    (build.directory / "box/.singularity.d").mkdir(parents=True)
    (build.directory / "box/home").mkdir()
    (build.directory / "home/thesis").mkdir(parents=True)
    (build.directory / "home/thesis/chapter").write_text("years of work")
    script = 'mount --bind home box/home && exec "$@"'
    inner = ["unshare", "--mount", "sh", "-c", script, "sh", *build.argv("remove", "box")]
    done = subprocess.run(inner, cwd=build.directory, env=build.env(), check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        255,
        f"FATAL:   {build.directory}/box: something is mounted on home in it\n",
    )
    assert (build.directory / "home/thesis/chapter").read_text() == "years of work"


def test_a_sandbox_that_is_exchanged_meanwhile_stays(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-F6: root looked at one directory, and its owner has put a link to another in its place."""
    from singularity.cli import remove

    for place in ("mine/box", "theirs/box"):
        (build.directory / place / ".singularity.d").mkdir(parents=True)

    def exchange(path: Path) -> None:
        del path
        (build.directory / "mine").rename(build.directory / "gone")
        (build.directory / "mine").symlink_to("theirs")

    monkeypatch.setattr(files, "refuse_place", exchange)
    with pytest.raises(FileError, match="replaced by another"):
        remove.command.main([str(build.directory / "mine/box")], standalone_mode=False)
    assert (build.directory / "theirs/box/.singularity.d").exists()
