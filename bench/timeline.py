"""Where the time of a launch goes, call by call: many launches, traced by the kernel's ftrace, drawn as SVG.

Needs root and tracefs. ftrace writes into memory, about a microsecond a call, where strace stops the process at each.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cases import Case
    from place import Place

TRACING = Path("/sys/kernel/tracing/instances")
LINE = re.compile(r"-(\d+) +\[\d+\] \S+ +([\d.]+): sys_(\w+?)( -> (\S+)|\()")

# What begins with which call, in the order of a launch; colours of neighbours differ.
STAGES = (
    ("execve", "front door: options, variables, accounts", "#2a6fbb"),
    ("rt_sigaction", "starter: configuration, image, plan", "#5a9bd4"),
    ("unshare", "namespaces", "#d98032"),
    ("openat2", "sources of binds", "#8cbf4d"),
    ("fsopen", "directory in memory, image", "#4d9a8c"),
    ("openat2", "a look into the image", "#b0a030"),
    ("mount_setattr", "mounts", "#c0504d"),
    ("pivot_root", "new root", "#7d60a0"),
    ("prctl", "rights given up", "#2a6fbb"),
    ("setitimer", "variables, the program", "#5a9bd4"),
)
WIDTH, LEFT, ROW = 1100, 20, 118  # pixels
STYLE = (  # light and dark as the reader has it
    "<style>text{fill:#1d2733}.quiet{fill:#56626f}.tick{stroke:#8b97a3}.line{stroke:#d5dde4}"
    "@media (prefers-color-scheme:dark){text{fill:#e3e8ed}.quiet{fill:#a3afba}"
    ".tick{stroke:#6b7783}.line{stroke:#333d46}}</style>"
)
GRID, NAMED = 50.0, 5.0  # microseconds; shorter calls have no name in the picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One system call; microseconds from the start of the first program."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A launch undisturbed: the median of each call over the quickest of those launches that made the same calls."""

    name: str
    runs: int
    calls: tuple[Call, ...]

    @property
    def whole(self) -> float:
        """Microseconds until the program runs."""
        return self.calls[-1].end

    def stages(self) -> Iterator[tuple[str, str, float, float]]:
        """Name, colour, begin and end of each stage that the launch has."""
        begins: list[tuple[int, float]] = []
        for call in self.calls:
            following = begins[-1][0] + 1 if begins else 0
            if following < len(STAGES) and call.name == STAGES[following][0]:
                begins.append((following, call.begin))
        ends = [begin for _, begin in begins[1:]] + [self.whole]
        for (number, begin), end in zip(begins, ends, strict=True):
            yield STAGES[number][1], STAGES[number][2], begin, end

    def kinds(self) -> list[tuple[str, int, float]]:
        """Name, number and microseconds of the kinds of calls, the longest first, with what is between them."""
        spent: defaultdict[str, float] = defaultdict(float)
        for call in self.calls:
            spent[call.name] += call.end - call.begin
        counts = Counter(call.name for call in self.calls)
        found = [(name, counts[name], spent[name]) for name in counts]
        found.append(("(between)", 0, self.whole - sum(spent.values())))
        return sorted(found, key=lambda kind: -kind[2])


def timelines(place: Place, chosen: Sequence[Case], runs: int) -> list[Timeline]:
    """One a case; none where the kernel's tracing cannot be used."""
    if not TRACING.is_dir() or not (TRACING.parent / "events/syscalls").is_dir():
        print("No timeline: tracefs is not mounted, or the kernel traces no system calls", flush=True)
        return []
    instance = TRACING / f"singularity-bench-{os.getpid()}"
    instance.mkdir()
    try:
        (instance / "buffer_size_kb").write_text("4096")
        return [_timeline(case.name, [_launch(place, instance, case.one()) for _ in range(runs)]) for case in chosen]
    finally:
        (instance / "events/syscalls/enable").write_text("0")
        instance.rmdir()


def _launch(place: Place, instance: Path, argv: Sequence[str]) -> list[Call]:
    """The calls of one launch, which is one process."""
    enter = place.world().enter
    chosen = os.open(instance / "set_event_pid", os.O_WRONLY)

    def begin() -> None:
        enter()
        os.write(chosen, str(os.getpid()).encode())

    (instance / "trace").write_text("")
    (instance / "events/syscalls/enable").write_text("1")
    with subprocess.Popen(
        ["/usr/bin/env", *argv],  # executing a program takes long where the one before was as large as this
        env=place.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=begin,
        cwd="/",
    ) as process:
        process.wait(timeout=60)
    (instance / "events/syscalls/enable").write_text("0")
    os.close(chosen)
    return read_trace((instance / "trace").read_text(), process.pid)


def read_trace(text: str, process: int) -> list[Call]:
    """The calls of a process from its second execve that succeeded (the first is env) to the last, its program."""
    calls: list[Call] = []
    pending: tuple[str, float] | None = None
    programs = []
    for found in LINE.finditer(text):
        if int(found[1]) != process:
            continue
        name, time = found[3], float(found[2]) * 1e6
        if found[5] is None:
            pending = (name, time)
        elif pending is not None and pending[0] == name:
            if name in ("execve", "execveat") and found[5] == "0x0":
                programs.append(len(calls))
            calls.append(Call(name=name, begin=pending[1], end=time))
            pending = None
    if len(programs) < 3:
        return []
    start = calls[programs[1]].begin
    kept = calls[programs[1] : programs[-1] + 1]
    return [Call(name=call.name, begin=call.begin - start, end=call.end - start) for call in kept]


