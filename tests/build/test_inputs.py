"""What a build looks for before it begins: the tools that it will start, and files of the host."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from builds import Build

pytestmark = pytest.mark.needs("root")  # a user's tools may also come from PATH


def without_tools(build: Build, *words: str) -> subprocess.CompletedProcess[str]:
    """`singularity WORDS...` on a machine with the tools of the base system only."""
    bare = build.directory / "bare"
    bare.mkdir(exist_ok=True)
    for name in ("sh", "cp", "touch"):
        (bare / name).unlink(missing_ok=True)
        (bare / name).symlink_to(f"/bin/{name}")
    script = (
        f"import sys; from singularity import process; process.SYSTEM_PATH = {str(bare)!r}\n"
        f"from singularity.cli.main import main; sys.exit(main({list(words)!r}))"
    )
    argv = [sys.executable, "-c", script]
    return subprocess.run(
        argv, cwd=build.directory, env=build.env(), capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("target", "agent", "expected"),
    [
        ("x.sif", "scratch", "mksquashfs not found, needed to write {target} (install squashfs-tools)"),
        ("x.sqfs", "scratch", "mksquashfs not found, needed to write {target} (install squashfs-tools)"),
        ("x.ext3", "scratch", "mke2fs not found, needed to write {target} (install e2fsprogs)"),
        ("x.tar", "debootstrap", "debootstrap not found, needed to bootstrap a Debian system (install debootstrap)"),
        ("x.tar", "zypper", "zypper not found, needed to install the packages (install zypper)"),
    ],
)
def test_a_tool_is_looked_for_before_the_first_step(build: Build, target: str, agent: str, expected: str) -> None:
    header = f"BootStrap: {agent}\nOSVersion: stable\nMirrorURL: http://127.0.0.1:1/\n"
    header = "BootStrap: scratch\n" if agent == "scratch" else header
    build.write("x.def", f"{header}%setup\n    touch {build.directory}/begun\n")
    message = expected.format(target=target)
    done = without_tools(build, "build", target, "x.def")
    assert done.returncode == 255, done.stderr
    assert done.stderr.splitlines()[-1].endswith(message)
    assert not (build.directory / "begun").exists()
    warned = without_tools(build, "build", "--dry-run", target, "x.def")
    assert warned.returncode == 0
    assert message in warned.stderr
    assert build.leftovers() == []


def test_a_script_of_the_host_may_install_what_the_agent_needs(build: Build) -> None:
    text = f"BootStrap: debootstrap\nOSVersion: stable\n%pre\n    touch {build.directory}/begun\n"
    build.write("x.def", text)
    done = without_tools(build, "build", "x.tar", "x.def")
    assert "debootstrap not found" in done.stderr
    assert (build.directory / "begun").exists()


@pytest.mark.needs("debootstrap")
def test_the_way_out_is_named_where_debootstrap_knows_no_such_suite(build: Build) -> None:
    build.write("x.def", "BootStrap: debootstrap\nOSVersion: wayward\nMirrorURL: http://127.0.0.1:1/\n")
    message = build.fails("build", "x.tar", "x.def")
    assert message in build.ok("build", "--dry-run", "x.tar", "x.def").stderr
    known = 'the debootstrap of this machine does not know the suite "wayward" '
    assert message == f"{known}(newer ones do; or say BootStrap: mmdebstrap, which takes any suite)"
