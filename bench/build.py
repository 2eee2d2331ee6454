"""What making and converting images costs beside the tools that do nothing else, in one run: the medians of both.

    python bench/build.py --directory build/bench [--runs 5] [--singularity PROGRAM]

The Debian root file system is that of `make bench`; with it there, no network is needed. The commands of a case run in
turn, so that a drift of the machine hits them alike; what a run has made is removed after it. A case that takes long
runs three times, a slow command once. Prints a table and writes it to DIRECTORY/build.txt and build.json. Processor
time is that of all processes of a command: on a busy machine, look at that.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from formats import bootstrap

ZSTD = ("-comp", "zstd", "-Xcompression-level", "9")
QUIET = ("-quiet", "-no-progress")
BIG = 4 << 30  # bytes of the image that is inspected
LONG, FEW = 5.0, 3  # seconds of all commands of a case beyond which it runs only so often
SLOW = 12.0  # seconds of a command that runs once
INSPECTIONS = 20
PEERS = ("umoci", "ch-convert", "strace")


@dataclass(frozen=True, slots=True)
class Command:
    """A program and what it reads and writes."""

    name: str
    argv: tuple[str, ...]
    target: str = ""  # removed before each run
    stdin: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The median of one command; seconds and KiB."""

    case: str
    name: str
    runs: int
    seconds: float
    least: float
    most: float
    processor: float
    floor: float  # the median processor time of the case's first command
    peak: int  # resident, of the process itself; of ours that is Python
    values: tuple[float, ...]  # seconds of processor time, in order


