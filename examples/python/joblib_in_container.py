"""joblib computes in a container: `joblib_in_container.py IMAGE [WORKERS]`.

A backend of joblib's hands batches of calls to an executor. The image has joblib, and a Python of the same minor
version as the one that runs this; variables and binds are those of a launch: SINGULARITY_BIND,
SINGULARITYENV_PYTHONPATH.
"""

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import joblib

import singularity


class ContainerBackend(joblib.ParallelBackendBase):  # type: ignore[misc]
    """What joblib asks of a backend, by an executor that is there."""

    supports_retrieve_callback = True

    def __init__(self, pool: singularity.ContainerExecutor, workers: int, **more: Any) -> None:
        super().__init__(**more)
        self.pool = pool
        self.workers = workers

    def effective_n_jobs(self, n_jobs: int) -> int:  # noqa: ARG002 - joblib passes it
        """As many as the executor has processes."""
        return self.workers

    def submit(self, func: Callable[[], Any], callback: Callable[[Future[Any]], Any] | None = None) -> Future[Any]:
        """One batch of calls."""
        future = self.pool.submit(func)
        if callback:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """What came of it."""
        return out.result()


def square(number: int) -> tuple[int, int]:
    """A number's square, and the process that computed it."""
    return number * number, os.getpid()


def main(image: str, workers: int) -> None:
    """Squares, each computed in the container."""
    with singularity.ContainerExecutor(image, max_workers=workers) as pool:
        joblib.register_parallel_backend("container", lambda **more: ContainerBackend(pool, workers, **more))
        with joblib.parallel_config("container"):
            done = joblib.Parallel()(joblib.delayed(square)(number) for number in range(1000))
    print(f"{sum(one for one, _ in done)} by {len({process for _, process in done})} processes")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 2)
