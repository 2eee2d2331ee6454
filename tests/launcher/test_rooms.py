"""The rooms of the launcher, in order: a file includes headers of its own room and of those before it, no others."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LAUNCHER = CHECKOUT / "launcher"

# From what everybody may use to what nobody else uses. The last line that names a file counts.
TABLE = (CHECKOUT / "docs/architecture.md").read_text().split("\n## The rooms of the launcher\n")[1].split("\n## ")[0]
ROOMS = {
    name: files.replace("`", "") for name, files in re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", TABLE, re.MULTILINE)
}
INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)


@cache
def rooms() -> dict[Path, str]:
    """The room of each file: the last that names it."""
    return {path: name for name, globs in ROOMS.items() for glob in globs.split() for path in LAUNCHER.glob(glob)}


def room_of(path: Path) -> str:
    assert path in rooms(), f"{path.relative_to(CHECKOUT)} is in no room"
    return rooms()[path]


def included(path: Path) -> list[Path]:
    """The headers of ours that a file includes: beside it, or from launcher/ on."""
    names = INCLUDE.findall(path.read_text())
    places = [next((way for way in (path.parent / name, LAUNCHER / name) if way.exists()), None) for name in names]
    return [place.resolve() for place in places if place is not None and place.suffix == ".h"]


def test_includes_go_one_way() -> None:
    order = {name: number for number, name in enumerate(ROOMS)}
    files = sorted(path for path in LAUNCHER.rglob("*.[ch]"))
    edges = [(path, header) for path in files for header in included(path)]
    wrong = [
        f"{path.relative_to(LAUNCHER)} ({room_of(path)}) includes {header.relative_to(LAUNCHER)} ({room_of(header)})"
        for path, header in edges
        if order[room_of(header)] > order[room_of(path)]
    ]
    assert len(edges) > 200
    assert wrong == []


def test_each_file_says_what_it_is_for() -> None:
    """A plate: a comment on the first line."""
    files = sorted(path for path in LAUNCHER.rglob("*.[ch]"))
    assert [str(path.relative_to(LAUNCHER)) for path in files if not path.read_text().startswith("/* ")] == []


def test_functions_have_sixty_lines_at_most() -> None:
    long = []
    for path in sorted(LAUNCHER.rglob("*.c")):
        begun = 0
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line == "{":
                begun = number
            elif line == "}" and begun:
                long += [f"{path.relative_to(LAUNCHER)}:{begun}"] * (number - begun > 60)
    assert long == []
