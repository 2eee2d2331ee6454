"""What launches ask of file systems, and how many containers one machine starts: `make bench-scale`, docs/hpc/scale.md.

Counts do not depend on how busy the machine is; seconds do. Writes scale.txt and scale.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cases import DIRECTORIES, FILES, OURS, Case, cases
from formats import make_images
from machine import adopt_orphans
from many import Many, many
from model import Asked, Cluster, FileSystem, Launch, demand
from operations import TRACED, Layout, Operations, Owner, count
from pages import files_of, forget, resident
from place import Place, make_place

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPARED = (
    ("SIF", "SIF, SUID"),
    ("SIF -u", "SIF, --userns"),
    ("directory", "directory, SUID"),
    ("directory -u", "directory, --userns"),
    ("charliecloud, our squashfs", "charliecloud, squashfs"),
    ("charliecloud", "charliecloud, directory"),
    ("bubblewrap", "bubblewrap"),
    ("crun", "crun"),
    ("runc", "runc"),
)
JOINED = {"SIF": "SIF, SUID, --join=yes", "SIF -u": "SIF, --userns, --join=yes"}
PROGRAMS = {"true": ("/bin/true",), "python": ("/usr/bin/python3", "-c", "pass")}
PEERS = {"bubblewrap": "bwrap", "crun": "crun", "runc": "runc", "charliecloud": "ch-run"}
IMPORTS = "import argparse, json, logging, os, pathlib, subprocess, sys, tempfile; os.execvp(sys.argv[1], sys.argv[1:])"
STEP = ("PMIX_NAMESPACE=bench", "OMPI_COMM_WORLD_LOCAL_SIZE=1000", "OMPI_COMM_WORLD_LOCAL_RANK={n}")
SYSTEM = FileSystem(operations=50_000, bandwidth=100e9)  # an assumption: put your own in
NODES = 10_000
COLD = 5  # launches of an image that is not in memory
RANKS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way to launch."""

    name: str
    case: Case
    runtime: tuple[str, ...]
    image: str  # as the user names it; "" where only the start of a program is looked at
    joins: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one way asked for with one program."""

    name: str
    program: str
    first: dict[str, dict[str, int]]  # by owner
    image_bytes: int  # of a node that has none of it in memory
    launch: Launch


def ways(place: Place, program: Sequence[str]) -> list[Way]:
    """Those that this machine has, in the order of the table."""
    found = {case.name: case for case in cases(place, program)}
    made = []
    for name, label in COMPARED:
        if name not in found:
            continue
        case = found[name]
        runtime = (str(place.prefix),) if case.who == OURS else (_program(PEERS[case.who]),)
        made.append(Way(name=label, case=case, runtime=runtime, image=_image(place, case)))
        if name in JOINED:
            argv = ("env", *STEP, case.argv[0], case.argv[1], "--join=yes", *case.argv[2:])
            joined = replace(case, name=JOINED[name], argv=argv)
            made.append(replace(made[-1], name=JOINED[name], case=joined, joins=True))
    return [*made, *_python_ways(place, found.get("bubblewrap"))]


def _python_ways(place: Place, bubblewrap: Case | None) -> list[Way]:
    """A program in Python before the launch, and one that there is."""
    python = shutil.which("python3", path="/usr/bin:/bin")
    if python is None:
        return []
    words = [python, "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"]
    library = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    runtime = (str(Path(python).resolve()), python, library, "/usr/lib/python3", str(place.shown("peers")))
    made = []
    if bubblewrap:
        case = replace(bubblewrap, name="Python and bubblewrap", argv=(python, "-c", IMPORTS, *bubblewrap.argv))
        made.append(Way(name="Python and bubblewrap", case=case, runtime=runtime, image=str(place.shown("root"))))
    if (place.directory / "peers/udocker").is_dir():
        argv = ("env", f"PYTHONPATH={place.shown('peers')}", python, "-m", "udocker.maincmd", "--version")
        case = Case(name="udocker", group="", who="udocker", argv=argv)
        made.append(Way(name="udocker --version, no launch", case=case, runtime=runtime, image=""))
    return made


def _program(command: str) -> str:
    found = shutil.which(command, path="/usr/sbin:/usr/bin:/bin")
    return str(Path(found).resolve()) if found else command


def _image(place: Place, case: Case) -> str:
    """The word of the command that names it; runtimes of OCI have it in their bundle."""
    images = {str(place.shown(name)) for name in ("root", "debian.sif", "debian.sqfs")}
    return next((word for word in case.argv if word in images), str(place.shown("root")))


def layout(place: Place, way: Way) -> Layout:
    """Where its trace has things."""
    real = place.directory / Path(way.image).name if way.image else None
    state = f"{place.prefix}/var/singularity/mnt"
    return Layout(
        image=way.image or "/none",
        tree=real if real is not None and real.is_dir() else None,
        stages=(*(f"{state}/part{number}" for number in range(8)), "/newroot"),
        scratch=(state, "/oldroot/proc", "/oldroot/dev", "/oldroot/sys"),
        runtime=way.runtime,
        shown=(*DIRECTORIES, *FILES, str(place.home)),
    )


def traced(place: Place, way: Way) -> dict[Owner, Operations]:
    """The calls of one launch, its program's too."""
    trace = place.directory / "trace"
    words = ["strace", "-f", "-qq", "-y", "-s", "300", "-e", f"trace={TRACED}", "-u", place.account.name]
    place.run([*words, "-o", str(place.shown("trace")), *way.case.one()], timeout=60, become=False)
    text = trace.read_text(errors="replace")
    trace.unlink()
    return count(text, layout(place, way))


