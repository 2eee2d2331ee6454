"""Dask computes in a container: `dask_in_container.py IMAGE [WORKERS]`.

Dask hands its tasks to any executor of concurrent.futures. The image has Dask, and a Python of the same minor version
as the one that runs this; variables and binds are those of a launch: SINGULARITY_BIND, SINGULARITYENV_PYTHONPATH.
"""

import platform
import sys

import dask.bag

import singularity


def name_of_system(numbers: list[int]) -> list[tuple[str, int]]:
    """Where a part of the work is done, and what comes of it."""
    with open("/etc/os-release") as file:
        system = next(line.partition("=")[2].strip().strip('"') for line in file if line.startswith("NAME="))
    return [(f"{system}, Python {platform.python_version()}", sum(number * number for number in numbers))]


def main(image: str, workers: int) -> None:
    """A sum of squares in parts, each of which is computed in the container."""
    parts = dask.bag.from_sequence(range(10_000), npartitions=4 * workers).map_partitions(name_of_system)
    with singularity.ContainerExecutor(image, max_workers=workers) as pool:
        done = parts.compute(scheduler=pool)
    print(f"{len(done)} parts in {', '.join(sorted({where for where, _ in done}))}: {sum(part for _, part in done)}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
