"""Parsl's Python apps run in a container: `parsl_in_container.py IMAGE [WORKERS]`.

An executor of Parsl's that hands its tasks to one of concurrent.futures. The image has Parsl, and a Python of the same
minor version as the one that runs this; variables and binds are those of a launch: SINGULARITY_BIND,
SINGULARITYENV_PYTHONPATH. Apps that are commands (`bash_app`) need none of this: `singularity exec IMAGE COMMAND`.
"""

import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import parsl
from parsl.executors.base import ParslExecutor

import singularity


class InContainer(ParslExecutor):  # type: ignore[misc]
    """What Parsl asks of an executor."""

    def __init__(self, image: str, workers: int) -> None:
        super().__init__()
        self.label = "container"
        self.image = image
        self.workers = workers

    def start(self) -> None:
        """Sets the container up."""
        self.pool = singularity.ContainerExecutor(self.image, max_workers=self.workers)

    def submit(self, func: Callable[..., Any], resources: dict[str, Any], *args: Any, **kwargs: Any) -> Future[Any]:
        """One task. `resources` are what it asks of a cluster: of this one nothing."""
        if resources:
            raise ValueError("a container has no resources of its own to share out")
        return self.pool.submit(func, *args, **kwargs)

    def shutdown(self) -> None:
        """When all tasks are done."""
        self.pool.shutdown()


@parsl.python_app
def name_of_system() -> str:
    """Where an app runs."""
    with open("/etc/os-release") as file:
        return next(line.partition("=")[2].strip().strip('"') for line in file if line.startswith("NAME="))


@parsl.python_app
def together(*names: str) -> str:
    """An app that waits for others."""
    return f"{len(names)} in {', '.join(sorted(set(names)))}"


def main(image: str, workers: int) -> None:
    """Apps that wait for each other, all of them in the container."""
    with parsl.load(parsl.Config(executors=[InContainer(image, workers)], run_dir=".parsl", usage_tracking=0)):
        print(together(*(name_of_system() for _ in range(10))).result())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
