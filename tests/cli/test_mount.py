"""`singularity mount`: where an image is mounted, who sees it, and what is left."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import fuse2fs
import machine
import pytest
from containers import by_two, contents, digest
from images import Partition, hold, squashfs, write_sif

if TYPE_CHECKING:
    from collections.abc import Callable

    from containers import Person

PARTS = {"squashfs": 1, "sif": 1, "sif-ext3": 2}

ODD_NAMES = ("with space.img", 'quote\'s "two".img', "line\nbreak.img", "$(touch evil).img", b"\xff\xfe.img")


def typed(*lines: str) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def test_the_shell_reads_commands_from_a_pipe_and_its_status_is_ours(mounter: Person, mountable: Path) -> None:
    result = mounter("mount", mountable, stdin=typed("ls $SINGULARITY_ROOTFS", "exit 7"))
    assert result.status == 7, str(result)
    assert set(result.lines) >= {"bin", "etc", "lib", "opt", "usr"}


def test_a_notice_says_where_and_quiet_says_nothing(mounter: Person, mountable: Path) -> None:
    result = mounter.does("mount", mountable, stdin=typed("echo $SINGULARITY_ROOTFS; echo $PS1; pwd"))
    where = result.lines[0]
    assert re.fullmatch(rf"INFO:    {re.escape(str(mountable))} is mounted at {where}, read only: .*\n", result.err)
    assert result.lines[1:] == [f"box.img:{where}>", str(mounter.directory)]
    assert mounter.does("mount", mountable, first=["-q"], stdin=typed("true")).err == ""


def test_without_writable_nothing_can_be_written(mounter: Person, mountable: Path) -> None:
    before = mountable.read_bytes()
    result = mounter("mount", mountable, stdin=typed("echo x > $SINGULARITY_ROOTFS/etc/new"))
    assert result.status != 0
    assert "Read-only file system" in result.err
    assert mountable.read_bytes() == before


@pytest.mark.parametrize("word", ["-w", "--writable"])
def test_writable_changes_the_image(mounter: Person, mountable: Path, word: str) -> None:
    commands = ("cd $SINGULARITY_ROOTFS", "echo x > etc/new", "rm bin/tool", "chmod 0751 usr", "mkdir -m 700 private")
    mounter.does("mount", word, mountable, stdin=typed("set -e", *commands))
    found = contents(mountable)
    assert found["etc/new"].content == digest("x\n")
    assert (found["etc/new"].uid, found["usr"].mode, found["private"].mode) == (0, 0o751, 0o700)
    assert "bin/tool" not in found
    assert found["etc/secret"].content == digest("secret\n")


@by_two("mounter")
def test_the_variable_asks_for_writing_too(mounter: Person, mountable: Path) -> None:
    mounter.does("mount", mountable, stdin=typed("touch $SINGULARITY_ROOTFS/new"), env={"SINGULARITY_WRITABLE": "1"})
    assert "new" in contents(mountable)


def test_owners_are_those_of_the_image(mounter: Person, mountable: Path) -> None:
    if not mounter.keeps_ids:
        pytest.skip("one id: other owners have no number")
    result = mounter.does(
        "mount", "-w", mountable, stdin=typed("cd $SINGULARITY_ROOTFS", "ls -ln bin/tool", "chown 7:8 etc")
    )
    assert result.out.split()[2:4] == ["1234", "56"]
    found = contents(mountable)
    assert (found["bin/tool"].uid, found["bin/tool"].mode) == (1234, 0o4755)
    assert (found["etc"].uid, found["etc"].gid) == (7, 8)


def test_the_directory_that_is_named_is_where(mounter: Person, mountable: Path) -> None:
    place = mounter.directory / "some place"
    place.mkdir()
    (place / "covered").touch()
    mounter.give(place)
    result = mounter.does("mount", mountable, "some place", stdin=typed("ls 'some place'; echo $SINGULARITY_ROOTFS"))
    assert "bin" in result.lines
    assert "covered" not in result.lines
    assert result.lines[-1] == str(place)
    assert [path.name for path in place.iterdir()] == ["covered"]


def test_nobody_else_sees_it(mounter: Person, mountable: Path) -> None:
    with mounter.start("mount", mountable, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(typed("echo $SINGULARITY_ROOTFS"))
        process.stdin.flush()
        where = Path(process.stdout.readline().decode().strip())
        assert list(where.iterdir()) == []
        assert str(where) not in Path("/proc/self/mountinfo").read_text()
        process.communicate(b"exit 0\n", timeout=60)
    assert not where.exists()


@pytest.mark.needs("mksquashfs")
@pytest.mark.parametrize("kind", list(PARTS))
def test_images_that_cannot_change_are_mounted_for_reading(
    mounter: Person, tree: Path, container: Path, kind: str
) -> None:
    path = mounter.directory / "fixed.image"
    if kind == "squashfs":
        squashfs(tree, path)
    elif kind == "sif":
        write_sif(path, [Partition(data=squashfs(tree, path).read_bytes())])
    else:
        write_sif(path, [Partition(data=container.read_bytes()[31:], filesystem=2)])
    mounter.give(path)
    result = mounter.does("mount", path, stdin=typed("cat $SINGULARITY_ROOTFS/etc/settings"))
    assert result.out == "setting=1\n"
    words = ["cannot be mounted for writing", "build --sandbox"]
    mounter("mount", "-w", path, stdin=b"").refused(*words)


def test_a_directory_is_mounted_too(mounter: Person, tree: Path) -> None:
    path = mounter.directory / "box"
    shutil.copytree(tree, path, symlinks=True)
    mounter.give(path)
    result = mounter("mount", "box", stdin=typed("cat $SINGULARITY_ROOTFS/etc/settings; touch $SINGULARITY_ROOTFS/new"))
    assert result.out == "setting=1\n"
    assert "Read-only file system" in result.err
    mounter.does("mount", "-w", "box", stdin=typed("touch $SINGULARITY_ROOTFS/new"))
    assert ((path / "new").stat().st_uid, (path / "new").stat().st_gid) == mounter.ids


def test_the_host_as_an_image_is_refused(mounter: Person) -> None:
    mounter("mount", "/proc/self/root", stdin=b"").refused("the host's root directory")


@pytest.mark.parametrize(
    "name", ["with space.img", 'quote\'s "two".img', "line\nbreak.img", "$(touch evil).img", b"\xff\xfe.img"]
)
def test_odd_names_are_names(mounter: Person, mountable: Path, name: str | bytes) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(mounter.directory), os.fsencode(name))))
    mountable.rename(path)
    result = mounter.does("mount", path.name, stdin=typed("ls $SINGULARITY_ROOTFS/etc", 'eval "echo \\"$PS1\\""'))
    assert result.lines[:2] == ["secret", "settings"]
    assert not (mounter.directory / "evil").exists()


@by_two("mounter")
def test_a_missing_image_is_one_line(mounter: Person) -> None:
    mounter("mount", "none.img", stdin=b"").refused("none.img", "no such image")


@by_two("mounter")
def test_a_missing_directory_is_one_line(mounter: Person, mountable: Path) -> None:
    mounter("mount", mountable, "nowhere", stdin=b"").refused("nowhere", "no such file or directory")


@by_two("mounter")
def test_what_is_no_image_is_one_line(mounter: Person) -> None:
    for name, data, words in (
        ("text", b"some text\n" * 100, "unknown format"),
        ("archive.tar.gz", b"\x1f\x8b" + bytes(600), "cannot be mounted"),
        ("empty", b"", "an empty file"),
    ):
        path = mounter.directory / name
        path.write_bytes(data)
        mounter.give(path)
        mounter("mount", path, stdin=b"").refused(words)


def test_a_damaged_image_is_one_line(mounter: Person, mountable: Path) -> None:
    """What the superblock promises is not there."""
    with mountable.open("r+b") as file:
        file.seek(31 + 2048)
        file.write(os.urandom(4096))
    mounter("mount", mountable, stdin=b"").refused("box.img")


def test_an_image_in_use_is_refused_with_a_word(mounter: Person, mountable: Path) -> None:
    with mountable.open("r+b") as file:
        hold(file, writable=True)
        mounter("mount", mountable, stdin=b"").refused("being written")
    with mountable.open("rb") as file:
        hold(file, writable=False)
        mounter("mount", "-w", mountable, stdin=b"").refused("in use")
        mounter.does("mount", mountable, stdin=typed("true"))


def test_two_writers_of_one_image_are_one_too_many(mounter: Person, mountable: Path) -> None:
    with mounter.start("mount", "-w", mountable, stdin=subprocess.PIPE) as first:
        assert first.stdin is not None
        assert first.stdout is not None
        first.stdin.write(typed("echo there"))
        first.stdin.flush()
        first.stdout.readline()
        mounter("mount", "-w", mountable, stdin=b"").refused("in use")
        mounter("mount", mountable, stdin=b"").refused("being written")
        first.communicate(typed("exit 0"), timeout=60)


def test_without_fuse_an_ordinary_user_is_told(anyone: Callable[[str], Person], container: Path) -> None:
    person = anyone("user-without-fuse")
    shutil.copy(container, person.directory / "box.img")
    person.give(person.directory / "box.img")
    person("mount", "box.img", stdin=b"").refused("/dev/fuse", "permission denied")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killed_it_leaves_a_whole_image_and_nothing_else(
    mounter: Person, mountable: Path, ending: signal.Signals
) -> None:
    """R-B1; what the fixture of the person checks in the end is the other half."""
    commands = typed("cd $SINGULARITY_ROOTFS", "(sleep 1000; :) &", "echo done > etc/new", "echo ready", "sleep 1000")
    with mounter.start("mount", "-w", mountable, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(commands)
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(ending)
        process.wait(timeout=60)
    _settle(mounter)
    found = contents(mountable)
    assert "etc/new" in found
    assert found["bin/tool"].mode == 0o4755


@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_a_terminal_is_the_shell_s_and_then_the_caller_s_again(mounter: Person, mountable: Path, shell: str) -> None:
    """Ctrl-C ends what runs in the shell, and nothing else."""
    command = f"{shlex.join(mounter.argv('mount', mountable))}; status=$?; read word; echo read $word; exit $status"
    process = subprocess.Popen(
        ["script", "-q", "-e", "-f", "-c", command, "/dev/null"],
        env=mounter.environment({"SHELL": shell, "TERM": "dumb"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=replace(mounter.world, cwd=mounter.directory).enter,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    for text, answer in (
        (b"echo $((40 + 2)); sleep 1000\n", b"42"),
        (b"\x03", b"^C"),
        (b"echo $((40 + 3)); (sleep 1000; :) & exit 5\n", b"43"),
        (b"word\n", b"read word"),
    ):
        process.stdin.write(text)
        process.stdin.flush()
        while answer not in said:
            data = os.read(process.stdout.fileno(), 4096)
            assert data, said
            said += data
        time.sleep(0.3)
    process.stdin.close()
    assert process.wait(timeout=60) == 5, said
    process.stdout.close()


def _settle(person: Person) -> None:
    """The kernel and the server of FUSE end after the command that was killed."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (machine.children() or person.left()):
        time.sleep(0.05)


