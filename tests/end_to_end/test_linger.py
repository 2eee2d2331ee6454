"""--linger: an image stays mounted for a while after its last launch, for the next ones."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from launch_requests import request_for
from launching import Launcher, Mode
from test_starter import call

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from images import Images

USED = "using the mount that the keeper"
FORMATS = pytest.mark.formats("squashfs", "sif")


def keepers() -> list[int]:
    """The processes that keep images mounted; orphans are children of this process."""
    return called("sexec-linger")


def servers() -> list[int]:
    return called("image-server")


def called(name: str) -> list[int]:
    return sorted(child for child in machine.children() if Path(f"/proc/{child}/comm").read_text().strip() == name)


def until(what: Callable[[], object], *, seconds: float = 8) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def all_ended() -> Iterator[None]:
    """No keeper is left; the fixture of all tests of this folder looks for servers and loop devices."""
    yield
    for keeper in keepers():
        os.kill(keeper, signal.SIGKILL)
    until(lambda: not keepers())


@pytest.fixture
def file(image: Path, directory: Path) -> Path:
    """An image of the test's own, since one that changes is another one."""
    return Path(shutil.copy(image, directory / image.name))


@FORMATS
def test_the_next_launch_uses_the_same_mount(launch: Launcher, file: Path) -> None:
    first = launch("exec", "--linger", "300s", file, "stat", "-c", "%d", "/").ok().out
    (keeper,) = keepers()
    again = launch("exec", "--linger=300s", file, "stat", "-c", "%d", "/", first=["-v"])
    assert again.out == first
    assert "--linger: yes (mounted already" in again.err
    assert (USED in again.err) is (launch.mode is Mode.USERNS)
    assert keepers() == [keeper]


@FORMATS
def test_without_the_option_nothing_stays(launch: Launcher, file: Path) -> None:
    launch("exec", file, "true").ok()
    launch("exec", "--linger", "0", file, "true", env={"SINGULARITY_LINGER": "300s"}).ok()
    assert not keepers()


@FORMATS
def test_it_ends_by_itself_when_its_time_has_come(launch: Launcher, file: Path) -> None:
    with launch.start(*launch.argv("exec", "--linger", "1s", file, "sh", "-c", "echo; read line"), stdin=-1) as running:
        assert running.stdout is not None
        running.stdout.readline()
        time.sleep(2.5)
        assert len(keepers()) == 1, "as long as the image is used"
        running.communicate(b"\n", timeout=10)
    began = time.monotonic()
    until(lambda: not keepers())
    assert time.monotonic() - began > 0.5


@FORMATS
def test_whoever_reads_the_output_does_not_wait_for_it(launch: Launcher, file: Path) -> None:
    began = time.monotonic()
    argv = launch.argv("exec", "--linger", "300s", file, "echo", "word")
    command = " ".join(f"'{word}'" for word in argv)
    assert launch.command("sh", "-c", f'echo "<$({command} 2>&1)>"').out == "<word>\n"
    assert time.monotonic() - began < 20
    assert len(keepers()) == 1


@FORMATS
def test_the_keeper_has_nothing_of_the_caller(launch: Launcher, file: Path) -> None:
    """No terminal, no descriptor, no directory, no right; little memory."""
    with Path(file.parent / "open").open("w") as opened:
        launch.command(*launch.argv("exec", "--linger", "300s", file, "true"), pass_fds=[opened.fileno()])
    (keeper,) = keepers()
    (inside,) = called("sexec-inside")
    for process in (keeper, inside):
        place = Path(f"/proc/{process}")
        held = sorted(os.readlink(each) for each in (place / "fd").iterdir())
        assert not [each for each in held if each.startswith("/") and "nothing" not in each], held
        assert (place / "stat").read_text().rsplit(")", 1)[1].split()[4] == "0"
        status = dict(line.split(":\t", 1) for line in (place / "status").read_text().splitlines() if ":\t" in line)
        assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4
        assert status["NoNewPrivs"].strip() == "1"
        assert set(status["Uid"].split()) == {str(launch.account.uid)}
        if os.environ.get("SANITIZE") is None:
            assert int(status["VmRSS"].split()[0]) < 2048, status["VmRSS"]
        assert os.readlink(place / "cwd") == os.readlink(place / "root") == "/"
        words = (place / "cmdline").read_bytes().replace(b"\0", b" ").split()
        assert words[0] == b"sexec"
        assert all(word.isdigit() for word in words[1:]), "options may be secrets"
    assert int(status["CapBnd"], 16) == 0
    mounts = [line.split()[4] for line in (place / "mountinfo").read_text().splitlines()]
    assert mounts == ["/"], "nothing of the host is kept busy"


