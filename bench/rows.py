"""The results as text, as JSON and as a plot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from cases import FLOOR, GROUPS, NONE, OURS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from footprint import Residents, Trace
    from timing import Latency

WIDTH, LABELS, ROW = 960, 380, 22
COLOURS = {OURS: "#2a6fbb", NONE: "#888888", FLOOR: "#888888"}
PEER_COLOUR = "#d98032"
LEGEND = "ms until the program begins (dark) and has ended (light), 10 % to 90 %; singularity blue, peers orange"
COLUMNS = (
    "whole",
    "10 %",
    "90 %",
    "set-up",
    "CPU",
    "/ floor",
    "peak KiB",
    "stay",
    "stay KiB",
    "files",
    "bytes",
    "calls",
    "mounts",
    "per s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """Launches many at a time: the median of several rounds, and all that went wrong in any."""

    per_second: float
    cpu: float  # milliseconds a launch
    failures: int
    left: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """All that was measured of one case."""

    name: str
    group: str
    who: str
    whole: Latency  # /bin/true of the image
    bare: Latency  # a program of two pages, from outside the image
    peak: int  # KiB
    server_peak: int
    residents: Residents | None
    trace: Trace | None
    mounts: int  # that the program sees
    many: Many | None

    @property
    def failed(self) -> bool:
        """Whether any launch did."""
        return self.whole.failures + self.bare.failures > 0

    @property
    def set_up(self) -> float:
        """Milliseconds from the command to the first instruction of the program."""
        return self.bare.began.median if self.bare.began else float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One goal, and what came out."""

    text: str
    value: float
    limit: float
    unit: str = ""
    more_is_better: bool = False

    @property
    def met(self) -> bool:
        """Whether the goal was reached."""
        return self.value >= self.limit if self.more_is_better else self.value <= self.limit


def targets(rows: Sequence[Row]) -> list[Target]:
    """What the launcher is to reach, of the rows that this machine could make."""
    by_name = {row.name: row for row in rows if not row.failed}
    found = list(_latency_targets(by_name))
    found += _many_targets(by_name)
    ours = [row for row in by_name.values() if row.who == OURS]
    if ours:
        peak = max(row.peak for row in ours) / 1024
        found.append(Target(text="peak resident memory of a launch", value=peak, limit=4, unit=" MiB"))
        python = sum(len(row.trace.python_files) for row in ours if row.trace)
        found.append(Target(text="Python files opened by a launch", value=python, limit=0))
    return found


def _latency_targets(rows: dict[str, Row]) -> list[Target]:
    found = []

    def ratio(text: str, name: str, other: str, limit: float) -> None:
        if name in rows and other in rows:
            value = rows[name].whole.wall.median / rows[other].whole.wall.median
            found.append(Target(text=text, value=value, limit=limit, unit=" times"))

    def set_up(text: str, name: str, other: str, limit: float) -> None:
        if name in rows and other in rows:
            found.append(Target(text=text, value=rows[name].set_up - rows[other].set_up, limit=limit, unit=" ms"))

    ratio("directory -u, of bubblewrap", "directory -u", "bubblewrap", 0.7)
    ratio("directory, SUID, of bubblewrap", "directory", "bubblewrap", 0.8)
    for name in ("SIF", "squashfs", "ext3"):
        set_up(f"{name}, SUID: set-up over that of a directory", name, "directory", 1.5)
        ratio(f"{name}, SUID: of a directory", name, "directory", 2.0)
    ratio("SIF -u, of charliecloud with the squashfs that its tools make", "SIF -u", "charliecloud, plain gzip", 0.5)
    ratio("SIF -u, of charliecloud with our squashfs", "SIF -u", "charliecloud, our squashfs", 0.5)
    return found


def _many_targets(rows: dict[str, Row]) -> list[Target]:
    measured = {name: row.many for name, row in rows.items() if row.many}
    peers = [many.per_second for name, many in measured.items() if rows[name].who not in (OURS, NONE, FLOOR)]
    found = []
    for name in ("directory -u", "directory"):
        if name in measured and peers:
            value, text = measured[name].per_second / max(peers), f"{name}, 16 at a time: of the fastest peer"
            found.append(Target(text=text, value=value, limit=1.3, unit=" times", more_is_better=True))
    ours = [many for name, many in measured.items() if rows[name].who == OURS]
    left = sum(len(many.left) + many.failures for many in ours)
    found.append(Target(text="left behind, or failed, 16 at a time", value=left, limit=0))
    return found


