"""--fakeroot: root with all the ids that the site gives, and where it gives none, with others emulated."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import docker_profile
import machine
import ordinary_user
import pytest
import syscalls

from singularity import seccomp
from singularity.image import marks
from singularity.image.marks import Mark

if TYPE_CHECKING:
    from images import Images
    from launching import Launcher, Result

pytestmark = [pytest.mark.modes("suid", "userns"), pytest.mark.needs("root", "userns")]

FIRST = 1_000_000  # of the ids that tests give to alice
NOTHING = Path("/dev/null")
CLONE_NEWUSER = 0x10000000
DOCKER = (  # what programs in its containers have
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
)  # fmt: skip
ONE_ID = "only your own id is mapped, to root"


@pytest.fixture
def alone(launch: Launcher) -> Launcher:
    """Without subordinate ids."""
    return launch.showing(Path("/etc/subuid"), NOTHING).showing(Path("/etc/subgid"), NOTHING)


def run(launch: Launcher, image: Path, script: str, *options: str | Path) -> Result:
    return launch("exec", "--fakeroot", *options, image, "/bin/busybox", "sh", "-ec", script)


@pytest.mark.needs("newuidmap")
@pytest.mark.formats("sandbox", "sif")
def test_all_ids_of_the_site_are_there(launch: Launcher, image: Path) -> None:
    script = (
        "busybox touch /root/f /root/own; busybox chown 5:6 /root/f; busybox stat -c %u:%g /root/f /root; echo $HOME"
    )
    assert run(launch, image, script).ok().lines == ["5:6", "0:0", "/root"]
    theirs, own = (launch.home / "f").stat(), (launch.home / "own").stat()
    assert (theirs.st_uid, theirs.st_gid) == (FIRST + 4, FIRST + 5)
    assert (own.st_uid, own.st_gid) == (launch.account.uid, launch.account.gid)
    maps = run(launch, image, "busybox cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups").ok().out.split()
    uid, gid = str(launch.account.uid), str(launch.account.gid)
    given = ["1", str(FIRST), "65536"]
    assert maps == ["0", uid, "1", *given, "0", gid, "1", *given, "allow"]


@pytest.mark.needs("newuidmap", "mksquashfs")
def test_owners_of_an_image_show_as_they_are(launch: Launcher, images: Images, directory: Path) -> None:
    tree = directory / "tree"
    shutil.copytree(images.sandbox, tree, symlinks=True)
    for name, owner in (("of-33", 33), ("of-nobody", 65534), ("of-65535", 65535)):
        (tree / name).write_text("")
        os.chown(tree / name, owner, owner)
    subprocess.run(
        ["mksquashfs", tree, directory / "x.sqfs", "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL
    )
    script = "busybox stat -c %u:%g /of-33 /of-nobody /of-65535 /bin"
    assert run(launch, directory / "x.sqfs", script).ok().lines == ["33:33", "65534:65534", "65535:65535", "0:0"]


@pytest.mark.needs("newuidmap")
def test_images_that_stay_mounted_have_all_ids_too_and_another_keeper_without(
    launch: Launcher, alone: Launcher, images: Images
) -> None:
    file = launch.home / "x.sif"
    shutil.copy(images.sif, file)
    os.chown(file, launch.account.uid, launch.account.gid)
    script = "busybox touch /root/f; busybox chown 5 /root/f; busybox stat -c %u /root/f"
    for options in ((), ("--linger", "300s"), ("--linger", "300s")):
        assert run(launch, launch.home_inside / "x.sif", script, *options).ok().lines == ["5"]
    done = run(alone, launch.home_inside / "x.sif", "busybox wc -l </proc/self/uid_map", "--linger", "300s").ok()
    assert done.lines == ["1"]
    assert len(launch("linger", "list").ok().lines) >= 2
    launch("linger", "end", "--all")


def test_without_ids_a_verbose_line_says_where_they_would_stand(alone: Launcher, images: Images) -> None:
    done = alone("exec", "--fakeroot", images.sandbox, "true", first=["-v"])
    line = f"No subordinate ids for user {alone.account.uid} (/etc/subuid, /etc/subgid): {ONE_ID}"
    assert [each for each in done.err.splitlines() if each.endswith(line)] != [], str(done)
    alone("exec", "--fakeroot", images.sandbox, "true").ok()


@pytest.mark.needs("newuidmap")
def test_without_newuidmap_launch_and_build_say_the_same(launch: Launcher, images: Images, directory: Path) -> None:
    tool = shutil.which("newuidmap")
    assert tool is not None
    hidden = directory / "not-executable"
    hidden.write_text("")
    without = launch.showing(Path(tool), hidden)
    line = (
        "INFO:    newuidmap not found, needed to map the ids of the image to those given to you (install uidmap): "
        + ONE_ID
    )
    done = without("exec", "--fakeroot", images.sandbox, "/bin/busybox", "id", "-u")
    assert (done.status, done.out, done.err) == (0, "0\n", f"{line}\n"), str(done)
    (launch.home / "x.def").write_text(f"Bootstrap: localimage\nFrom: {images.sandbox}\n%post\n    false\n")
    built = without("build", launch.home_inside / "x.sif", launch.home_inside / "x.def", timeout=120)
    assert line in built.err.splitlines(), str(built)


def test_a_range_that_cannot_be_mapped_is_told_and_done_without(launch: Launcher, images: Images) -> None:
    machine.require("newuidmap")
    frozen = launch.changed(before=[*launch.world.before, freeze])
    done = frozen("exec", "--fakeroot", images.sandbox, "/bin/busybox", "id", "-u")
    assert (done.status, done.out) == (0, "0\n"), str(done)
    assert (
        "no_new_privs is set, so newuidmap cannot map the ids of the image to those given to you: " + ONE_ID in done.err
    )


def freeze() -> None:
    """prctl(PR_SET_NO_NEW_PRIVS)."""
    assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0


@pytest.mark.modes("userns")
@pytest.mark.parametrize(
    ("name", "value", "error", "words"),
    [
        (
            "user/max_user_namespaces",
            "0",
            errno.ENOSPC,
            "sysctl user.max_user_namespaces is 0: an administrator raises it",
        ),
        ("", "", errno.ENOSPC, "sysctl user.max_user_namespaces is reached: an administrator raises it"),
        ("kernel/unprivileged_userns_clone", "0", errno.EPERM, "sysctl kernel.unprivileged_userns_clone is 0"),
        (
            "",
            "",
            errno.EPERM,
            "a seccomp filter is in force, as in Docker's containers: start those with --security-opt seccomp=",
        ),
    ],
    ids=["none", "no-more", "debian", "docker"],
)
def test_the_setting_that_forbids_is_named_by_launches_and_builds(
    launch: Launcher, images: Images, directory: Path, name: str, value: str, error: int, words: str
) -> None:
    """The machine's setting stays as it is: its file is replaced for the test, and the kernel's answer by a filter."""
    setting = Path("/proc/sys", name)
    if not setting.exists():
        pytest.skip(f"this kernel has no {setting}")
    without = launch.changed(refusals=syscalls.without_user_namespaces(error))
    if name:
        (directory / "value").write_text(f"{value}\n")
        without = without.showing(setting, directory / "value")
    refused_everywhere(without, images, words)


@pytest.mark.modes("userns")
@pytest.mark.needs("libseccomp")
def test_in_a_container_of_docker_the_way_out_is_named(launch: Launcher, images: Images, directory: Path) -> None:
    """Under the filter that its default profile makes for one without CAP_SYS_ADMIN, the real one but for Docker."""
    path = directory / "docker.json"
    path.write_text(json.dumps(docker_profile.PROFILE))
    code = seccomp.compiled(path, seccomp.Surroundings(capabilities=DOCKER))
    refused_everywhere(launch.changed(as_root=[lambda: syscalls.load(code)]), images, "--security-opt seccomp=")


@pytest.mark.modes("userns")
def test_what_the_kernel_itself_allows_no_more_is_named(launch: Launcher, images: Images) -> None:
    """user.max_user_namespaces is of each user namespace: of one around all this it is 0, and the machine's stays."""
    inner = launch.changed(as_root=[lambda: limited("0")])
    refused_everywhere(inner, images, "sysctl user.max_user_namespaces is 0: an administrator raises it")


