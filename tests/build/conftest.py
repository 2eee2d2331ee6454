"""Builds as a user types them, and what they are made from."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from builds import Build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BUSYBOX = Path("/bin/busybox")
APPLETS = (
    "sh",
    "cat",
    "cp",
    "dd",
    "chmod",
    "echo",
    "env",
    "grep",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mount",
    "rm",
    "sleep",
    "test",
    "touch",
    "truncate",
)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    directory = tmp_path / "work"
    (directory / "tmp").mkdir(parents=True)
    return Build(directory)


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """No test of builds leaves a mount or a process, unless it is about that itself."""
    machine.adopt_orphans()
    children = machine.children()
    yield
    deadline = time.monotonic() + 2  # for one that is ending
    while (left := machine.children() - children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [machine.command_of(each) for each in left] == []
    if "mounts" not in request.fixturenames:
        assert [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(tmp_path) in line] == []


@pytest.fixture
def base(build: Build) -> Path:
    """A directory with a root file system: a static busybox and its links."""
    root = build.directory / "base"
    (root / "bin").mkdir(parents=True)
    shutil.copy2(BUSYBOX, root / "bin" / "busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc").mkdir()
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return root


@pytest.fixture
def definition(build: Build, base: Path) -> Callable[[str], Path]:
    """Writes a definition file on top of `base`; its sections begin at line 3."""
    del base

    def write(sections: str, name: str = "x.def") -> Path:
        return build.write(name, f"Bootstrap: localimage\nFrom: base\n{sections}")

    return write