def table(rows: Sequence[Row]) -> str:
    """Aligned columns; times in milliseconds, medians with the tenth and ninetieth percentiles of the whole."""
    lines = [["", *COLUMNS]]
    floor = next((row.whole.wall.median for row in rows if row.who == FLOOR), float("nan"))
    for group in GROUPS:
        lines.append([group])
        lines += [_cells(row, floor) for row in rows if row.group == group]
    full = [line for line in lines if len(line) > 1]
    first, *widths = [max(map(len, column)) for column in zip(*full, strict=True)]
    text = []
    for line in lines:
        name, *cells = line
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=False)]
        text.append("  ".join([name.ljust(first), *padded]).rstrip() if cells else f"\n{name}")
    return "\n".join(text) + "\n"


def _cells(row: Row, floor: float) -> list[str]:
    if row.failed:
        return [f"  {row.name}", "failed", *[""] * (len(COLUMNS) - 1)]
    wall = row.whole.wall
    stay = row.residents
    memory = f"{row.peak}" + (f"+{row.server_peak}" if row.server_peak else "")
    return [
        f"  {row.name}",
        f"{wall.median:.2f}",
        f"{wall.low:.2f}",
        f"{wall.high:.2f}",
        f"{row.set_up:.2f}",
        f"{row.whole.cpu.median:.2f}",
        f"{wall.median / floor:.2f}",
        memory,
        f"{stay.processes}" if stay else "",
        f"{stay.memory}" if stay else "",
        f"{len(row.trace.opened)}" if row.trace else "",
        f"{row.trace.read}" if row.trace else "",
        f"{row.trace.calls}" if row.trace else "",
        f"{row.mounts}",
        f"{row.many.per_second:.0f}" if row.many else "",
    ]


def target_lines(found: Sequence[Target]) -> str:
    """A line for each goal."""
    width = max(len(target.text) for target in found)
    return "".join(
        f"{'met   ' if target.met else 'missed'}  {target.text.ljust(width)}  {target.value:8.2f}{target.unit}"
        f"  ({'at least' if target.more_is_better else 'at most'} {target.limit:g})\n"
        for target in found
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A line of a picture; all numbers in the unit of its group."""

    name: str
    group: str
    who: str
    value: float
    low: float
    high: float
    longest: float  # what takes the whole width
    part: float = 0.0  # drawn dark


def plot(rows: Sequence[Row], title: str) -> str:
    """A bar for each row: the set-up dark, the rest of the whole light; percentiles as a line."""
    shown = [row for row in rows if not row.failed]
    longest = max(row.whole.wall.high for row in shown)
    made = [
        Bar(
            name=row.name,
            group=row.group,
            who=row.who,
            value=row.whole.wall.median,
            low=row.whole.wall.low,
            high=row.whole.wall.high,
            longest=longest,
            part=min(row.set_up, row.whole.wall.median),
        )
        for group in GROUPS
        for row in shown
        if row.group == group
    ]
    return bars(made, title, LEGEND)


def bars(made: Sequence[Bar], title: str, legend: str) -> str:
    """The picture, with a heading before each group."""
    y = 60
    parts = [f'<text x="12" y="24" font-size="15" font-weight="bold">{escape(title)}</text>']
    parts.append(f'<text x="12" y="42" fill="#555">{escape(legend)}</text>')
    group = ""
    for bar in made:
        if bar.group != group:
            group = bar.group
            y += 12
            parts.append(f'<text x="12" y="{y + 12}" font-weight="bold">{escape(group)}</text>')
            y += ROW
        parts += _bar(bar, y)
        y += ROW
    size = f'width="{WIDTH}" height="{y + 12}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect {size} fill="white"/>', *parts, "</svg>"]) + "\n"


def _bar(bar: Bar, y: int) -> list[str]:
    scale = (WIDTH - LABELS - 90) / bar.longest
    colour = COLOURS.get(bar.who, PEER_COLOUR)
    middle = y + 8
    low, high, end = (LABELS + value * scale for value in (bar.low, bar.high, bar.value))
    return [
        f'<text x="{LABELS - 8}" y="{y + 12}" text-anchor="end">{escape(bar.name)}</text>',
        f'<rect x="{LABELS}" y="{y}" width="{bar.value * scale:.1f}" height="16" fill="{colour}" opacity="0.45"/>',
        f'<rect x="{LABELS}" y="{y}" width="{bar.part * scale:.1f}" height="16" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#222" stroke-width="1"/>',
        f'<text x="{max(high, end) + 6:.1f}" y="{y + 12}">{bar.value:.1f}</text>',
    ]
