"""What --trace costs: a start-up of Python that imports 2,000 modules, traced and not, in turns.

    python bench/trace.py --directory build/bench --singularity PROGRAM [--base IMAGE] [--runs 21]

The image is BASE, which has python3, or else a Debian made by debootstrap, with 40 packages of 50 modules each. Each
launch has a mount of its own, whose files no launch before has read. Prints a table of medians and writes it to
DIRECTORY/trace.txt. The goal is 5 % above the same launch in a user namespace, where the image server shows the image.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import time
from pathlib import Path

PACKAGES, MODULES = 40, 50
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_MODULE = '''"""Module {number} of package {package}."""

import sys


class Thing{number}:
    """Something to be compiled, and read."""

    table = {{each: str(each) for each in range(20)}}

    def value(self):
        return self.table.get({number}, sys.maxsize)
'''


def make(singularity: str, place: Path, base: str) -> Path:
    """The image; made where it is not there."""
    image = place / "modules.sif"
    if image.exists():
        return image
    modules = place / "modules"
    for package in range(PACKAGES):
        directory = modules / f"package{package}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "__init__.py").write_text("")
        for number in range(MODULES - 1):
            (directory / f"module{number}.py").write_text(_MODULE.format(package=package, number=number))
    names = [f"package{package}.module{number}" for package in range(PACKAGES) for number in range(MODULES - 1)]
    (modules / "start.py").write_text("".join(f"import {name}\n" for name in names))
    head = f"BootStrap: localimage\nFrom: {base}\n"
    if not base:
        head = "BootStrap: debootstrap\nOSVersion: stable\nInclude: python3-minimal\n"
    definition = place / "modules.def"
    definition.write_text(f"{head}\n%files\n{modules} /opt/modules\n\n%post\npython3 -m compileall -q /opt/modules\n")
    subprocess.run([singularity, "-q", "build", image, definition], check=True)
    return image


def launch(words: list[str]) -> tuple[float, float]:
    """Milliseconds of one launch, to its end, and those of processors that it and the image server took.

    With --trace it ends when the names are written down.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    wall = time.monotonic() - start
    while True:  # the server is nobody's child, and so ours
        try:
            os.wait()
        except ChildProcessError:
            break
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall * 1000, spent * 1000


def change(name: str, taken: list[float], base: list[float]) -> str:
    """The median and the least, and the median of what it was more than `base` in each turn."""
    ratio = statistics.median(one / other for one, other in zip(taken, base, strict=True))
    return f"{name:>12}{statistics.median(taken):9.1f}{min(taken):9.1f}{(ratio - 1) * 100:9.1f}%"


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/bench"))
    parser.add_argument("--singularity", required=True)
    parser.add_argument("--base", default="")
    parser.add_argument("--runs", type=int, default=21)
    options = parser.parse_args()
    place = options.directory.absolute() / "world/trace"
    place.mkdir(parents=True, exist_ok=True)
    image, trace = make(options.singularity, place, options.base), place / "trace.json"
    program = [str(image), "python3", "/opt/modules/start.py"]
    ways = {
        "as it is": [],
        "user namespace": ["--userns"],
        "traced": ["--userns", "--trace", str(trace)],
    }
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    walls: dict[str, list[float]] = {name: [] for name in ways}
    processors: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(options.runs + 1):
        for name, words in ways.items():
            trace.unlink(missing_ok=True)
            wall, spent = launch([options.singularity, "-q", "exec", *words, *program])
            if turn:  # the first warms up
                walls[name].append(wall)
                processors[name].append(spent)
    names = trace.read_text().count(".pyc")
    lines = [f"{names} compiled modules read; milliseconds, {options.runs} launches in turns"]
    lines += [f"{'':28}{'median':>9}{'least':>9}{'more':>10}   than in a user namespace"]
    base = "user namespace"
    for name in ways:
        lines.append(f"{name:16}{change('elapsed', walls[name], walls[base])}")
        lines.append(f"{'':16}{change('processors', processors[name], processors[base])}")
    text = "\n".join(lines) + "\n"
    (options.directory / "trace.txt").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
