"""Fixtures of the corpus: where it is kept, its registry, its user; and the table at the end."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import makers
import pytest
import servers
from launching import Launcher, Mode
from makers import Corpus
from ordinary_user import Account, World
from report import Table
from workshop import Workshop

if TYPE_CHECKING:
    from collections.abc import Iterator

_UID = 20_000 + os.getpid() % 40_000
PLACE = Path(os.environ.get("CORPUS", machine.CHECKOUT / "build/corpus")).absolute()
_TABLE = Table()


@pytest.fixture(scope="session")
def table() -> Table:
    return _TABLE


def pytest_configure(config: pytest.Config) -> None:
    """A failure is shown when it happens, not only at the end of an hour."""

    class Shown:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed and "run_recipes" in report.nodeid:
                terminal = config.pluginmanager.getplugin("terminalreporter")
                terminal.write_line(f"\n{report.nodeid}\n{report.longreprtext[-3000:]}")

    config.pluginmanager.register(Shown())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _TABLE.rows:
        terminalreporter.section("images")
        for line in _TABLE.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def corpus(storage: Path) -> Iterator[Corpus]:
    machine.require("root", "installation", "userns", "fuse", "docker-registry", "mmdebstrap")
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield from _corpus(storage)


def _corpus(storage: Path) -> Iterator[Corpus]:
    workshop = Workshop(PLACE)
    workshop.prepare()
    with servers.registry(storage / "corpus-registry") as registry, workshop.docker():
        yield Corpus(PLACE, workshop, registry.host)
    for name in ("unpacked", "unsquashed"):
        makers.forget(PLACE / name)


@pytest.fixture
def directory(storage: Path) -> Iterator[Path]:
    """The test's own, which any user can enter; large, and so gone at once."""
    place = storage / "recipe"
    place.mkdir(mode=0o755)
    yield place
    makers.forget(place)


@pytest.fixture
def launchers(directory: Path) -> dict[Mode, Launcher]:
    """An ordinary user, in both modes."""
    prefix = machine.prefix()
    assert prefix is not None
    home = directory / "home"
    home.mkdir(mode=0o700)
    os.chown(home, _UID, _UID)
    world = World(account=Account(uid=_UID, gid=_UID), home=home)
    return {
        mode: Launcher(prefix=prefix, mode=mode, world=world, home=home, directory=directory)
        for mode in (Mode.SUID, Mode.USERNS)
    }
