"""Sessions, services and systems of systemd's, on a machine that it runs: `make test-kernels`."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from images import Images

pytestmark = pytest.mark.needs("root", "guest", "setuid", "installation")

GROUPS = Path("/sys/fs/cgroup")
USER = "walter"
LIMITS = ("--memory", "64M", "--pids-limit", "20", "--cpus", "0.5")
MODES = pytest.mark.parametrize("mode", [(), ("--userns",)], ids=["suid", "userns"])


@pytest.fixture(scope="module", autouse=True)
def _user() -> None:
    subprocess.run(["useradd", "--create-home", "--shell", "/bin/sh", USER], check=False)  # there from another module
    subprocess.run(["loginctl", "disable-linger", USER], check=False)


def session(
    *words: str | Path, properties: tuple[str, ...] = ("PAMName=login",), user: str = USER, first: tuple[str, ...] = ()
) -> Mapping[str, str]:
    """Runs our program in a session that logind knows, or another service: `status`, `out` and `err` of it.

    `first` is what starts it there.
    """
    prefix = machine.prefix()
    options = [f"--property={each}" for each in (f"User={user}", *properties)]
    argv = ["systemd-run", "--wait", "--pipe", "--quiet", "--collect", *options, *first, f"{prefix}/bin/singularity"]
    done = subprocess.run([*argv, *map(str, words)], capture_output=True, text=True, check=False)
    return {"status": str(done.returncode), "out": done.stdout, "err": done.stderr}


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 300  # emulated machines are slow
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def image(images: Images) -> Path:
    return images.sandbox


@MODES
def test_limits_of_a_session_are_in_force_by_a_scope(image: Path, mode: tuple[str, ...]) -> None:
    script = (
        "cat /proc/self/cgroup; cd /sys/fs/cgroup/$(cut -d: -f3 /proc/self/cgroup); cat memory.max pids.max cpu.max"
    )
    ran = session("exec", *mode, *LIMITS, image, "sh", "-c", script)
    group, *found = ran["out"].splitlines() or [""]
    assert found == [str(64 << 20), "20", "50000 100000"], ran
    assert re.fullmatch(r"0::/user.slice/user-\d+.slice/.*/app.slice/singularity-.*", group), ran
    wait_until(lambda: not (GROUPS / group.removeprefix("0::/")).exists())


@MODES
def test_without_a_session_nothing_runs(image: Path, mode: tuple[str, ...]) -> None:
    """A service of the system that runs as the user: no manager of hers, no group of hers."""
    ran = session("exec", *mode, *LIMITS, image, "echo", "ran", properties=())
    assert (ran["status"], ran["out"]) == ("255", ""), ran
    assert "no control group of yours" in ran["err"]


def test_a_delegated_service_limits_in_its_own(image: Path) -> None:
    ran = session("exec", *LIMITS, image, "cat", "/proc/self/cgroup", properties=("Delegate=yes", "Slice=batch.slice"))
    assert ran["status"] == "0", ran
    assert ran["out"].startswith("0::/batch.slice/run-"), ran


def test_root_gets_a_scope_of_the_system(image: Path) -> None:
    ran = session("exec", *LIMITS, image, "cat", "/proc/self/cgroup", user="root", properties=())
    assert ran["out"].startswith("0::/system.slice/singularity-"), ran
    subprocess.run(["systemctl", "daemon-reload"], check=True)


@MODES
def test_a_limited_instance_outlives_its_session_where_it_lingers(image: Path, mode: tuple[str, ...]) -> None:
    subprocess.run(["loginctl", "enable-linger", USER], check=True)
    try:
        assert session("instance", "start", *mode, "--contain", "--memory", "64M", image, "web")["status"] == "0"
        outside = session("exec", "instance://web", "true")
        work = ("exec", "instance://web", "dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=20")
        inside = session(*work, first=("/usr/bin/systemd-run", "--user", "--scope", "--quiet"))
        counted = session("instance", "stats", "--json", "web")
        assert session("instance", "stop", "web")["status"] == "0"
    finally:
        subprocess.run(["loginctl", "disable-linger", USER], check=True)
    assert (outside["status"], "its limits do not hold" in outside["err"]) == ("0", True), outside
    assert (inside["status"], "limits" in inside["err"]) == ("0", False), inside
    memory = json.loads(counted["out"])["memory"]
    assert memory["usage_limit"] == 64 << 20
    assert 20 << 20 < memory["usage"] < 64 << 20, memory  # with what lies in the container's /tmp: counted nowhere else


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Path]:
    """This machine's own root file system as an image, without what is mounted in it."""
    place, nothing = tmp_path / "system", Path("/run/nothing")  # not a layer within the other
    for directory in (place, nothing):
        directory.mkdir()
    subprocess.run(["mount", "-t", "overlay", "-o", f"ro,lowerdir={nothing}:/", "none", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)
    nothing.rmdir()


def test_a_whole_system_boots_as_an_instance(system: Path) -> None:
    prefix = machine.prefix()

    def singularity(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [f"{prefix}/bin/singularity", *map(str, words)], capture_output=True, text=True, check=False
        )

    options = ("--boot", "--writable-tmpfs", "--no-mount", "hostfs,cwd,home")
    started = singularity("instance", "start", *options, system, "system")
    assert started.returncode == 0, started
    try:
        wait_until(lambda: "running" in (said := state()) or "degraded" in said)
        first = singularity("exec", "instance://system", "cat", "/proc/1/comm")
        assert first.stdout == "systemd\n", first
    finally:
        stopped = singularity("instance", "stop", "-t", "60", "system")
    assert stopped.returncode == 0, stopped


def state() -> str:
    prefix = machine.prefix()
    words = [f"{prefix}/bin/singularity", "exec", "instance://system", "systemctl", "is-system-running"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout
