"""What the starter has open at each stage of a launch, from /proc/PID/fd at each of its system calls."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from launch_requests import Value, request_for
from supervision import Call, Open, Supervised, supervised
from workers import KEPT

if TYPE_CHECKING:
    from pathlib import Path

    from hostile_host import HostileHost
    from images import Images
    from launching import Launcher

pytestmark = [
    pytest.mark.needs("root", "mke2fs", "mksquashfs", "fuse", "unsanitized"),
    pytest.mark.modes("suid", "userns"),
]

CWD = b"/usr/share"  # asked for, in the container
KEEP: tuple[str, Value] = ("keep_fd", (KEPT, b"", b""))
LAUNCHES: dict[str, tuple[str, list[tuple[str, Value]]]] = {
    "directory": ("directory", []),
    "squashfs": ("squashfs", []),
    "missing-mount-points": ("directory-lacking", [("bind", (0, b"/usr/share", b"/new/deep"))]),
    "overlay": ("squashfs", [("writable_tmpfs", True)]),
    "init": ("squashfs", [("pid", True), ("contain", True)]),
    "kept": ("directory", [KEEP]),
    "libraries": ("directory", [("library", (16, b"/etc/hosts", b"/.singularity.d/libs/x"))]),
    "user-of-the-image": ("directory-oci", [("oci_defaults", True)]),
}  # fmt: skip


def stages(launch: Launcher, hostile_host: HostileHost, images: Images, directory: Path, what: str) -> Supervised:
    image, asked = LAUNCHES[what]
    octets = request_for(hostile_host.images[image], *asked, ("target_cwd", CWD), userns=launch.mode.value == "userns")
    with supervised(launch, directory, octets, ["/bin/witness"], programs=images.directory) as supervisor:
        result = supervisor.stages()
    assert result.witness is not None, str(result)
    assert result.status == 0, str(result)
    return result


def of_the_host(call: Call, *, kept: bool) -> list[Open]:
    """What is open but for 0 to 2, what the request keeps, pipes and memory of ours, and what lies in the container."""
    ours = ("pipe:", "/memfd:launch request")
    allowed = {KEPT} if kept else set()
    return [
        one
        for one in call.descriptors
        if one.number > 2 and one.number not in allowed and not one.inside and not one.target.startswith(ours)
    ]


@pytest.mark.parametrize("what", LAUNCHES)
def test_nothing_of_the_host_is_open_when_a_path_of_the_image_is_entered(
    launch: Launcher, hostile_host: HostileHost, images: Images, directory: Path, what: str
) -> None:
    """R-L17, R-L3: from the first look-up that a user or an image chooses to the program's start, at each call."""
    result = stages(launch, hostile_host, images, directory, what)
    pivoted = [call for call in result.calls if call.pivoted]
    maker = next(call.process for call in result.calls if call.name == "pivot_root")
    start = next(call for call in reversed(pivoted) if call.name == "execve" and call.path == "/bin/witness")
    mine = [call for call in pivoted if call.process in {maker, start.process}]
    entered = next(place for place, call in enumerate(mine) if call.path == CWD.decode())
    assert entered > 0
    assert any(of_the_host(call, kept=True) for call in mine[:entered]), (
        "before that the host is still open: it is seen"
    )
    plain = str(launch.prefix / "libexec/singularity/sexec")  # a file of root's, which the setuid program becomes
    for call in mine[entered:]:
        left = [
            one
            for one in of_the_host(call, kept=what == "kept")
            if not (one.target == plain and one.closed_at_exec and launch.mode.value == "suid")
        ]
        assert not left, f"at {call.name} {call.path}: {left}"
    open_there = {one.number for one in start.descriptors if not one.closed_at_exec}
    assert open_there == ({0, 1, 2, KEPT} if what == "kept" else {0, 1, 2}), start
    told = set(result.witness.descriptors) if result.witness is not None else set()
    assert told == open_there


def test_the_supervisor_sees_directories_of_the_host(
    launch: Launcher, hostile_host: HostileHost, images: Images, directory: Path
) -> None:
    """What the test above would say, were one left open: /proc and the root directory are, right after the new root."""
    result = stages(launch, hostile_host, images, directory, "directory")
    first = next(call for call in result.calls if call.pivoted)
    targets = {one.target for one in of_the_host(first, kept=True)}
    assert "/proc" in targets, first
    assert os.path.isdir("/proc")
