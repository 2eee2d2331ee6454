"""What an instance uses, from the kernel's counters.

Those of its control group, where limits have made it one of its own, which remember ended processes; else the sum
over its processes, and as memory what they would give back if they ended (proportional set size), so that what they
share counts once.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from singularity.instance import processes
from singularity.instance.states import Instance
from singularity.limits import groups

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """One sample."""

    user: float  # seconds of processor time, those of ended processes too
    system: float
    memory: int  # bytes
    limit: int  # bytes that there are at most: of this machine, or of the control group
    read: int  # bytes from block devices
    written: int
    processes: int


def sample(instance: Instance) -> Usage | None:
    """Now; None: it has ended."""
    members = _members(instance)
    if not members:
        return None
    found = _of_processes(members)
    group = groups.made_for(instance.process)
    return found if group is None else _of_group(group, found)


def _of_processes(members: Sequence[int]) -> Usage:
    ticks = [processes.status_fields(process) for process in members]
    traffic = [_traffic(process) for process in members]
    return Usage(
        user=sum(int(each[11]) + int(each[13]) for each in ticks if each) / _TICK,
        system=sum(int(each[12]) + int(each[14]) for each in ticks if each) / _TICK,
        memory=sum(map(_memory, members)),
        limit=os.sysconf("SC_PHYS_PAGES") * _PAGE,
        read=sum(read for read, _ in traffic),
        written=sum(written for _, written in traffic),
        processes=len(members),
    )


def _of_group(group: Path, found: Usage) -> Usage:
    """Where no limit has asked for a controller the kernel does not count with it, and what was found stays."""
    with suppress(OSError):
        times = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
        found = replace(found, user=int(times["user_usec"]) / 1e6, system=int(times["system_usec"]) / 1e6)
    with suppress(OSError):
        memory, most = ((group / f"memory.{name}").read_text().strip() for name in ("current", "max"))
        found = replace(found, memory=int(memory), limit=min(found.limit, int(most)) if most != "max" else found.limit)
    with suppress(OSError):
        words = [word.partition("=") for word in (group / "io.stat").read_text().split()]
        read, written = (sum(int(n) for key, _, n in words if key == name) for name in ("rbytes", "wbytes"))
        found = replace(found, read=read, written=written)
    return found


def _members(instance: Instance) -> list[int]:
    """The processes of its PID namespace: the first one, which the caller may not look into, and the others."""
    if processes.identity(instance.process) != instance.identity:
        return []
    found = [instance.process]
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if os.stat(f"/proc/{name}/ns/pid").st_ino == instance.namespace:
                found.append(int(name))
    return sorted(set(found))


def _memory(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    with suppress(OSError):
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * _PAGE
    return 0


def _traffic(process: int) -> tuple[int, int]:
    with suppress(OSError):
        lines = Path(f"/proc/{process}/io").read_text().splitlines()
        counters = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
        return counters.get("read_bytes", 0), counters.get("write_bytes", 0)
    return 0, 0
