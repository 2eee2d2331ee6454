"""Where images and temporary files go: room, rights, and what a mount forbids."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from singularity import console, paths
from singularity.check.finding import Finding, Subject
from singularity.doctor.finding import good, lacking, wrong

_ROOM = 1 << 30  # bytes: what the image of one tool needs while it is made
_LEAST = 16 << 20  # bytes, below which nothing works
_NAMES = 1000  # inodes


def judge() -> Iterator[Finding]:
    """The directories."""
    temporary = paths.temporary()
    yield from _judged("temporary files", temporary, "name another with SINGULARITY_TMPDIR", runs=True)
    cache = "singularity cache clean, or name another with SINGULARITY_CACHEDIR"
    yield from _judged("cache", paths.cache_place(), cache, runs=False)


def _judged(what: str, path: Path, advice: str, *, runs: bool) -> Iterator[Finding]:
    place = next((each for each in (path, *path.parents) if os.path.lexists(each)), path)
    needed = f"{console.size(_ROOM)} free"
    reason = "no directory" if not os.path.isdir(place) else ""
    reason = reason or ("" if os.access(place, os.W_OK | os.X_OK) else "not yours to write in")
    if reason:
        yield wrong(Subject.PLACES, what, f"{place}: {reason}", needed, advice)
        return
    status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    found = f"{path}: {console.size(free)} free"
    if free < _LEAST:
        yield wrong(Subject.PLACES, what, found, needed, advice)
    elif free < _ROOM:
        yield lacking(Subject.PLACES, what, found, needed, advice)
    else:
        yield good(Subject.PLACES, what, found, needed)
    if status.f_files and status.f_favail < _NAMES:
        yield lacking(Subject.PLACES, what, f"{path}: {status.f_favail} inodes free", f"{_NAMES}", advice)
    if runs and status.f_flag & os.ST_NOEXEC:
        found = f"{path}: mounted noexec"
        yield lacking(Subject.PLACES, what, found, "programs that run, for builds", advice)


def clock(installed: Path) -> Iterator[Finding]:
    """Whether the clock is behind what is known to be past: signatures and certificates count by it."""
    now = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    if time.time() < installed.stat().st_mtime - 60:
        yield wrong(Subject.PLACES, "clock", now, "later than this installation", "timedatectl set-ntp true")
    else:
        yield good(Subject.PLACES, "clock", now)
