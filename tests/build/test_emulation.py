"""Builds by users, with one id and with more: what root emulation remembers is what root's build writes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from builds import USER, as_user

from singularity.image import contents, directory, marks
from singularity.image.identify import identify
from singularity.image.marks import Mark
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from builds import Build

    from singularity.image.tree import Member

pytestmark = pytest.mark.needs("busybox", "mksquashfs", "root", "userns", "installation")
Definition = Callable[[str], Path]

APPLETS = ("chown", "chgrp", "date", "mknod", "mktemp", "mv", "sed", "stat", "su", "tar")
SCRIPT = r"""%post
    echo secret >/shadow; chown 0:42 /shadow; chmod 640 /shadow
    sed -i 's/secret/changed/' /shadow; test "$(stat -c %u:%g:%a /shadow)" = 0:42:640
    mkdir /spool; chown 33:34 /spool; chmod 2775 /spool
    echo x >/a; chown 5:6 /a; mv /a '/mo ved "\ x'; ln '/mo ved "\ x' /hard; cp -a /hard /copied; cp -p /hard /kept
    test "$(stat -c %u:%g /hard /copied /kept)" = "$(printf '5:6\n5:6\n5:6')"
    echo y >/gone; chown 5:5 /gone; rm /gone; echo z >/new; test "$(stat -c %u /new)" = 0
    echo 'u:x:7:8:u:/:/bin/sh' >>/etc/passwd; test "$(su u -c 'id -u; id -g')" = "$(printf '7\n8')"; test "$(id -u)" = 0
    mkdir -m 1777 /drop; mkdir -m 2777 /shared; chgrp 34 /shared
    su u -c 'umask 27; echo o >/drop/own; echo p >>/drop/own; mkdir -p /drop/d/e/; cp /drop/own /shared/own'
    su u -c 'umask 27; mkdir /shared/d'; echo g >/shared/root; mkdir /shared/deep; echo g >/shared/deep/root
    cp -p /shared/root /drop/root2; mknod /shared/n c 1 3; cd /shared
    test "$(stat -c %u:%g root deep deep/root n /drop/root2)" = "$(printf '0:34\n0:34\n0:34\n0:34\n0:34')"; cd /
    su u -c 'set -C; echo n >/drop/new; ! echo n >/drop/new; ln -s own /drop/link; mv /drop/new /drop/moved'
    su u -c 'mktemp /drop/XXXXXX'; test "$(stat -c %u:%g:%a /drop/own /drop/d/e)" = "$(printf '7:8:640\n7:8:750')"
    test "$(stat -c %u:%g:%a /shared/own /shared/d)" = "$(printf '7:34:640\n7:34:2750')"
    rm /drop/link /drop/??????; echo r >/drop/root
    echo b >/back; chown 5:5 /back; chown 0:0 /back
    echo t >/setuid; chmod 4755 /setuid; chown 7 /setuid; test "$(stat -c %a /setuid)" = 755; chmod 4755 /setuid
    echo h >/high; chown 197609:4000000000 /high; chgrp 197121 /high; test "$(stat -c %u:%g /high)" = 197609:197121
    echo l >/low; chown 9 /low; chown 197609 /low; chown :197121 /low; chown 5:6 /low
    test "$(stat -c %u:%g /low)" = 5:6
    mkdir /nodes; mknod -m 666 /nodes/null c 1 3; mknod -m 660 /nodes/sda b 8 1; chgrp 6 /nodes/sda; mknod /nodes/pipe p
    test -c /nodes/null; test -b /nodes/sda; test -p /nodes/pipe; test "$(stat -c %t:%T /nodes/sda)" = 8:1
    tar -c -f - -C / spool hard nodes >/x.tar; mkdir /out; tar -x -p -f /x.tar -C /out; rm /x.tar
    test "$(stat -c %u:%g:%a /out/spool)" = 33:34:2775; test -c /out/nodes/null
