"""Functions of Python, called in a container: an executor of `concurrent.futures`.

Functions, arguments and results travel by cloudpickle. The image needs a Python of the same minor version, and nothing
else: our cloudpickle is sent along as source, so that both sides have the same one.
"""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ParamSpec, TypeVar

from singularity.api.container import Container
from singularity.api.door import Word
from singularity.errors import LaunchError, SingularityError

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import ExecOptions

_P = ParamSpec("_P")
_Result = TypeVar("_Result")
_HEAD = 8
_GREETING_LIMIT = 100  # bytes
_INSIDE = Path(__file__).with_name("inside.py")


class RemoteError(Exception):
    """Where in the container an exception came from; the cause of that exception here."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class _Worker:
    """A Python in the container. Raises SingularityError where it cannot do its work, BrokenExecutor when it ends."""

    def __init__(self, container: Container, python: str) -> None:
        self._python = python
        words = [python, "-c", _INSIDE.read_text(encoding="utf-8")]
        self._process = container.popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._check()
            self._send(pickle.dumps(_cloudpickle(), protocol=4))
        except BaseException:
            self.end()
            raise

    def _check(self) -> None:
        try:
            said = self._receive(_GREETING_LIMIT).decode("ascii", "replace")
        except BrokenExecutor:
            what = f"{self._python}: cannot be started in the container"
            raise LaunchError(what, hint="an image with a Python is wanted; `python` names it") from None
        ours = f"{sys.version_info[0]}.{sys.version_info[1]} {sys.implementation.name}"
        if said != ours:
            raise LaunchError(
                f"functions cannot be called in the container: its {self._python} is {said}, and this one {ours}",
                hint="both must have the same minor version",
            )

    def call(self, data: bytes) -> bytes:
        """Calls a function, and waits for what comes of it."""
        self._send(data)
        return self._receive()

    def _send(self, data: bytes) -> None:
        with suppress(BrokenPipeError):  # what comes back says so
            _open(self._process.stdin).write(len(data).to_bytes(_HEAD) + data)
            _open(self._process.stdin).flush()

    def _receive(self, limit: int = sys.maxsize) -> bytes:
        pipe = _open(self._process.stdout)
        head = pipe.read(_HEAD)
        size = int.from_bytes(head)
        if size > limit:
            raise LaunchError(f"functions cannot be called in the container: {self._python} answers as no Python does")
        data = pipe.read(size) if len(head) == _HEAD else b""
        if len(head) != _HEAD or len(data) != size:
            raise BrokenExecutor(f"the Python in the container has ended (status {self._process.wait()})")
        return data

    def end(self) -> None:
        """Ends it."""
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                _open(pipe).close()
        self._process.wait()


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101 - both were asked for
    return pipe


def _cloudpickle() -> list[tuple[str, str]]:
    """The modules of cloudpickle and their texts, the package first. Raises SingularityError where there is none."""
    try:
        import cloudpickle
    except ImportError as error:
        raise SingularityError("cloudpickle is not installed", hint="pip install cloudpickle") from error
    place = Path(cloudpickle.__file__).parent
    names = sorted(path.stem for path in place.glob("*.py") if path.stem != "__init__")
    texts = {f"cloudpickle.{name}": place / f"{name}.py" for name in reversed(names)}  # those that others import last
    return [(name, path.read_text("utf-8")) for name, path in {"cloudpickle": place / "__init__.py", **texts}.items()]


class ContainerExecutor(Executor):
    """Calls functions in a container: `with ContainerExecutor("x.sif") as pool: pool.map(function, data)`.

    There are up to `max_workers` processes (as many as this one has processors) in one container, each of which calls
    one function at a time. When one ends in the middle of a call, that call fails with BrokenExecutor, and the others
    go on. Modules that functions import must be in the image, or are sent along by
    cloudpickle.register_pickle_by_value(MODULE). Not for images that are not trusted: what functions return is
    unpickled here, by which a hostile image runs what it likes outside of the container.
    """

    def __init__(
        self, image: Word, max_workers: int | None = None, *, python: str = "python3", **options: "Unpack[ExecOptions]"
    ) -> None:
        """In a container of `image`, by the program `python` in it, with the options of `singularity exec`.

        Sets the container up, and makes sure that its Python is of the same minor version. Raises LaunchError.
        """
        self._container = Container(image, **options)
        self._python = python
        self._workers: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._container.open()
        try:
            self._idle.append(self._start())
        except BaseException:
            self._container.close()
            raise
        self._max_workers = max_workers or len(os.sched_getaffinity(0))  # a name by which Dask knows it
        self._threads = ThreadPoolExecutor(self._max_workers, thread_name_prefix="singularity")

    def submit(self, fn: Callable[_P, _Result], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_Result]:
        """Has a function called in the container. Raises what pickling it raises."""
        import cloudpickle

        return self._threads.submit(self._call, cloudpickle.dumps((fn, args, kwargs)))

    def _call(self, data: bytes) -> Any:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
        worker = worker or self._start()
        try:
            answer = worker.call(data)
        except BaseException:
            worker.end()
            with self._lock:
                self._workers.remove(worker)
            raise
        with self._lock:
            self._idle.append(worker)
        good, result, said = pickle.loads(answer)  # noqa: S301 - who calls trusts the image, which is said
        if good:
            return result
        raise result from RemoteError(said)

    def _start(self) -> _Worker:
        worker = _Worker(self._container, self._python)
        with self._lock:
            self._workers.append(worker)
        return worker

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ends it when all calls are done; without `wait` those who wait for results wait for that."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._end()
        else:
            threading.Thread(target=self._end_later, name="singularity-shutdown", daemon=True).start()

    def _end_later(self) -> None:
        self._threads.shutdown(wait=True)
        self._end()

    def _end(self) -> None:
        with self._lock:
            workers, self._workers, self._idle = self._workers, [], []
        for worker in workers:
            worker.end()
        self._container.close()
