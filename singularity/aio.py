"""What `singularity` does, for tasks of asyncio: `await aio.exec(...)`, `async with aio.Container(...) as c:`.

All is called as there, and raises the same. A task that is cancelled has ended what it started before it ends itself.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from singularity.api import contents, door, launches, making, verdicts
from singularity.api import images as _images
from singularity.api.callee import Callee
from singularity.api.calls import Stream
from singularity.api.container import Held
from singularity.api.door import Word
from singularity.api.images import Image
from singularity.api.instances import Named, started
from singularity.api.tasks import awaiting, later
from singularity.api.words import of_launches, spelled

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import CallOptions, ExecOptions, FetchOptions, InstanceOptions

__all__ = [
    "Container", "Instance", "build", "check", "diff", "exec", "inspect", "open_image", "popen", "pull", "push", "run",
    "sbom", "verify",
]  # fmt: skip

_P = ParamSpec("_P")
_Result = TypeVar("_Result")

build = awaiting(making.build_)
exec = awaiting(launches.exec_)  # noqa: A001 - as the command is called
pull = awaiting(making.pull_)
push = awaiting(making.push_)
run = awaiting(launches.run_)


def _in_thread(function: Callable[_P, _Result]) -> Callable[_P, Coroutine[Any, Any, _Result]]:
    """What reads and soon ends, done by a thread; a task that is cancelled waits for it."""

    @wraps(function)
    async def done(*args: _P.args, **options: _P.kwargs) -> _Result:
        work = asyncio.ensure_future(asyncio.to_thread(function, *args, **options))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            await asyncio.wait([work])
            raise

    return done


check = _in_thread(verdicts.check)
diff = _in_thread(contents.diff)
inspect = _in_thread(_images.inspect)
sbom = _in_thread(contents.sbom)
verify = _in_thread(verdicts.verify)


async def open_image(image: Word, **options: "Unpack[FetchOptions]") -> Image:
    """As `singularity.Image.open`: the image at a path, or what a URI names."""
    return await later(_images.fetched(image, **options)) if _images.is_uri(image) else Image(image)


async def popen(
    image: Word,
    program: Word | Sequence[Word],
    *,
    stdin: Stream = None,
    stdout: Stream = None,
    stderr: Stream = None,
    **options: "Unpack[ExecOptions]",
) -> asyncio.subprocess.Process:
    """Starts a program in a container, as `singularity.popen` does: its process."""
    words = door.launch(["exec"], spelled("popen", of_launches("exec"), options), image, launches.words(program))
    return await asyncio.create_subprocess_exec(
        *words, stdin=stdin, stdout=stdout, stderr=stderr, pass_fds=launches.kept(options)
    )


class _Awaits(Callee):
    """What is called in, and awaited."""

    exec = awaiting(Callee._exec)
    run = awaiting(Callee._run)

    async def popen(
        self,
        program: Word | Sequence[Word],
        *,
        stdin: Stream = None,
        stdout: Stream = None,
        stderr: Stream = None,
        **options: "Unpack[CallOptions]",
    ) -> asyncio.subprocess.Process:
        """Starts a program in the container, as `singularity.popen` does: its process."""
        words = self._called(options, launches.words(program), "exec")
        return await asyncio.create_subprocess_exec(
            *words, stdin=stdin, stdout=stdout, stderr=stderr, cwd=self._directory, pass_fds=launches.kept(options)
        )


class Container(Held, _Awaits):
    """As `singularity.Container`: `async with aio.Container("x.sif") as c: await c.exec("ls")`."""

    async def open(self) -> None:
        """Sets the container up, which `async with` does by itself."""
        call = self._fetch()
        if call is not None:
            self._fetched = await later(call)
        try:
            await _in_thread(self._begin)()
        except asyncio.CancelledError:
            self._finish()
            raise

    async def close(self) -> None:
        """Lets it end as soon as no program is in it any more."""
        await _in_thread(self._finish)()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *about: object) -> None:
        await self.close()


class Instance(Named, _Awaits):
    """As `singularity.Instance`: `async with await aio.Instance.start("x.sif", "db") as db: await db.exec("psql")`."""

    stop = awaiting(Named._stop)

    @classmethod
    async def start(
        cls, image: Word, name: str | None = None, arguments: Sequence[Word] = (), **options: "Unpack[InstanceOptions]"
    ) -> Self:
        """Starts an instance of `image`, with its startscript."""
        return await later(started(cls, image, name, arguments, options))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *about: object) -> None:
        await self.stop()
