"""Everything beside the newest peers in one run: `make bench-all`, docs/performance.md.

Each program is measured as two interleaved series (steady.py): where they disagree, nothing is said of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pull
import steady
import timing
from cases import IMAGE_SUID, IMAGE_USERNS, OURS, cases
from formats import DEFINITION, make_images
from machine import adopt_orphans
from measure import COUNT, PARALLEL, PEERS, machine_facts
from newest import newest, versions
from place import make_place
from rows import Bar, bars
from steady import LEAST, Series

import build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cases import Case
    from place import Place

HERE = Path(__file__).resolve().parent
SCIENCE = HERE / "science.def"
IMPORT = ["python3", "-c", "import numpy, scipy.linalg, pandas"]
LINGER = "60s"
LAUNCHES = 20  # at least, in each series: one takes milliseconds
SHOWN = (  # rows of programs that take longer than a launch
    "directory -u", "directory", "SIF", "SIF -u", "squashfs, plain zstd", "squashfs, plain zstd -u", "bubblewrap",
    "charliecloud", "charliecloud, plain zstd", "apptainer", "apptainer, our SIF", "SIF, EROFS", "SIF, linger",
    "SIF -u, linger",
)  # fmt: skip
OF_IMAGES = ("charliecloud, plain zstd", "apptainer, our SIF")
MANY, PULL = f"{COUNT} launches, {PARALLEL} at a time", "from a registry: {}"
SKOPEO = "skopeo, umoci, mksquashfs zstd 3"
FETCHED = ("floor", "singularity", "20 pulls", "skopeo, umoci, mksquashfs zstd")  # the rest is for bench-pull
WANTED: tuple[tuple[str, str, str | tuple[str, ...], float], ...] = (
    ("true", "SIF", "directory", 1.7),
    ("true", "directory -u", "bubblewrap", 0.7),
    ("true", "directory", "bubblewrap", 0.8),
    ("true", "SIF -u", "charliecloud, plain zstd", 0.4),
    ("true", "squashfs, plain zstd -u", "charliecloud, plain zstd", 0.6),
    (MANY, "directory -u", ("bubblewrap", "charliecloud", "crun"), 1 / 1.3),
    ("import", "SIF", "directory", 1.9),
    ("import", "SIF, EROFS", "directory", 1.6),
    ("import", "SIF -u", "directory -u", 2.0),
    ("import", "SIF, linger", "directory", 1.1),
    ("import", "SIF -u, linger", "directory -u", 1.1),
    ("import, cold", "SIF", "directory", 1.0),
    ("import, cold", "SIF -u", "directory -u", 1.2),
    ("tar of /usr", "SIF, EROFS", "directory", 2.5),
    ("tar of /usr", "SIF -u", OF_IMAGES, 0.5),
    ("find twice", "SIF -u", OF_IMAGES, 1.0),
    ("8 readers at once", "SIF -u", OF_IMAGES, 1.0),
    (PULL.format("small"), "singularity docker://", SKOPEO, 0.3),
    (PULL.format("large"), "singularity docker://", SKOPEO, 0.35),
    (PULL.format("next"), "singularity, one new layer", "singularity, all layers", 0.2),
    ("directory to SIF, processor", "singularity", "mksquashfs", 1.05),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A program in the image, and how often it runs."""

    name: str
    program: Sequence[str]
    share: int = 1  # of the rounds, one in so many
    cold: bool = False


WORKLOADS = (
    Workload(name="import", program=IMPORT),
    Workload(name="import, cold", program=IMPORT, share=2, cold=True),
    Workload(name="tar of /usr", program=["/bin/sh", "-c", "tar -c /usr | cat > /dev/null"], share=4),
    Workload(
        name="find twice",
        program=["/bin/sh", "-c", "for i in 1 2; do find /usr /etc > /dev/null 2>&1; done; true"],
        share=2,
    ),
    Workload(
        name="8 readers at once",
        program=["/bin/sh", "-c", "find /usr/lib -type f -print0 | xargs -0 -P 8 -n 200 cat > /dev/null"],
        share=4,
    ),
)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Measure everything beside the newest peers, each program twice.")
    parser.add_argument("--prefix", type=Path, required=True, help="the installation that is measured")
    parser.add_argument("--directory", type=Path, required=True, help="where images are made and results written")
    parser.add_argument("--runs", type=int, default=20, help="launches in each of the two series of a row")
    parser.add_argument("--pulls", type=int, default=5, help="pulls and builds in each")
    parser.add_argument("--only", default="", metavar="TEXT,...", help="cases whose names contain one of these")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: to bootstrap Debian, to drop caches, and to launch as an ordinary user in SUID mode")
    options.directory.chmod(0o700)  # Debians with their setuid programs lie in it
    directory = options.directory.resolve()
    adopt_orphans()
    usr = newest(directory)
    run = Run(
        prefix=options.prefix,
        directory=directory,
        usr=usr,
        rounds=options.runs,
        pulls=options.pulls,
        only=options.only.split(","),
    )
    about = machine_facts(run.place("world"), os.getloadavg()[0])
    facts: dict[str, object] = {name: value for name, value in about.items() if name not in PEERS.values()}
    facts |= {"peers": "of Debian sid" if usr else "of this machine", **versions(usr)}
    found = run.all()
    facts["load at the end"] = os.getloadavg()[0]
    write_results(directory, facts, found, run.notes)
    return 0


