"""Two interleaved series of every program: what they say when they agree, and that nothing is said when they do not.

Numbers only: who measures is elsewhere (timing, pull, build).
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LIMIT = 0.10  # what the medians of the two series of one program may differ by
LEAST = 2  # values of each series, without which nothing is compared


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One program in one case: its values in the order in which they were measured, round by round."""

    case: str
    name: str
    values: tuple[float, ...]
    unit: str = "ms"

    @property
    def halves(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The values of every other round: two measurements of the same, in the same time."""
        return self.values[0::2], self.values[1::2]

    @property
    def median(self) -> float:
        """Of all values."""
        return statistics.median(self.values)

    @property
    def difference(self) -> float:
        """How much more the one series has than the other, as a share of the smaller; infinite for too few values."""
        one, other = self.halves
        if min(len(one), len(other)) < LEAST:
            return float("inf")
        medians = sorted((statistics.median(one), statistics.median(other)))
        return medians[1] / medians[0] - 1 if medians[0] > 0 else float("inf")

    @property
    def spread(self) -> tuple[float, float]:
        """What a tenth of the values is below, and above."""
        ordered = sorted(self.values)
        at = [ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.1, 0.9)]
        return at[0], at[1]

    @property
    def variation(self) -> float:
        """The standard deviation as a share of the mean."""
        return statistics.pstdev(self.values) / statistics.fmean(self.values) if self.values else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """What one program takes of what another takes, or why that is not said."""

    text: str
    value: float | None
    limit: float
    refusal: str = ""

    def line(self) -> str:
        """For people."""
        if self.value is None:
            return f"refused  {self.text}: {self.refusal}"
        word = "met    " if self.value <= self.limit else "missed "
        return f"{word}  {self.text}: {self.value:.2f} (at most {self.limit:.2g})"


def ratio(text: str, one: Series, other: Series, limit: float) -> Ratio:
    """Of the medians; refused when the two series of either program differ by more than LIMIT."""
    for each in (one, other):
        if each.difference > LIMIT:
            how = f"differ by {each.difference:.0%}" if each.difference != float("inf") else "are too short"
            why = f"the two series of {each.name} {how}, so the machine was not quiet"
            return Ratio(text=text, value=None, limit=limit, refusal=why)
    return Ratio(text=text, value=one.median / other.median, limit=limit)


def ratios(found: Iterable[Series], wanted: Sequence[tuple[str, str, str | tuple[str, ...], float]]) -> list[Ratio]:
    """All that can be said of `wanted`: case, program, what it is compared with (of several the fastest), and limit."""
    by_name: Mapping[tuple[str, str], Series] = {(each.case, each.name): each for each in found if each.values}
    made = []
    for case, name, others, limit in wanted:
        names = (others,) if isinstance(others, str) else others
        there = [by_name[case, each] for each in names if (case, each) in by_name]
        if (case, name) in by_name and there:
            best = min(there, key=lambda each: each.median)
            made.append(ratio(f"{case}: {name}, of {best.name}", by_name[case, name], best, limit))
    return made


def table(found: Sequence[Series]) -> str:
    """A line for each: the median, those of both series and their difference, the spread."""
    heads = ("median", "series 1", "series 2", "differ", "10 %", "90 %", "variation", "of")
    width = max((len(each.name) for each in found), default=0) + 2
    lines = [" " * width + "".join(head.rjust(11) for head in heads)]
    case = ""
    for each in found:
        if each.case != case:
            case = each.case
            lines.append(f"\n{case}, {each.unit}")
        one, other = ((statistics.median(half) if half else float("nan")) for half in each.halves)
        low, high = each.spread
        numbers = "".join(f"{value:11.2f}" for value in (each.median, one, other))
        mark = " !" if each.difference > LIMIT else "  "
        share = f"{each.difference:8.1%}{mark} " if each.difference != float("inf") else "         ! "
        spread = f"{low:11.2f}{high:11.2f}{each.variation:11.1%}{len(each.values):11}"
        lines.append(f"  {each.name.ljust(width - 2)}{numbers}{share}{spread}")
    return "\n".join(lines) + "\n"
