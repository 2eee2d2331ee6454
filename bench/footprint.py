"""What a launch opens, and what of it stays while the program runs or after it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cases import Case
    from place import Place

STARTED = 20.0  # seconds
CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)(?P<rest>.*?) += (?P<result>-?\d+)")
DIRECTORY = re.compile(r"^\((?:AT_FDCWD(?:<[^>]*>)?|(?P<fd>\d+)<(?P<at>[^>]*)>), \"(?P<path>[^\"]*)\"")
DESCRIPTOR = re.compile(r"^\(\d+<(?P<path>[^>]*)>")
UNFINISHED = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)(?P<rest>\(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)$")
OPENING = ("open", "openat", "openat2", "open_tree")
READING = ("read", "pread64", "readv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Residents:
    """What is there beside the program while it runs; `memory` is their proportional share in KiB."""

    processes: int
    threads: int
    memory: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """System calls up to the program's execution, and what they opened and read outside the image."""

    calls: int
    processes: int
    executed: tuple[str, ...]
    opened: tuple[str, ...]
    read: int  # bytes

    @property
    def python_files(self) -> tuple[str, ...]:
        """Those that only a Python would open."""
        paths = (*self.opened, *self.executed)
        return tuple(path for path in paths if "python" in path or path.endswith((".py", ".pyc")))


def residents(place: Place, case: Case) -> Residents:
    """Launches a case whose program waits for the end of its input. Orphans must be this process's to adopt."""
    with place.start(case.one(), stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        if len(process.stdout.read(8)) != 8:
            process.kill()
            raise RuntimeError(f"{case.name}: the program did not start")
        time.sleep(0.2)
        found = [each for each in descendants() if not is_program(each)]
        threads = sum(len(list(Path(f"/proc/{each}/task").iterdir())) for each in found)
        memory = sum(proportional(each) for each in found)
        process.stdin.close()
        try:
            process.wait(STARTED)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return Residents(processes=len(found), threads=threads, memory=memory)


def mounts(place: Place, case: Case) -> int:
    """Mounts that the program sees, of a case whose program prints its mount table."""
    return len(place.run(case.one(), timeout=60).splitlines())


def trace(place: Place, case: Case) -> Trace:
    """The launch under strace, which root runs so that the setuid bit counts."""
    file = place.directory / "trace"
    user = place.account.name
    shown = str(place.shown(file.name))
    words = ["strace", "-f", "-qq", "-y", "-s", "300", "-u", user, "-o", shown]
    place.run([*words, *case.one()], timeout=60, become=False)
    text = file.read_text(errors="replace")
    file.unlink()
    images = [str(place.shown(name)) for name in ("root", "debian.", "zstd.", "gzip.")]
    return read_trace(text, (*images, f"{place.prefix}/var/singularity/mnt/", "/newroot"))


def read_trace(text: str, inside: tuple[str, ...]) -> Trace:
    """What is in a trace of `strace -f -y`, up to the last execution, which is the program's.

    Paths that begin with one of `inside` are the image's, and so are all that a process names after its change of root,
    but for what bubblewrap keeps of the host below /oldroot.
    """
    lines = list(whole_lines(text))
    executions = [number for number, line in enumerate(lines) if re.match(r"^\d+ +execve(at)?\(.* = 0", line)]
    before = lines[: executions[-1]]
    opened, executed, read = [], [], 0
    entered: set[str] = set()
    for found in filter(None, map(CALL.match, before)):
        if int(found["result"]) < 0:
            continue
        path = None
        if found["name"] in OPENING:
            path = _opened_path(found["name"], found["rest"])
        elif found["name"] in READING:
            path = _read_path(found["rest"])
        elif found["name"] in ("pivot_root", "chroot"):
            entered.add(found["pid"])
        elif found["name"] == "execve":
            executed.append(found["rest"].split('"')[1])
        if path is None or path.startswith(inside) or (found["pid"] in entered and not path.startswith("/oldroot")):
            continue
        if found["name"] in OPENING:
            opened.append(path)
        else:
            read += int(found["result"])
    processes = {line.split()[0] for line in before}
    return Trace(calls=len(before), processes=len(processes), executed=tuple(executed), opened=tuple(opened), read=read)


def whole_lines(text: str) -> Iterator[str]:
    """Lines of calls that another process's lines cut in two are put together, where they ended."""
    begun: dict[tuple[str, str], str] = {}
    for line in text.splitlines():
        if found := UNFINISHED.match(line):
            begun[found["pid"], found["name"]] = found["rest"]
        elif found := RESUMED.match(line):
            yield f"{found['pid']} {found['name']}{begun.pop((found['pid'], found['name']), '(')}{found['rest']}"
        elif not re.match(r"^\d+ +(\+\+\+|---)", line):
            yield line


def _opened_path(name: str, rest: str) -> str | None:
    """The path that a call opened, if absolute or below a directory of /proc: other descriptors are the image's."""
    if name == "open":
        path = rest.split('"')[1]
    elif found := DIRECTORY.match(rest):
        path, at = found["path"], found["at"]
        if found["fd"] is not None and (not path.startswith("/") or "RESOLVE_IN_ROOT" in rest):
            if at != "/proc" and not str(at).startswith("/proc/"):
                return None
            path = f"{at}/{path}"
    else:
        return None
    return None if path in ("", ".", "..", "/") else path


def _read_path(rest: str) -> str | None:
    found = DESCRIPTOR.match(rest)
    if not found or not found["path"].startswith("/") or found["path"].startswith(("/dev/", "/memfd:")):
        return None
    return found["path"]


def _parents() -> Mapping[int, int]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                found[int(entry.name)] = int(parent)
    return found


def descendants() -> list[int]:
    """Every living process that this one started, orphans too."""
    parents = _parents()
    found: list[int] = []
    pending = [os.getpid()]
    while pending:
        parent = pending.pop()
        children = [child for child, its in parents.items() if its == parent]
        found += children
        pending += children
    return found


def is_program(process: int) -> bool:
    """Whether it is the launched program, or gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text().strip() == "instant"
    except OSError:
        return True


def proportional(process: int) -> int:
    """Proportional share of memory (PSS) in KiB."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    found = re.search(r"^Pss: +(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) if found else 0
