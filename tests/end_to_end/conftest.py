"""Fixtures of the end-to-end tests: a launcher in each mode, and a look at what each test left behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from host_site import Site, running, until
from hostile_host import HostileHost
from launching import Launcher, Mode
from ordinary_user import ROOT, Account, World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images

# Its own for each session, so that sessions side by side do not see each other's processes as hers.
UID = 20_000 + os.getpid() % 40_000

NEEDS = {
    Mode.SUID: ("installation", "root", "setuid"),
    Mode.USERNS: ("installation", "userns"),
    Mode.ROOT: ("installation", "root"),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = {str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize")}
    if "mode" in metafunc.fixturenames and not any("mode" in names for names in chosen):
        mark = metafunc.definition.get_closest_marker("modes")
        modes = [Mode(name) for name in mark.args] if mark else list(Mode)
        metafunc.parametrize("mode", modes, ids=[mode.value for mode in modes], indirect=True)
    if "form" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("formats")
        formats = mark.args if mark else ("sandbox",)
        metafunc.parametrize("form", formats, indirect=True)


def pytest_configure() -> None:
    machine.adopt_orphans()


@pytest.fixture
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen = Mode(request.param)
    machine.require(*NEEDS[chosen])
    return chosen


@pytest.fixture
def directory(storage: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The test's own directory, which any user can enter."""
    place = storage / f"case-{abs(hash(request.node.nodeid)) % 10**12}"
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="session")
def alice() -> Account:
    return Account(uid=UID, gid=UID, groups={"science": UID + 1, "storage": UID + 2})


@pytest.fixture(scope="session")
def hostile_host(storage: Path, images: Images, alice: Account) -> HostileHost:
    """For tests that change nothing of it."""
    machine.require("root", "mke2fs", "mksquashfs")
    return HostileHost(place=storage / "host", account=alice).make(images.directory)


@pytest.fixture
def home(directory: Path, alice: Account) -> Path:
    """Her home directory, as this process sees it."""
    place = directory / "home"
    place.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(place, alice.uid, alice.gid)
    return place


@pytest.fixture
def launch(mode: Mode, alice: Account, home: Path, directory: Path) -> Launcher:
    prefix = machine.prefix()
    assert prefix is not None
    if os.geteuid() != 0:
        world = World(account=caller(home), private=False)
    elif mode is Mode.ROOT:
        os.chown(home, 0, 0)
        world = World(account=ROOT, home=home)
    else:
        world = World(account=alice, home=home)
    return Launcher(prefix=prefix, mode=mode, world=world, home=home, directory=directory)


def caller(home: Path) -> Account:
    """Whoever runs the tests, without root."""
    try:
        entry = pwd.getpwuid(os.getuid())
    except KeyError:
        return Account(name="", uid=os.getuid(), gid=os.getgid(), home=home, groups={}, listed=False)
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, home=Path(entry.pw_dir), groups={})


@pytest.fixture
def form(request: pytest.FixtureRequest) -> str:
    """The format of the image of this case."""
    name: str = request.param
    return name


@pytest.fixture
def image(form: str, images: Images, request: pytest.FixtureRequest) -> Path:
    """The modern root file system, in the format of this case."""
    mode = request.getfixturevalue("mode") if "mode" in request.fixturenames else None
    if form != "sandbox" and mode is Mode.USERNS:
        machine.require("fuse", *(["fuse2fs"] if "ext3" in form or form == "2.x" else []))
    return images.of_format(form)


@pytest.fixture(autouse=True)
def nothing_left_behind(storage: Path) -> Iterator[None]:
    """R-B1, R-I3: after each test no process of it lives and no loop device holds one of its files."""
    with machine.leaving_nothing(storage):
        yield


@pytest.fixture
def site(launch: Launcher, images: Images, directory: Path) -> Iterator[Site]:
    commands, places = directory / "host-bin", directory / "run"
    commands.mkdir()
    places.mkdir()
    os.chown(places, launch.account.uid, launch.account.gid)
    for name, text in {"onhost": 'exec "$@"', "unlisted": "echo unlisted", "pinned": "echo from the PATH"}.items():
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    (directory / "elsewhere").mkdir()
    pinned = directory / "elsewhere/pinned"
    pinned.write_text("#!/bin/sh\necho where root says\n")
    pinned.chmod(0o755)
    machine.require("root", "unsanitized")  # with sanitizers a stub would need libraries of the host
    told = launch.configured(
        f"# host commands = unlisted\nhost commands = onhost , missing\nhost commands = {pinned}\n"
    )
    told = told.with_env(PATH=f"{commands}:/usr/bin:/bin:/usr/sbin:/sbin", XDG_RUNTIME_DIR=str(places), TMPDIR=None)
    yield Site(launch=told, image=images.sandbox, places=places, commands=commands)
    until(lambda: not list(places.glob("singularity-host-*")))


@pytest.fixture
def mark() -> Iterator[str]:
    """The argument of a `sleep` that nobody else has."""
    word = str(8_000_000 + time.monotonic_ns() % 1_000_000)
    yield word
    for pid in running(word):
        os.kill(pid, signal.SIGKILL)
