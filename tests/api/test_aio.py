"""The same for tasks of asyncio: many at once, and of one that is cancelled nothing is left."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import machine
import pytest

import singularity
from singularity import BuildError, Definition, LaunchError, aio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.needs("installation"), pytest.mark.usefixtures("directory")]


def test_all_of_it_is_there_under_the_same_names() -> None:
    twins = set(aio.__all__) - {"open_image"}
    assert twins <= set(singularity.__all__)
    left = {name for name in singularity.__all__ if callable(getattr(singularity, name)) and name[0].islower()} - twins
    assert left == set()
    for name in ("Container", "Instance"):
        ours, theirs = (set(dir(getattr(module, name))) for module in (singularity, aio))
        assert {key for key in ours - theirs if not key.startswith("_")} <= {"running"}


def test_many_at_once(sif: Path) -> None:
    async def main() -> list[str]:
        calls = (aio.exec(sif, ["echo", str(n)], capture_output=True, check=True) for n in range(12))
        return [done.stdout for done in await asyncio.gather(*calls)]

    assert asyncio.run(main()) == [f"{n}\n" for n in range(12)]


def test_errors_are_the_same(sif: Path) -> None:
    async def main() -> None:
        with pytest.raises(LaunchError, match="no such image"):
            await aio.exec("none.sif", "true", capture_output=True)
        with pytest.raises(singularity.FileError):
            await aio.build("none.def", "x.sif")
        with pytest.raises(Exception, match="timed out"):
            await aio.exec(sif, ["sleep", "600"], timeout=0.2)
        with pytest.raises(singularity.ImageError):
            await aio.inspect(__file__)
        with pytest.raises(singularity.SignatureError):
            await aio.verify(sif, local=True)
        assert await aio.check(sif, ["true"])
        with pytest.raises(TypeError):
            await aio.exec(sif, "true", bnd=1)  # type: ignore[call-arg]

    asyncio.run(main())


def test_a_container_and_an_instance(tool: Path) -> None:
    space = ["readlink", "/proc/self/ns/mnt"]

    async def main() -> None:
        async with aio.Container(tool) as c:
            done = await asyncio.gather(*(c.exec(space, capture_output=True) for _ in range(6)))
            assert len({each.stdout for each in done}) == 1
            process = await c.popen(["cat"], stdin=singularity.PIPE, stdout=singularity.PIPE)
            assert (await process.communicate(b"x"))[0] == b"x"
        async with await aio.Instance.start(tool, "a") as a:
            assert (await a.exec(["echo", "in"], capture_output=True)).stdout == "in\n"
        assert a.state is None
        image = await aio.open_image(tool)
        assert image.labels["Colour"] == "blue"

    asyncio.run(main())


async def cancelled(call: Callable[[], Awaitable[object]], after: float) -> None:
    task = asyncio.ensure_future(call())
    await asyncio.sleep(after)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("after", [0.0, 0.001, 0.003, 0.01, 0.5])
@pytest.mark.parametrize("userns", [False, True], ids=["plain", "userns"])
def test_a_cancelled_launch_leaves_no_process(sif: Path, after: float, userns: bool) -> None:
    """Neither the program nor what it has started, at whatever moment."""
    script = "sleep 601 & sleep 602 & trap : TERM; while :; do sleep 1; done"
    before = machine.children()
    asyncio.run(cancelled(lambda: aio.exec(sif, ["sh", "-c", script], stdin=singularity.DEVNULL, userns=userns), after))
    assert _gone(before) == []


def test_a_cancelled_call_in_a_container_leaves_the_container(sif: Path) -> None:
    async def main() -> None:
        async with aio.Container(sif) as c:
            await cancelled(lambda: c.exec(["sleep", "600"], stdin=singularity.DEVNULL), 0.2)
            assert (await c.exec(["echo", "on"], capture_output=True)).stdout == "on\n"

    before = machine.children()
    asyncio.run(main())
    assert _gone(before) == []


@pytest.mark.parametrize("after", [0.0, 0.002, 0.01])
def test_a_container_that_is_cancelled_while_it_opens_is_closed(sif: Path, after: float) -> None:
    async def main() -> None:
        async def use() -> None:
            async with aio.Container(sif) as c:
                await c.exec(["sleep", "600"], stdin=singularity.DEVNULL)

        await cancelled(use, after)

    before = machine.children()
    asyncio.run(main())
    assert _gone(before) == []


@pytest.mark.needs("root", "mksquashfs")
@pytest.mark.parametrize("after", [0.05, 0.6, 1.0])
def test_a_cancelled_build_leaves_neither_processes_nor_files(tool: Path, directory: Path, after: float) -> None:
    definition = Definition(Bootstrap="localimage", From=str(tool))
    definition.post = "sleep 600 & sleep 600\n"
    before, files = machine.children(), set(os.listdir(directory))
    asyncio.run(cancelled(lambda: aio.build(definition, "new.sif", tmpdir=directory), after))
    assert _gone(before) == []
    assert set(os.listdir(directory)) == files


@pytest.mark.needs("root", "mksquashfs")
def test_a_build_that_fails_and_one_that_does_not(tool: Path) -> None:
    definition = Definition(Bootstrap="localimage", From=str(tool))
    definition.post = "exit 3\n"

    async def main() -> None:
        with pytest.raises(BuildError, match=r"^image\.def:5: %post failed with status 3"):
            await aio.build(definition, "new.sif", output=singularity.DEVNULL)
        definition.post = "echo well > /well\n"
        image = await aio.build(definition, "new.sif", output=singularity.DEVNULL)
        assert image.files.read("/well") == b"well\n"

    asyncio.run(main())


def _gone(before: set[int]) -> list[str]:
    """What is left of children, after a moment for the kernel to end what was killed."""
    deadline = time.monotonic() + 3
    while (left := machine.children() - before) and time.monotonic() < deadline:
        time.sleep(0.02)
    return [machine.command_of(each) for each in left]