@FORMATS
def test_it_can_be_listed_and_ended(launch: Launcher, file: Path) -> None:
    assert launch("linger", "list").ok().out == ""
    launch("exec", "--linger", "300s", file, "true").ok()
    (keeper,) = keepers()
    assert launch("linger", "list").lines == ["PROCESS    SECONDS  IMAGE", f"{keeper:<9}      300  {file}"]
    launch("linger", "end", file.parent).refused("not kept mounted")
    assert keepers() == [keeper]
    assert launch("linger", "end", file).status == 0
    until(lambda: not keepers())
    launch("exec", "--linger", "300s", file, "true").ok()
    assert launch("linger", "end", "--all").status == 0
    until(lambda: not keepers())


@FORMATS
def test_names_of_images_are_shown_as_they_are(launch: Launcher, file: Path) -> None:
    """A tab in one hid its keeper; control characters do nothing."""
    odd = file.rename(file.with_name(f"a\tb\x1b[31m {file.name}"))
    launch("exec", "--linger", "300s", odd, "true").ok()
    (line,) = launch("linger", "list").ok().lines[1:]
    assert "\x1b" not in line
    assert line.endswith(file.name)
    assert launch("linger", "end", odd).status == 0
    until(lambda: not keepers())


@FORMATS
@pytest.mark.parametrize("how", ["replace", "write", "remove"])
def test_another_image_of_its_name_is_not_taken_for_it(launch: Launcher, file: Path, how: str) -> None:
    launch("exec", "--linger", "300s", file, "true").ok()
    (keeper,) = keepers()
    if how == "write":
        with file.open("r+b") as opened:
            opened.seek(0, os.SEEK_END)
            opened.write(bytes(4096))
    else:
        new = Path(shutil.copy(file, file.with_suffix(".new")))
        new.replace(file) if how == "replace" else file.unlink()
    until(lambda: keeper not in keepers())
    if how == "replace":
        result = launch("exec", "--linger", "300s", file, "true", first=["-v"])
        assert "yes (mounted already" in result.err
        assert keeper not in keepers()


@FORMATS
def test_a_keeper_may_be_killed(launch: Launcher, file: Path) -> None:
    script = "echo; read line; cat /etc/image-name"
    with launch.start(*launch.argv("exec", "--linger", "300s", file, "sh", "-c", script), stdin=-1) as running:
        assert running.stdout is not None
        running.stdout.readline()
        (keeper,) = keepers()
        os.kill(keeper, signal.SIGKILL)
        until(lambda: not keepers())
        out, _ = running.communicate(b"\n", timeout=10)
    assert out == b"busybox of the tests\n"
    launch("exec", "--linger", "300s", file, "true").ok()
    assert len(keepers()) == 1


@FORMATS
def test_a_keeper_that_does_not_answer_is_not_waited_for_long(launch: Launcher, file: Path) -> None:
    launch("exec", "--linger", "300s", file, "true").ok()
    (keeper,) = keepers()
    os.kill(keeper, signal.SIGSTOP)
    began = time.monotonic()
    result = launch("exec", "--linger", "300s", file, "true", first=["-v"])
    assert result.status == 0, str(result)
    assert "--linger: no (" in result.err
    assert time.monotonic() - began < 20


@pytest.mark.modes("userns")
@FORMATS
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_keeper_whose_server_has_ended_is_not_used(launch: Launcher, file: Path, end: signal.Signals) -> None:
    """For want of memory, say: it would be handed out for as long as anybody asks."""
    launch("exec", "--linger", "300s", file, "true").ok()
    (server,) = servers()
    os.kill(server, end)
    for _ in range(2):
        assert launch("exec", "--linger", "300s", file, "cat", "/etc/image-name").ok().out == "busybox of the tests\n"
    if end == signal.SIGSTOP:
        os.kill(server, signal.SIGCONT)


@pytest.mark.modes("userns")
@FORMATS
def test_a_keeper_is_for_one_group(launch: Launcher, file: Path) -> None:
    """newgrp(1): the user namespace of the keeper knows no other."""
    launch("exec", "--linger", "300s", file, "true").ok()
    account = dataclasses.replace(launch.account, gid=10002, groups={})
    assert launch("exec", "--linger", "300s", file, "id", "-g", account=account).ok().out == "10002\n"


