"""Every way to lay file systems over each other in SUID mode, with a directory among them that others keep closed: it
stays closed, whatever lies above and below it. A fifth of the table here; EXHAUSTIVE=1 (`make fuzz`): all of it."""

from __future__ import annotations

import itertools
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hostile_host import HostileHost, violations
from launch_requests import Value, request_for
from workers import Job, run_all, working

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from images import Images
    from launching import Launcher

pytestmark = [
    pytest.mark.needs("root", "mke2fs", "mksquashfs", "overlay", "fuse", "fuse2fs"),
    pytest.mark.modes("suid"),
]

EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))
BASES = ("directory", "directory-lacking", "squashfs", "ext3", "sif", "sif-ext3", "sif-opening")
CLOSED = {"directory", "directory-lacking", "of-others"}  # those that have the closed directory
LAYERS: dict[str, tuple[Callable[[HostileHost], Path], bool]] = {  # what they are, and whether they are written
    "of-others": (lambda host: host.images["directory"], False),
    "directory": (lambda host: host.mine / "opening", False),
    "directory-rw": (lambda host: host.mine / "opening", True),
    "plain-directory": (lambda host: host.mine / "opening/upper", False),
    "squashfs": (lambda host: host.mine / "opening.squashfs", False),
    "ext3": (lambda host: host.mine / "opening.ext3", False),
    "ext3-rw": (lambda host: host.mine / "opening.ext3", True),
}
TOPS: dict[str, list[tuple[str, Value]]] = {"": [], "tmpfs": [("writable_tmpfs", True)]}
POINTS: dict[
    str, list[tuple[str, Value]]
] = {  # mount points that have to be made, in the closed directory and elsewhere
    "": [],
    "overlay": [("bind", (0, b"/usr/share", b"/closed-root/inner/new")), ("bind", (0, b"/usr/share", b"/new/deep"))],
    "underlay": [("underlay", True), ("bind", (0, b"/usr/share", b"/new/deep"))],
}


@dataclass(frozen=True, slots=True)
class Stack:
    base: str
    layers: tuple[str, ...]  # the first is topmost
    top: str
    points: str

    def asked(self, host: HostileHost) -> list[tuple[str, Value]]:
        overlays: list[tuple[str, Value]] = []
        for name in self.layers:
            place, writable = LAYERS[name]
            overlays.append(("overlay", (0 if writable else 1, os.fsencode(place(host)), b"")))
        return [*overlays, *TOPS[self.top], *POINTS[self.points]]


def stacks() -> Iterator[Stack]:
    """First, middle and top; where one of them is closed to the user, and at most one is written."""
    for count in range(3):
        for base, layers, top, points in itertools.product(
            BASES, itertools.product(LAYERS, repeat=count), TOPS, POINTS
        ):
            writers = sum(LAYERS[name][1] for name in layers) + (top == "tmpfs")
            if CLOSED & {base, *layers} and writers < 2:
                yield Stack(base, layers, top, points)


@pytest.mark.parametrize("extfs", [True, False], ids=["extfs", "default"])
def test_no_stack_opens_a_directory_of_others(
    launch: Launcher, hostile_host: HostileHost, images: Images, *, extfs: bool
) -> None:
    """R-M12: directory, ext3, squashfs, SIF partition, memory; read-only and written; overlay and underlay."""
    launcher = launch.configured("allow setuid-mount extfs = yes\n") if extfs else launch
    table = list(stacks())
    chosen = table if EXHAUSTIVE else table[int(extfs) :: 5]
    jobs = []
    for stack in chosen:
        octets = request_for(hostile_host.images[stack.base], *stack.asked(hostile_host))
        words = [b"sexec", b"5", b"/bin/witness", *hostile_host.known]
        jobs.append(Job(program=launcher.starter, words=words, request=octets))
    with ExitStack() as everything:
        workers = [everything.enter_context(working(launcher, images.directory)) for _ in range(2)]
        outcomes = run_all(workers, jobs)
    bad = []
    for stack, job, outcome in zip(chosen, jobs, outcomes, strict=True):
        found = violations(hostile_host, outcome, job.request or b"", 0)
        bad += [f"{stack}: {'; '.join(found)}\n    {outcome.err[:300]}"] if found else []
    assert not bad, f"{len(bad)} of {len(chosen)}:\n" + "\n".join(bad[:10])
    ran = sum(outcome.witness is not None for outcome in outcomes)
    print(f"{ran} of {len(chosen)} stacks ran, {len(table)} in the table")  # noqa: T201
    refused = {outcome.err for outcome in outcomes if outcome.witness is None}
    assert ran * 3 > len(chosen), refused  # a bind into the closed directory is refused, mostly


def test_the_table_has_each_kind_in_each_place() -> None:
    table = list(stacks())
    for name in LAYERS:
        assert {stack.layers.index(name) for stack in table if name in stack.layers} == {0, 1}
    assert {stack.base for stack in table} == set(BASES)


def test_the_layers_are_what_the_table_says(hostile_host: HostileHost) -> None:
    """They are there, and the closed directory is."""
    assert all(place(hostile_host).exists() for place, _ in LAYERS.values())
    assert (hostile_host.images["directory"] / "closed-root/inner/secret-of-others").exists()
