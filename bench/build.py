"""What making and converting images costs beside the tools that do nothing else, in one run: the medians of both.

    python bench/build.py --directory build/bench [--runs 5] [--singularity PROGRAM]

One Debian root file system is bootstrapped once. The commands of a case run in turn, so that a drift of the machine
hits them alike; every run begins with the target removed. Prints a table and writes it to DIRECTORY/build.txt and
build.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ZSTD = ("-comp", "zstd", "-Xcompression-level", "9")
QUIET = ("-quiet", "-no-progress")
BIG = 4 << 30  # bytes of the image that is inspected


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
    seconds: float
    least: float
    floor: float  # the median of the case's first command
    peak: int  # resident, of the process itself; of ours that is Python


def shell(*argv: str | Path, stdin: str | Path = os.devnull) -> str:
    """The output of a command that must succeed."""
    with Path(stdin).open("rb") as file:
        done = subprocess.run([str(word) for word in argv], stdin=file, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench/build.py: {' '.join(map(str, argv))}: {done.stderr.strip()[-500:]}")
    return done.stdout


def timed(command: Command, place: Path) -> tuple[float, int]:
    """Seconds of one run, and the peak of its first process in KiB."""
    target = place / command.target
    if command.target and target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    elif command.target:
        target.unlink(missing_ok=True)
    with (place / (command.stdin or os.devnull)).open("rb") as stdin, (place / "said").open("w+b") as said:
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
        if process.returncode:
            said.seek(0)
            sys.exit(f"bench/build.py: {command.argv}: {said.read()[-500:].decode(errors='replace')}")
    return seconds, peak


def compare(case: str, commands: list[Command], place: Path, runs: int) -> list[Result]:
    """All commands of a case in turn, `runs` times after one that does not count."""
    found: dict[str, list[tuple[float, int]]] = {command.name: [] for command in commands}
    for number in range(runs + 1):
        for command in commands:
            os.sync()
            measured = timed(command, place)
            if number:
                found[command.name].append(measured)
    floor = statistics.median(seconds for seconds, _ in found[commands[0].name])
    return [
        Result(
            case=case,
            name=name,
            seconds=statistics.median(seconds for seconds, _ in values),
            least=min(seconds for seconds, _ in values),
            floor=floor,
            peak=max(peak for _, peak in values),
        )
        for name, values in found.items()
    ]


def prepare(place: Path, ours: tuple[str, ...]) -> None:
    """A Debian root file system in every form that is converted."""
    if not (place / "tree.made").exists():
        shutil.rmtree(place / "tree", ignore_errors=True)
        shell("debootstrap", "--variant=minbase", "--include=python3,perl,gcc", "bookworm", place / "tree")
        (place / "tree.made").touch()
    if not (place / "tree.tar").exists():
        shell("tar", "-C", place / "tree", "--numeric-owner", "-cf", place / "tree.tar", ".")
    if not (place / "tree.sif").exists():
        shell(*ours, "build", place / "tree.sif", place / "tree.tar")
    if not (place / "big.sif").exists():
        make_big(place, ours)


def make_big(place: Path, ours: tuple[str, ...]) -> None:
    """An image of 4 GiB that no compression makes smaller."""
    tree = place / "big"
    tree.mkdir(exist_ok=True)
    with (tree / "data").open("wb") as file:
        for _ in range(BIG >> 20):
            file.write(os.urandom(1 << 20))
    shell(*ours, "build", "--mksquashfs-args=-noD -noF -comp gzip", place / "big.sif", tree)
    shutil.rmtree(tree)


def cases(place: Path, ours: tuple[str, ...]) -> dict[str, list[Command]]:
    """By name; the first command of each is the floor."""
    processors = ("-processors", str(len(os.sched_getaffinity(0))))
    squashed = ("-noI", "-noappend", *QUIET, *ZSTD, *processors)
    offset = re.search(r"(\d+)-\d+ +\|FS", shell(*ours, "sif", "list", place / "tree.sif"))
    start = offset[1] if offset else "0"
    found = {
        "directory to SIF": [
            Command("mksquashfs", ("mksquashfs", "tree", "floor.sqfs", *squashed), "floor.sqfs"),
            Command("singularity", (*ours, "build", "ours.sif", "tree"), "ours.sif"),
        ],
        "tar to SIF": [
            Command("mksquashfs -tar", ("mksquashfs", "-", "floor.sqfs", "-tar", *squashed), "floor.sqfs", "tree.tar"),
            Command(
                "sqfstar, its own level", ("sqfstar", "-comp", "zstd", *QUIET, "star.sqfs"), "star.sqfs", "tree.tar"
            ),
            Command("singularity", (*ours, "build", "ours.sif", "tree.tar"), "ours.sif"),
        ],
        "SIF to directory": [
            Command("unsquashfs", ("unsquashfs", *QUIET, "-offset", start, "-dest", "floor", "tree.sif"), "floor"),
            Command("singularity", (*ours, "build", "--sandbox", "ours", "tree.sif"), "ours"),
        ],
        "directory to ext3": [
            Command("mke2fs -d", ("mke2fs", "-q", "-F", "-t", "ext3", "-d", "tree", "floor.img", "1024M"), "floor.img"),
            Command(
                "singularity", (*ours, "build", "--format", "ext3", "--size", "1024", "ours.img", "tree"), "ours.img"
            ),
        ],
        "tar to directory": [
            Command("tar", ("sh", "-c", "mkdir floor && exec tar -C floor --numeric-owner -xpf tree.tar"), "floor"),
            Command("singularity", (*ours, "build", "--sandbox", "ours", "tree.tar"), "ours"),
        ],
    }
    if shutil.which("ch-convert"):
        found["tar to SIF"].append(Command("ch-convert", ("ch-convert", "tree.tar", "ch.sqfs"), "ch.sqfs"))
        found["tar to directory"].append(Command("ch-convert", ("ch-convert", "tree.tar", "ch"), "ch"))
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
    lines = [f"{'':22}{'':24}{'median s':>9}{'least s':>9}{'/ first':>9}{'MiB':>7}"]
    before = ""
    for result in results:
        case = result.case if result.case != before else ""
        before = result.case
        ratio = result.seconds / result.floor
        lines.append(
            f"{case:22}{result.name:24}{result.seconds:9.2f}{result.least:9.2f}{ratio:9.2f}{result.peak / 1024:7.0f}"
        )
    head = f"{'inspect of 4 GiB':22}{'singularity':24}"
    lines.append(f"{head}{inspected['seconds']:9.3f}   {inspected['read'] / 1024:.0f} KiB of it read")
    return "\n".join(lines) + "\n"


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
    ours = (*program, "-q")
    place = options.directory.absolute() / "images"
    place.mkdir(parents=True, exist_ok=True)
    os.environ["SINGULARITY_CACHEDIR"] = str(place / "cache")
    prepare(place, ours)
    results = [
        each
        for case, commands in cases(place, ours).items()
        if options.only in case
        for each in compare(case, commands, place, options.runs)
    ]
    looked = Command("inspect", (*program, "inspect", "big.sif"))
    (inspect,) = compare("inspect", [looked], place, max(options.runs, 20))
    inspected = {
        "seconds": inspect.seconds,
        "read": bytes_read((*program, "inspect", str(place / "big.sif")), place / "big.sif"),
    }
    text = table(results, inspected)
    (options.directory / "build.txt").write_text(text)
    document = {"results": [asdict(result) for result in results], "inspect": inspected}
    (options.directory / "build.json").write_text(json.dumps(document, indent=2) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
