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


def test_nothing_is_longer_than_a_reader_can_hold() -> None:
    """Modules of up to 450 lines, classes of up to 250, functions of up to 60."""
    limits = {ast.ClassDef: 250, ast.FunctionDef: 60, ast.AsyncFunctionDef: 60}
    long = []
    for path in sorted((TOP / "singularity").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        long += [str(path)] * (len(text.splitlines()) > 450)
        for node in ast.walk(ast.parse(text)):
            limit = limits.get(type(node))
            if limit and isinstance(node, ast.stmt) and (node.end_lineno or 0) - node.lineno >= limit:
                long.append(f"{path}:{node.lineno}")
    assert long == []
