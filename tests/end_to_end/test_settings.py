"""What administrators and distributions set, on a machine whose settings may be changed: `make test-kernels`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launching import Launcher

pytestmark = pytest.mark.needs("root", "guest", "setuid")


@pytest.fixture(params=["user.max_user_namespaces", "kernel.unprivileged_userns_clone"])
def setting(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a setting that forbids ordinary users user namespaces, while it does."""
    name: str = request.param
    path = Path("/proc/sys", name.replace(".", "/"))
    if not path.exists():
        pytest.skip(f"this kernel has no {name}")
    before = path.read_text()
    path.write_text("0\n")
    yield name
    path.write_text(before)


@pytest.mark.modes("userns")
@pytest.mark.formats("sandbox", "sif")
def test_the_setting_that_forbids_user_namespaces_is_named(launch: Launcher, image: Path, setting: str) -> None:
    launch("exec", image, "true").refused(setting)


@pytest.mark.modes("suid")
@pytest.mark.formats("sandbox", "squashfs", "sif")
def test_the_setuid_program_needs_no_user_namespace(launch: Launcher, image: Path, setting: str) -> None:
    del setting
    assert launch("exec", image, "cat", "/etc/image-name").ok().out != ""


@pytest.mark.modes("suid")
@pytest.mark.formats("sandbox")
def test_a_build_names_the_setting_too(launch: Launcher, image: Path, setting: str) -> None:
    definition = launch.home / "x.def"
    definition.write_text(f"Bootstrap: localimage\nFrom: {image}\n%post\n    true\n")
    result = launch("build", launch.home_inside / "x.sif", launch.home_inside / "x.def")
    assert result.status == 255, str(result)
    assert setting in result.err, str(result)


@pytest.mark.formats("sandbox", "sif")
def test_programs_stay_in_the_control_group_of_who_calls(launch: Launcher, image: Path) -> None:
    """A batch system finds and limits by it."""
    ours = Path("/sys/fs/cgroup/job")
    ours.mkdir(exist_ok=True)
    (ours / "cgroup.procs").chmod(0o666)
    Path("/sys/fs/cgroup/cgroup.procs").chmod(0o666)
    words = launch.argv("exec", image, "cat", "/proc/self/cgroup")
    moved = 'echo $$ >/sys/fs/cgroup/job/cgroup.procs && exec "$@"'
    result = launch.command("/bin/sh", "-c", moved, "sh", *words)
    assert result.ok().out == "0::/job\n", str(result)
    for _ in range(100):  # who served the image ends a moment later
        if "populated 0" in (ours / "cgroup.events").read_text():
            break
        time.sleep(0.1)
    ours.rmdir()