def _timeline(name: str, launches: Sequence[list[Call]]) -> Timeline:
    """Medians of gaps and of calls one after the other, so that no call begins before the one before has ended.

    Of the quarter that took least: what others do on the machine is not what a launch does.
    """
    usual, _ = Counter(tuple(call.name for call in launch) for launch in launches if launch).most_common(1)[0]
    same = [launch for launch in launches if tuple(call.name for call in launch) == usual]
    same = sorted(same, key=lambda launch: launch[-1].end)[: max(len(same) // 4, 1)]
    calls: list[Call] = []
    time = 0.0
    for number, kind in enumerate(usual):
        before = [launch[number - 1].end if number else launch[number].begin for launch in same]
        time += statistics.median(launch[number].begin - end for launch, end in zip(same, before, strict=True))
        length = statistics.median(launch[number].end - launch[number].begin for launch in same)
        calls.append(Call(name=kind, begin=time, end=time + length))
        time += length
    return Timeline(name=name, runs=len(same), calls=tuple(calls))


def table(found: Sequence[Timeline]) -> str:
    """Stages and kinds of calls as text, in milliseconds."""
    lines = []
    for timeline in found:
        lines.append(f"{timeline.name}: {timeline.whole / 1000:.2f} ms, {len(timeline.calls)} calls")
        lines += [f"  {(end - begin) / 1000:6.3f}  {what}" for what, _, begin, end in timeline.stages()]
        longest = timeline.kinds()[:12]
        lines.append("  " + ", ".join(f"{kind} {count or ''} {spent / 1000:.2f}" for kind, count, spent in longest))
    return "\n".join(lines) + "\n"


def draw(found: Sequence[Timeline]) -> str:
    """A row a launch, all to one scale: stages as coloured bars, dark where the kernel works, a line each 0.05 ms."""
    scale = (WIDTH - 2 * LEFT) / max(timeline.whole for timeline in found)
    parts: list[str] = []
    for number, timeline in enumerate(found):
        top = 34 + number * (ROW + 66)
        head = (
            f"{timeline.name}: {timeline.whole / 1000:.2f} ms from execve to the program, {len(timeline.calls)} calls"
        )
        parts.append(f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(head)}</text>')
        parts += _grid(timeline, top, scale)
        parts += _bars(timeline, top, scale)
    height = 34 + len(found) * (ROW + 66)
    parts.append(f'<text x="{LEFT}" y="{height}" class="quiet">{escape(_legend(found))}</text>')
    size = f'viewBox="0 0 {WIDTH} {height + 16}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, STYLE, *parts, "</svg>"]) + "\n"


def _legend(found: Sequence[Timeline]) -> str:
    runs = min(timeline.runs for timeline in found)
    what = "dark: in system calls, light: in programs and page faults"
    return f"A line each 0.05 ms; {what}; medians of the {runs} quickest of four times as many, traced"


def _grid(timeline: Timeline, top: float, scale: float) -> Iterator[str]:
    time = 0.0
    while time <= timeline.whole:
        x, tall = LEFT + time * scale, round(time / GRID) % 5 == 0
        yield f'<path d="M{x:.1f} {top}v{34 if tall else 28}" class="{"tick" if tall else "line"}"/>'
        if tall:
            place = f'x="{x:.1f}" y="{top + 46}" text-anchor="middle"'
            yield f'<text {place} class="quiet" font-size="10">{time / 1000:.2f}</text>'
        time += GRID


def _bars(timeline: Timeline, top: float, scale: float) -> Iterator[str]:
    for number, (what, colour, begin, end) in enumerate(timeline.stages()):
        x, width = LEFT + begin * scale, (end - begin) * scale
        yield f'<rect x="{x:.1f}" y="{top}" width="{width:.1f}" height="24" fill="{colour}" fill-opacity="0.35"/>'
        short = ""
        for call in timeline.calls:
            if begin <= call.begin < end:
                at, length = LEFT + call.begin * scale, (call.end - call.begin) * scale
                if call.end - call.begin < NAMED:
                    short += f"M{at:.1f} {top}h{length:.1f}v24h-{length:.1f}"
                    continue
                title = f"{call.name} {call.end - call.begin:.0f} µs"
                place = f'x="{at:.1f}" y="{top}" width="{length:.1f}" height="24"'
                yield f'<rect {place} fill="{colour}"><title>{title}</title></rect>'
        yield f'<path d="{short}" fill="{colour}"/>'
        column, line = number % 2, number // 2
        place = f'x="{LEFT + 14 + column * 520}" y="{top + 64 + line * 18}"'
        yield f'<rect x="{LEFT + column * 520}" y="{top + 55 + line * 18}" width="9" height="9" fill="{colour}"/>'
        yield f"<text {place}>{(end - begin) / 1000:.2f} ms  {escape(what)}</text>"
