"""Many containers of one image at the same moment: how long they take to be there, and the memory that they take."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from footprint import descendants, is_program, proportional

if TYPE_CHECKING:
    from cases import Case
    from place import Place

KERNEL = ("Slab", "KernelStack", "PageTables", "Percpu")
CACHE = ("Cached", "Buffers")
READY = "ready"
STAMP = 8  # bytes that each program writes when it begins
LIMIT = 120.0  # seconds to the end of all
STALLED = 15.0  # seconds in which no program began


@dataclass(frozen=True, slots=True, kw_only=True)
class Many:
    """`count` containers, all of them there at once; memory in KiB of all together, without the programs."""

    count: int
    failures: int
    seconds: float  # until the last program has begun
    processor: float  # seconds of all processes, to the end of the last
    beside: int  # processes that stay beside the programs
    memory: int  # of those, as proportional shares
    kernel: int  # what the kernel has for itself more than before; the machine's, so other work shows in it
    cache: int  # the same of pages of files

    @property
    def per_second(self) -> float:
        """Launches."""
        return (self.count - self.failures) / self.seconds


def many(place: Place, case: Case, count: int) -> Many:
    """Starts `count` launches of a case, whose program waits for the end of its input, and ends them."""
    launch = shlex.join(case.argv).replace("{n}", "'\"$rank\"'")  # a word with braces is in quotes
    loop = f"while [ $rank -lt {count} ]; do {launch} <&3 & rank=$((rank + 1)); done"
    script = f"printf {READY}; exec 3<&0; rank=0; {loop}; wait"
    _bury()
    before = meminfo()
    spent = _processor()
    with place.start(["sh", "-c", script], stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), len(READY)) == READY.encode()
        spent += _own_time(process.pid)
        began = time.perf_counter()
        started = _await(process.stdout.fileno(), count, began)
        seconds = time.perf_counter() - began
        shell = {process.pid}
        beside = [each for each in descendants() if each not in shell and not is_program(each)]
        memory = sum(map(_share, beside))
        after = meminfo()
        process.stdin.close()
        process.wait(LIMIT)
    _bury()
    return Many(
        count=count,
        failures=count - started,
        seconds=seconds,
        processor=_processor() - spent,
        beside=len(beside),
        memory=memory,
        kernel=sum(after[name] - before[name] for name in KERNEL),
        cache=sum(after[name] - before[name] for name in CACHE),
    )


def _bury() -> None:
    """Waits for servers that outlive a launch, which are this process's children now."""
    with suppress(ChildProcessError):
        while True:
            os.wait()


def _own_time(process: int) -> float:
    """Processor seconds that a process and what it has waited for have taken: here, to make the user's world."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


def _await(fd: int, count: int, began: float) -> int:
    """How many programs have said that they began, when all have or no more do."""
    os.set_blocking(fd, False)
    said, last = 0, began
    while said < count * STAMP and time.perf_counter() - last < STALLED:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.0005)
            continue
        if not data:
            break
        said, last = said + len(data), time.perf_counter()
    return said // STAMP


def meminfo() -> dict[str, int]:
    """/proc/meminfo in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) for line in lines}


def _share(process: int) -> int:
    try:
        return proportional(process)
    except OSError:
        return 0  # gone meanwhile


def _processor() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