@pytest.mark.modes("userns")
@FORMATS
def test_the_variables_of_its_first_launch_are_nobody_elses(launch: Launcher, file: Path) -> None:
    """Programs in containers of this user are in the same user namespace, and see the processes."""
    look = "for place in /proc/[0-9]*; do case $(cat $place/comm) in image-server|sexec-linger)"
    look += " echo found; cat $place/environ; ls $place/root/ ;; esac; done"
    launch("exec", "--linger", "300s", file, "true", env={"HIDDEN": "a-secret"}).ok()
    result = launch("exec", "--linger", "300s", "--cleanenv", file, "sh", "-c", look)
    assert len(result.lines) > 1, str(result)
    assert set(result.lines) == {"found"}, str(result)
    result = launch("exec", "--cleanenv", file, "sh", "-c", look, env={"HIDDEN": "a-secret"})
    assert set(result.lines) == {"found"}, str(result)


@FORMATS
def test_of_many_launches_at_once_one_starts_the_keeper(launch: Launcher, file: Path) -> None:
    argv = launch.argv("exec", "--linger", "300s", file, "true")
    running = [launch.start(*argv) for _ in range(12)]
    ended = [process.communicate(timeout=60)[1] for process in running]
    assert [process.returncode for process in running] == [0] * 12, ended
    until(lambda: len(keepers()) == 1)