@by_two("mounter")
def test_help_shows_the_options(mounter: Person) -> None:
    for words in (["help", "mount"], ["mount", "--help"], ["mount", "-h"], ["mount", "help"]):
        assert "--writable" in mounter.does(*words).out


@by_two("mounter")
def test_without_an_image_it_is_wrong_usage(mounter: Person) -> None:
    mounter("mount").misused("IMAGE is missing")


@pytest.mark.parametrize("mounter", ["user"], indirect=True)
def test_a_fuse2fs_that_forgets_to_cut_is_made_to(mounter: Person, mountable: Path) -> None:
    commands = ("cd $SINGULARITY_ROOTFS", "echo a-long-line > etc/new", "echo b > etc/new", "exit")
    with fuse2fs.forgetful() as replaced:
        behind = replace(mounter, world=replace(mounter.world, replaced=replaced))
        behind.does("mount", "-w", mountable, stdin=typed(*commands))
        assert contents(mountable)["etc/new"].content == digest("b\n")


@pytest.mark.parametrize("mounter", ["user"], indirect=True)
def test_a_fuse2fs_that_cannot_be_made_to_cut_is_refused(mounter: Person, mountable: Path) -> None:
    """Reading goes on."""
    with fuse2fs.started_by(fuse2fs.UNLOADED) as replaced:
        behind = replace(mounter, world=replace(mounter.world, replaced=replaced))
        refused = behind("mount", "-w", mountable, stdin=typed("echo x > $SINGULARITY_ROOTFS/etc/new"))
        refused.refused("box.img cannot be written: fuse2fs did not load", "fuse2fs-truncate.so", "install")
        assert "etc/new" not in contents(mountable)
        behind.does("mount", mountable, stdin=typed("ls $SINGULARITY_ROOTFS"))
