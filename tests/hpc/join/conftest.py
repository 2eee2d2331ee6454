"""A node for ranks, in each mode, on which nothing is left behind."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import machine
import pytest
from job_steps import UID, Node, meetings
from launching import Launcher, Mode
from ordinary_user import ROOT, Account, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from images import Images

NEEDS = {Mode.SUID: ("root", "setuid"), Mode.USERNS: ("userns",), Mode.ROOT: ("root",)}


@pytest.fixture(params=list(Mode), ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    machine.require(*NEEDS[chosen])
    return chosen


@pytest.fixture
def directory(storage: Path) -> Iterator[Path]:
    """The test's own directory, which any user can enter."""
    place = storage / f"join-{time.monotonic_ns()}"
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def launcher(mode: Mode, directory: Path) -> Launcher:
    prefix = machine.prefix()
    assert prefix is not None
    home = directory / "home"
    home.mkdir(mode=0o700)
    if os.geteuid() != 0:
        world = World(account=Account(uid=os.getuid(), gid=os.getgid(), home=home, groups={}), private=False)
    elif mode is Mode.ROOT:
        world = World(account=ROOT, home=home)
    else:
        os.chown(home, UID, UID)
        world = World(account=Account(uid=UID, gid=UID, groups={"science": UID + 1}), home=home)
    return Launcher(prefix=prefix, mode=mode, world=world, home=home, directory=directory)


@pytest.fixture
def node(launcher: Launcher) -> Iterator[Node]:
    booted = Node.boot(launcher)
    yield booted
    booted.shut_down()


@pytest.fixture
def image(mode: Mode, images: Images) -> Path:
    if mode is Mode.USERNS:
        machine.require("fuse")
    return images.sif


@pytest.fixture(autouse=True)
def nothing_left_behind(storage: Path) -> Iterator[None]:
    """R-B1, R-I3: no process, no loop device, and no socket of a meeting, once the last rank is gone."""
    machine.adopt_orphans()
    before, met = machine.children(), meetings()
    yield
    deadline = time.monotonic() + 5
    while True:
        left = [f"process {child}: {machine.command_of(child)}" for child in machine.children() - before]
        left += machine.loops_of(storage)
        left += sorted(meetings() - met)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left, f"left behind: {left}"