def refused_everywhere(launch: Launcher, images: Images, words: str) -> None:
    launch("exec", "--fakeroot", images.sandbox, "true").refused("make a user namespace", words)
    (launch.home / "x.def").write_text(f"Bootstrap: localimage\nFrom: {images.sandbox}\n%post\n    true\n")
    built = launch("build", launch.home_inside / "x.sif", launch.home_inside / "x.def", timeout=120)
    assert built.status == 255, str(built)
    assert words in built.err.splitlines()[-1], str(built)


def limited(number: str) -> None:
    """A user namespace with the ids of the one around, in which there can be so many below."""
    process, (go, gone) = os.getpid(), os.pipe()
    if (child := os.fork()) == 0:
        os.read(go, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process}/{name}").write_text("0 0 4294967295")
        os._exit(0)
    ordinary_user.unshare(CLONE_NEWUSER)
    os.write(gone, b"1")
    assert os.waitpid(child, 0)[1] == 0
    Path("/proc/sys/user/max_user_namespaces").write_text(number)


# ---- emulation ----


@pytest.mark.formats("sandbox", "sif")
def test_without_ids_owners_are_answered_as_done_and_remembered(alone: Launcher, image: Path) -> None:
    script = (
        "cd /root; busybox mkdir d; busybox touch f d/g; busybox chown 5:6 f; busybox chown 33 d; busybox chgrp 7 d/g; "
        "busybox ln -s f link; busybox chown -h 5 link; busybox chown 0:0 d/g; busybox mknod -m 640 null c 1 3; "
        "busybox mv f moved; busybox stat -c %u moved"
    )
    assert run(alone, image, script).ok().lines == ["0"]
    home = alone.home
    assert {path.lstat().st_uid for path in home.rglob("*")} == {alone.account.uid}
    assert marks.read(home / "moved") == Mark(uid=5, gid=6)
    assert marks.read(home / "d") == Mark(uid=33, gid=0)
    assert marks.read(home / "d/g") is None
    device = marks.read(home / "null")
    assert device is not None
    assert (device.device, (home / "null").stat().st_mode & 0o777) == (os.makedev(1, 3), 0o640)


