"""Launches by the thousand: a worker that stays an ordinary user (end_to_end/worker.c), what each launch came to, and
what the witness in the container (end_to_end/witness.c) said of it."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING

from images import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launching import Launcher

SOURCES = Path(__file__).parent / "end_to_end"
KEPT = 30  # the first of the descriptors that a job may leave open for the starter
LEFT = {1: "it did not end in time", 2: "processes are left", 4: "mounts are left"}
USUAL_MILLISECONDS = 20_000


def compiled(name: str, directory: Path) -> Path:
    """A program of the tests, made once in this directory."""
    path = directory / name
    if not path.exists():
        tool("gcc", "-std=gnu17", "-static", "-O2", "-s", "-Wall", "-Wextra", "-Werror", "-Wno-unused-result",
             "-o", path, SOURCES / f"{name}.c")  # fmt: skip
        path.chmod(0o755)
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is executed: the file, its argument vector, the request at descriptor 5."""

    program: Path
    words: Sequence[bytes]
    request: bytes | None = None
    kept: int = 0
    milliseconds: int = USUAL_MILLISECONDS

    def encode(self) -> bytes:
        words = b"".join(word + b"\0" for word in (os.fsencode(self.program), *self.words))
        size = -1 if self.request is None else len(self.request)
        return struct.pack("<4i", size, len(words), self.kept, self.milliseconds) + (self.request or b"") + words


@dataclass(frozen=True, kw_only=True)
class Outcome:
    status: int  # as of subprocess: negative for a signal
    left: int
    out: str
    err: str

    @property
    def left_behind(self) -> list[str]:
        return [what for bit, what in LEFT.items() if self.left & bit]

    @cached_property
    def witness(self) -> Witness | None:
        return Witness.read(self.out)

    def __str__(self) -> str:
        return f"status {self.status}\n--- stdout\n{self.out[-6000:]}\n--- stderr\n{self.err[-2000:]}"


@dataclass(frozen=True, kw_only=True)
class Mount:
    point: str
    options: frozenset[str]
    kind: str
    root: str


@dataclass(frozen=True, kw_only=True)
class Witness:
    """What the program in the container said."""

    values: dict[str, str]
    descriptors: dict[int, tuple[str, str, bool]]  # number: type in octal, device and inode, whether O_PATH
    mounts: tuple[Mount, ...]
    seen: tuple[str, ...]
    reach: dict[str, tuple[str, str]]  # path: what can be done with it, device and inode

    @staticmethod
    def read(out: str) -> Witness | None:
        """None: it was not the witness that ran, or not to its end."""
        lines = out.split("\n")
        if "witness" not in lines or "end" not in lines:
            return None
        told = Witness(values={}, descriptors={}, mounts=(), seen=(), reach={})
        mounts: list[Mount] = []
        seen: list[str] = []
        for line in lines[lines.index("witness") + 1 :]:
            word, _, rest = line.partition(" ")
            if word == "fd":
                number, kind, identity, path_only = rest.split(" ")
                told.descriptors[int(number)] = (kind, identity, path_only == "1")
            elif word == "mount":
                before, _, after = rest.partition(" - ")
                words = before.split(" ")
                mounts.append(Mount(point=words[4], options=frozenset(words[5].split(",")), kind=after.split(" ")[0],
                                    root=words[3]))  # fmt: skip
            elif word == "seen":
                seen.append(rest)
            elif word == "reach":
                can, identity, path = rest.split(" ", 2)
                told.reach[path] = (can, identity)
            elif word == "namespace":
                name, _, number = rest.partition(" ")
                told.values[f"namespace {name}"] = number
            elif word:
                told.values[word] = rest
        return Witness(values=told.values, descriptors=told.descriptors, mounts=tuple(mounts), seen=tuple(seen),
                       reach=told.reach)  # fmt: skip


@dataclass(slots=True)
class Worker:
    process: subprocess.Popen[bytes]
    waiting: list[Job] = field(default_factory=list)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def _pipe(self) -> tuple[IO[bytes], IO[bytes]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout

    def send(self, job: Job) -> None:
        to, _ = self._pipe
        to.write(job.encode())
        to.flush()
        self.waiting.append(job)

    def receive(self) -> tuple[Job, Outcome]:
        """The oldest job that was sent, and how it ended."""
        _, source = self._pipe
        head = source.read(16)
        assert len(head) == 16, f"the worker ended: {self.process.wait(timeout=20)}"
        status, left, out, err = struct.unpack("<4i", head)
        outs, errs = source.read(out), source.read(err)
        ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        outcome = Outcome(
            status=ended,
            left=left,
            out=outs.decode(errors="surrogateescape"),
            err=errs.decode(errors="surrogateescape"),
        )
        return self.waiting.pop(0), outcome

    def run(self, job: Job) -> Outcome:
        self.send(job)
        return self.receive()[1]


@contextmanager
def working(launch: Launcher, directory: Path) -> Iterator[Worker]:
    """A worker on the machine of this launcher; `directory` keeps its program."""
    with launch.start(compiled("worker", directory), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        worker = Worker(process)
        try:
            yield worker
        finally:
            assert process.stdin is not None
            process.stdin.close()
            if worker.waiting:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=30)


def run_all(workers: Sequence[Worker], jobs: Sequence[Job]) -> list[Outcome]:
    """These jobs, shared out among the workers; the outcomes in the order of the jobs."""
    outcomes: list[Outcome] = []
    for start in range(0, len(jobs), len(workers)):
        group = jobs[start : start + len(workers)]
        for worker, job in zip(workers, group, strict=False):
            worker.send(job)
        outcomes += [worker.receive()[1] for worker, _ in zip(workers, group, strict=False)]
    return outcomes
