"""Launch requests, made and changed at random, to the real setuid program as an ordinary user; after each one an oracle
says whether it gave him anything. MUTATION_SECONDS: for each test (8); MUTATION_SEED: where it begins, see a failure.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import machine
import pytest
from hostile_host import SECRET, HostileHost, names_in, violations
from launch_requests import LEVEL_USUAL, Value, fields_of, kinds, request
from workers import KEPT, USUAL_MILLISECONDS, Job, Worker, run_all, working

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from images import Images
    from launching import Launcher

pytestmark = [pytest.mark.needs("root", "mke2fs", "mksquashfs"), pytest.mark.modes("suid", "userns")]

SECONDS = float(os.environ.get("MUTATION_SECONDS", "8"))
SEED = int(os.environ.get("MUTATION_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
GROUP = 64  # launches between two looks at what only root sees

Asked = tuple[str, Value]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One launch: its fields, and what is changed in the bytes that are made of them."""

    asked: tuple[Asked, ...]
    changes: tuple[tuple[str, int, int], ...] = ()  # what, where, with what
    kept: int = 0  # descriptors from KEPT on that are open in the caller

    @property
    def octets(self) -> bytes:
        octets = bytearray(request(*fields_of(self.asked)))
        for what, where, value in self.changes:
            if not octets:
                break
            place = where % len(octets)
            if what == "flip":
                octets[place] ^= 1 << value % 8
            elif what == "set":
                octets[place] = value % 256
            elif what == "cut":
                del octets[max(1, place) :]
            elif what == "remove":
                del octets[place : place + 1 + value % 16]
            else:
                octets[place:place] = octets[place : place + 1 + value % 64]
        return bytes(octets)


# ---- the dictionary ----

SYSTEM = [
    "/",
    "/..",
    "/.",
    "/etc",
    "/etc/shadow",
    "/etc/passwd",
    "/root",
    "/home",
    "/dev",
    "/dev/null",
    "/dev/loop0",
    "/dev/loop-control",
    "/dev/fuse",
    "/dev/mem",
    "/dev/pts",
    "/dev/shm",
    "/proc",
    "/proc/1",
    "/proc/sys",
    "/sys",
    "/sys/fs/cgroup",
    "/sys/kernel/security",
    "/usr/share",
    "/usr",
    "/bin",
    "/bin/sh",
    "/var",
    "/run",
    "/opt",
    "/srv",
    "/mnt",
    "/home/alice",
]
OURS = [
    "var/singularity/mnt",
    "etc/singularity/singularity.conf",
    "libexec/singularity",
    "libexec/singularity/sexec-suid",
]
INSIDE = [
    "/singularity",
    "/.singularity.d",
    "/.singularity.d/libs/libx.so",
    "/.singularity.d/env",
    "/srv/new/deep",
    "/new",
    "/closed-root",
    "/closed-root/inner",
    "/closed-root/inner/new",
    "/home/new",
    "/dev/new",
    "/proc/self/fd/new",
    "/mnt",
    "/opt/x",
]
OF_PROCESS = ["root", "cwd", "exe", "fd/0", "fd/5", "ns/mnt", "ns/user", "task/1/root", "mem", "map_files", "environ"]
ODD = ["", ".", "..", "relative", "/" + "x" * 300, "/" + "y/" * 1500, "//etc", "/\n", "/%n%s", "/a:b", "/a,b",
       "/\x7f\x1b[31m", "\\040", "/etc\\134", "/proc/self/root" * 20, "/\udcff\udcfe"]  # fmt: skip