@dataclass(kw_only=True)
class Run:
    """One run of all that is wanted."""

    prefix: Path
    directory: Path
    usr: Path | None  # of the newest peers
    rounds: int  # in each of two series
    pulls: int
    only: Sequence[str]
    notes: list[str] = field(default_factory=list)  # what failed
    places: dict[str, Place] = field(default_factory=dict)  # that are made

    def wanted(self, case: str) -> bool:
        """Whether this case was asked for."""
        return any(word in case for word in self.only)

    def all(self) -> list[Series]:
        """Every case, one after the other; the programs of a case in turn."""
        found: list[Series] = []
        if self.wanted("true") or self.wanted(MANY):
            found += self.launches()
        if any(self.wanted(each.name) for each in WORKLOADS):
            found += self.workloads()
        if self.wanted("pull") or self.wanted("from a registry"):
            found += self.fetched()
        if self.wanted("build"):
            found += self.built()
        if self.wanted("join"):
            self.joined()
        return found

    def place(self, name: str, definition: Path = DEFINITION) -> Place:
        """A directory of images and the machine around it; made once in a run."""
        if name in self.places:
            return self.places[name]
        world = self.directory / name
        world.mkdir(exist_ok=True)
        for program in ("timer", "floor", "instant"):  # which bench/run has made
            if not (world / program).exists():
                shutil.copy2(self.directory / "world" / program, world / program)
        make_images(str(self.prefix / "bin/singularity"), world, definition)
        shutil.copyfile(world / "debian.sif", world / "kept.sif")
        return self.places.setdefault(name, make_place(self.prefix, world, self.usr))

    def launches(self) -> list[Series]:
        """/bin/true, one at a time and many."""
        place = self.place("world")
        made = cases(place, ["/bin/true"])
        found = self.in_rounds(place, "true", made, 2 * max(LAUNCHES, self.rounds)) if self.wanted("true") else []
        if self.wanted(MANY):
            good = {each.name for each in found} or {case.name for case in made}
            many = [case for case in made if case.many and case.name in good]
            values: dict[str, list[float]] = {case.name: [] for case in many}
            for _ in range(2 * max(LEAST, self.rounds // 5)):
                for case in many:
                    launch = timing.throughput(place, case, COUNT, PARALLEL)
                    values[case.name].append(launch.ended / 1e6)
                    self.note_failures(MANY, case.name, launch.failures)
            found += shown([Series(case=MANY, name=name, values=tuple(each)) for name, each in values.items()])
        return found

    def workloads(self) -> list[Series]:
        """Programs that users run."""
        place = self.place("science", SCIENCE)
        found = []
        for workload in WORKLOADS:
            if not self.wanted(workload.name):
                continue
            made = [case for case in with_linger(place, cases(place, workload.program)) if case.name in SHOWN]
            rounds = 2 * max(LEAST, self.rounds // workload.share)
            found += self.in_rounds(place, workload.name, made, rounds, cold=workload.cold)
        return found

    def in_rounds(
        self, place: Place, name: str, made: Sequence[Case], rounds: int, *, cold: bool = False
    ) -> list[Series]:
        """All cases once in each round. Those that fail are noted, and left out."""
        print(f"{name}: {len(made)} rows, {rounds} rounds", flush=True)
        good = []
        for case in made:  # peers that cannot do this here say so, and stop nothing
            failures = timing.latency(place, [case], 1, 0)[case.name].failures
            self.note_failures(name, case.name, failures)
            good += [case] if not failures else []
        values: dict[str, list[float]] = {case.name: [] for case in good}
        if cold:
            for _ in range(rounds):
                for case in good:
                    drop_caches()
                    values[case.name] += timing.latency(place, [case], 1, 0)[case.name].walls
        elif good:
            for case_name, latency in timing.latency(place, good, rounds, 1).items():
                values[case_name] += latency.walls
                self.note_failures(name, case_name, latency.failures)
        return shown([Series(case=name, name=case_name, values=tuple(each)) for case_name, each in values.items()])

    def fetched(self) -> list[Series]:
        """Images of registries become SIF files."""
        program = str(self.prefix / "bin/singularity")
        results = pull.measure(self.directory, program, 2 * self.pulls, FETCHED, ["small", "large", "next"])
        return shown(
            [
                Series(case=PULL.format(image), name=name, values=tuple(run.seconds for run in runs), unit="s")
                for image, rows in results.items()
                for name, runs in rows.items()
            ]
        )

    def built(self) -> list[Series]:
        """Images are made and converted: processor time, as bench/build.py compares it."""
        program = str(self.prefix / "bin/singularity")
        try:
            results = build.measure(self.directory, (program,), 2 * self.pulls, "directory to SIF")[0]
        except SystemExit as stopped:
            self.notes.append(f"not measured: builds: {stopped}")
            return []
        return shown(
            [Series(case=f"{each.case}, processor", name=each.name, values=each.values, unit="s") for each in results]
        )

    def joined(self) -> None:
        """Many ranks of one node, as bench/join.py prints it."""
        world, program = self.directory / "world", [sys.executable, str(HERE / "join.py")]
        image = world / "debian.sif"
        argv = [sys.executable, str(HERE.parent / "tests/ordinary_user.py"), f"--replace=/srv={world}", "--"]
        done = subprocess.run(
            [*argv, *program, str(self.prefix), f"/srv/{image.name}"], capture_output=True, text=True, check=False
        )
        self.notes.append(done.stdout.strip() if not done.returncode else f"join.py: {done.stderr.strip()[-300:]}")

    def note_failures(self, case: str, name: str, failures: int) -> None:
        """Says what is not in the table, and why."""
        if failures:
            self.notes.append(f"not measured: {case}: {name}: {failures} launches failed")


def shown(found: list[Series]) -> list[Series]:
    """The same, printed: what comes later may fail."""
    print(steady.table(found), flush=True)
    return found


def with_linger(place: Place, made: Sequence[Case]) -> list[Case]:
    """The same, and our images kept mounted between launches, where this version can do that."""
    words = [place.singularity, "exec", "--help"]  # Python's, which another /usr has not
    if "--linger" not in subprocess.run(words, capture_output=True, text=True, check=True).stdout:
        return list(made)
    kept = []
    for case in made:
        if case.who == OURS and case.group in (IMAGE_SUID, IMAGE_USERNS) and case.name in ("SIF", "SIF -u"):
            at = case.argv.index("exec") + 1
            image = str(place.shown("debian.sif"))  # a copy: launches of one file share the mount that is kept
            rest = [str(place.shown("kept.sif")) if word == image else word for word in case.argv[at:]]
            words = (*case.argv[:at], "--linger", LINGER, *rest)
            kept.append(replace(case, name=f"{case.name}, linger", argv=words))
    return [*made, *kept]


def drop_caches() -> None:
    """Nothing of the disk is in memory afterwards."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3\n")


def write_results(directory: Path, facts: Mapping[str, object], found: Sequence[Series], notes: Sequence[str]) -> None:
    """all.txt, all.json and all.svg; the first also to standard output."""
    said = steady.ratios(found, WANTED)
    text = "".join(f"{name}: {value}\n" for name, value in facts.items())
    text += f"\n{steady.table(found)}\n" + "".join(f"{each.line()}\n" for each in said)
    text += "".join(f"{note}\n" for note in notes)
    document = {
        "machine": facts,
        "series": [asdict(each) | {"median": each.median, "variation": each.variation} for each in found],
        "ratios": [asdict(each) for each in said],
        "notes": list(notes),
    }
    (directory / "all.txt").write_text(text)
    (directory / "all.json").write_text(json.dumps(document, indent=1) + "\n")
    (directory / "all.svg").write_text(plot(found))
    print(f"\n{text}\nWritten to {directory}: all.txt, all.json, all.svg")


def plot(found: Sequence[Series]) -> str:
    """A picture with a scale for each case: a bar in shares of the slowest of its case."""
    longest = {each.case: max(other.spread[1] for other in found if other.case == each.case) for each in found}
    made = []
    for each in found:
        low, high = each.spread
        peer = (
            not any(word in each.name for word in ("directory", "SIF", "squashfs", "singularity"))
            or "our SIF" in each.name
        )
        made.append(
            Bar(
                name=each.name,
                group=f"{each.case}, {each.unit}",
                who="peer" if peer else OURS,
                value=each.median,
                low=low,
                high=high,
                longest=longest[each.case],
            )
        )
    legend = "medians, 10 % to 90 %; each case has a scale of its own; singularity blue, others orange"
    return bars(made, "Singularity beside its peers", legend)


if __name__ == "__main__":
    sys.exit(main())
