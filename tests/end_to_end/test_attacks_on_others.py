"""What a launch must not do to others: control characters, devices, limits and processes that are left."""

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import ordinary_user
import pytest
from images import Images, extfs, hold, write
from launching import Launcher
from test_attacks import EXTFS_ALLOWED, give

pytestmark = pytest.mark.needs("root")

LOOP_CTL_REMOVE = 0x4C81
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000


def test_no_control_character_of_an_image_reaches_the_terminal(
    launch: Launcher, images: Images, directory: Path
) -> None:
    """R-P3: nor the 8-bit ones, which terminals take for the beginning of an order, alone or as UTF-8 has them; words
    of other languages stay what they are."""
    orders = (b"\x1b[31m", "\u009b31m".encode(), b"\x9b31m", "\u009d0;title\u009c".encode(), b"\x7f")
    words = "grün \u201czitiert\u201d \u0440\u0443\u0441 漢字"
    for number, order in enumerate(orders):
        tree = images.oci_tree(directory / f"image-{number}", "", "")
        text = b"USER=\nWORKDIR=relative " + order + words.encode() + b"\n"
        write(tree / ".singularity.d/oci-start", text)
        result = launch("exec", "--compat", tree, "true")
        assert b"is not used" in result.stderr, str(result)
        assert order not in result.stderr, repr(result.stderr)
        assert words.encode() in result.stderr, repr(result.stderr)
        named = directory / os.fsdecode(b"named " + order.replace(b"/", b"") + words.encode())
        named.symlink_to(tree)
        write(tree / ".singularity.d/oci-start", text.replace(b"relative", b"/absolute"))
        shown = launch("exec", "--compat", "--dry-run", named, "true")
        assert shown.status == 0, str(shown)
        assert order not in shown.stdout + shown.stderr, repr(shown.stdout)
        assert shown.stdout.count(words.encode()) >= 2, repr(shown.stdout)


