"""Limits of a launch are in force, or nothing runs. In force they are seen where control groups have version 2."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images
    from launching import Launcher

GROUPS = Path("/sys/fs/cgroup")
VERSION_2 = (GROUPS / "cgroup.controllers").exists()
CONTROLLERS = "+cpu +cpuset +memory +pids"
on_version_2 = pytest.mark.needs("root", "guest")
pytestmark = pytest.mark.needs("installation")


@pytest.mark.skipif(VERSION_2, reason="control groups have version 2 here")
@pytest.mark.parametrize("way", ["option", "variable", "file"])
def test_what_cannot_be_in_force_is_refused(launch: Launcher, images: Images, directory: Path, way: str) -> None:
    (directory / "limits.toml").write_text("[pids]\nlimit = 9\n")
    words, env = [], {}
    if way == "variable":
        env = {"APPTAINER_MEMORY": "1G"}
    else:
        words = ["--cpus", "1"] if way == "option" else ["--apply-cgroups", str(directory / "limits.toml")]
    done = launch("exec", *words, images.sandbox, "touch", "/tmp/ran", env=env)
    done.refused("control groups of version 2", "here (an administrator boots with systemd.unified_cgroup_hierarchy=1")


@pytest.mark.parametrize(
    "words", [["--memory", "lots"], ["--oom-kill-disable"], ["--memory", "1", "--apply-cgroups", "x"]]
)
def test_wrong_usage(launch: Launcher, images: Images, words: list[str]) -> None:
    launch("exec", *words, images.sandbox, "true").misused(words[0])


def test_a_limit_that_is_none_and_a_dry_run_need_no_group(launch: Launcher, images: Images) -> None:
    assert launch("exec", "--pids-limit", "0", images.sandbox, "echo", "--cpus", "1").ok().out == "--cpus 1\n"
    assert launch("exec", "--dry-run", "--memory=1G", images.sandbox, "true").ok().out.startswith("mode: ")


@contextmanager
def delegated(launch: Launcher, name: str) -> Iterator[Path]:
    """A group that belongs to the user, with one below it, from which he launches."""
    (GROUPS / "cgroup.subtree_control").write_text(CONTROLLERS)
    place = GROUPS / name
    session = place / "session"
    session.mkdir(parents=True)
    (place / "cgroup.subtree_control").write_text(CONTROLLERS)
    for group in (place, session):
        for path in (group, group / "cgroup.procs", group / "cgroup.subtree_control"):
            os.chown(path, launch.account.uid, launch.account.gid)
    try:
        yield session
    finally:
        for group in (*session.glob("singularity-*"), session, *place.glob("singularity-*"), place):
            group.rmdir()


@on_version_2
@pytest.mark.modes("root")
def test_they_are_in_force_and_nothing_is_left(launch: Launcher, images: Images, directory: Path) -> None:
    (directory / "limits.toml").write_text('[unified]\n"memory.high" = "50003968"\n')
    words = ["--memory=64M", "--pids-limit", "20", "--cpus", "0.5", "--cpuset-cpus", "0"]
    argv = launch.argv("exec", *words, images.sandbox, "sh", "-c", "cat /proc/self/cgroup; read x; exit 7")
    with launch.start(*argv, stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        group = GROUPS / process.stdout.readline().decode().strip().removeprefix("0::/")
        found = {
            name: (group / name).read_text().strip() for name in ("memory.max", "pids.max", "cpu.max", "cpuset.cpus")
        }
        assert found == {"memory.max": str(64 << 20), "pids.max": "20", "cpu.max": "50000 100000", "cpuset.cpus": "0"}
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait() == 7, process.stderr
    wait_until_gone(group)
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 9 & done; echo all"
    assert "all" not in launch("exec", "--pids-limit", "6", images.sandbox, "sh", "-c", script).out
    much = launch("exec", "--memory", "30M", images.sandbox, "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1")
    assert much.status == -9, str(much)
    done = launch("exec", "--apply-cgroups", directory / "limits.toml", images.sandbox, "cat", "/proc/self/cgroup")
    assert done.ok().out.startswith("0::/singularity-")


@on_version_2
@pytest.mark.modes("root")
def test_who_keeps_a_network_is_not_limited(launch: Launcher, images: Images, directory: Path) -> None:
    """The process that takes it down, which must live longer than the container."""
    site, plugin = directory / "network", directory / "own"
    site.mkdir()
    (site / "lab.conf").write_text('{"name": "lab", "cniVersion": "1.0.0", "type": "own"}')
    plugin.write_text("#!/bin/sh\ncat >/dev/null; cat /proc/$PPID/cgroup >>${0%/*}/told; echo '{}'\n")
    plugin.chmod(0o755)
    own = launch.configured(f"cni configuration path = {site}\ncni plugin path = {directory}\n")
    done = own("exec", "--memory", "64M", "--network", "lab", images.sandbox, "cat", "/proc/self/cgroup")
    assert done.ok().out.startswith("0::/singularity-")
    end = time.monotonic() + 20
    while len((directory / "told").read_text().splitlines()) < 2 and time.monotonic() < end:
        time.sleep(0.05)
    told = (directory / "told").read_text().splitlines()
    assert len(told) == 2
    assert not any("singularity-" in line for line in told)


def wait_until_gone(group: Path) -> None:
    end = time.monotonic() + 20
    while group.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not group.exists()


@on_version_2
@pytest.mark.modes("suid", "userns")
@pytest.mark.parametrize("others", ["", "sleep 9 >/dev/null 2>&1 &"], ids=["alone", "among others"])
def test_an_ordinary_user_limits_where_a_group_is_his(launch: Launcher, images: Images, others: str) -> None:
    with delegated(launch, f"user-{launch.mode.value}") as session:
        words = launch.argv("exec", "--memory", "64M", images.sandbox, "cat", "/proc/self/cgroup")
        inside = f'echo $$ >{session}/cgroup.procs || exit; {others} exec "$@"'
        (session / "cgroup.procs").chmod(0o666)
        (GROUPS / "cgroup.procs").chmod(0o666)
        result = launch.command("/bin/sh", "-c", inside, "sh", *words)
        place = session.relative_to(GROUPS) if not others else session.parent.relative_to(GROUPS)
        assert result.ok().out.startswith(f"0::/{place}/singularity-"), str(result)
        for line in (session / "cgroup.procs").read_text().split():
            os.kill(int(line), 9)
        end = time.monotonic() + 20
        while (session / "cgroup.procs").read_text() and time.monotonic() < end:
            time.sleep(0.05)


@on_version_2
@pytest.mark.modes("suid", "userns")
def test_an_ordinary_user_without_a_group_is_refused(launch: Launcher, images: Images) -> None:
    done = launch("exec", images.sandbox, "touch", "/tmp/ran", env={"SINGULARITY_MEMORY": "64M"})
    done.refused("no control group of yours", "delegates one to you")
