"""One launch, many times, under end_to_end/supervisor.c, which sees every system call of the starter: to list them, to
let one fail, to look at what is open at each. Needs root."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from workers import Outcome, compiled

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from launching import Launcher

HEADERS = [
    Path(name) for name in ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "/usr/include/asm-generic/unistd.h")
]


@cache
def numbers() -> dict[str, int]:
    """The system calls of this machine."""
    header = next(path for path in HEADERS if path.exists())
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


@cache
def names() -> dict[int, str]:
    return {number: name for name, number in numbers().items()}


@dataclass(frozen=True, slots=True)
class Open:
    """A descriptor of the starter at one of its calls."""

    number: int
    inside: bool  # its mount is one of the process's own namespace
    closed_at_exec: bool
    target: str


@dataclass(frozen=True, slots=True)
class Call:
    number: int  # of the system call
    process: int
    name: str
    pivoted: bool
    path: str
    descriptors: list[Open]


@dataclass(frozen=True, kw_only=True)
class Supervised(Outcome):
    failed: bool  # there was such a call, and it was answered with the error
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Supervisor:
    process: subprocess.Popen[bytes]

    @property
    def _source(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def _ask(self, text: str) -> Supervised:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        calls: list[Call] = []
        while (line := self._source.readline().decode().rstrip("\n")) and not line.startswith("done "):
            word, _, rest = line.partition(" ")
            if word in {"call", "stage"}:
                process, call, pivoted, path = rest.split(" ", 3)
                name = names().get(int(call), call)
                calls.append(Call(int(call), int(process), name, pivoted == "1", path, []))
            elif word == "fd":
                number, inside, closed, target = rest.split(" ", 3)
                calls[-1].descriptors.append(Open(int(number), inside == "1", closed == "1", target))
        assert line, f"the supervisor ended: {self.process.wait(timeout=20)}"
        status, left, failed, out, err = (int(word) for word in line.split(" ")[1:])
        outs, errs = self._source.read(out), self._source.read(err)
        return Supervised(
            status=-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
            left=left,
            out=outs.decode(errors="surrogateescape"),
            err=errs.decode(errors="surrogateescape"),
            failed=failed == 1,
            calls=tuple(calls),
        )

    def listed(self) -> Supervised:
        """A good launch, with its calls."""
        return self._ask("list")

    def stages(self) -> Supervised:
        """The same, and from the new root on what is open at each."""
        return self._ask("stages")

    def failing(self, call: int, number: int, error: int) -> Supervised:
        """The call of this kind that is the numberth answers with the error."""
        return self._ask(f"fail {call} {number} {error}")


@contextmanager
def supervised(
    launch: Launcher, directory: Path, octets: bytes, words: Sequence[str], *, programs: Path
) -> Iterator[Supervisor]:
    """A supervisor of launches of this request, whose program gets these words."""
    file = directory / f"request-{len(list(directory.iterdir()))}"
    file.write_bytes(octets)
    account = launch.account
    groups = ",".join(map(str, account.groups.values()))
    argv = [
        compiled("supervisor", programs),
        account.uid,
        account.gid,
        groups,
        file,
        launch.starter,
        "sexec",
        "5",
        *words,
    ]
    with launch.start(*map(str, argv), stdin=subprocess.PIPE, become=False, stderr=subprocess.DEVNULL) as process:
        try:
            yield Supervisor(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=30)
