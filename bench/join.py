"""Many ranks of one node at the same moment: in one container that they share, and each in one of its own.

    bench/join.py PREFIX IMAGE [--ranks 64] [--runs 5] [--userns]

A run starts the ranks together, waits until the program of each has said that it runs, and lets all of them end: while
the clock runs every container is there, as in a job. Times are of the whole, from the first start to the last word, and
of the processors until the last process has ended; what is there for the containers is counted while all ranks run. The
same programs without any container are the floor.
To be run as the user whose launches are measured: as an ordinary one, `tests/ordinary_user.py -- bench/join.py ...`.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
SERVERS = ("image-server", "fuse2fs")
START = (
    "exec 3<&0; rank=0; while [ $rank -lt $RANKS ]; do "
    'OMPI_COMM_WORLD_LOCAL_RANK=$rank "$@" <&3 & rank=$((rank + 1)); done; wait'
)
PROGRAM = ["sh", "-c", "echo up; read end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One start of all ranks, and what was there while they ran."""

    seconds: float
    processor: float  # seconds of all processes together, to the end of the last
    servers: int  # processes of FUSE file systems
    keepers: int
    kibibytes: int  # of memory that servers and keepers share with nobody


def orphans() -> dict[int, str]:
    """What the ranks have left to this process, by number: their names."""
    words = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {int(word): Path(f"/proc/{word}/comm").read_text().strip() for word in words}


def private_memory(pid: int) -> int:
    """In KiB; what is resident less what is shared."""
    resident, shared = (int(word) for word in Path(f"/proc/{pid}/statm").read_text().split()[1:3])
    return (resident - shared) * resource.getpagesize() // 1024


def processor_time() -> float:
    """In seconds, of children that have ended, and theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(argv: list[str], ranks: int, number: int) -> Run:
    """Starts all, counts, and ends all."""
    step = {"OMPI_COMM_WORLD_LOCAL_SIZE": str(ranks), "PMIX_NAMESPACE": f"bench-{os.getpid()}-{number}"}
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "RANKS": str(ranks), **step}
    spent = processor_time()
    command = ["sh", "-c", START, "sh", *argv]
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(ranks):
            assert process.stdout.readline() == b"up\n"
        seconds = time.perf_counter() - began
        added = orphans()
        servers = [pid for pid, name in added.items() if name in SERVERS]
        keepers = [pid for pid, name in added.items() if name == "sexec"]
        memory = sum(private_memory(pid) for pid in [*servers, *keepers])
        process.stdin.close()
        assert process.wait() == 0
    with suppress(ChildProcessError):  # servers and keepers, which are this process's now
        while True:
            os.wait()
    return Run(
        seconds=seconds,
        processor=processor_time() - spent,
        servers=len(servers),
        keepers=len(keepers),
        kibibytes=memory,
    )


def report(name: str, argv: list[str], ranks: int, runs: int) -> None:
    """One line: the median, the least and the most of the times, and what the last run counted."""
    done = [run(argv, ranks, number) for number in range(runs)]
    times = sorted(each.seconds * 1000 for each in done)
    last = done[-1]
    processor = statistics.median(each.processor * 1000 for each in done)
    print(
        f"{name:<11} {statistics.median(times):6.0f} ms ({times[0]:.0f} to {times[-1]:.0f})  "
        f"processors {processor:4.0f} ms  "
        f"servers {last.servers}, keepers {last.keepers}, {last.kibibytes} KiB of their own"
    )


def main() -> None:
    """Both ways, and the floor, in one run."""
    parser = argparse.ArgumentParser(description="Ranks that share a container beside ranks that do not.")
    parser.add_argument("prefix", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--ranks", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--userns", action="store_true")
    options = parser.parse_args()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    launch = [str(options.prefix / "bin/singularity"), "exec", "--no-home", *(["-u"] if options.userns else [])]
    print(f"{options.ranks} ranks at once, {options.runs} runs: median (least to most)")
    report("native", PROGRAM, options.ranks, options.runs)
    for word in ("yes", "no"):
        argv = [*launch, f"--join={word}", str(options.image.resolve()), *PROGRAM]
        report(f"--join={word}", argv, options.ranks, options.runs)


if __name__ == "__main__":
    main()
