"""What launches with --trace have written down: a line of JSON a run (`launcher/serve/trace.c`)."""

import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from singularity import locks
from singularity.errors import FileError, ImageError
from singularity.foreign_json import parse_json

logger = logging.getLogger(__name__)

_FORM = "singularity-trace"  # key of each line; its value is the version
_VERSION = 1
_RUNS = 1 << 61  # the byte that a run has locked (launcher/trace.h)
_PATIENCE, _PAUSE = 5.0, 0.02  # seconds: for runs that are about to end
_SIZE_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What several runs have used."""

    names: tuple[str, ...]  # paths in the image without links in their directories, in the order of their first use
    runs: int
    incomplete: bool  # one of them had more names than are kept


def read(paths: Iterable[Path]) -> Trace:
    """All runs of several files together. Raises FileError: it cannot be read, or there is no run in it."""
    names: dict[str, None] = {}
    runs, incomplete = 0, False
    for path in paths:
        before = runs
        for number, line in enumerate(_content(path).split(b"\n"), 1):
            run = _run(path, number, line) if line.strip() else None
            if run is None:
                continue
            runs += 1
            incomplete |= not run.get("complete", False)
            names |= dict.fromkeys(each for key in ("read", "found") for each in _paths(path, number, run.get(key)))
        if runs == before:
            raise FileError(f"{path}: no run in it", hint="singularity exec --trace FILE IMAGE PROGRAM adds one")
    return Trace(names=tuple(names), runs=runs, incomplete=incomplete)


def _content(path: Path) -> bytes:
    """Of a file to which no run is about to add."""
    with FileError.about(path), path.open("rb") as file:
        end = time.monotonic() + _PATIENCE
        while locks.is_held(file.fileno(), _RUNS):
            if time.monotonic() > end:
                logger.warning("%s: a run that adds to it goes on, and what it uses is not in it yet", path)
                break
            time.sleep(_PAUSE)
        size = os.fstat(file.fileno()).st_size
        if size > _SIZE_LIMIT:
            raise FileError(f"{path}: too large for a trace ({size} bytes)", hint="begin a new one")
        return file.read(_SIZE_LIMIT)


def _run(path: Path, number: int, line: bytes) -> dict[str, Any] | None:
    """One run; None, with a warning, where its line was cut off."""
    try:
        run = parse_json(line)
    except ImageError:
        run = None
        if line.startswith(f'{{"{_FORM}": '.encode()):
            logger.warning("%s:%d: a run that was cut off while it was written down does not count", path, number)
            return None
    if not isinstance(run, dict) or _FORM not in run:
        raise FileError(f"{path}:{number}: no trace", hint="singularity exec --trace FILE IMAGE PROGRAM makes one")
    if run[_FORM] != _VERSION:
        raise FileError(f"{path}:{number}: a trace of another version of singularity", hint="make it anew")
    return run


def _paths(path: Path, number: int, said: object) -> list[str]:
    paths = said if isinstance(said, list) else []
    if said is None or not all(isinstance(each, str) and each.startswith("/") for each in paths):
        raise FileError(f"{path}:{number}: no trace: a name in it is no path", hint="make it anew")
    return paths