@pytest.mark.needs("newuidmap")
@pytest.mark.formats("sandbox", "sif")
def test_with_ids_devices_and_ids_of_nobody_are_remembered(launch: Launcher, image: Path) -> None:
    script = (
        "cd /root; busybox mknod -m 640 null c 1 3; busybox chown 5:6 null; busybox mv null moved; busybox touch f g; "
        "busybox chown 197609:5 f; busybox chown 7 g; busybox chown 7:197121 g; busybox stat -c %u:%g moved f g"
    )
    assert run(launch, image, script).ok().lines == ["0:0"] * 3
    home = launch.home
    assert {path.lstat().st_uid for path in home.rglob("*")} == {launch.account.uid}
    device = marks.read(home / "moved")
    assert device is not None
    assert (device.device, device.uid, device.gid) == (os.makedev(1, 3), 5, 6)
    assert (marks.read(home / "f"), marks.read(home / "g")) == (Mark(uid=197609, gid=5), Mark(uid=7, gid=197121))


@pytest.mark.needs("newuidmap")
def test_who_is_not_root_there_is_not_answered_as_root(launch: Launcher, images: Images, directory: Path) -> None:
    """Another user of the container, who is another for the kernel too; and a root without the right."""
    accounts = directory / "passwd"
    accounts.write_text("root:x:0:0::/root:/bin/sh\nother:x:5:5::/:/bin/sh\n")
    script = (
        "cd /root; busybox mkdir -m 777 open; busybox mkdir -m 700 shut; busybox mknod n c 1 3; busybox touch g; "
        "busybox chown 197609 g; busybox chmod 711 .; "
        "busybox su other -s /bin/sh -c '"
        "busybox mknod open/n c 1 3; busybox mknod shut/n c 1 3; busybox chown 5 n; busybox chown 5 g; "
        "busybox chown 197609 open'"
    )
    done = run(launch, images.sandbox, script, "-B", f"{accounts}:/etc/passwd")
    assert done.err.count("Operation not permitted") + done.err.count("Invalid argument") == 4, str(done)
    assert "mknod: shut/n: Permission denied" in done.err
    assert sorted(path.name for path in launch.home.rglob("*")) == ["g", "n", "open", "shut"]
    assert marks.read(launch.home / "g") == Mark(uid=197609, gid=0)
    done = run(launch, images.sandbox, "busybox mknod /root/other c 1 3", "--drop-caps=mknod")
    assert "mknod: /root/other: Operation not permitted" in done.err, str(done)


