"""People who change images, and images that are theirs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from containers import PEOPLE, Person, ext3_image, root_tree
from images import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def anyone(storage: Path, tmp_path: Path) -> Iterator[Callable[[str], Person]]:
    """Makes a person by name, who has a directory of her own; in the end nothing of hers is left running or mounted."""
    machine.require("root", "userns", "fuse", "loop", "fuse2fs", "mke2fs")
    machine.adopt_orphans()
    children = machine.children()
    place = storage / f"people-{tmp_path.name}"
    place.mkdir(mode=0o755)
    made: list[Person] = []

    def make(name: str) -> Person:
        mine = place / name
        (mine / "work").mkdir(parents=True)
        for name_of_place in ("tmp", "home"):
            (mine / name_of_place).mkdir()
        person = Person(name=name, world=PEOPLE[name], directory=mine / "work")
        person.give(mine / "work", mine / "tmp", mine / "home")
        made.append(person)
        return person

    yield make
    assert [machine.command_of(each) for each in machine.children() - children] == []
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    assert {person.name: person.left() for person in made} == {person.name: [] for person in made}
    shutil.rmtree(place)


@pytest.fixture(params=["root", "user", "user-with-one-id", "user-without-fuse"])
def person(request: pytest.FixtureRequest, anyone: Callable[[str], Person]) -> Person:
    return anyone(request.param)


@pytest.fixture(params=["root", "root-without-loop", "user", "user-with-one-id"])
def mounter(request: pytest.FixtureRequest, anyone: Callable[[str], Person]) -> Person:
    """Whoever can mount images."""
    return anyone(request.param)


@pytest.fixture(scope="session")
def tree(storage: Path) -> Path:
    """A small root file system."""
    return root_tree(storage / "tree-of-containers")


@pytest.fixture(scope="session")
def container(storage: Path, tree: Path) -> Path:
    """An image of version 2 with that tree; to be copied."""
    return ext3_image(tree, storage / "container.img")


@pytest.fixture
def image(person: Person, container: Path) -> Path:
    """An image of the person's."""
    return own(person, container)


@pytest.fixture
def mountable(mounter: Person, container: Path) -> Path:
    return own(mounter, container)


def own(person: Person, source: Path) -> Path:
    target = person.directory / "box.img"
    tool("cp", "--sparse=always", "--preserve=mode", source, target)
    person.give(target)
    return target


@pytest.fixture
def host(mounter: Person) -> Path:
    """A directory of the host that links of images lead to; whoever calls may write there."""
    directory = mounter.directory / "host"
    directory.mkdir()
    (directory / "file").write_text("the host's\n")
    mounter.give(directory)
    return directory