@pytest.mark.modes("suid", "root")
@pytest.mark.needs("loop")
def test_loop_devices_above_255_are_used(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I3: their numbers have more than eight bits, and where there are more, images meet at one of those."""
    limited = launch.configured("max loop devices = 65536\n")
    for number in range(4):
        copy = directory / f"image-{number}.sif"
        shutil.copy(images.sif, copy)
        copy.chmod(0o755)
        try:
            limited("exec", copy, "true").ok()
        finally:
            remove_loop_devices_above_255()


def remove_loop_devices_above_255() -> None:
    with Path("/dev/loop-control").open("rb") as control:
        for place in Path("/sys/block").glob("loop*"):
            if int(place.name.removeprefix("loop")) > 255:
                with contextlib.suppress(OSError):  # in use
                    fcntl.ioctl(control, LOOP_CTL_REMOVE, int(place.name.removeprefix("loop")))


@pytest.mark.modes("suid", "userns")
def test_mounts_of_other_users_keep_nobody_from_launching(launch: Launcher, images: Images, directory: Path) -> None:
    """R-I9: with "mount hostfs", whatever the names of file systems that others have mounted."""

    def crowd() -> None:
        place = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        room = 4095 - len(str(directory))
        while room > 255:
            os.mkdir("x" * 240, dir_fd=place)
            place = os.open("x" * 240, os.O_PATH | os.O_DIRECTORY, dir_fd=place)
            room -= 241
        os.chdir(place)
        for number in range(256):
            name = f"{number:03}".ljust(room - 1, "y")
            os.mkdir(name)
            ordinary_user.mount("tmpfs", name, "tmpfs")
        os.chdir("/")

    crowded = launch.configured("mount hostfs = yes\n").changed(as_root=[crowd])
    crowded("exec", images.sandbox, "echo", "ran").ok()


def become_root_of_all_ids() -> None:
    """In a user namespace that has all ids, where root's setuid programs work, and limits of its own."""
    process, (reading, writing) = os.getpid(), os.pipe()
    if os.fork() == 0:
        os.read(reading, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{process}/{name}").write_text("0 0 4294967295")
        os._exit(0)
    ordinary_user.unshare(CLONE_NEWUSER)
    os.write(writing, b"x")
    os.wait()
    ordinary_user.unshare(CLONE_NEWNS)


@pytest.mark.modes("suid")
def test_namespaces_count_for_the_user_who_starts_them(launch: Launcher, images: Images) -> None:
    """R-B1: who starts many containers meets a limit of his own: root and all others make namespaces as before."""
    program = launch.argv(
        "exec", "--no-home", "--no-mount", "sys,cwd,tmp", images.sandbox, "sh", "-c", "cat /proc/self/uid_map; sleep 60"
    )
    user = ["--reuid", str(launch.account.uid), "--regid", str(launch.account.gid), "--clear-groups"]
    script = (
        'for i in 1 2 3 4 5 6; do setpriv "$@" </dev/null & all="$all $!"; done; read go;'
        "echo 5 > /proc/sys/user/max_mnt_namespaces; unshare -m echo others; kill -9 $all"
    )
    with subprocess.Popen(
        ["sh", "-c", script, "sh", *user, *program],
        env=launch.environment({}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=become_root_of_all_ids,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = [process.stdout.readline().split() for _ in range(6)]
        process.stdin.write(b"\n")
        process.stdin.close()
        others = process.stdout.readline()
    assert shown == [[b"0", b"0", b"4294967295"]] * 6, "the setuid program made them, and no user namespace"
    assert others == b"others\n"


# ---- R-L16: those that are left when a launcher is killed ----


@pytest.mark.modes("suid")
@pytest.mark.needs("loop")
@pytest.mark.parametrize("option", ["--dry-run", "--pid"])
def test_nothing_that_waits_for_the_user_outlives_its_launcher(launch: Launcher, images: Images, option: str) -> None:
    """R-L16, R-B1: no set-up, which holds privilege, and none that prints a plan, where nobody reads it."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    if option == "--dry-run":
        os.write(writer, bytes(4096))
    words = launch.argv("exec", "--pid", option, images.sif, "true", first=["-d"] if option == "--pid" else [])
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    silent["stdout" if option == "--dry-run" else "stderr"] = writer
    with launch.start(*words, **silent) as process:
        os.close(writer)
        said = b""
        while option == "--pid" and b"Called with privilege: ioctl of a block" not in said:
            said += os.read(reader, 16)
        time.sleep(0.5)  # the pipe is full, and they wait for room
        children = children_of(process)
        process.kill()
    assert children
    await_end(children)
    os.close(reader)


@pytest.mark.needs("mke2fs", "fuse", "fuse2fs")
def test_nobody_who_is_asked_outlives_the_launch(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L16, R-B1: they have no privilege, but all that is open: here one that waits for a lock."""
    image = give(extfs(images.bare_tree(directory / "tree"), directory / "image.ext3", mebibytes=8), launch)
    argv = launch.configured(EXTFS_ALLOWED).argv("exec", image, "true")
    with image.open("r+b") as held:
        hold(held, writable=True)
        with launch.configured(EXTFS_ALLOWED).start(
            *argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while (
                not (asked := children_of(process)) or "State:\tS" not in Path(f"/proc/{asked[0]}/status").read_text()
            ):
                assert process.poll() is None
            os.kill(int(asked[0]), signal.SIGSTOP)  # it would give up after a while
            process.kill()
        await_end(asked)


def children_of(process: subprocess.Popen[bytes]) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return []


def await_end(processes: list[str]) -> None:
    deadline = time.monotonic() + 5
    while any(alive(process) for process in processes):
        assert time.monotonic() < deadline, [Path(f"/proc/{process}/status").read_text() for process in processes]
        time.sleep(0.02)


def alive(process: str) -> bool:
    with contextlib.suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


@pytest.mark.needs("mke2fs", "loop", "overlay", "fuse", "fuse2fs")
def test_a_dry_run_writes_into_no_image(launch: Launcher, images: Images, directory: Path) -> None:
    """R-L13: it is not mounted writable, not even where the launch itself would do that."""
    image = give(extfs(images.bare_tree(directory / "tree"), directory / "image.ext3", mebibytes=16), launch)
    before = image.read_bytes()
    launcher = launch.configured(EXTFS_ALLOWED)
    shown = launcher("exec", "--dry-run", "--writable", image, "true").ok()
    assert f"root: ext {image}, offset 0, writable" in shown.out
    shown = launcher("exec", "--dry-run", "--overlay", image, images.sif, "true").ok()
    assert f"root: ext {image}, offset 0, writable" in shown.out
    assert image.read_bytes() == before
