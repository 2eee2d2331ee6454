"""Calls that tasks of asyncio have done: what `calls` does, awaited."""

import asyncio
import functools
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar

from singularity.api.calls import HEAD, Call, Ended, named, starting

_Result = TypeVar("_Result")
_P = ParamSpec("_P")


async def later(call: Call[_Result]) -> _Result:
    """Has it done. Raises what its `result` does, and subprocess.TimeoutExpired."""
    with starting(call):
        process = await asyncio.create_subprocess_exec(*call.words, **call.started(apart=call.apart))
    try:
        async with asyncio.timeout(call.timeout):
            output, errors = await (_converse_later(process, call) if call.told else process.communicate(call.input))
            status = await process.wait()
    except BaseException as error:
        await asyncio.shield(_end_later(process, call))
        if isinstance(error, TimeoutError) and call.timeout is not None:
            raise subprocess.TimeoutExpired(call.words, call.timeout) from error
        raise
    return call.result(Ended(words=call.words, status=status, output=output, errors=errors))


async def _converse_later(process: asyncio.subprocess.Process, call: Call[_Result]) -> tuple[bytes, None]:
    assert process.stdin is not None  # noqa: S101 - both are pipes
    assert process.stdout is not None  # noqa: S101
    with suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.write(call.input or b"")
        await process.stdin.drain()
    process.stdin.close()
    with suppress(asyncio.IncompleteReadError):
        while call.told:
            size = int.from_bytes(await process.stdout.readexactly(HEAD))
            if call.told(await process.stdout.readexactly(size)):
                break
    return b"", None


async def _end_later(process: asyncio.subprocess.Process, call: Call[_Result]) -> None:
    """Ends it and, where they are a group of their own, all that it has started.

    One that is told things takes away itself what it has begun: its group is killed where it does not end.
    """
    kill = os.killpg if call.apart else os.kill
    if process.returncode is None:
        with suppress(ProcessLookupError):
            (os.kill if call.told else kill)(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(call.grace):
                await process.wait()
    if process.returncode is None or (call.apart and not call.told):  # itself, or those that it has left behind
        with suppress(ProcessLookupError):
            kill(process.pid, signal.SIGKILL)
    await process.wait()


def awaiting(tell: Callable[_P, Call[_Result]]) -> Callable[_P, Coroutine[Any, Any, _Result]]:
    """The coroutine function that has done what `tell` tells."""

    @functools.wraps(tell)
    async def done(*args: _P.args, **options: _P.kwargs) -> _Result:
        return await later(tell(*args, **options))

    return named(done, tell)
