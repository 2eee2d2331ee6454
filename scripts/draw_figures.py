"""draw_figures.py [--check]: draws docs/pictures/ from the tables of docs/performance.md and docs/hpc/scale.md.

The figures stand in those tables alone. Bars are of one scale within a picture. Colours follow the reader's light or
dark setting. --check draws nothing, and fails when a kept picture is not what would be drawn.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CHECKOUT = Path(__file__).resolve().parents[1]
PICTURES = CHECKOUT / "docs/pictures"
WIDTH, LEFT, RIGHT, ROW, BAR, TOP = 760, 270, 80, 26, 15, 46  # pixels
STYLE = """\
<style>
svg { --ink: #1d2733; --quiet: #56626f; --ours: #1d6a96; --others: #a9b7c4; --floor: #d5dde4; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e3e8ed; --quiet: #a3afba; --ours: #6db9e3; --others: #56636f; --floor: #3a454f; }
}
text { fill: var(--ink); } .quiet { fill: var(--quiet); } .title { font-weight: 600; font-size: 15px; }
.ours { fill: var(--ours); }
.others { fill: var(--others); } .floor { fill: var(--floor); } .strong { font-weight: 600; }
</style>"""

SHORTER = {  # names that are sentences in their table
    "floor: the least static program that makes these namespaces and mounts": "floor: a program that only mounts",
    "a tag that shares nine of ten layers with one that was pulled": "another tag, nine layers shared",
    "the same, ranks share a container": "SIF, ranks share a container",
}
OURS = ("another tag, nine layers shared", "the same tag again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar; `kind` is a class of STYLE."""

    name: str
    value: float
    kind: str


def cells(page: str, heading: str) -> Iterator[list[str]]:
    """The rows of the table whose first cell of its heading is this."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    found = re.search(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"draw_figures: {page} has no table that begins with {heading}")
    for line in found[1].splitlines():
        yield [cell.strip() for cell in line.strip("|").split("|")]


def bars(page: str, heading: str, column: int, floor: Sequence[str] = ()) -> Iterator[Bar]:
    """A bar for each number of a column; rows of several names and numbers are several bars."""
    for row in cells(page, heading):
        name = row[0]
        values = [float(number) for number in re.findall(r"[\d.]+", re.sub(r"\(.*?\)", "", row[column]))]
        kind = "ours" if name.startswith("**") else "floor" if any(word in name for word in floor) else "others"
        name = name.replace("**", "").replace("`", "")
        names = name.split(", ") if len(values) > 1 and len(name.split(", ")) == len(values) else [name]
        for each, value in zip(names, values, strict=False):
            short = SHORTER.get(each, each)
            yield Bar(name=short, value=value, kind="ours" if short in OURS else kind)


def chart(title: str, unit: str, shown: Sequence[Bar], note: str) -> str:
    """Bars below each other, with their values."""
    scale = (WIDTH - LEFT - RIGHT) / max(bar.value for bar in shown)
    height = TOP + len(shown) * ROW + 26
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'{head} role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13">',
        STYLE,
        f'<text class="title" x="0" y="18">{escape(title)}</text>',
    ]
    for number, bar in enumerate(shown):
        y = TOP + number * ROW
        strong = ' class="strong"' if bar.kind == "ours" else ""
        parts.append(f'<text x="{LEFT - 10}" y="{y}" text-anchor="end"{strong}>{escape(bar.name)}</text>')
        width = max(bar.value * scale, 1.5)
        parts.append(f'<rect class="{bar.kind}" x="{LEFT}" y="{y - 12}" width="{width:.1f}" height="{BAR}" rx="2"/>')
        parts.append(f'<text class="quiet" x="{LEFT + width + 7:.1f}" y="{y}">{bar.value:g} {unit}</text>')
    parts.append(f'<text class="quiet" x="0" y="{height - 6}" font-size="11">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def launches() -> str:
    """`/bin/true` from a directory and from images."""
    left_out = ("squashfs of mksquashfs", "SIF with EROFS", "floor, our squashfs", "gzip")
    shown = [
        bar
        for bar in bars("docs/performance.md", "`/bin/true`", 1, ("floor", "without"))
        if not any(word in bar.name for word in left_out)
    ]
    return chart(
        "Starting /bin/true", "ms", shown, "Medians of 40, an ordinary user, two processors; docs/performance.md"
    )


def pulls() -> str:
    """A gigabyte from a registry to an image file."""
    shown = list(bars("docs/performance.md", "from a registry to a SIF file, seconds (of processor)", 2, ("floor",)))
    return chart("From a registry to an image: 2 GB in ten layers", "s", shown, "docs/performance.md")


def scale() -> str:
    """What ten thousand nodes ask."""
    rows = [row for row in cells("docs/hpc/scale.md", "`python3 -c pass`") if row[2]]
    shown = []
    for row in rows:
        name = row[0].replace("**", "").replace("`", "")
        seconds = float(re.findall(r"\((\d+) s\)", row[2])[0])
        kind = "ours" if row[0].startswith("**") else "others"
        shown.append(Bar(name=SHORTER.get(name, name), value=seconds, kind=kind))
    title = "10,000 nodes start 64 programs each: seconds of a metadata server"
    return chart(title, "s", shown, "Modelled, at 50,000 operations a second; docs/hpc/scale.md")


FIGURES: dict[str, Callable[[], str]] = {"launches": launches, "pulls": pulls, "scale": scale}


def main() -> int:
    """Draws, or with --check compares; 1 when a picture is not what would be drawn."""
    PICTURES.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        path = PICTURES / f"{name}.svg"
        if "--check" not in sys.argv[1:]:
            path.write_text(draw(), encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != draw():
            sys.stderr.write(f"{path.relative_to(CHECKOUT)} is old: scripts/draw_figures.py draws it\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
