"""Who makes images: root, and an ordinary user who has neither user namespaces nor FUSE."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import machine
from containers import Person
from ordinary_user import ALICE, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORLDS = {"root": World(private=False), "user": World(account=ALICE, user_namespaces=False, fuse=False)}


@contextmanager
def typist(name: str, place: Path) -> Iterator[Person]:
    """A person with a directory of her own, in which commands leave nothing that they should not."""
    machine.require("root", "mke2fs")
    for directory in (place / "work", place / "tmp"):
        directory.mkdir(parents=True)
    place.chmod(0o755)
    person = Person(name=name, world=WORLDS[name], directory=place / "work")
    person.give(place / "work", place / "tmp")
    yield person
    assert person.left() == []
    shutil.rmtree(place)