"""


def files(build: Build, image: str) -> dict[bytes, Member]:
    with contents.tree(identify(build.directory / image)) as tree:
        return {entry.member.path: entry.member for entry in tree}


@pytest.fixture
def script(build: Build, definition: Definition) -> Path:
    path = definition(SCRIPT)
    for applet in APPLETS:
        (build.directory / "base/bin" / applet).symlink_to("busybox")
    return path


@pytest.mark.parametrize("ids", ["", "user:500000:65536\n"], ids=["one-id", "range"])
@pytest.mark.parametrize("form", ["sif", "tar", "ext3", "erofs"])
def test_the_image_is_that_of_roots_build(build: Build, script: Path, form: str, ids: str) -> None:
    """Byte for byte; and that without layers, whose overlay is another one."""
    machine.require(*(["newuidmap"] if ids else []), *(["mkfs.erofs"] if form == "erofs" else []))
    build.ok("build", "--reproducible", "--format", form, f"root.{form}", script.name)
    for number, options in enumerate(([], ["--disable-cache"])):
        name = f"user{number}.{form}"
        done = as_user(build, "build", "--reproducible", "--format", form, *options, name, script.name, ids=ids)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr
        members = files(build, name)
        assert {path: (each.kind, each.uid, each.gid, each.mode, each.device) for path, each in members.items()} == {
            path: (each.kind, each.uid, each.gid, each.mode, each.device)
            for path, each in files(build, f"root.{form}").items()
        }
        assert all(marks.KEY not in each.xattrs for each in members.values())
        assert (build.directory / name).read_bytes() == (build.directory / f"root.{form}").read_bytes()
    assert members[b"nodes/null"].kind is Kind.CHARACTER_DEVICE
    assert (members[b"spool"].uid, members[b"spool"].gid) == (33, 34)
    assert (members[b"high"].uid, members[b"high"].gid) == (197609, 197121)
    assert build.leftovers() == []


def test_a_sandbox_remembers_and_what_is_built_of_it_has_the_owners(build: Build, script: Path) -> None:
    done = as_user(build, "build", "--sandbox", "box", script.name)
    assert done.returncode == 0, done.stderr
    box = build.directory / "box"
    assert {path.lstat().st_uid for path in box.rglob("*")} == {USER}
    assert marks.read(box / "hard") == Mark(uid=5, gid=6)
    for name, options in (("x.sif", ()), ("y.tar", ("--format", "tar"))):
        done = as_user(build, "build", *options, name, "box")
        assert done.returncode == 0, done.stderr
        members = files(build, name)
        assert (members[b"hard"].uid, members[b"hard"].gid) == (5, 6)
        assert members[b"nodes/sda"].kind is Kind.BLOCK_DEVICE
        assert members[b"nodes/sda"].device == os.makedev(8, 1)
    assert marks.read(box / "hard") == Mark(uid=5, gid=6), "a build changes nothing of its source"


@pytest.mark.parametrize("form", ["sif", "tar"])
def test_owners_of_an_image_that_is_built_on_are_kept(build: Build, script: Path, form: str) -> None:
    build.ok("build", "--format", form, f"first.{form}", script.name)
    build.write("second.def", f"Bootstrap: localimage\nFrom: first.{form}\n%post\n    chown 8 /new\n")
    done = as_user(build, "build", "second.sif", "second.def")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    members = files(build, "second.sif")
    assert (members[b"shadow"].gid, members[b"hard"].uid, members[b"new"].uid) == (42, 5, 8)
    assert members[b"nodes/null"].kind is Kind.CHARACTER_DEVICE
    assert members[b"setuid"].mode == 0o4755


def test_a_hard_link_in_a_layer_below_stays_one(build: Build, definition: Definition) -> None:
    """Marks are taken off before the image is written, and an overlay copies a file up for it."""
    definition("%post\n    echo x >/a; chown 5 /a; ln /a /b\n    # singularity: checkpoint\n    echo y >/c\n")
    (build.directory / "base/bin/chown").symlink_to("busybox")
    done = as_user(build, "build", "x.sif", "x.def")
    assert done.returncode == 0, done.stderr
    first, second = (files(build, "x.sif")[name] for name in (b"a", b"b"))
    assert {first.kind, second.kind} == {Kind.FILE, Kind.HARD_LINK}


def test_marks_that_are_nonsense_are_none(tmp_path: Path) -> None:
    assert marks.parse(b"5 6") == Mark(uid=5, gid=6)
    assert marks.parse(b"5 6 c 1 3") == Mark(uid=5, gid=6, kind=Kind.CHARACTER_DEVICE, device=os.makedev(1, 3))
    for text in (b"", b"5", b"-1 0", b"4294967295 0", b"5 6 x 1 2", b"5 6 c 1", b"5 6\n", b"99999999999 0"):
        assert marks.parse(text) is None
    (tmp_path / "f").write_text("")
    os.setxattr(tmp_path / "f", marks.NAME, b"5 6 c 1 3")
    members = {entry.member.path: entry.member for entry in directory.read(tmp_path)}
    assert (members[b"f"].kind, members[b"f"].uid, members[b"f"].device) == (Kind.CHARACTER_DEVICE, 5, os.makedev(1, 3))
    assert members[b"f"].xattrs == {}
    os.chown(tmp_path / "f", USER, USER)  # R-T4: no user's file becomes root's, with its setuid bit, by the user's word
    os.setxattr(tmp_path / "f", marks.NAME, b"0 0")
    os.link(tmp_path / "f", tmp_path / "g")
    members = {entry.member.path: entry.member for entry in directory.read(tmp_path)}
    assert {(members[name].kind, members[name].uid) for name in (b"f", b"g")} == {
        (Kind.FILE, USER),
        (Kind.HARD_LINK, USER),
    }


def test_programs_of_i386_are_served_too(build: Build, definition: Definition, tmp_path: Path) -> None:
    source = tmp_path / "old.c"
    source.write_text(OLD)
    made = ["gcc", "-m32", "-static", "-nostdlib", "-fno-pie", "-no-pie", "-fno-stack-protector", "-O1"]
    if subprocess.run([*made, "-o", tmp_path / "old", source], capture_output=True, check=False).returncode:
        pytest.skip("no compiler for i386")
    definition("%files\n    old /old\n%post\n    touch /f /g /h\n    chmod 755 /old\n    /old\n")
    (build.directory / "old").write_bytes((tmp_path / "old").read_bytes())
    done = as_user(build, "build", "x.sif", "x.def")
    assert done.returncode == 0, done.stderr
    members = files(build, "x.sif")
    assert (members[b"f"].uid, members[b"f"].gid) == (5, 0)
    assert (members[b"g"].uid, members[b"g"].gid) == (70000, 6)
    assert members[b"h"].gid == 9


# chown16("/f", 5, -1), chown32("/g", 70000, 6), fchownat(AT_FDCWD, "/h", -1, 9, 0), setuid16(7), exit
OLD = r"""
static long call(long n, long a, long b, long c, long d, long e)
{
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
    return result;
}
void _start(void)
{
    long failed = call(182, (long)"/f", 5, 0xffff, 0, 0) | call(212, (long)"/g", 70000, 6, 0, 0) |
                  call(298, -100, (long)"/h", -1, 9, 0) | call(23, 7, 0, 0, 0, 0);
    call(1, failed != 0, 0, 0, 0, 0);
}
"""