def counted(place: Place, way: Way, program: str, waiting: Way) -> Counted:
    """First launch and the one that follows, and the bytes that come from a file system when nothing is in memory."""
    first = traced(place, way)
    following = _beside_another(place, way, waiting) if way.joins else first
    image_bytes = fetched(place, way) if way.image else 0
    runtime = first[Owner.RUNTIME]
    return Counted(
        name=way.name,
        program=program,
        first={owner.value: operations.summary() for owner, operations in first.items()},
        image_bytes=image_bytes,
        launch=Launch(
            image=_asked(first[Owner.IMAGE], image_bytes),
            runtime=_asked(runtime, sum(map(_size, runtime.files))),
            next_image_opens=following[Owner.IMAGE].opens,
            next_runtime_opens=following[Owner.RUNTIME].opens,
        ),
    )


def _asked(operations: Operations, size: int) -> Asked:
    return Asked(
        names=len(operations.names),
        opens=operations.opens,
        files=len(operations.files),
        lists=operations.lists,
        bytes=size,
    )


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _beside_another(place: Place, way: Way, waiting: Way) -> dict[Owner, Operations]:
    """What a launch asks while another one has the container that it joins: both in one world, else they would not."""
    hold, said, trace = (str(place.shown(name)) for name in ("hold", "said", "trace"))
    user = ["strace", "-f", "-qq", "-u", place.account.name]
    first = shlex.join([*user, "-e", "trace=none", "-o", "/dev/null", *waiting.case.one()])
    second = shlex.join([*user, "-y", "-s", "300", "-e", f"trace={TRACED}", "-o", trace, *way.case.one()])
    script = f"""
        rm -f {hold} {said}; mkfifo {hold}; chmod 666 {hold}
        {first} <{hold} >{said} & exec 3>{hold}
        until [ -s {said} ]; do sleep 0.05; done
        {second} 3>&-
        exec 3>&-; wait; rm -f {hold} {said}"""
    place.run(["sh", "-c", script], timeout=60, become=False)
    file = place.directory / "trace"
    text = file.read_text(errors="replace")
    file.unlink()
    return count(text, layout(place, way))


def fetched(place: Place, way: Way) -> int:
    """Bytes of the image that are in the page cache after a launch, when none were before: its read-ahead too. The
    median of some launches."""
    files = list(files_of(place.directory / Path(way.image).name))
    found = []
    for _ in range(COLD):
        time.sleep(0.3)  # the kernel lets go of a loop device a moment after the last launch
        os.sync()
        forget(files)
        before = sum(map(resident, files))
        place.run(way.case.one(), timeout=60)
        found.append(sum(map(resident, files)) - before)
    return statistics.median_low(found)