@FORMATS
@pytest.mark.parametrize("which", ["sexec-linger", "sexec-inside"])
def test_a_keeper_that_ends_while_it_is_asked(launch: Launcher, file: Path, which: str) -> None:
    """Whatever the moment is: the launch goes on."""
    for number in range(6):
        launch("exec", "--linger", "300s", file, "true").ok()
        (ended,) = called(which)
        process = launch.start(*launch.argv("exec", "--linger", "300s", file, "true"))
        time.sleep(number / 1000)
        os.kill(ended, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        for left in keepers():
            os.kill(left, signal.SIGKILL)
        until(lambda: not keepers())


@pytest.mark.modes("suid", "userns")
@FORMATS
def test_a_keeper_of_somebody_else_is_not_used(launch: Launcher, file: Path) -> None:
    """R-J2: anybody can take the name; what counts is whom the kernel says to be behind it."""
    machine.require("root")
    launch("exec", "--linger", "300s", file, "true").ok()
    pattern = rf"@(singularity-linger-{launch.account.uid}-[0-9a-f]+)$"
    (name,) = re.findall(pattern, Path("/proc/net/unix").read_text(), re.MULTILINE)
    os.kill(keepers()[0], signal.SIGKILL)
    until(lambda: not keepers())
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
        stranger.bind(f"\0{name}")
        stranger.listen(64)
        result = launch("exec", "--linger", "300s", file, "true", first=["-v"])
        assert result.status == 0, str(result)
        assert "not this one has taken the name" in result.err
        assert launch("linger", "list").ok().out == ""
        stranger.setblocking(False)
        connection, _ = stranger.accept()
        with connection:
            heard = connection.recv(4096)
    assert heard == b"", "and is told nothing"
    assert not keepers()


@FORMATS
def test_their_number_is_bounded(launch: Launcher, file: Path) -> None:
    files = [Path(shutil.copy(file, file.with_name(f"{number}-{file.name}"))) for number in range(17)]
    for each in files[:16]:
        launch("exec", "--linger", "300s", each, "true").ok()
    result = launch("exec", "--linger", "300s", files[16], "true", first=["-v"])
    assert result.status == 0
    assert "too many keepers" in result.err
    assert len(keepers()) == 16


@pytest.mark.formats("sandbox", "ext3", "sif-ext3")
def test_what_is_not_only_read_is_launched_as_without(launch: Launcher, image: Path) -> None:
    result = launch("exec", "--linger", "300s", image, "true")
    assert (result.status, result.err) == (0, "")
    assert not keepers()


@pytest.mark.modes("root")
@FORMATS
def test_the_server_of_an_image_is_not_held_up(launch: Launcher, file: Path, directory: Path) -> None:
    """One of --lazy is there for its launch."""
    machine.require("fuse", "squashfuse", "mksquashfs")
    outer, place = directory / "outer.squashfs", directory / "place"
    place.mkdir()
    subprocess.run(["mksquashfs", file, outer, "-quiet", "-no-progress"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["squashfuse", outer, place], check=True)
    try:
        result = launch("exec", "--linger", "300s", place / file.name, "true", first=["-v"])
        assert result.status == 0, str(result)
        assert "--linger: no (the image lies in a FUSE file system)" in result.err
        assert not keepers()
    finally:
        subprocess.run(["umount", place], check=True)


@FORMATS
def test_options_of_a_launch_are_its_own(launch: Launcher, file: Path, directory: Path) -> None:
    """The mount is common, and nothing else is."""
    (directory / "bound").write_text("bound")
    launch("exec", "--linger", "300s", file, "true", env={"SINGULARITYENV_SECRET": "geheim"}).ok()
    (keeper,) = keepers()
    bound = launch("exec", "--linger", "300s", "-B", f"{directory}:/mnt", file, "cat", "/mnt/bound").ok()
    assert bound.out == "bound"
    assert launch("exec", "--linger", "300s", file, "ls", "/mnt").ok().out == ""
    words = ["--pid", "--writable-tmpfs", "--contain", file, "sh", "-c", "echo $$ >/new; cat /new"]
    assert launch("exec", "--linger", "300s", *words).ok().out.strip() in {"1", "2"}
    assert launch("exec", "--linger", "300s", "--fakeroot", file, "id", "-u").ok().out == "0\n"
    assert keeper in keepers()


@FORMATS
def test_a_dry_run_says_so_and_starts_nothing(launch: Launcher, file: Path) -> None:
    plan = launch("exec", "--linger", "300s", "--dry-run", file, "true").ok().out
    assert "linger: no (not mounted yet: a launch would have it kept for 300 s)\n" in plan
    assert not keepers()
    launch("exec", "--linger", "300s", file, "true").ok()
    plan = launch("exec", "--linger", "300s", "--dry-run", file, "true").ok().out
    assert "linger: yes (mounted already, and for 300 s after its last use)\n" in plan


@FORMATS
def test_the_site_may_want_it(launch: Launcher, file: Path) -> None:
    configured = launch.configured("linger = 60\n")
    configured("exec", file, "true").ok()
    assert len(keepers()) == 1
    configured("exec", "--linger=0", file, "true").ok()
    os.kill(keepers()[0], signal.SIGKILL)
    until(lambda: not keepers())
    configured("exec", "--linger=0", file, "true").ok()
    assert not keepers()


@pytest.mark.parametrize("time", ["", "x", "-1", "1d", "60ss", "25h", "99999999999999999999s"])
def test_what_is_no_time_is_wrong_usage(launch: Launcher, images: Images, time: str) -> None:
    result = launch("exec", f"--linger={time}", images.sandbox, "true")
    assert result.status == 1, str(result)
    assert len(result.err.splitlines()) == 1


def test_a_forged_request_for_a_keeper_gains_nothing(launch: Launcher, images: Images) -> None:
    """R-L11: without descriptors it ends, with others it holds what the caller has given it."""
    octets = request_for(images.sif, ("action", 4), userns=launch.mode is Mode.USERNS)
    result = call(launch, [b"sexec", b"5"], octets=octets)
    assert (result.status, result.out) == (255, "")
    assert not keepers()


@pytest.mark.modes("suid")
def test_the_setuid_program_asks_no_keeper(launch: Launcher) -> None:
    """What it decides depends on the image that it has opened, and on nothing that a user's process says."""
    machine.require("unsanitized")  # such a build starts the program by itself
    symbols = subprocess.run(["nm", launch.starter], capture_output=True, text=True, check=True, timeout=20).stdout
    assert "linger_" not in symbols
    assert (
        "linger_use"
        in subprocess.run(
            ["nm", launch.starter.with_name("sexec")], capture_output=True, text=True, check=True, timeout=20
        ).stdout
    )


# ---- attacks from inside of containers ----


@pytest.fixture
def poser(images: Images) -> Path:
    machine.require("root", "gcc")
    return images.program(Path(__file__).parent / "poser.c")


def name_of(launch: Launcher) -> str:
    pattern = rf"@(singularity-linger-{launch.account.uid}-[0-9a-f]+)$"
    (name,) = set(re.findall(pattern, Path("/proc/net/unix").read_text(), re.MULTILINE))
    return str(name)


@pytest.fixture
def forged(images: Images, directory: Path) -> Path:
    """What the poser runs in, and offers."""
    tree = images.modern_tree(directory / "forged")
    (tree / "etc/image-name").write_text("forged\n")
    return tree


@pytest.mark.modes("userns")
@pytest.mark.parametrize("jail", ["user namespace", "setuid"])
@FORMATS
def test_a_program_in_a_container_does_not_pass_for_a_keeper(
    launch: Launcher, file: Path, poser: Path, forged: Path, jail: str
) -> None:
    """R-J2: it has the user's id, and can run all programs of the user's."""
    machine.require("setuid" if jail == "setuid" else "userns")
    launch("exec", "--linger", "300s", file, "true").ok()
    name = name_of(launch)
    os.kill(keepers()[0], signal.SIGKILL)
    until(lambda: not keepers() and name not in Path("/proc/net/unix").read_text())
    starter = dataclasses.replace(launch, mode=Mode.SUID if jail == "setuid" else Mode.USERNS)
    words = ["exec", "--containall", "-B", f"{poser}:/opt/data", forged, "/opt/data", "pose", name]
    with launch.start(*starter.argv(*words), stdin=-1) as jailed:
        try:
            assert jailed.stdout is not None
            assert jailed.stdout.readline() == b"ready\n"
            result = launch("exec", "--linger", "300s", file, "cat", "/etc/image-name", first=["-v"])
            assert (result.status, result.out) == (0, "busybox of the tests\n"), str(result)
            assert "not this one has taken the name" in result.err
            assert launch("linger", "list").ok().out == ""
        finally:
            os.killpg(jailed.pid, signal.SIGKILL)


@pytest.mark.modes("userns")
@pytest.mark.parametrize("jail", ["user namespace", "setuid"])
@FORMATS
def test_a_program_in_a_container_gets_nothing_from_a_keeper(
    launch: Launcher, file: Path, poser: Path, images: Images, jail: str
) -> None:
    """R-J2: with the namespaces it could change what later launches see. Nothing of the key is secret."""
    machine.require("setuid" if jail == "setuid" else "userns")
    launch("exec", "--linger", "300s", file, "true").ok()
    status = file.stat()
    time_of = f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09}"
    spaces = [Path(f"/proc/self/ns/{name}").stat().st_ino for name in ("user", "pid")]
    key = f"uid {launch.account.uid} gid {launch.account.gid} of {spaces[0]} in {spaces[1]} without setuid image "
    key += f"{status.st_dev}:{status.st_ino} {status.st_size} {time_of}"
    asked = launch.command(poser, "ask", name_of(launch), key)
    assert asked.out == "answer 1 2\n", "on the host it is the user's own, and the key is right"
    starter = dataclasses.replace(launch, mode=Mode.SUID if jail == "setuid" else Mode.USERNS)
    asking = ["/opt/data", "ask", name_of(launch), key]
    words = ["exec", "--containall", "-B", f"{poser}:/opt/data", images.sandbox, *asking]
    assert launch.command(*starter.argv(*words)).ok().out == "answer 0 0\n"


@pytest.mark.modes("userns")
@FORMATS
def test_root_of_a_container_cannot_change_what_others_share(launch: Launcher, file: Path, poser: Path) -> None:
    """--fakeroot: rights over the keeper's user namespace would reach the mount of all to come, and its server."""
    options = ["--linger", "300s", "--fakeroot"]
    script = "echo ready; read line; cat /etc/image-name"
    with launch.start(*launch.argv("exec", *options, file, "sh", "-c", script), stdin=-1) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (server,), (keeper,) = servers(), keepers()
        climbed = launch("exec", *options, "-B", f"{poser}:/opt/data", file, "/opt/data", "climb")
        assert climbed.out == "covered 0\n", str(climbed)
        unmount = "for each in $(awk '{ print $2 }' /proc/mounts); do umount -f $each; done 2>/dev/null; echo done"
        assert launch("exec", *options, file, "sh", "-c", unmount).out == "done\n"
        again = launch("exec", *options, file, "cat", "/etc/image-name", first=["-v"])
        assert again.out == "busybox of the tests\n", str(again)
        assert USED in again.err
        assert (servers(), keepers()) == ([server], [keeper])
        out, _ = other.communicate(b"\n", timeout=10)
    assert out == b"busybox of the tests\n"
