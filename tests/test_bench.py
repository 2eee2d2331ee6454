"""The harness of `make bench-all`: what it says of numbers, and when it says nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

# its `build` before the directory of tests; for these lines only
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

import all as bench
import steady
from steady import Series

sys.path.pop(0)


def series(name: str, *values: float, case: str = "true") -> Series:
    return Series(case=case, name=name, values=values)


def test_the_two_series_of_a_program_are_every_other_round() -> None:
    found = series("x", 1, 10, 2, 20, 3, 30)
    assert found.halves == ((1, 2, 3), (10, 20, 30))
    assert found.difference == pytest.approx(9.0)
    assert found.median == 6.5


@pytest.mark.parametrize(
    ("values", "agree"),
    [
        ((10, 10.9, 10, 10.9, 10, 10.9), True),
        ((10, 11.1, 10, 11.1, 10, 11.1), False),
        ((11.1, 10, 11.1, 10, 11.1, 10), False),
        ((10, 10, 10, 90, 10, 10), True),  # one launch that was disturbed
        ((10, 10, 10), False),  # no two series
        ((0, 0, 0, 0), False),
    ],
)
def test_a_ratio_is_refused_when_the_series_of_either_program_disagree(values: tuple[float, ...], agree: bool) -> None:
    tried, quiet = series("tried", *values), series("quiet", 5, 5, 5, 5)
    for one, other in ((tried, quiet), (quiet, tried)):
        found = steady.ratio("it", one, other, 1.5)
        assert (found.value is not None) == agree
        assert found.line().startswith("refused  it: the two series of tried") != agree
        assert any(word in found.line() for word in ("2.0", "2.1", "0.5", "0.4")) == agree


def test_a_ratio_is_of_the_medians_and_says_whether_it_was_reached() -> None:
    one, other = series("one", 3, 3, 3, 3, 3, 90), series("other", 2, 2, 2, 2)
    assert steady.ratio("it", one, other, 1.5).line() == "met      it: 1.50 (at most 1.5)"
    assert steady.ratio("it", one, other, 1.4).line() == "missed   it: 1.50 (at most 1.4)"


def test_of_several_peers_the_fastest_is_what_counts_and_what_is_not_there_is_not_told() -> None:
    found = [series("ours", 4, 4, 4, 4), series("slow", 8, 8, 8, 8), series("fast", 5, 5, 5, 5)]
    wanted = [
        ("true", "ours", ("slow", "fast", "missing"), 1.0),
        ("true", "ours", "missing", 1.0),
        ("false", "ours", "fast", 1.0),
    ]
    assert [each.line() for each in steady.ratios(found, wanted)] == ["met      true: ours, of fast: 0.80 (at most 1)"]


def test_the_table_marks_what_disagrees() -> None:
    text = steady.table([series("calm", 1, 1, 1, 1), series("restless", 1, 2, 1, 2), series("short", 1, case="tar")])
    marked = {
        line.split()[0]: "!" in line for line in text.splitlines() if line.startswith("  ") and "median" not in line
    }
    assert marked == {"calm": False, "restless": True, "short": True}
    assert [line for line in text.splitlines() if line.endswith(", ms")] == ["true, ms", "tar, ms"]


def test_variation_and_spread() -> None:
    found = series("x", *range(1, 11))
    assert found.spread == (2, 10)
    assert found.variation == pytest.approx(0.522, abs=0.001)


def test_every_target_names_programs_that_are_measured(tmp_path: Path) -> None:
    """A row that is renamed would else go from the results without a word."""
    place = bench.make_place.__globals__["Place"](prefix=tmp_path, directory=tmp_path, config=tmp_path, usr=tmp_path)
    (tmp_path / "bin").mkdir()
    for name in ("bwrap", "ch-run", "crun", "apptainer"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    rows = {case.name for case in bench.cases(place, ["true"])} | {"SIF, linger", "SIF -u, linger"}
    workloads = {each.name for each in bench.WORKLOADS}
    for case, name, others, _ in bench.WANTED:
        if case in {"true", bench.MANY, *workloads}:
            assert {name, *((others,) if isinstance(others, str) else others)} <= rows
    assert set(bench.SHOWN) <= rows


def test_the_picture_has_a_bar_for_each_series_on_the_scale_of_its_case() -> None:
    found = [series("ours", 1, 1, 1, 1), series("bubblewrap", 2, 2, 2, 2), series("ours", 500, 500, case="tar")]
    drawn = ElementTree.fromstring(bench.plot(found))  # noqa: S314 - our own
    widths = [
        float(each.get("width", 0)) for each in drawn.iter("{http://www.w3.org/2000/svg}rect") if each.get("opacity")
    ]
    assert widths[1] == widths[2] == pytest.approx(2 * widths[0])