def table_of_counts(found: Sequence[Counted]) -> str:
    """One line for each way and program."""
    head = (
        f"{'':<30}{'program':>8} | image: {'names':>6}{'opens':>6}{'looks':>6}{'lists':>6}{'reads':>6}{'KiB read':>9}"
    )
    head += f"{'KiB cold':>9} | runtime: {'names':>6}{'opens':>6}{'KiB':>7} | host opens | next: opens"
    lines = [head]
    for each in found:
        image, runtime, host = (each.first[owner.value] for owner in Owner)
        line = f"{each.name:<30}{each.program:>8} |        {image['names']:>6}{image['opens']:>6}{image['looks']:>6}"
        line += f"{image['lists']:>6}{image['reads']:>6}{image['bytes'] // 1024:>9}{each.image_bytes // 1024:>9}"
        line += f" |          {runtime['names']:>6}{runtime['opens']:>6}{each.launch.runtime.bytes // 1024:>7}"
        line += f" | {host['opens']:>10} | {each.launch.next_image_opens:>5}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def table_of_model(found: Sequence[Counted]) -> str:
    """What NODES nodes ask, with one launch and with RANKS on each, and with the runtime on the file system too."""
    head = (
        f"{'millions of operations (TB)':<39}{'1 a node':>18}{f'{RANKS} a node':>18}{'runtime there too':>20}{'s':>8}"
    )
    lines = [
        f"{NODES} nodes; s: the last at {SYSTEM.operations:.0f} operations, {SYSTEM.bandwidth / 1e9:.0f} GB a second",
        head,
    ]
    for each in found:
        line = f"{each.name:<30} {each.program:<8}"
        for launches, shared in ((1, False), (RANKS, False), (RANKS, True)):
            asked = demand(each.launch, Cluster(nodes=NODES, launches=launches, shared_runtime=shared))
            line += f"{asked.operations / 1e6:>10.2f} ({asked.bytes / 1e12:.3f})"
        lines.append(f"{line}{asked.seconds(SYSTEM):>8.1f}")
    return "\n".join(lines) + "\n"


def table_of_many(found: Sequence[tuple[str, Many]]) -> str:
    """One line for each way and number."""
    head = (
        f"{'':<30}{'count':>6}{'failed':>7}{'s':>8}{'a second':>9}{'cpu ms':>8}{'beside':>7}{'PSS KiB':>9}{'kernel':>8}"
    )
    lines = [f"{head}{'cache MiB':>10}"]
    for name, each in found:
        line = f"{name:<30}{each.count:>6}{each.failures:>7}{each.seconds:>8.2f}{each.per_second:>9.0f}"
        line += f"{each.processor * 1000 / each.count:>8.2f}{each.beside:>7}{each.memory / each.count:>9.0f}"
        lines.append(f"{line}{each.kernel / each.count:>8.0f}{each.cache / 1024:>10.1f}")
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Count what launches ask of file systems, and start many at once.")
    parser.add_argument("--prefix", type=Path, required=True, help="the installation that is measured")
    parser.add_argument("--directory", type=Path, required=True, help="where images are made and results written")
    parser.add_argument(
        "--counts", default="1,10,100,1000", help="containers at once; none: only what launches ask for"
    )
    parser.add_argument("--only", default="", help="ways whose names have this in them")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: to bootstrap Debian, and to launch as an ordinary user in SUID mode")
    world = options.directory.resolve() / "world"
    adopt_orphans()
    if not (world / "debian.sif").exists():
        make_images(str(options.prefix / "bin/singularity"), world)
    place = make_place(options.prefix, world)
    instant = [str(place.home / "instant"), "wait"]
    waiting = {way.name: way for way in ways(place, instant) if options.only in way.name}
    found = [
        counted(place, way, program, waiting[way.name])
        for program, argv in PROGRAMS.items()
        for way in ways(place, argv)
        if options.only in way.name and (way.image or program == "true")
    ]
    facts = {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "python": sysconfig.get_python_version(),
        "load at the beginning": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    started = [
        (way.name, many(place, way.case, int(number)))
        for way in waiting.values()
        if way.image
        for number in options.counts.split(",")
        if number
    ]
    text = "\n".join([table_of_counts(found), table_of_model(found), table_of_many(started)])
    text = "".join(f"{name}: {value}\n" for name, value in facts.items()) + "\n" + text
    (options.directory / "scale.txt").write_text(text)
    document = {
        "machine": facts,
        "counted": [asdict(each) for each in found],
        "many": [{"name": name, **asdict(each)} for name, each in started],
    }
    (options.directory / "scale.json").write_text(json.dumps(document, indent=1) + "\n")
    print(f"{text}\nWritten to {options.directory}: scale.txt, scale.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
