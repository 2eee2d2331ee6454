"""Runs the timer (timer.c) in a place and reads what it measured."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cases import Case
    from place import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One line of the timer: times in nanoseconds, CPU time in microseconds, memory in KiB."""

    began: int  # 0: the program did not say
    ended: int
    gone: int
    cpu: int
    peak: int
    orphan_peak: int
    failures: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Milliseconds of many launches."""

    median: float
    low: float  # a tenth took less
    high: float  # a tenth took more
    least: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """What one case took."""

    launches: int
    failures: int
    wall: Spread
    gone: Spread
    cpu: Spread
    began: Spread | None
    walls: tuple[float, ...]  # milliseconds, in the order of the rounds


def latency(place: Place, cases: Sequence[Case], runs: int, warmup: int) -> dict[str, Latency]:
    """Each case `runs` times, one after the other in every round; by name. Cases that fail have their failures."""
    return {name: _latency(launches) for name, launches in _timer(place, cases, "latency", runs, warmup).items()}


def memory(place: Place, cases: Sequence[Case], runs: int) -> dict[str, tuple[int, int]]:
    """Peak resident KiB of the launch's own processes and of the largest server that it leaves behind."""
    found = {}
    for name, launches in _timer(place, cases, "memory", runs, 1).items():
        peak = statistics.median_low([each.peak for each in launches])
        found[name] = (peak, statistics.median_low([each.orphan_peak for each in launches]))
    return found


def throughput(place: Place, case: Case, count: int, parallel: int) -> Launch:
    """One case `count` times, `parallel` at a time."""
    (launches,) = _timer(place, [case], "throughput", count, parallel).values()
    return launches[0]


def _timer(place: Place, cases: Sequence[Case], mode: str, first: int, second: int) -> dict[str, list[Launch]]:
    (place.directory / "cases").write_text("".join(case.line() for case in cases))
    argv = [str(place.shown("timer")), mode, str(first), str(second), str(place.shown("cases"))]
    found: defaultdict[str, list[Launch]] = defaultdict(list)
    for line in place.run(argv, timeout=1800).splitlines():
        name, *numbers = line.split("\t")
        began, ended, gone, cpu, peak, orphan_peak, failures, left = map(int, numbers)
        found[name].append(
            Launch(
                began=began,
                ended=ended,
                gone=gone,
                cpu=cpu,
                peak=peak,
                orphan_peak=orphan_peak,
                failures=failures,
                left=left,
            )
        )
    return found


def _latency(launches: Sequence[Launch]) -> Latency:
    began = [each.began / 1e6 for each in launches if each.began]
    return Latency(
        launches=len(launches),
        failures=sum(each.failures for each in launches),
        wall=_spread([each.ended / 1e6 for each in launches]),
        gone=_spread([each.gone / 1e6 for each in launches]),
        cpu=_spread([each.cpu / 1e3 for each in launches]),
        began=_spread(began) if began else None,
        walls=tuple(each.ended / 1e6 for each in launches),
    )


def _spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Spread(median=statistics.median(ordered), low=at(0.1), high=at(0.9), least=ordered[0])
