"""Which files a start opens, in order: what an image's layout is made of (see `layout`).

The directories of the root file system are watched by inotify while the program runs. That needs no privilege, works on
overlays and in user namespaces, and sees what no header of a program names: an interpreter's modules, the files of
locales, plugins. Access times would tell less (no order) and are not kept on overlays; tracing would slow a long test.
"""

import logging
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath

from singularity import kernel
from singularity.console import VERBOSE
from singularity.definition.model import Script, Stage
from singularity.errors import BuildError

logger = logging.getLogger(__name__)

_DIRECTORIES = 16384  # that are watched, those near the root first
_NOT_WATCHED = frozenset(("proc", "sys", "dev", "run", "tmp", "var", ".singularity.d"))  # at the top
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_BUFFER = 1 << 16
_NOTHING = {  # what makes an interpreter start and end
    "sh": ("-c", ":"),
    "dash": ("-c", ":"),
    "ash": ("-c", ":"),
    "bash": ("-c", ":"),
    "zsh": ("-c", ":"),
    "python": ("-c", "pass"),
    "perl": ("-e", "0"),
    "ruby": ("-e", "0"),
    "Rscript": ("-e", "0"),
    "node": ("-e", "0"),
    "lua": ("-e", ""),
    "julia": ("-e", "0"),
}
_VERSION = re.compile(r"[0-9.]+$")
_EXEC = re.compile(r"^\s*exec\s+(?:/usr/bin/env\s+)?([^\s\"'$;&|]+)", re.MULTILINE)


class Watch:
    """What is opened below a directory from now on."""

    def __init__(self, root: Path) -> None:
        self._fd = kernel.inotify()
        self._paths: dict[int, str] = {}
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

    def opened(self) -> list[str]:
        """The files that were opened and not written, in the order of their first time, without leading `/`."""
        found: dict[str, bool] = {}
        for number, mask, name in self._events():
            directory = self._paths.get(number)
            if directory is None or not name or mask & kernel.IN_ISDIR:
                continue
            path = f"{directory}/{name}" if directory else name
            if mask & kernel.IN_CLOSE_WRITE:
                found[path] = False
            else:
                found.setdefault(path, True)
        return [path for path, only_read in found.items() if only_read]

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
def recording(root: Path, opened: list[str]) -> Iterator[None]:
    """Adds what is opened in the meantime to a list; nothing where there is no inotify."""
    try:
        watch = Watch(root)
    except OSError as error:
        logger.debug("No start can be watched: %s", error.strerror)
        yield
        return
    try:
        yield
        opened += watch.opened()
    finally:
        watch.close()


def opened_by(root: Path, stage: Stage, run: Callable[[Sequence[str]], int]) -> list[str]:
    """The files that starting the interpreters of an image's runscript and %test opens.

    `run` runs a program in the root file system, its output thrown away. An interpreter that cannot be started opens
    nothing.
    """
    commands = list(_commands(stage))
    found: list[str] = []
    if not commands:  # to watch every directory would be for nothing
        return found
    with recording(root, found):
        for argv in commands:
            with suppress(BuildError):
                status = run(argv)
                logger.log(VERBOSE, "Watched a start of %s (status %d)", argv[0], status)
    return found


def _commands(stage: Stage) -> Iterator[Sequence[str]]:
    """Programs with the words that make them start and end: once each."""
    programs = [name for script in (stage.runscript, stage.test, stage.startscript) for name in _programs(script)]
    for program in dict.fromkeys(programs):
        name = PurePosixPath(program).name
        words = _NOTHING.get(name) or _NOTHING.get(_VERSION.sub("", name))
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
