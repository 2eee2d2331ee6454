"""What a call costs a program that uses the package: a launch each time, and one container for all.

    bench/calls.py IMAGE [--calls 100] [--userns]

With SINGULARITY_PROGRAM, or an installation that has the package. In rounds, so that other work on the machine is
shared by all; no container is open while launches are measured, which would find its mounts. To be run as who is to be
measured: `tests/ordinary_user.py -- PYTHON bench/calls.py ...`.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from typing import TYPE_CHECKING

import singularity

if TYPE_CHECKING:
    from collections.abc import Callable

ROUND = 10  # calls
PAUSE = 0.5  # seconds, in which the mounts of the container before have gone


def main() -> None:
    """One line for each way to run a program."""
    parser = argparse.ArgumentParser(description="Calls of one image from Python.")
    parser.add_argument("image", type=Path)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--userns", action="store_true")
    given = parser.parse_args()
    image, userns = given.image, given.userns
    container = singularity.Container(image, userns=userns)
    ways: dict[str, Callable[[], object]] = {
        "without a container": lambda: subprocess.run("true", check=True),
        "singularity.exec": lambda: singularity.exec(image, "true", userns=userns, check=True),
        "Container.exec": lambda: container.exec("true", check=True),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.calls // ROUND):
        time.sleep(PAUSE)
        for name, call in ways.items():
            with container if name == "Container.exec" else nullcontext():
                for _ in range(ROUND):
                    start = time.perf_counter()
                    call()
                    times[name].append((time.perf_counter() - start) * 1000)
    for name, each in times.items():
        print(f"{name:<20} {statistics.median(each):6.2f} ms, at least {min(each):.2f}")


if __name__ == "__main__":
    main()
