"""Ranks as launchers start them: many processes of one user on one node, each told by variables which one it is."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

import machine
from launching import Launcher, Result, decode
from ordinary_user import CLONE_NEWNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT = 30.0
MEETINGS = "@singularity-join-"
INSTANCES = "@singularity-instance-"
UID = 20_000 + (os.getpid() + 11) % 40_000  # of who starts the ranks
SPACES = "/proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/ipc /proc/self/ns/pid"
SHOW = f"for space in {SPACES}; do readlink $space; done | xargs; read wait"

_libc = ctypes.CDLL(None, use_errno=True)


def open_mpi(rank: int, ranks: int, job: str = "4711") -> dict[str, str]:
    """What mpirun of Open MPI 4 tells a rank, as far as it matters here."""
    return {
        "OMPI_COMM_WORLD_LOCAL_SIZE": str(ranks),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(rank),
        "OMPI_MCA_ess_base_jobid": job,
        "PMIX_NAMESPACE": job,
        "PMIX_RANK": str(rank),
    }


def slurm(rank: int, ranks: int, job: str = "1234", step: str = "0") -> dict[str, str]:
    """What srun tells a task."""
    return {
        "SLURM_JOB_ID": job,
        "SLURM_STEP_ID": step,
        "SLURM_STEP_TASKS_PER_NODE": str(ranks),
        "SLURM_NODEID": "0",
        "SLURM_LOCALID": str(rank),
        "SLURM_PROCID": str(rank),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One machine for all processes that start here: the launcher alone makes each command a machine of its own."""

    launcher: Launcher
    holder: subprocess.Popen[bytes]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @classmethod
    def boot(cls, launcher: Launcher) -> Node:
        return cls(launcher=launcher, holder=launcher.start("sleep", "300"))

    def shut_down(self) -> None:
        """Ends whatever still runs, which after a test that held is nothing."""
        for process in [*self.started, self.holder]:
            process.kill()
            process.wait(timeout=10)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def enter(self) -> None:
        """Turns the calling process, a fresh child, into one of the user on this node."""
        world = self.launcher.world
        if world.private:
            space = os.open(f"/proc/{self.holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            if _libc.setns(space, CLONE_NEWNS) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        world._drop()

    def start(
        self,
        *argv: str | Path,
        env: Mapping[str, str | None] = {},
        stdin: int | IO[bytes] | None = subprocess.PIPE,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [str(word) for word in argv],
            env=self.launcher.environment(env),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=self.enter,
            cwd="/",
        )
        self.started.append(process)
        return process

    def launch(
        self, *words: str | Path, first: Sequence[str] = (), env: Mapping[str, str | None] = {}, **streams: int
    ) -> subprocess.Popen[bytes]:
        """One launch of a container."""
        return self.start(*self.launcher.argv(*words, first=first), env=env, **streams)

    def command(self, *words: str | Path, first: Sequence[str] = (), env: Mapping[str, str | None] = {}) -> Result:
        return ended(self.launch(*words, first=first, env=env))


def ended(process: subprocess.Popen[bytes], stdin: bytes = b"\n", timeout: float = TIMEOUT) -> Result:
    """What came of it, once its standard input had a line and its end."""
    stdout, stderr = process.communicate(stdin, timeout=timeout)
    argv = process.args if isinstance(process.args, list) else [str(process.args)]
    return decode(process.returncode, [str(word) for word in argv], stdout, stderr)


def line_of(process: subprocess.Popen[bytes]) -> str:
    """The next line that it prints; a hint at why when it ends without."""
    assert process.stdout is not None
    line = process.stdout.readline().decode()
    if not line:
        assert process.stderr is not None
        raise AssertionError(f"no output; on standard error: {process.stderr.read().decode()}")
    return line.rstrip("\n")


def sockets_of(process: int) -> set[str]:
    """The numbers of the sockets that it has open; none where that is not told."""
    numbers = set()
    with suppress(OSError):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            kind, _, number = os.readlink(descriptor).partition(":")
            if kind == "socket":
                numbers.add(number.strip("[]"))
    return numbers


def meetings() -> set[str]:
    """The names at which this process's children, keepers among them, listen now. Other sessions have theirs."""
    table = Path("/proc/net/unix").read_text().splitlines()
    lines = [line.split() for line in table if any(name in line for name in (MEETINGS, INSTANCES))]
    ours = {number for child in machine.children() for number in sockets_of(child)} if lines else set()
    return {words[-1] for words in lines if words[-2] in ours or os.geteuid() != 0}


def wait_until(happened: object, within: float = 10.0) -> None:
    """Until a callable says True."""
    assert callable(happened)
    deadline = time.monotonic() + within
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def show(node: Node, image: Path, *options: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A rank that prints which namespaces it is in, and waits for the end of its input."""
    return node.launch("exec", *options, image, "sh", "-c", SHOW, env=env)


def spaces_of(ranks: list[subprocess.Popen[bytes]]) -> list[str]:
    """The namespaces of ranks, all of which are alive until the last has told."""
    told = [line_of(rank) for rank in ranks]
    for rank in ranks:
        ended(rank).ok()
    return told