def test_what_the_kernel_can_do_it_does(alone: Launcher, images: Images) -> None:
    """A pipe is a pipe, a setuid bit goes with chown, and what is not there is not there."""
    script = (
        "cd /root; busybox mknod pipe p; busybox test -p pipe; busybox touch f; busybox chmod 4755 f; "
        "busybox chown 5 f; busybox stat -c %a f; "
        "busybox chown 5 missing 2>&1 || :; busybox chown 5 /proc/self/fd/1 || :"
    )
    done = run(alone, images.sandbox, script).ok()
    assert done.lines == ["755", "chown: missing: No such file or directory"]


def test_files_that_cannot_be_changed_stay_so(alone: Launcher, images: Images, directory: Path) -> None:
    done = run(alone, images.sandbox, "busybox chown 5 /bin; busybox echo done")
    assert (done.out, done.err.splitlines()[-1:]) == ("", ["chown: /bin: Read-only file system"]), str(done)
    theirs = directory / "theirs"
    theirs.write_text("")
    done = run(alone, images.sandbox, "busybox chown 5 /mnt/theirs", "-B", f"{theirs}:/mnt/theirs")
    assert marks.read(theirs) is None
    assert theirs.stat().st_uid == 0


def test_paths_are_those_of_who_asks(alone: Launcher, images: Images) -> None:
    """By its own root and directory, `..` and absolute links included: never a path of another process."""
    script = (
        "cd /root; busybox mkdir -p in/bin in/etc in/a/b; busybox cp /bin/busybox in/bin; "
        "busybox touch in/etc/passwd in/a/f out; busybox ln -s /etc/passwd in/abs; "
        "busybox ln -s ../../../../../out in/up; "
        "busybox chroot in /bin/busybox chown 5 /abs; busybox chroot in /bin/busybox chown 6 /up 2>/dev/null || :; "
        "cd in/a/b; busybox chown 7 ../f"
    )
    run(alone, images.sandbox, script).ok()
    home = alone.home
    assert marks.read(home / "in/etc/passwd") == Mark(uid=5, gid=0)
    assert marks.read(home / "out") is None
    assert marks.read(home / "in/a/f") == Mark(uid=7, gid=0)


def emulators() -> set[int]:
    found = set()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                if re.search(
                    r"\(root-emulator\) [^Z]", (process / "stat").read_text()
                ):  # no zombie: who reaps is not ours
                    found.add(int(process.name))
            except OSError:
                continue
    return found


@pytest.mark.parametrize("option", [[], ["--pid"]], ids=["", "pid"])
def test_the_emulator_ends_with_the_last_program(alone: Launcher, images: Images, option: list[str]) -> None:
    before = emulators()
    script = (
        "busybox touch /root/f; (busybox sleep 0.5; busybox chown 5 /root/f; busybox sleep 0.5) >/dev/null 2>&1 & :"
    )
    run(alone, images.sandbox, script, *option).ok()
    deadline = time.monotonic() + 10
    while emulators() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert emulators() - before == set()
    assert marks.read(alone.home / "f") == (None if option else Mark(uid=5, gid=0))


def test_programs_that_are_killed_while_they_ask_harm_nobody(alone: Launcher, images: Images) -> None:
    script = (
        "cd /root; busybox touch f; for i in 1 2 3 4 5 6 7 8; do "
        "(while :; do busybox chown $i f; done) & busybox sleep 0.05; busybox kill -9 $!; done; "
        "busybox chown 9:9 f; busybox sleep 0.3; busybox chown 9:9 f"
    )
    run(alone, images.sandbox, script)
    assert marks.read(alone.home / "f") == Mark(uid=9, gid=9)


def test_the_emulator_cannot_be_read_by_programs(alone: Launcher, images: Images) -> None:
    script = (
        "until busybox cat /proc/[0-9]*/comm 2>/dev/null | busybox grep -qx root-emulator; do busybox sleep 0.1; done; "
        "for each in /proc/[0-9]*; do if busybox grep -qx root-emulator $each/comm 2>/dev/null; then "
        "busybox cat $each/environ $each/exe 2>/dev/null | busybox wc -c; "
        "busybox ls $each/root/ 2>/dev/null | busybox wc -l; fi; done"
    )
    done = run(alone, images.sandbox, script, "--pid").ok()
    assert done.lines == ["0", "0"]
