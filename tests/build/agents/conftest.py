"""The ways to build from packages: as root, and as an ordinary user with ids of her own and without."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import machine
import ordinary_user
import pytest
import repositories
from builds import Build
from repositories import lay

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from repositories import Inside


@dataclasses.dataclass(frozen=True)
class Alice(Build):
    """Builds by an ordinary user, who has a range of subordinate ids unless told otherwise."""

    listed: bool = True
    hidden: tuple[Path, ...] = ()  # programs that she does not find
    replaced: Mapping[Path, Path] = dataclasses.field(default_factory=dict)  # what she finds other things at

    def __call__(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        account = dataclasses.replace(ordinary_user.ALICE, listed=self.listed)
        hole = self.directory / "not-executable"
        hole.touch(mode=0o644)
        replaced = {**dict.fromkeys(self.hidden, hole), **self.replaced}
        world = ordinary_user.World(account=account, cwd=self.directory, replaced=replaced)
        return subprocess.run(
            self.argv(*words),
            env=self.env(**{**world.environment(), "PATH": os.environ["PATH"], **env}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=300,
            preexec_fn=world.enter,
        )


@pytest.fixture
def alice(storage: Path, request: pytest.FixtureRequest) -> Iterator[Alice]:
    machine.require("root", "userns", "newuidmap")
    directory = storage / f"alice-{abs(hash(request.node.nodeid))}"
    (directory / "tmp").mkdir(parents=True)
    for path in (directory, directory / "tmp"):
        os.chown(path, ordinary_user.ALICE.uid, ordinary_user.ALICE.gid)
    yield Alice(directory, {"SINGULARITY_CACHEDIR": str(directory / "cache")})
    shutil.rmtree(directory)


@pytest.fixture(params=["root", "alice", "alice-with-one-id"])
def builder(request: pytest.FixtureRequest) -> Build:
    """Whoever builds: each test runs as root, as an ordinary user, and as one without subordinate ids."""
    if request.param == "root":
        machine.require("root")
        build: Build = request.getfixturevalue("build")
        return build
    alice: Alice = request.getfixturevalue("alice")
    return alice if request.param == "alice" else dataclasses.replace(alice, listed=False)


@pytest.fixture
def python_base(builder: Build) -> Path:
    """A base image that borrows Python from this machine, for the time of its scripts."""
    root = builder.directory / "base"
    lay(root, {**repositories.base_files(), "/lib": "->usr/lib", "/lib64": "->usr/lib64"})
    shutil.rmtree(root / "usr")
    for name in ("usr", "opt", "root", "tmp"):
        (root / name).mkdir()
    builder.give()
    return root


@pytest.fixture
def inside() -> Inside:
    """Runs a program in a root file system, in namespaces, and returns what it writes."""

    def run(root: Path, *argv: str) -> str:
        script = (
            "import sys; from pathlib import Path; from singularity.build import container;"
            "sys.exit(container.run(Path(sys.argv[1]), sys.argv[2:], environment={'PATH': '/usr/bin:/bin:/sbin'}))"
        )
        words = [sys.executable, "-I", "-c", script, str(root), *argv]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
