"""--host-cmd: commands of the host that programs in the container call, and what is refused."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import machine
import pytest
from host_site import INSIDE, Site, until
from launching import Mode
from syscalls import Refusal

if TYPE_CHECKING:
    from pathlib import Path

    from images import Images


# ---- as it would be without a container ----


def test_every_status_is_the_commands_own(site: Site) -> None:
    script = (
        'i=0; while [ $i -le 255 ]; do onhost sh -c "exit $i"; [ $? = $i ] || echo wrong: $i; i=$((i+1)); done; echo $i'
    )
    assert site.sh(script).ok().lines == ["256"]


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 10, 13, 14, 15, 34, 64])
def test_it_ends_by_the_signal_that_ended_the_command(site: Site, number: int) -> None:
    assert site.exec("onhost", "sh", "-c", f"kill -{number} $$").status == -number
    assert site.sh(f"onhost sh -c 'kill -{number} $$'; echo $?").lines[-1] == str(128 + number)


def test_arguments_are_passed_as_they_are(site: Site) -> None:
    words = ["", " ", "a b", "$HOME", "*", "\n", "--", "é", "\x01", "x" * 100_000]
    assert site.exec("onhost", "printf", "%s|", *words).ok().stdout == b"".join(word.encode() + b"|" for word in words)


def test_what_is_too_long_is_said(site: Site) -> None:
    """A shell with more room for arguments than the usual one."""
    many = " $a" * 21
    done = site.sh(f"a=$(head -c 100000 /dev/zero | tr '\\0' x); ulimit -s unlimited; onhost true{many}; echo $?")
    assert done.lines == ["255"]
    assert "onhost: Argument list too long" in done.err


def test_a_hundred_megabytes_come_through_both_ways(site: Site) -> None:
    sent = os.urandom(1 << 20) * 100
    for command, out, err in (("cat", sent, b""), ("cat >&2", b"", sent)):
        done = site.exec("onhost", "sh", "-c", command, stdin=sent, timeout=120)
        assert done.status == 0
        assert (done.stdout == out, done.stderr == err) == (True, True)


def test_streams_are_the_callers(site: Site) -> None:
    done = site.sh(
        "onhost sh -c 'echo out; echo err >&2'; echo more | onhost cat; onhost sh -c 'echo x >&9' 9>/dev/null"
    )
    assert done.lines == ["out", "more"]
    assert done.err.splitlines()[0] == "err"
    assert "9" in done.err  # only the three streams go out


def test_who_reads_waits_for_the_command_alone(site: Site) -> None:
    """Neither helper nor stub holds what the command has closed."""
    script = "onhost sh -c 'echo first; exec >&- 2>&-; sleep 5' 2>/dev/null | (cat; echo end) & sleep 2; echo late"
    assert site.sh(f"{script}; kill $!; wait").lines == ["first", "end", "late"]


def test_a_pipe_that_nobody_reads_ends_the_command(site: Site) -> None:
    assert site.sh("onhost yes | head -1").ok().lines == ["y"]


def test_streams_that_are_closed(site: Site) -> None:
    assert site.sh("onhost true <&-; echo $?; onhost true >&- 2>&-; echo $?; onhost cat <&- >&- 2>&-; echo $?").lines[
        :2
    ] == ["0", "0"]


def test_umask_and_ignored_signals_are_the_callers(site: Site) -> None:
    assert site.sh("umask 027; onhost sh -c umask").ok().out.strip() == "0027"
    act = "onhost sh -c 'kill -HUP $$; echo stayed'"
    assert site.sh(f"trap '' HUP; {act}; trap - HUP; {act}; echo $?").lines == ["stayed", "129"]


def test_signals_of_the_stub_are_the_commands(site: Site) -> None:
    catch = "trap 'echo got usr1' USR1; trap 'echo got term; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    wait = "until [ -s out ]; do sleep 0.05; done"
    start = f'onhost sh -c "{catch}" > out & {wait}'
    done = site.sh(f"cd; {start}; kill -USR1 $!; sleep 0.3; kill -TERM $!; wait $!; echo $?; cat out")
    assert done.lines == ["5", "ready", "got usr1", "got term"]


def test_fifty_at_once(site: Site) -> None:
    script = 'for i in $(seq 50); do onhost sh -c "sleep 0.5; echo $i; exit $i" & done; wait; echo end'
    before = time.monotonic()
    done = site.sh(script).ok()
    assert sorted(map(int, done.lines[:-1])) == list(range(1, 51))
    assert time.monotonic() - before < 20
    script = "for i in $(seq 300); do onhost true & done; wait; echo end"  # more than are carried out at a time
    assert site.sh(script, timeout=60).ok().lines == ["end"]


# ---- directory, variables, PATH ----


def test_it_runs_where_it_is_called(site: Site, directory: Path) -> None:
    shared = directory / "shared"
    (shared / "below").mkdir(parents=True)
    there = site.sh(f"cd {shared}/below; onhost pwd; onhost sh -c 'echo $PWD'", "--bind", str(shared)).ok()
    assert there.lines == [f"{shared}/below"] * 2
    renamed = site.sh("cd /data/below; onhost pwd; onhost sh -c 'echo $PWD'", "--bind", f"{shared}:/data").ok()
    assert renamed.lines == [f"{shared}/below"] * 2


def test_a_directory_of_the_image_is_not_the_hosts(site: Site) -> None:
    done = site.sh("cd /etc; onhost pwd").warned(
        "onhost: /etc is no directory of the host", f"running in {site.launch.home_inside}"
    )
    assert done.lines == [str(site.launch.home_inside)]


def test_a_directory_that_was_deleted(site: Site, directory: Path) -> None:
    shared = directory / "shared"
    shared.mkdir()
    os.chown(shared, site.launch.account.uid, site.launch.account.gid)
    site.sh(f"mkdir {shared}/a; cd {shared}/a; rmdir ../a; onhost true", "--bind", str(shared)).warned(
        "no directory of the host"
    )


def test_variables_of_the_command_are_the_callers_and_all_others_the_hosts(site: Site) -> None:
    set_inside = "SLURM_JOB_ID=7 ONHOST_A=1 ONHOSTX=1 LD_PRELOAD=/x LD_LIBRARY_PATH=/x PATH=$PATH:/evil FOO=inside"
    set_inside += " SLURM_CONF=/evil SLURM_CONF_SERVER=evil"
    env = {"FOO": "host", "SLURM_CONF": "/etc/slurm.conf", "SLURM_STEP_ID": "3", "SINGULARITYENV_BAR": "1"}
    for options in ([], ["--cleanenv"], ["--containall"]):
        done = site.sh(f"{set_inside} onhost env 2>/dev/null", *options, env=env)
        seen = dict(line.split("=", 1) for line in done.lines)
        assert seen["SLURM_JOB_ID"] == "7"
        assert seen["ONHOST_A"] == "1"
        assert seen["SLURM_STEP_ID"] == "3"
        assert seen["SLURM_CONF"] == "/etc/slurm.conf"
        assert seen["FOO"] == "host"
        assert seen["PATH"] == site.launch.environment({})["PATH"]
        assert not {"ONHOSTX", "LD_PRELOAD", "LD_LIBRARY_PATH", "SLURM_CONF_SERVER"} & set(seen)


def test_the_commands_come_first_whatever_is_said_of_path(site: Site) -> None:
    for env in ({}, {"SINGULARITYENV_PATH": "/bin:/usr/bin"}, {"SINGULARITYENV_PREPEND_PATH": "/other"}):
        assert site.sh("echo $PATH", env=env).ok().out.startswith(f"{INSIDE}/bin:")
    without = site.launch("exec", site.image, "sh", "-c", f"echo $PATH; ls {INSIDE}")
    assert INSIDE not in without.out


def test_a_place_that_is_named_by_the_configuration(site: Site) -> None:
    assert site.exec("pinned", names="pinned").ok().lines == ["where root says"]


# ---- with other options ----


@pytest.mark.parametrize(
    "options",
    [["--containall"], ["--pid"], ["--pid", "--no-init"], ["--net"], ["--deny-net"], ["--contain"], ["--new-session"],
     ["--writable-tmpfs"],
     ["--allow-paths", "/etc"], ["--fakeroot"], ["--linger=1s"]],
    ids=" ".join,
)  # fmt: skip
def test_it_goes_with_what_isolates(site: Site, options: list[str]) -> None:
    if "--allow-paths" in options:
        machine.require("landlock")
    if "--linger=1s" in options:
        machine.require("fuse")
    done = site.sh("onhost sh -c 'exit 9' 2>/dev/null; echo $?; onhost echo here 2>/dev/null", *options)
    assert done.lines == ["9", "here"], str(done)
    assert site.exec("onhost", "sh", "-c", "kill -TERM $$", options=options).status in (
        -signal.SIGTERM,
        128 + signal.SIGTERM,
    )


def test_an_image_file(site: Site, images: Images) -> None:
    if site.launch.mode is Mode.USERNS:
        machine.require("fuse")
    assert site.launch("exec", "--host-cmd=onhost", images.sif, "onhost", "echo", "here").ok().lines == ["here"]


def test_an_instance_has_them_as_long_as_it_lives(site: Site) -> None:
    option = ["-u"] if site.launch.mode is Mode.USERNS else []
    name = f"hosted{os.getpid()}"
    started = site.launch("instance", "start", *option, "--host-cmd=onhost", site.image, name)
    assert started.status == 0, str(started)
    try:
        inside = site.launch(
            "exec", f"instance://{name}", "sh", "-c", "onhost sh -c 'echo here; exit 3' 2>/dev/null; echo $?"
        )
        assert inside.lines == ["here", "3"], str(inside)
        until(lambda: not site.left())
    finally:
        assert site.launch("instance", "stop", name).status == 0
    until(lambda: not site.left())


def test_a_dry_run_says_so_and_leaves_nothing(site: Site) -> None:
    done = site.sh("true", "--dry-run")
    assert done.status == 0
    assert f"{INSIDE}" in done.out
    assert "--host-cmd" in done.out
    until(lambda: not site.left())


def test_what_a_written_image_keeps_is_no_command(site: Site, images: Images, directory: Path) -> None:
    """The empty files that the stubs were mounted on."""
    written = directory / "written"
    images.modern_tree(written)
    for path in [written, *written.rglob("*")]:
        os.chown(path, site.launch.account.uid, site.launch.account.gid, follow_symlinks=False)
    done = site.launch("exec", "--writable", "--host-cmd=onhost", written, "onhost", "echo", "here")
    assert done.ok().lines == ["here"]
    later = site.launch("exec", written, "sh", "-c", "echo $PATH; onhost; echo $?")
    assert INSIDE not in later.lines[0]
    assert later.lines[1:] == ["127"]


def test_a_kernel_that_hands_out_no_pidfds(site: Site) -> None:
    """Linux before 5.3."""
    old = site.launch.changed(refusals=(Refusal("pidfd_open"), Refusal("close_range")))
    if site.launch.mode is Mode.SUID:
        pytest.skip("a filter takes the setuid program's privilege away")
    assert old("exec", "--host-cmd=onhost", site.image, "onhost", "echo", "here").out == "here\n"
    until(lambda: not site.left())


# ---- what is refused ----


def test_what_root_does_not_allow(site: Site) -> None:
    site.exec("true", names="unlisted").refused(
        "--host-cmd unlisted: not allowed here", "host commands", "singularity.conf"
    )
    site.exec("true", names="onhost,unlisted").refused("unlisted")
    site.exec("true", names="missing").refused("--host-cmd missing: no such command on this host")
    nothing = site.launch.configured("mount tmp = yes\n")
    nothing("exec", "--host-cmd=onhost", site.image, "true").refused("not allowed here")
    site.launch("exec", site.image, "true", env={"SINGULARITY_HOST_CMD": "unlisted"}).refused("not allowed here")
    assert site.launch(
        "exec", site.image, "onhost", "echo", "here", env={"SINGULARITY_HOST_CMD": "onhost"}
    ).ok().lines == ["here"]
    site.exec("unlisted").refused("unlisted", status=127)


@pytest.mark.parametrize("name", ["/bin/sh", "../onhost", "-x", ".", "..", "a b", "a\nb", "x" * 64, "a;b"])
def test_what_is_no_name(site: Site, name: str) -> None:
    site.exec("true", names=name).misused("--host-cmd", "is no name of a command")


def test_what_it_does_not_go_with(site: Site) -> None:
    site.exec("true", options=["--join=yes"]).refused("--host-cmd does not go with --join=yes")
    bound = site.launch.configured("host commands = onhost\nuser bind control = no\n")
    done = bound("exec", "--host-cmd=onhost", site.image, "onhost", "echo", "here")
    if site.launch.mode is Mode.ROOT:
        assert done.ok().lines == ["here"]
        root = {"SINGULARITY_TARGET_UID": "10001", "SINGULARITY_TARGET_GID": "10001"}
        site.exec("true", env=root).refused("not for SINGULARITY_TARGET_UID")
        site.exec("true", options=["--network=somewhere"]).refused("--host-cmd does not go with a network")
    else:
        done.refused("user bind control = no")


def test_an_image_without_room_for_it(site: Site) -> None:
    launch = site.launch.configured("host commands = onhost\nenable overlay = no\nenable underlay = no\n")
    launch("exec", "--host-cmd=onhost", site.image, "true").refused("--host-cmd", INSIDE)
    until(lambda: not site.left())


def test_a_place_that_is_full_or_missing(site: Site, directory: Path) -> None:
    nowhere = site.launch.with_env(XDG_RUNTIME_DIR="/nowhere")
    assert nowhere("exec", "--host-cmd=onhost", site.image, "onhost", "echo", "here").ok().out == "here\n"
    long = directory / ("d" * 200)
    long.mkdir()
    os.chown(long, site.launch.account.uid, site.launch.account.gid)
    assert (
        site.launch.with_env(XDG_RUNTIME_DIR=str(long))(
            "exec", "--host-cmd=onhost", site.image, "onhost", "echo", "here"
        )
        .ok()
        .out
        == "here\n"
    )
    until(lambda: not list(long.iterdir()))


def test_a_stub_by_another_name(site: Site) -> None:
    calls = "for n in unlisted missing sh other; do ln -s stub $n; ./$n; echo $?; rm $n; done"
    script = f"cd /tmp; mkdir x$$; cd x$$; cp {INSIDE}/bin/onhost stub; {calls}"
    done = site.sh(f"{script}; rm stub; cd ..; rmdir x$$")
    assert done.lines == ["255"] * 4
    assert done.err.count("not one of the commands of the host that this container was started with") == 4


def test_the_container_cannot_change_what_it_has(site: Site) -> None:
    for act in (f"rm {INSIDE}/bin/onhost", f"rm {INSIDE}/socket", f"echo > {INSIDE}/bin/onhost"):
        assert site.sh(f"{act} 2>/dev/null").status != 0, act
    assert site.sh("onhost echo here").ok().lines == ["here"]
