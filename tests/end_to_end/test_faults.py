"""Every system call of the starter fails once: the program never starts with a security step left out, and nothing is
left behind. Some occurrences of each kind of call here; EXHAUSTIVE=1 (`make fuzz`): each of them, with each error."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import machine
import pytest
from hostile_host import judge
from launch_requests import Value, request_for
from supervision import Supervised, Supervisor, supervised

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hostile_host import HostileHost
    from images import Images
    from launching import Launcher
    from workers import Witness

pytestmark = [
    pytest.mark.needs("root", "mke2fs", "mksquashfs", "fuse", "unsanitized"),
    pytest.mark.modes("suid", "userns"),
]

EXHAUSTIVE = bool(os.environ.get("EXHAUSTIVE"))
ERRORS = (errno.EPERM, errno.ENOMEM, errno.EMFILE, errno.EINTR)
SAMPLE = 5  # of each kind of call: the first, the last, and some between
# Or make no sense: wait4 has no other error than that there is no child, and close() closes whatever it answers.
NEVER_FAIL = {
    "wait4",
    "close",
    "getuid",
    "getgid",
    "getpid",
    "getppid",
    "umask",
    "exit_group",
    "exit",
    "rt_sigreturn",
    "set_tid_address",
    # musl blocks signals around fork(2) with it and goes on as if nothing had happened: with arguments that are
    # right the kernel has no error to answer, and a process that is waited for by a signal would wait for ever
    "rt_sigprocmask",
}
BIND = b"/asked"

LAUNCHES: dict[str, tuple[str, list[tuple[str, Value]]]] = {
    "directory": ("directory", []),
    "squashfs": (
        "squashfs",
        [("pid", True), ("contain", True), ("scratch", (0, b"/scratch", b"")), ("writable_tmpfs", True)],
    ),
}


@dataclass(frozen=True, slots=True)
class Fault:
    call: int
    name: str
    number: int  # the numberth call of this kind
    error: int
    ours: bool  # not one that the C library makes before main()

    def __str__(self) -> str:
        return f"{self.name} number {self.number} answers {errno.errorcode[self.error]}"


def spread(count: int) -> Sequence[int]:
    """The numbers of the calls that are tried, of so many of one kind."""
    if EXHAUSTIVE or count <= SAMPLE:
        return range(1, count + 1)
    return sorted({1 + step * (count - 1) // (SAMPLE - 1) for step in range(SAMPLE)})


def of_ours(good: Supervised) -> set[tuple[int, int]]:
    """Calls and which of their kind, but for those of the C library before main(), which begins with umask()."""
    seen: Counter[int] = Counter()
    own = set()
    begun = False
    for call in good.calls:
        seen[call.number] += 1
        begun |= call.name == "umask"
        if begun:
            own.add((call.number, seen[call.number]))
        begun &= not call.name.startswith("execve")
    return own


def faults(good: Supervised) -> Iterator[Fault]:
    kinds = Counter((call.number, call.name) for call in good.calls)
    own = of_ours(good)
    turn = 0
    for (call, name), count in kinds.items():
        if name in NEVER_FAIL:
            continue
        for number in spread(count):
            turn += 1
            for error in ERRORS if EXHAUSTIVE else [ERRORS[turn % len(ERRORS)]]:
                yield Fault(call, name, number, error, (call, number) in own)


def wrong(host: HostileHost, good: Witness, fault: Fault, outcome: Supervised, octets: bytes) -> Iterator[str]:
    yield from outcome.left_behind
    if outcome.status < 0 and fault.ours:
        yield f"ended by signal {-outcome.status}"
    if outcome.witness is None:
        if outcome.status == 0:
            yield "it ended well, but the program did not run"
        if (
            fault.ours
            and fault.name != "write"
            and not any(line.startswith("FATAL: ") for line in outcome.err.splitlines())
        ):
            yield "it did not say why"
        return
    told = outcome.witness
    yield from judge(host, told, octets, kept=0)
    for name in ("uids", "gids", "bounding", "seccomp", "no_new_privs"):
        if told.values[name] != good.values[name]:
            yield f"{name}: {told.values[name]}, not {good.values[name]}"
    before, after = ({(one.point, one.root, one.kind): one.options for one in each.mounts} for each in (good, told))
    for mount in before.keys() & after.keys():
        if before[mount] != after[mount] and mount[0] != "/":
            yield f"{mount[0]} has {','.join(sorted(after[mount]))}"
    if after and BIND.decode() not in {
        point for point, _, _ in after
    }:  # without a /proc, which is told, nothing is known
        yield "what was asked for is missing"


@pytest.mark.parametrize("what", LAUNCHES)
def test_no_failing_call_starts_the_program_without_a_step(
    launch: Launcher, hostile_host: HostileHost, images: Images, directory: Path, storage: Path, what: str
) -> None:
    """R-L13, R-L5, R-L6, R-M1, R-B1: EPERM, ENOMEM, EMFILE, EINTR, wherever."""
    host = hostile_host
    image, asked = LAUNCHES[what]
    bind: tuple[str, Value] = ("bind", (1, b"/usr/share", BIND))
    octets = request_for(host.images[image], bind, *asked, userns=launch.mode.value == "userns")
    words = ["/bin/witness", *(word.decode() for word in host.known)]
    bad: list[str] = []
    tried, begun = 0, time.monotonic()
    with supervised(launch, directory, octets, words, programs=images.directory) as supervisor:
        good = supervisor.listed()
        assert good.witness is not None, str(good)
        assert not list(judge(host, good.witness, octets, kept=0)), str(good)
        for fault in faults(good):
            tried += 1
            bad += complaints(supervisor, host, good.witness, fault, octets)
    assert not bad, f"{len(bad)} of {tried} faults:\n" + "\n".join(bad[:20])
    assert tried > 100
    assert not machine.loops_of(storage)
    print(f"{tried} faults in {len(good.calls)} calls, {time.monotonic() - begun:.0f} s")  # noqa: T201


def complaints(supervisor: Supervisor, host: HostileHost, good: Witness, fault: Fault, octets: bytes) -> list[str]:
    outcome = supervisor.failing(fault.call, fault.number, fault.error)
    found = list(wrong(host, good, fault, outcome, octets))
    return [f"{fault}: {'; '.join(found)}\n    status {outcome.status}: {outcome.err.strip()[:300]}"] if found else []