def shell(*argv: str | Path, stdin: str | Path = os.devnull) -> str:
    """The output of a command that must succeed."""
    with Path(stdin).open("rb") as file:
        done = subprocess.run([str(word) for word in argv], stdin=file, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench/build.py: {' '.join(map(str, argv))}: {done.stderr.strip()[-500:]}")
    return done.stdout


@dataclass(frozen=True, slots=True)
class Measured:
    """One run; the peak is that of its first process in KiB."""

    seconds: float
    processor: float
    peak: int


def remove(target: Path) -> None:
    """Removes what a command has made."""
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def timed(command: Command, place: Path) -> Measured:
    """Runs a command once."""
    if command.target:
        remove(place / command.target)
    with (place / (command.stdin or os.devnull)).open("rb") as stdin, (place / "said").open("w+b") as said:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        process = subprocess.Popen(command.argv, cwd=place, stdin=stdin, stdout=said, stderr=said)
        peak = 0
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            try:
                found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
            except OSError:
                found = None
            peak = max(peak, int(found[1])) if found else peak
            time.sleep(0.005)
        seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if process.returncode:
            said.seek(0)
            sys.exit(f"bench/build.py: {' '.join(command.argv)}: {said.read()[-500:].decode(errors='replace')}")
    if command.target:
        remove(place / command.target)  # at once: what is not on disk yet need not go there, in the next one's time
    return Measured(seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak)


def compare(case: str, commands: list[Command], place: Path, runs: int) -> list[Result]:
    """All commands of a case in turn, `runs` times, or FEW, after one that counts for slow ones alone."""
    print(f"{case} ...", file=sys.stderr, flush=True)
    first = {command.name: timed(command, place) for command in commands}
    slow = {name for name, measured in first.items() if measured.seconds > SLOW}
    turns = min(runs, FEW) if sum(each.seconds for name, each in first.items() if name not in slow) > LONG else runs
    found = {command.name: [first[command.name]] if command.name in slow else [] for command in commands}
    for _ in range(turns):
        for command in commands:
            if command.name not in slow:
                found[command.name].append(timed(command, place))
    floor = statistics.median(each.processor for each in found[commands[0].name])
    return [
        Result(
            case=case,
            name=name,
            runs=len(values),
            seconds=statistics.median(each.seconds for each in values),
            least=min(each.seconds for each in values),
            most=max(each.seconds for each in values),
            processor=statistics.median(each.processor for each in values),
            floor=floor,
            peak=max(each.peak for each in values),
            values=tuple(each.processor for each in values),
        )
        for name, values in found.items()
    ]


def prepare(world: Path, place: Path, ours: tuple[str, ...]) -> None:
    """The Debian root file system in every form that is converted; what is there already stays."""
    root = bootstrap(ours, world)
    tree = place / "tree"
    if not tree.is_symlink() or tree.readlink() != root or not (place / "made").exists():
        shutil.rmtree(place)
        place.mkdir()
        tree.symlink_to(root)
        shell("tar", "-C", root, "--numeric-owner", "-cf", place / "tree.tar", ".")
        shell(*ours, "build", place / "tree.sif", place / "tree.tar")
        (place / "made").touch()
    if shutil.which("umoci") and not (place / "layout.made").exists():
        shutil.rmtree(place / "layout", ignore_errors=True)
        shell("umoci", "init", "--layout", place / "layout")
        shell("umoci", "new", "--image", f"{place}/layout:tree")
        shell("umoci", "raw", "add-layer", "--image", f"{place}/layout:tree", place / "tree.tar")
        (place / "layout.made").touch()
    if not (place / "big.sif").exists():
        make_big(place, ours)


def make_big(place: Path, ours: tuple[str, ...]) -> None:
    """An image of 4 GiB, stored as it is."""
    tree = place / "big"
    tree.mkdir(exist_ok=True)
    piece = os.urandom(1 << 20)
    with (tree / "data").open("wb") as file:
        for _ in range(BIG >> 20):
            file.write(piece)
    shell(*ours, "build", "--mksquashfs-args=-noD -noF -comp gzip", place / "big.sif", tree)
    shutil.rmtree(tree)


def cases(place: Path, ours: tuple[str, ...]) -> dict[str, list[Command]]:
    """By name; the first command of each is the floor."""
    processors = ("-processors", str(len(os.sched_getaffinity(0))))
    squashed = ("-noI", "-noappend", *QUIET, *ZSTD, *processors)
    offset = re.search(r"(\d+)-\d+ +\|FS", shell(*ours, "sif", "list", place / "tree.sif"))
    start = offset[1] if offset else "0"
    tree = str((place / "tree").resolve())
    unsquash = ("unsquashfs", *QUIET, "-offset", start, "-dest", "floor", "tree.sif")
    make_ext3 = ("mke2fs", "-q", "-F", "-t", "ext3", "-d", tree, "floor.img", "512M")
    untar = ("sh", "-c", "mkdir floor && exec tar -C floor --numeric-owner -xpf tree.tar")
    build = (*ours, "build")
    found = {
        "directory to SIF": [
            Command("mksquashfs", ("mksquashfs", tree, "floor.sqfs", *squashed), "floor.sqfs"),
            Command("singularity", (*build, "ours.sif", tree), "ours.sif"),
        ],
        "tar to SIF": [
            Command("mksquashfs -tar", ("mksquashfs", "-", "floor.sqfs", "-tar", *squashed), "floor.sqfs", "tree.tar"),
            Command("singularity", (*build, "ours.sif", "tree.tar"), "ours.sif"),
        ],
        "SIF to directory": [
            Command("unsquashfs", unsquash, "floor"),
            Command("singularity", (*build, "--sandbox", "ours", "tree.sif"), "ours"),
        ],
        "directory to ext3": [
            Command("mke2fs -d", make_ext3, "floor.img"),
            Command("singularity", (*build, "--format", "ext3", "--size", "512", "ours.img", tree), "ours.img"),
        ],
        "tar to directory": [
            Command("tar -x", untar, "floor"),
            Command("singularity", (*build, "--sandbox", "ours", "tree.tar"), "ours"),
        ],
    }
    if shutil.which("ch-convert"):
        found["tar to SIF"].append(Command("ch-convert, gzip", ("ch-convert", "tree.tar", "ch.sqfs"), "ch.sqfs"))
        found["tar to directory"].append(Command("ch-convert", ("ch-convert", "tree.tar", "ch"), "ch"))
    if shutil.which("umoci"):
        found["OCI layout to directory"] = [
            Command("umoci unpack", ("umoci", "unpack", "--image", "layout:tree", "bundle"), "bundle"),
            Command("singularity", (*build, "--sandbox", "ours", "oci:layout:tree"), "ours"),
        ]
    return found


def bytes_read(argv: tuple[str, ...], image: Path) -> int:
    """What a command reads of an image, from a trace of its calls."""
    trace = image.with_name("trace")
    calls = "openat,open,read,pread64,readv,close,mmap"
    shell("strace", "-f", "-y", "-qq", "-e", f"trace={calls}", "-o", trace, *argv)
    total = 0
    for line in trace.read_text(errors="replace").splitlines():
        if image.name in line and re.search(r"\b(read|pread64|readv)\(", line):
            total += int(line.rpartition("= ")[2].split()[0])
    return total


def table(results: list[Result], inspected: dict[str, float]) -> str:
    """For people."""
    head = ("median s", "least", "most", "cpu s", "/ first", "MiB", "runs")
    lines = [f"{'':24}{'':18}" + "".join(f"{each:>9}" for each in head)]
    before = ""
    for result in results:
        case = result.case if result.case != before else ""
        before = result.case
        seconds = (result.seconds, result.least, result.most, result.processor, result.processor / result.floor)
        numbers = "".join(f"{each:9.2f}" for each in seconds)
        lines.append(f"{case:24}{result.name:18}{numbers}{result.peak / 1024:9.0f}{result.runs:9}")
    if "read" in inspected:
        lines.append(f"inspect of 4 GiB: {inspected['read'] / 1024:.0f} KiB of it read")
    missing = [name for name in PEERS if shutil.which(name) is None]
    if missing:
        lines.append(f"not installed, so not measured: {', '.join(missing)}")
    return "\n".join(lines) + "\n"


def measure(directory: Path, program: tuple[str, ...], runs: int, only: str) -> tuple[list[Result], dict[str, float]]:
    """The cases with `only` in their names, and what `inspect` reads of a large image."""
    ours = (*program, "-q")
    place = directory / "world/build"
    place.mkdir(parents=True, exist_ok=True)
    os.environ["SINGULARITY_CACHEDIR"] = str(place / "cache")
    os.environ.setdefault("USER", "root")  # ch-convert asks for it
    prepare(directory / "world", place, ours)
    commands = cases(place, ours)
    commands["inspect of 4 GiB"] = [Command("singularity", (*program, "inspect", "big.sif"))]
    results = [
        each
        for case, some in commands.items()
        if only in case
        for each in compare(case, some, place, INSPECTIONS if case.startswith("inspect") else runs)
    ]
    inspected: dict[str, float] = {}
    if shutil.which("strace"):
        inspected["read"] = bytes_read((*program, "inspect", str(place / "big.sif")), place / "big.sif")
    return results, inspected


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/bench"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--singularity", default="", help="an installed program; else this tree's Python")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/build.py: needs root, to bootstrap Debian")
    program = (options.singularity,) if options.singularity else (sys.executable, "-I", "-m", "singularity")
    options.directory.mkdir(parents=True, exist_ok=True)
    with (options.directory / "lock").open("w") as lock:  # that of bench/run: the root file system is the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        results, inspected = measure(options.directory.absolute(), program, options.runs, options.only)
    text = table(results, inspected)
    (options.directory / "build.txt").write_text(text)
    document = {"results": [asdict(result) for result in results], "inspect": inspected}
    (options.directory / "build.json").write_text(json.dumps(document, indent=2) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
