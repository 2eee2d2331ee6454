"""Fixtures of the package's own interface: the front door, images, and a look at what each test left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from launching import Launcher, Mode
from ordinary_user import Account, World
from python_image import tool as tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images

UID = 20_000 + os.getpid() % 40_000
MODES = {"suid": ("root", "setuid"), "userns": ("userns", "fuse")}


def pytest_configure() -> None:
    machine.adopt_orphans()


@pytest.fixture(autouse=True)
def front_door(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installation under test is what launches, where there is one."""
    door = (machine.prefix() or Path()) / "bin/singularity"
    monkeypatch.setenv("SINGULARITY_PROGRAM", str(door))
    return door


@pytest.fixture
def sif(images: Images) -> Path:
    """A SIF file of busybox, with environment, labels and scripts."""
    return images.sif


@pytest.fixture(autouse=True)
def nothing_left_behind(storage: Path) -> Iterator[None]:
    """After each test no process of it lives, and no loop device holds one of its files."""
    with machine.leaving_nothing(storage):
        yield


@pytest.fixture
def directory(storage: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The test's own directory, which any user can enter; the current one."""
    place = storage / f"api-{abs(hash(request.node.nodeid)) % 10**12}"
    place.mkdir(mode=0o755)
    monkeypatch.chdir(place)
    yield place
    os.chdir("/")
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=list(MODES))
def as_user(request: pytest.FixtureRequest, directory: Path, front_door: Path) -> Launcher:
    """An ordinary user, in each way to the privileges that mounting needs."""
    machine.require("root", *MODES[request.param])
    home = directory / "home"
    home.mkdir(mode=0o700)
    account = Account(uid=UID, gid=UID)
    os.chown(home, UID, UID)
    world = World(account=account, home=home)
    prefix = front_door.parent.parent
    return Launcher(prefix=prefix, mode=Mode(request.param), world=world, home=home, directory=directory)