EVERYDAY = ["/usr/share", "/etc/hosts", "/dev/null", "/dev", "/proc", "/sys", "/dev/shm", "/usr", "/etc"]
OVERLAYS = [
    "opening",
    "opening.ext3",
    "opening.squashfs",
    "opening",
    "opening.squashfs",
    "linked",
    "linked.ext3",
    "linked-work",
]
PLACES = ["bind", "overlay", "library", "scratch", "cwd", "target_cwd", "home_source", "home_target", "workdir"]
PLACES += ["account_home", "target_uid", "keep_fd", "image"]
WORDS = {
    "no_mount": (b"proc", b"sys", b"dev", b"devpts", b"tmp", b"home", b"cwd", b"bind-paths", b"/etc/resolv.conf"),
    "scratch": (b"/scratch", b"/srv/new/x", b"/mnt", b"/closed-root", b"/closed-root/inner"),
    "hostname": (b"node", b"x" * 65, b"a\nb", b""),
    "dns": (b"127.0.0.1", b"1.2.3.4,::1", b"x\ny"),
    "app": (b"app", b"..", b"../..", b"/"),
    "group": (b"root", b"a:b\nc", b"science"),
    "account_name": (b"root", b"alice", b"a:0:0:x\n", b""),
    "account_gecos": (b"x", b":\n"),
    "join_step": (b"1.0", b"x" * 100, b"../x", b"", b"instance web 0123"),
    "instance": (b"web", b"../x", b"x" * 300, b""),
    "network_ports": (b"", b"8080:80/tcp", b"1-65535:1-65535/udp", b"80/tcp," * 500, b"auto", b",,,/udp"),
    "id_ranges": (b"100000 65536 100000 65536", b"0 4294967295 0 4294967295", b"0 1 0 1", b"-1 -1 -1 -1", b"x"),
    "restriction": (b"", b"/", b"/etc", b"0", b"1000", b"unconfined", b"/none"),
    "mounted": (b"/usr", b"/", b""),
    "variable": (b"SINGULARITY_BIND", b"%s"),
}
NUMBERS = {"action": (1, 2, 3), "dry_run": (1, 2), "level": (17, 18, 19, 21), "overlay": (0, 1), "bind": (0, 1, 2, 3)}
NUMBERS |= {"restriction": (*range(11), 4 | KEPT << 8, 4 | 5 << 8), "mounted": (0, 1)}
STARTS: list[Asked] = [
    ("instance", b"web"),
    ("join_step", b"instance web 0123"),
    ("pid", True),
    ("instance_starts", True),
]
STARTS += [("keep_fd", (KEPT + number, b"", b"")) for number in range(3)]


