"""Fixtures of the clients: their private environments, an image and a registry that has it, a user."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import machine
import pytest
import servers
from installed import PLACE, Client, environment
from launching import Launcher, Mode
from ordinary_user import Account, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def storage_of_clients() -> Iterator[Path]:
    machine.require("root", "installation", "userns", "fuse", "docker-registry", "mmdebstrap")
    PLACE.mkdir(parents=True, exist_ok=True)
    with (PLACE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield PLACE


@pytest.fixture(scope="session")
def debian(storage_of_clients: Path) -> Path:
    """A Debian with a shell and little else."""
    sif, archive = storage_of_clients / "debian.sif", storage_of_clients / "debian.tar"
    if not sif.exists():
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=essential", "bookworm", archive, machine.mirror()], check=True
        )
        subprocess.run([_program(), "build", "--force", sif, archive], check=True)
        archive.unlink()
    return sif


@pytest.fixture(scope="session")
def registry_of_clients(storage: Path, debian: Path) -> Iterator[tuple[str, str]]:
    """Its host, and the digest of the image."""
    with servers.registry(storage / "clients-registry") as registry:
        words = ["push", "--no-https", debian, f"docker://{registry.host}/small/debian:1"]
        done = subprocess.run([_program(), *words], check=True, capture_output=True, text=True)
        yield registry.host, done.stdout.strip()


def _program() -> Path:
    prefix = machine.prefix()
    assert prefix is not None
    return prefix / "bin/singularity"


@pytest.fixture
def client(
    request: pytest.FixtureRequest, storage: Path, debian: Path, registry_of_clients: tuple[str, str]
) -> Iterator[Client]:
    """By the mark `client(NAME, PACKAGE...)` of a test."""
    mark = request.node.get_closest_marker("client")
    assert mark is not None
    name, *packages = mark.args
    made = environment(name, tuple(packages) or (name,))
    prefix = machine.prefix()
    assert prefix is not None
    account = Account()
    directory = storage / f"client-{name}"
    directory.mkdir(mode=0o755)
    home = directory / "home"
    home.mkdir(mode=0o700)
    shutil.copyfile(debian, home / "debian.sif")
    for path in (home, home / "debian.sif"):
        os.chown(path, account.uid, account.gid)
    world = World(account=account, home=home)
    launch = Launcher(prefix=prefix, mode=Mode.SUID, world=world, home=home, directory=directory)
    yield Client(made, launch, launch.home_inside / "debian.sif", *registry_of_clients)
    shutil.rmtree(directory, ignore_errors=True)
