"""draw_architecture.py [--check]: draws docs/architecture.svg from the imports and includes of this tree.

The rooms, their order and what each is for stand in docs/architecture.md; an arrow is an import, left out where a
longer way along other arrows leads to the same room. --check draws nothing, and fails when the kept picture is not what
would be drawn.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from xml.sax.saxutils import escape

CHECKOUT = Path(__file__).resolve().parents[1]
DOCUMENT = CHECKOUT / "docs/architecture.md"
PICTURE = CHECKOUT / "docs/architecture.svg"
ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
INCLUDE = re.compile(r'^#include "([^"]+)"$', re.MULTILINE)
WIDTH, HEIGHT, GAP, STEP, TOP = 96, 30, 14, 58, 54

STYLE = (
    "rect{fill:#eef3f8;stroke:#456}path{fill:none;stroke:#89a}text{fill:#1d2733}.title{font-size:16px;font-weight:bold}"
    "@media (prefers-color-scheme:dark){rect{fill:#1f2d38;stroke:#7fa3bd}path{stroke:#6b7f8e}text{fill:#e3e8ed}}"
)

Edges = Mapping[str, set[str]]


def rooms(heading: str) -> list[str]:
    """The rooms of the table below a heading of the document, as they stand there."""
    return ROW.findall(DOCUMENT.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0])


def python_edges() -> Edges:
    """Which room imports which; the modules of the ground are one room."""
    order = rooms("The order of rooms")
    ground = set(order[: order.index("uri") + 1])
    edges: dict[str, set[str]] = {"ground": set()}
    for path in sorted((CHECKOUT / "singularity").rglob("*.py")):
        room = path.relative_to(CHECKOUT / "singularity").parts[0].removesuffix(".py")
        for name in _imported(path):
            _add(edges, "ground" if room in ground else room, "ground" if name in ground else name)
    return {room: found for room, found in edges.items() if room not in ("__init__", "__main__")}


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "singularity":
            below = node.module.split(".")[1:2] or [alias.name for alias in node.names]
            yield from (name for name in below if name != "__version__")


def launcher_edges() -> Edges:
    """Which room of the launcher includes headers of which."""
    sys.path.insert(0, str(CHECKOUT / "tests/launcher"))
    import test_rooms

    edges: dict[str, set[str]] = {}
    for path, room in sorted(test_rooms.rooms().items()):
        if path.suffix in (".c", ".h"):
            for header in test_rooms.included(path):
                _add(edges, room, test_rooms.room_of(header))
    return edges


def _add(edges: dict[str, set[str]], room: str, other: str) -> None:
    edges.setdefault(room, set())
    if other != room:
        edges[room].add(other)


def levels(edges: Edges) -> dict[str, int]:
    """How many rooms lie below each, along the longest way."""
    found: dict[str, int] = {}

    def level(room: str) -> int:
        if room not in found:
            found[room] = 1 + max((level(other) for other in edges.get(room, ())), default=-1)
        return found[room]

    for room in edges:
        level(room)
    return found


def reduced(edges: Edges) -> Iterator[tuple[str, str]]:
    """The arrows that no longer way replaces."""

    def reach(room: str) -> set[str]:
        return {room}.union(*(reach(other) for other in edges.get(room, ())))

    for room, below in edges.items():
        for other in sorted(below):
            if not any(other in reach(between) for between in below - {other}):
                yield room, other


def _half(title: str, edges: Edges, left: int, width: int, tallest: int) -> Iterable[str]:
    level = levels(edges)
    places: dict[str, tuple[float, float]] = {}
    for number in range(max(level.values()) + 1):
        row = sorted(room for room in level if level[room] == number)
        start = left + (width - len(row) * WIDTH - (len(row) - 1) * GAP) / 2
        for at, room in enumerate(row):
            places[room] = (start + at * (WIDTH + GAP), TOP + (tallest - number) * STEP)
    yield f'<text x="{left + width / 2:g}" y="26" class="title">{escape(title)}</text>'
    for room, other in reduced(edges):
        (x, y), (to, down) = places[room], places[other]
        x, y, to = x + WIDTH / 2, y + HEIGHT, to + WIDTH / 2
        yield f'<path d="M{x:g} {y:g}C{x:g} {y + 24:g} {to:g} {down - 24:g} {to:g} {down:g}"/>'
    for room, (x, y) in places.items():
        yield f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
        yield f'<text x="{x + WIDTH / 2:g}" y="{y + 19:g}">{escape(room)}</text>'


def picture() -> str:
    """The whole picture as SVG."""
    halves = {"singularity/ (Python)": python_edges(), "launcher/ (C)": launcher_edges()}
    tallest = max(max(levels(edges).values()) for edges in halves.values())
    widths = [_widest(edges) for edges in halves.values()]
    box = f"0 0 {sum(widths)} {TOP + (tallest + 1) * STEP}"
    font = 'font-family="sans-serif" font-size="13" text-anchor="middle"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" {font}>', f"<style>{STYLE}</style>"]
    for (title, edges), width, left in zip(halves.items(), widths, (0, widths[0]), strict=True):
        lines += _half(title, edges, left, width, tallest)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _widest(edges: Edges) -> int:
    level = list(levels(edges).values())
    return max(level.count(number) for number in level) * (WIDTH + GAP) + 3 * GAP


def main() -> None:
    """Draws the picture, or compares it."""
    drawn = picture()
    if "--check" not in sys.argv[1:]:
        PICTURE.write_text(drawn)
    elif not PICTURE.exists() or PICTURE.read_text() != drawn:
        sys.exit("docs/architecture.svg is not what this tree looks like (draw it: scripts/draw_architecture.py)")


if __name__ == "__main__":
    main()
