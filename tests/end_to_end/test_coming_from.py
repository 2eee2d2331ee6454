"""The pages for who comes from another program: our command lines in their tables are typed by a user."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images
    from launching import Launcher
    from servers import Registry

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs/coming-from").glob("*.md"))
ROW = re.compile(r"^\|([^|]+)\|([^|]+)\|$", re.MULTILINE)
OURS = re.compile(r"`(singularity [^`]+)`")
NOT_HERE = {
    "registry login": "asks for a password: tests/registry",
    "docker-daemon:": "a daemon: tests/sources",
    "--memory": "control groups that a user has: test_limits.py",
    "instance stats": "the same",
    "portmap=": "a namespace for networks, and pasta: test_networks.py",
    "--security seccomp:": "a profile: test_restrictions.py",
}
DEFINITION = "Bootstrap: localimage\nFrom: base\n%runscript\n    echo runs\n%apprun one\n    echo one\n"
DOCKERFILE = 'FROM localimage:./base\nENV MADE=here\nCMD ["true"]\n'


def lines(page: Path) -> list[str]:
    return [line for row in ROW.findall(page.read_text()) for column in row for line in OURS.findall(column)]


@pytest.fixture
def stopped(launch: Launcher) -> Iterator[None]:
    yield
    launch.command("singularity", "instance", "stop", "--all")


@pytest.mark.usefixtures("stopped")
@pytest.mark.modes("userns")
@pytest.mark.needs("root", "fuse", "mksquashfs", "docker-registry")
@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_what_a_page_says_is_typed(page: Path, launch: Launcher, images: Images, plain_registry: Registry) -> None:
    machine.require("overlay")
    home = launch.home
    shutil.copytree(images.sandbox, home / "base", symlinks=True)
    (home / "base/etc/os-release").write_text("NAME=Debian\n")
    (home / "tool.def").write_text(DEFINITION)
    (home / "Dockerfile").write_text(DOCKERFILE)
    (home / "names.env").write_text("ONE=1\n")
    (home / "data").mkdir()
    (home / "data/file").write_text("of the host\n")
    for path in (home, *home.rglob("*")):
        os.chown(path, launch.account.uid, launch.account.gid, follow_symlinks=False)
    variables = {"SINGULARITY_NOHTTPS": "1"}

    def typed(line: str) -> None:
        done = launch.command("sh", "-c", f"cd && {line}", env=variables, timeout=120)
        assert (done.status, "FATAL" in done.err) == (0, False), f"{line}\n{done}"

    for line in (
        "singularity build tool.sif tool.def && cp tool.sif debian_12.sif",
        "singularity build tool.sqfs tool.sif && singularity build --sandbox box tool.sif",
        f"singularity push tool.sif docker://{plain_registry.host}/library/debian:12",
        f"singularity push tool.sif oras://{plain_registry.host}/lab/old:1",
        "singularity push tool.sif oci:layout:1 && singularity push tool.sif docker-archive:tool.tar",
        "rm tool.sif && cp debian_12.sif tool.sif",
    ):
        typed(line)
    found = lines(page)
    assert len(found) > 10
    for line in found:
        if any(words in line for words in NOT_HERE):
            continue
        here = line.replace("docker://debian:12", f"docker://{plain_registry.host}/library/debian:12")
        here = here.replace("registry.example.org", plain_registry.host).replace("/data:", "$HOME/data:")
        typed(here if "--force" in here else here.replace("singularity build ", "singularity build --force "))


def test_what_is_left_out_is_there() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert [words for words in NOT_HERE if words not in text] == []
