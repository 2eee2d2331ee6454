"""Which files a start opens, in order: what an image's layout is made of (see `layout`).

The directories of the root file system are watched by inotify while the program runs. That needs no privilege, works on
overlays and in user namespaces, and sees what no header of a program names: an interpreter's modules, the files of
locales, plugins. Access times would tell less (no order) and are not kept on overlays; tracing would slow a long test.
"""

import logging
import math
import os
import re
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from singularity import kernel
from singularity.build import main_programs
from singularity.console import VERBOSE
from singularity.definition.model import Script, Stage
from singularity.errors import BuildError

logger = logging.getLogger(__name__)

_DIRECTORIES = 16384  # that are watched, those near the root first
_NOT_WATCHED = frozenset(("proc", "sys", "dev", "run", "tmp", "var", ".singularity.d"))  # at the top
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 1 << 16
_VERSION = re.compile(r"[0-9.]+$")
_EXEC = re.compile(r"^\s*exec\s+(?:/usr/bin/env\s+)?([^\s\"'$;&|]+)", re.MULTILINE)


class Watch:
    """What is opened below a directory from now on."""

    def __init__(self, root: Path) -> None:
        self._fd = kernel.inotify()
        self._paths: dict[int, str] = {}
        self._found: dict[str, bool] = {}
        for path in _directories(root):
            try:
                number = kernel.inotify_watch(
                    self._fd,
                    f"{root}/{path}",
                    kernel.IN_OPEN | kernel.IN_CLOSE_WRITE | kernel.IN_ONLYDIR | kernel.IN_DONT_FOLLOW,
                )
            except OSError as error:  # ENOSPC: the user's share of watches is used up
                logger.debug("%d directories are watched: %s", len(self._paths), error.strerror)
                break
            self._paths[number] = path

    def drain(self) -> None:
        """Takes the kernel's notes, of which it keeps some 16,000."""
        found = self._found
        for number, mask, name in self._events():
            directory = self._paths.get(number)
            if directory is None or not name or mask & kernel.IN_ISDIR:
                continue
            path = f"{directory}/{name}" if directory else name
            if mask & kernel.IN_CLOSE_WRITE:
                found[path] = False
            else:
                found.setdefault(path, True)

    def opened(self) -> list[str]:
        """The files that were opened and not written, in the order of their first time, without leading `/`."""
        self.drain()
        return [path for path, only_read in self._found.items() if only_read]

    def _events(self) -> Iterator[tuple[int, int, str]]:
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = _EVENT.unpack_from(data, at)
                at += _EVENT.size
                yield number, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
                at += length

    def close(self) -> None:
        """Ends the watch."""
        os.close(self._fd)


@contextmanager
def recording(root: Path, opened: list[str]) -> Iterator[Callable[[], None]]:
    """Adds what is opened in the meantime to a list, at the end; nothing where there is no inotify.

    What it gives is to be called now and then while much is opened.
    """
    try:
        watch = Watch(root)
    except OSError as error:
        logger.debug("No start can be watched: %s", error.strerror)
        yield lambda: None
        return
    try:
        yield watch.drain
        opened += watch.opened()
    finally:
        watch.close()


def opened_by(
    root: Path, commands: Iterable[Sequence[str]], run: Callable[[Sequence[str], int], int], seconds: int
) -> list[str]:
    """The files that programs of an image open, one after the other, for so many seconds in all.

    `run` runs one in the root file system for so many seconds at most, its output thrown away; its status. What cannot
    be started opens nothing.
    """
    found: list[str] = []
    commands = deque(commands)
    if not commands:  # to watch every directory would be for nothing
        return found
    end = time.monotonic() + seconds
    with recording(root, found) as drain:
        while commands and (left := math.ceil(end - time.monotonic())) > 0:
            argv = commands.popleft()
            with suppress(BuildError):
                status = run(argv, left)
                logger.log(VERBOSE, "Watched a start of %s (status %d)", " ".join((argv[0], *argv[3:])), status)
                if status == main_programs.LAZY:
                    commands.append((argv[0], "-c", main_programs.LAZILY, argv[-1]))
            drain()
    return found


def commands_of(stage: Stage) -> Iterator[Sequence[str]]:
    """The interpreters of an image's scripts, and what those execute, with words that make them start and end."""
    programs = [name for script in (stage.runscript, stage.test, stage.startscript) for name in _programs(script)]
    for program in dict.fromkeys(programs):
        name = PurePosixPath(program).name
        words = main_programs.NOTHING.get(name) or main_programs.NOTHING.get(_VERSION.sub("", name))
        if words:
            yield (program, *words)


def _programs(script: Script | None) -> Iterator[str]:
    """The interpreter of a script, and what it executes."""
    if script is None:
        return
    words = script.interpreter_line[2:].split()
    if words[:1] == ["/usr/bin/env"]:
        words = words[1:]
    yield words[0] if words else "/bin/sh"
    yield from _EXEC.findall(script.body)


def _directories(root: Path) -> Iterator[str]:
    """The directories of a root file system, without leading `/`, near ones first; empty for the root itself."""
    level = [""]
    count = 0
    while level and count < _DIRECTORIES:
        yield from level[: _DIRECTORIES - count]
        count += len(level)
        level = [below for path in level for below in _below(root, path)]


def _below(root: Path, path: str) -> Iterator[str]:
    try:
        with os.scandir(root / path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in names:
        if path:
            yield f"{path}/{name}"
        elif name not in _NOT_WATCHED:
            yield name
