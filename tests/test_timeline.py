"""bench/timeline.py: what it makes of a trace of the kernel's."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import timeline

CALLS = ["execve", "execve", "open", "rt_sigaction", "unshare", "mount", "openat2", "fsopen", "move_mount", "openat2"]
CALLS += ["mount_setattr", "pivot_root", "prctl", "setitimer", "execve"]


def line(process: int, time: float, text: str) -> str:
    return f"     singularity-{process}    [001] ..... {time:.6f}: sys_{text}\n"


def trace(step: float = 10e-6) -> str:
    """Each call takes one step, and one passes before the next; another process's calls are between."""
    text, time = "# tracer: nop\n", 100.0
    for name in CALLS:
        result = "0x0" if name == "execve" else "0x3"
        text += line(7, time, f"{name}(fd: 3, name: 7f)") + line(8, time, "read(fd: 0)")
        text += line(8, time, "read -> 0x1") + line(7, time + step, f"{name} -> {result}")
        time += 2 * step
    return text


def test_calls_are_those_of_the_launch_alone() -> None:
    calls = timeline.read_trace(trace(), 7)
    assert [call.name for call in calls] == CALLS[1:]
    assert calls[0].begin == 0
    assert round(calls[-1].end) == 270


def test_a_launch_that_failed_is_none() -> None:
    assert timeline.read_trace(trace().replace("execve -> 0x0", "execve -> 0xfffffffe"), 7) == []


def test_stages_follow_each_other_and_make_the_whole() -> None:
    found = timeline.Timeline(name="x", runs=1, calls=tuple(timeline.read_trace(trace(), 7)))
    stages = list(found.stages())
    assert [name for name, *_ in stages] == [name for _, name, _ in timeline.STAGES]
    assert all(end == begin for (*_, end), (_, _, begin, _) in pairwise(stages))
    assert (stages[0][2], stages[-1][3]) == (0, found.whole)
    assert round(sum(spent for _, _, spent in found.kinds())) == round(found.whole)


def test_the_picture_is_one() -> None:
    found = timeline.Timeline(name="a <directory>", runs=1, calls=tuple(timeline.read_trace(trace(), 7)))
    picture = ElementTree.fromstring(timeline.draw([found, found]))  # noqa: S314 - it is ours
    assert len(picture.findall(".//{*}title")) == 2 * len(found.calls)
    assert "a <directory>" in "".join(picture.itertext())
