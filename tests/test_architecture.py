"""Imports go one way: docs/architecture.md has the order of rooms, and what each may import."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).parent.parent
ROW = re.compile(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", re.MULTILINE)


def order() -> dict[str, frozenset[str]]:
    """The rooms from the ground up, and the rooms that each may import."""
    text = (TOP / "docs/architecture.md").read_text(encoding="utf-8")
    rows = ROW.findall(text.split("\n## The order of rooms\n")[1])
    names = [name for name, _ in rows]
    ground = names[: names.index("uri") + 1]
    return {name: frozenset(re.findall(r"`(\w+)`", text) + ground * text.startswith("ground")) for name, text in rows}


def imported(path: Path) -> Iterator[str]:
    """The rooms that a module imports, in functions and for types too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("singularity."))


def test_rooms_import_only_what_stands_above_them() -> None:
    allowed, package = order(), TOP / "singularity"
    rooms = list(allowed)
    assert rooms
    assert all(set(rooms[number:]).isdisjoint(allowed[room]) for number, room in enumerate(rooms))
    wrong = []
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room != "__init__":
            wrong += [f"{path}: {name}" for name in imported(path) if name not in {room, "__version__", *allowed[room]}]
    assert wrong == []
