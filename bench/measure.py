"""Measures container launches beside other programs that launch containers: `make bench`, docs/performance.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import timeline
import timing
from cases import FLOOR, NONE, OURS, cases
from footprint import descendants, mounts, residents, trace
from formats import make_images
from machine import adopt_orphans, children, loops_of
from place import make_place
from rows import Many, Row, plot, table, target_lines, targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cases import Case
    from place import Place

COUNT, PARALLEL, ROUNDS = 500, 16, 3
MEMORY_RUNS = 5
SETTLING = 5.0  # seconds
PEERS = {"bwrap": "bubblewrap", "crun": "crun", "runc": "runc", "ch-run": "charliecloud-runtime"}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Measure container launches beside other programs that make them.")
    parser.add_argument("--prefix", type=Path, required=True, help="the installation that is measured")
    parser.add_argument("--directory", type=Path, required=True, help="where images are made and results written")
    parser.add_argument("--runs", type=int, default=100, help="launches of each row")
    parser.add_argument("--only", default="", metavar="TEXT,...", help="rows whose names contain one of these")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: to bootstrap Debian, and to launch as an ordinary user in SUID mode")
    options.directory.chmod(0o700)  # a Debian with its setuid programs lies in it
    world = options.directory.resolve() / "world"
    load = os.getloadavg()[0]
    adopt_orphans()
    make_images(str(options.prefix / "bin/singularity"), world)
    place = make_place(options.prefix, world)
    facts = machine_facts(place, load)
    rows = measure(place, options.runs, [word for word in options.only.split(",") if word])
    write_results(options.directory, facts, rows)
    write_timeline(place, options.directory, options.runs)
    return 0


def write_timeline(place: Place, directory: Path, runs: int) -> None:
    """timeline.svg, of launches of a directory in both modes; its figures to standard output."""
    made = cases(place, [str(place.home / "instant")])
    chosen = [case for case in made if case.name in ("directory -u", "directory")]
    found = timeline.timelines(place, chosen, runs)
    if found:
        (directory / "timeline.svg").write_text(timeline.draw(found))
        print(f"{timeline.table(found)}Written to {directory}: timeline.svg")


def machine_facts(place: Place, load: float) -> dict[str, str | float]:
    """What the numbers depend on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    versions = {package: _version(package) for command, package in PEERS.items() if shutil.which(command)}
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} x {cpu.partition(':')[2].strip() or platform.machine()}",
        "load at the beginning": load,
        "singularity": place.run([place.singularity, "--version"], timeout=20).strip(),
        **versions,
    }


def _version(package: str) -> str:
    words = ["dpkg-query", "--show", "--showformat=${Version}", package]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def measure(place: Place, runs: int, only: Sequence[str]) -> list[Row]:
    """All rows; what is compared runs interleaved."""

    def chosen(program: Sequence[str]) -> list[Case]:
        made = cases(place, program)
        return [case for case in made if not only or any(word in case.name for word in only)]

    instant = str(place.home / "instant")
    whole, bare, waiting = chosen(["/bin/true"]), chosen([instant]), chosen([instant, "wait"])
    tables = chosen(["/bin/cat", "/proc/self/mountinfo"])
    warmup = min(10, runs)
    print(f"Launching: {len(whole)} rows, {runs} times", flush=True)
    whole_times = timing.latency(place, whole, runs, warmup)
    bare_times = timing.latency(place, bare, runs, warmup)
    peaks = timing.memory(place, bare, MEMORY_RUNS)
    good = {name for name, times in bare_times.items() if not times.failures}
    print(f"Launching {COUNT} times, {PARALLEL} at a time", flush=True)
    many = launch_many(place, [case for case in whole if case.many and case.name in good])
    print("Looking at what a launch opens and leaves", flush=True)
    rows = []
    for case, long_case, table_case in zip(bare, waiting, tables, strict=True):
        contained = case.who not in (NONE, FLOOR) and case.name in good
        rows.append(
            Row(
                name=case.name,
                group=case.group,
                who=case.who,
                whole=whole_times[case.name],
                bare=bare_times[case.name],
                peak=peaks[case.name][0],
                server_peak=peaks[case.name][1],
                residents=residents(place, long_case) if contained else None,
                trace=trace(place, case) if contained else None,
                mounts=mounts(place, table_case) if case.name in good else 0,
                many=many.get(case.name),
            )
        )
    return rows


def launch_many(place: Place, chosen: Sequence[Case]) -> Mapping[str, Many]:
    """Each case in turn, in several rounds."""
    found: dict[str, list[timing.Launch]] = {case.name: [] for case in chosen}
    left: dict[str, list[str]] = {case.name: [] for case in chosen}
    for _ in range(ROUNDS):
        for case in chosen:
            before = left_behind(place)
            found[case.name].append(timing.throughput(place, case, COUNT, PARALLEL))
            if case.who == OURS:
                left[case.name] += after_settling(place, before)
    return {
        name: Many(
            per_second=statistics.median([COUNT / (each.ended / 1e9) for each in launches]),
            cpu=statistics.median([each.cpu / 1e3 / COUNT for each in launches]),
            failures=sum(each.failures for each in launches),
            left=tuple(left[name]),
        )
        for name, launches in found.items()
    }


def left_behind(place: Place) -> set[str]:
    """What a launch could leave: mounts of this namespace, loop devices of our images, processes."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    children()
    processes = {f"process {each}" for each in descendants()}
    return {*mounts, *loops_of(place.directory), *loops_of(Path("/srv")), *processes}


def after_settling(place: Place, before: set[str]) -> list[str]:
    """What is more than before, and stays so for a while: the kernel frees loop devices a moment later."""
    limit = time.monotonic() + SETTLING
    while (more := left_behind(place) - before) and time.monotonic() < limit:
        time.sleep(0.05)
    return sorted(more)


def write_results(directory: Path, facts: Mapping[str, str | float], rows: Sequence[Row]) -> None:
    """launch.txt, launch.json and launch.svg; the first also to standard output."""
    found = targets(rows)
    machine = "".join(f"{name}: {value}\n" for name, value in facts.items())
    text = "\n".join([machine, table(rows), target_lines(found)])
    document = {
        "machine": facts,
        "rows": [dataclasses.asdict(row) | {"set_up": row.set_up} for row in rows],
        "targets": [dataclasses.asdict(target) | {"met": target.met} for target in found],
    }
    (directory / "launch.txt").write_text(text)
    (directory / "launch.json").write_text(json.dumps(document, indent=1))
    (directory / "launch.svg").write_text(plot(rows, "Launching /bin/true in Debian as an ordinary user"))
    print(f"\n{text}\nWritten to {directory}: launch.txt, launch.json, launch.svg")


if __name__ == "__main__":
    sys.exit(main())