def nasty_paths(host: HostileHost, launch: Launcher, pids: Sequence[int]) -> list[bytes]:
    mine, place = host.mine, host.place
    links = [f"{start}/{n}" for start in ("/proc/self/fd", "/proc/thread-self/fd", "/dev/fd") for n in range(14)]
    of_process = [*OF_PROCESS, f"root{place}/closed-root"]
    magic = [f"/proc/{pid}/{name}" for pid in ("self", "thread-self", 1, *pids) for name in of_process]
    closed = [str(path) for path in host.closed.values()]
    below = [f"{path}/inner{more}" for path in closed[:3] for more in ("", f"/{SECRET}")]
    own = [*map(str, sorted(mine.iterdir())), f"{mine}/opening/upper", f"{mine}/to-closed/inner", f"{mine}/to-root/etc",
           f"{mine}/", f"{mine}/../closed-root", f"{mine}//.//file", f"{place}/closed-root/.."]  # fmt: skip
    session = [f"{launch.prefix}/{name}" for name in OURS]
    return [os.fsencode(text) for text in (*links, *magic, *closed, *below, *own, *SYSTEM, *session, *INSIDE, *ODD)]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Draws cases; everything comes from the generator, so that a seed and a number name a case."""

    host: HostileHost
    paths: Sequence[bytes]
    userns: bool
    uid: int

    def case(self, draw: random.Random) -> Case:
        asked = self.template(draw)
        for _ in range(draw.choice((0, 1, 1, 1, 2, 2, 3, 6))):
            self.change(draw, asked)
        ways = ("flip", "set", "cut", "remove", "double")
        number = draw.randint(1, 3) if draw.random() < 0.12 else 0
        changes = [(draw.choice(ways), draw.randrange(1 << 16), draw.randrange(256)) for _ in range(number)]
        kept = 3 if ("instance_starts", True) in asked else draw.choice((0, 0, 0, 1, 3))
        return Case(asked=tuple(asked), changes=tuple(changes), kept=kept)

    def image(self, draw: random.Random) -> bytes:
        return os.fsencode(draw.choice(list(self.host.images.values())))

    def template(self, draw: random.Random) -> list[Asked]:
        mine = self.host.mine
        cwd = draw.choice((b"/", os.fsencode(mine)))
        asked: list[Asked] = [("level", LEVEL_USUAL), ("image", self.image(draw)), ("cwd", cwd)]
        if self.userns:
            asked.append(("userns", True))
        if draw.random() < 0.3:
            overlays = [os.fsencode(mine / draw.choice(OVERLAYS)) for _ in range(draw.randint(1, 3))]
            asked += [("overlay", (draw.randrange(2), overlay, b"")) for overlay in overlays]
        if draw.random() < 0.5:
            sources: list[str | Path] = [
                *EVERYDAY,
                mine / "file",
                mine / "home",
                mine / "opening",
                self.host.images["directory"],
            ]
            asked += [
                ("bind", (draw.randrange(2), os.fsencode(draw.choice(sources)), draw.choice(INSIDE).encode()))
                for _ in range(draw.randint(1, 4))
            ]
        if draw.random() < 0.05:
            asked += STARTS[: draw.choice((3, len(STARTS), len(STARTS)))]
        return asked

    def change(self, draw: random.Random, asked: list[Asked]) -> None:
        name = draw.choice([*kinds(), *PLACES, *PLACES])
        places = [place for place, (known, _) in enumerate(asked) if known == name]
        if name == "target_uid":  # only the two together are looked at
            asked.append(("target_gid", draw.choice((501, self.uid + 1, 1 << 31))))
        if places and (draw.random() < 0.3 or kinds()[name].shape != "LIST"):
            asked.pop(places[0])
        usual: dict[str, Value] = {"level": LEVEL_USUAL, "image": self.image(draw)}
        value = usual[name] if name in usual and draw.random() < 0.7 else self.value(draw, name)
        full = kinds()[name].shape == "LIST" and draw.random() < 0.04
        asked += [(name, value)] * (kinds()[name].limit - draw.choice((0, 0, 1, 8)) if full else 1)

    def value(self, draw: random.Random, name: str) -> Value:
        shape = kinds()[name].shape
        if shape == "FLAG":
            return True
        if shape == "NUMBER":
            return self.number(draw, name)
        if shape == "TEXT":
            return self.text(draw, name)
        if name == "keep_fd":
            return (draw.randrange(KEPT - 2, KEPT + 4), b"", b"")
        second = draw.choice((b"", draw.choice(self.paths))) if name in {"bind", "library", "variable"} else b""
        return (self.number(draw, name) >> draw.choice((0, 0, 40)), self.text(draw, name), second)

    def number(self, draw: random.Random, name: str) -> int:
        if name in NUMBERS and draw.random() < 0.8:
            return draw.choice(NUMBERS[name])
        some = [1 << bits for bits in (0, 1, 3, 16, 31, 32, 63)] + [(1 << bits) - 1 for bits in (31, 32, 41, 64)]
        odd = [*some, 501, 1001, self.uid + 1, draw.getrandbits(10) + 1, draw.getrandbits(63) + 1]
        return draw.choice(odd)

    def text(self, draw: random.Random, name: str) -> bytes:
        if name in WORDS and draw.random() < 0.8:
            return draw.choice(WORDS[name])
        return draw.choice(self.paths)


# ---- what root sees of the host ----


@dataclass(kw_only=True)
class Watch:
    host: HostileHost
    launch: Launcher
    storage: Path

    def __post_init__(self) -> None:
        self.before = self.host.untouched()

    def changed(self) -> list[str]:
        after = self.host.untouched()
        found = [f"{path} changed" for path in {*self.before, *after} if self.before.get(path) != after.get(path)]
        found += self.host.planted()
        place = self.launch.prefix / "var/singularity/mnt"
        found += [f"{path} is in the session directory" for path in place.iterdir()]
        deadline = time.monotonic() + 5
        while (loops := machine.loops_of(self.storage)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return found + loops


# ---- the test ----


@pytest.fixture
def host(launch: Launcher, images: Images, directory: Path) -> HostileHost:
    return HostileHost(place=directory / "host", account=launch.account).make(images.directory)


@dataclass(kw_only=True)
class Trial:
    """The launches of one test, group by group."""

    host: HostileHost
    launch: Launcher
    workers: Sequence[Worker]
    watch: Watch
    count: int = 0
    ran: int = 0

    def job(self, case: Case) -> Job:
        words = [b"sexec", b"5", b"/bin/witness", *self.host.known]
        patience = USUAL_MILLISECONDS if "instance_starts" not in names_in(case.octets) else 2000  # until it is stopped
        return Job(program=self.launch.starter, words=words, request=case.octets, kept=case.kept, milliseconds=patience)

    def group(self, cases: Sequence[Case]) -> None:
        outcomes = run_all(self.workers, [self.job(case) for case in cases])
        for number, (case, outcome) in enumerate(zip(cases, outcomes, strict=True)):
            self.ran += outcome.witness is not None
            why = violations(self.host, outcome, case.octets, case.kept)
            if why:
                least = self.smallest(case)
                again = self.workers[0].run(self.job(least))
                self.fail(number, least, f"{why}\n{outcome}\n--- the least of it\n{again}")
        changes = self.watch.changed()
        if changes:
            self.blame(cases, changes)
        self.count += len(cases)

    def fail(self, number: int, case: Case, why: object) -> None:
        pytest.fail(f"MUTATION_SEED={SEED}, case {self.count + number}: {why}\n{case}")

    def wrong(self, case: Case) -> set[str]:
        octets = case.octets
        found = violations(self.host, self.workers[0].run(self.job(case)), octets, case.kept)
        return {one[:12] for one in found}

    def smallest(self, case: Case) -> Case:
        """With every field and change left out that the violation does not need."""
        first = self.wrong(case)
        if not first:
            return case  # not every time
        for one in {id(each): each for each in (*case.changes, *case.asked)}.values():  # a full list is one
            attempt = Case(
                asked=tuple(other for other in case.asked if other is not one),
                changes=tuple(other for other in case.changes if other is not one),
                kept=case.kept,
            )
            case = attempt if self.wrong(attempt) >= first else case
        return case

    def blame(self, cases: Sequence[Case], changes: list[str]) -> None:
        """Which of these cases changed the host, when it does so again."""
        self.watch.before = self.host.untouched()
        known = set(self.watch.changed())
        for number, case in enumerate(cases):
            self.workers[0].run(self.job(case))
            again = set(self.watch.changed()) - known
            if again:
                self.fail(number, case, sorted(again))
        pytest.fail(f"MUTATION_SEED={SEED}, one of the cases from {self.count} on: {changes}")


@pytest.mark.parametrize("extfs", [False, True], ids=["default", "extfs"])
def test_no_request_gives_its_user_anything(
    launch: Launcher, host: HostileHost, images: Images, storage: Path, *, extfs: bool
) -> None:
    """R-L11, R-L13, R-L5, R-L6, R-L17, R-M1, R-M2, R-M3, R-M12, R-M13, R-B1: whatever a forged request asks for."""
    launcher = launch.configured("allow setuid-mount extfs = yes\n") if extfs else launch
    with ExitStack() as stack:
        workers = [stack.enter_context(working(launcher, images.directory)) for _ in range(min(os.cpu_count() or 1, 8))]
        watch = Watch(host=host, launch=launcher, storage=storage)
        trial = Trial(host=host, launch=launcher, workers=workers, watch=watch)
        paths = nasty_paths(host, launcher, [os.getpid(), *(worker.pid for worker in workers)])
        source = Source(host=host, paths=paths, userns=launch.mode.value == "userns", uid=launcher.account.uid)
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            numbers = range(trial.count, trial.count + GROUP)
            trial.group([source.case(random.Random(f"{SEED} {number}")) for number in numbers])  # noqa: S311
    print(f"{trial.count} requests, {trial.ran} of them ran the program, seed {SEED}")  # noqa: T201
    assert trial.ran * 8 > trial.count, f"{trial.ran} of {trial.count} ran: the oracle hardly saw a container"
