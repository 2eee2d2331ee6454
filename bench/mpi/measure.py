"""Messages between two ranks, natively and in containers: time of small ones, bandwidth of large ones, and ratios.

Rounds of all ways follow each other, so that what else the machine does meets each of them; the best of a size counts.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
from pathlib import Path

import mpi_roots
from ordinary_user import ALICE, World

SIZES = {8: "latency of 8 bytes, µs", 4096: "latency of 4 KiB, µs", 262144: "256 KiB, MB/s", 2097152: "2 MiB, MB/s"}
LATENCIES = 65536
Best = dict[int, tuple[float, float]]
# What UCX needs where each rank has a user namespace of its own: no memory through /proc, no copies between processes.
APART = {"UCX_POSIX_USE_PROC_LINK": "n", "UCX_TLS": "^cma"}


def ways(prefix: Path, root: Path) -> dict[str, list[str]]:
    """Command lines before the program's own path."""
    launch = [str(prefix / "bin/singularity"), "exec"]
    return {
        "native": [],
        "SUID": [*launch, str(root)],
        "SUID, --mpi=host": [*launch, "--mpi=host", str(root)],
        "user namespaces": [*launch, "-u", str(root)],
    }


def measure(flavour: mpi_roots.Flavour, before: list[str], program: str, batches: int) -> Best:
    """Best microseconds and MB/s by size."""
    environment = World(account=ALICE).environment() | (APART if "-u" in before else {})
    done = subprocess.run(
        [*flavour.launcher, "-np", "2", *before, program, str(batches)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
        env=environment,
        preexec_fn=World(account=ALICE).enter,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return {int(size): (float(time), float(speed)) for size, time, speed in lines}


def better(one: Best, other: Best) -> Best:
    """The better of two runs, size by size."""
    return {size: (min(one[size][0], other[size][0]), max(one[size][1], other[size][1])) for size in one}


def compare(flavour: mpi_roots.Flavour, prefix: Path, directory: Path, rounds: int) -> None:
    """Prints one table."""
    root = directory / flavour.name
    shutil.rmtree(root, ignore_errors=True)
    mpi_roots.make_root(flavour, root)
    best: dict[str, Best] = {}
    for _ in range(rounds):
        for name, before in ways(prefix, root).items():
            program = "/usr/bin/mpi_pingpong" if before else str(root / "usr/bin/mpi_pingpong")
            result = measure(flavour, before, program, 3)
            best[name] = better(best[name], result) if name in best else result
    print(f"\n| {flavour.name} | " + " | ".join(best) + " |\n|---|" + "---|" * len(best))
    for size, title in SIZES.items():
        index = 0 if size < LATENCIES else 1
        native = best["native"][size][index]
        cells = [f"{each[size][index]:.3g} ({each[size][index] / native:.2f})" for each in best.values()]
        print(f"| {title} | " + " | ".join(cells) + " |")


def main() -> None:
    """Measures each flavour; root, for an ordinary user of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="where any user can enter")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.umask(0o022)
    options.directory.mkdir(parents=True, exist_ok=True)
    for flavour in (mpi_roots.OPENMPI, mpi_roots.MPICH):
        compare(flavour, options.prefix, options.directory, options.rounds)


if __name__ == "__main__":
    main()
