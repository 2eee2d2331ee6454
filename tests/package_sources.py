"""Package sources of the session: fixtures of all tests that install packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
import repositories
from repositories import Key, Package

if TYPE_CHECKING:
    from collections.abc import Iterator

    from repositories import Server

SUITE = "bookworm"

# What debootstrap itself asks for by name, and what this program always includes.
EMPTY = {
    "base-files": "required",
    "perl-base": "required",
    "mawk": "required",
    "usr-is-merged": "required",
    "apt": "important",
}
ESSENTIAL = {"Essential": "yes", "Priority": "required"}


@pytest.fixture(scope="session")
def packages_place(storage: Path) -> Path:
    """Where the repositories of the session are; any user can read them."""
    machine.require("busybox")
    place = storage / "packages"
    place.mkdir(mode=0o755)
    return place


@pytest.fixture(scope="session")
def key(packages_place: Path) -> Key:
    machine.require("gpg")
    directory = packages_place / "key"
    directory.mkdir()
    return Key.make(directory)


@pytest.fixture(scope="session")
def other_key(packages_place: Path) -> Key:
    """Of somebody who has signed nothing."""
    machine.require("gpg")
    return Key.make(packages_place / "other-key")


@pytest.fixture
def server(packages_place: Path) -> Iterator[Server]:
    with repositories.serving(packages_place) as server:
        yield server


def installed(place: Path, name: str) -> Path:
    """A directory with a package of PyPI and what it needs, as for PYTHONPATH; skips where there is no such index."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--target", place, name]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip(f"no index of Python packages that has {name}")
    return place


@pytest.fixture(scope="session")
def rattler(storage: Path) -> Path:
    """The solver and installer of pixi, for Python: conda itself cannot be had."""
    return installed(storage / "rattler", "py-rattler")


@pytest.fixture(scope="session")
def uv(storage: Path) -> Path:
    """Its program is `bin/uv` there."""
    return installed(storage / "uv", "uv")


@pytest.fixture(scope="session")
def debian_mirror(packages_place: Path, key: Key) -> Path:
    """A mirror of a suite with a handful of packages: dpkg, on a busybox, and what must be there by name."""
    machine.require("dpkg-scanpackages")
    work, place = packages_place / "debian-work", packages_place / "debian"
    pool = place / "pool"
    pool.mkdir(parents=True)
    files = repositories.base_files()
    more = (
        "chgrp",
        "awk",
        "chroot",
        "find",
        "mktemp",
        "mount",
        "sort",
        "start-stop-daemon",
        "tail",
        "tr",
        "umount",
        "uname",
        "xargs",
    )
    links: dict[str, str | Path] = {f"/usr/bin/{name}": "->busybox" for name in more}
    links |= {"/sbin": "->usr/sbin", "/lib": "->usr/lib", "/lib64": "->usr/lib64"}
    tools: dict[str, str | Path] = {
        "/usr/sbin/ldconfig": Path("/sbin/ldconfig"),
        "/usr/sbin/start-stop-daemon": "->../bin/busybox",
    }
    system = repositories.lay(work / "dpkg", {**files, **links, **repositories.dpkg_files(), **tools})
    for name in ("dev", "proc", "sys", "tmp", "run", "root", "var/log", "var/tmp"):
        (system / name).mkdir(parents=True)
    repositories.deb(Package(name="dpkg", tree=system), pool, ESSENTIAL)
    libraries = repositories.lay(work / "libc6", {"/usr/share/doc/libc6/copyright": "x\n"})
    repositories.deb(Package(name="libc6", tree=libraries), pool, ESSENTIAL)
    accounts = repositories.lay(work / "base-passwd", {"/usr/share/base-passwd/group.master": "root:*:0:\n"})
    repositories.deb(Package(name="base-passwd", tree=accounts), pool, ESSENTIAL)
    for name, priority in EMPTY.items():
        tree = repositories.lay(work / name, {f"/usr/share/doc/{name}/copyright": "x\n"})
        repositories.deb(Package(name=name, tree=tree), pool, {"Priority": priority})
    text = '#!/bin/sh\necho "greeter 1"\n'
    greeter = repositories.lay(work / "greeter", {"/usr/bin/greeter": text})
    script = "ls /proc/self/exe >/etc/seen\nchgrp 42 /usr/bin/greeter\nchmod 4755 /usr/bin/greeter"
    repositories.deb(Package(name="greeter", tree=greeter, requires=("libc6",), script=script), pool, {})
    failing = repositories.lay(work / "failing", {"/usr/share/doc/failing/copyright": "x\n"})
    repositories.deb(Package(name="failing", tree=failing, script="nothing-that-exists"), pool, {})
    repositories.index_debs(place, SUITE, key)
    shutil.rmtree(work)
    return place
