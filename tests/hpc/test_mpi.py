"""Ranks that mpirun starts in containers: results, order, signals and statuses are those of a native run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import mpi_roots
import pytest
from images import tool
from launching import Launcher, Mode, Result
from mpi_roots import MPICH, OPENMPI, Flavour
from ordinary_user import ROOT, Account, World

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.needs("installation", "gcc")

UID = 20_000 + (os.getpid() + 7) % 40_000
FLAVOURS = pytest.mark.parametrize("flavour", [OPENMPI, MPICH], ids=lambda each: each.name)
NEEDS = {Mode.SUID: ("root", "setuid"), Mode.USERNS: ("userns",), Mode.ROOT: ("root",)}
RING = ["Process 0 sending 10 to 1, tag 201 (4 processes in ring)", "Process 0 sent to 1"] + [
    f"Process 0 decremented value: {value}" for value in range(9, -1, -1)
]
# UCX opens the memory of other ranks through /proc, which the kernel allows within one user namespace only.
APART = {"UCX_POSIX_USE_PROC_LINK": "n"}


@dataclass(frozen=True, slots=True)
class Machine:
    """A user at a machine with an MPI, and a root file system with the same one."""

    launcher: Launcher
    flavour: Flavour
    root: Path

    def words(self, ranks: int, *words: str | Path) -> list[str]:
        more = ["--allow-run-as-root"] if self.launcher.mode is Mode.ROOT and self.flavour is OPENMPI else []
        return [*self.flavour.launcher, *more, "-np", str(ranks), *map(str, words)]

    def contained(self, *words: str, options: tuple[str, ...] = ()) -> list[str]:
        return self.launcher.argv("exec", *options, self.root, *words)

    def native(self, name: str, *words: str) -> list[str]:
        return [str(self.root / "usr/bin" / name), *words]

    def run(self, ranks: int, argv: list[str], *, timeout: float = 60, **options: object) -> Result:
        environment = APART if self.launcher.mode is Mode.USERNS else {}
        return self.launcher.command(*self.words(ranks, *argv), env=environment, timeout=timeout, **options)  # type: ignore[arg-type]

    def run_to_the_end(self, ranks: int, argv: list[str]) -> Result:
        """mpiexec of MPICH 4.0 rarely waits for ever after an abort, without a container too: then once more."""
        for _ in range(2):
            with suppress(AssertionError):
                return self.run(ranks, argv, timeout=20)
        return self.run(ranks, argv, timeout=20)


@pytest.fixture(scope="module")
def roots(storage: Path) -> dict[str, Path]:
    """One root file system a flavour, made when it is first asked for."""
    return {each.name: storage / f"mpi-{each.name}" for each in (OPENMPI, MPICH)}


@pytest.fixture
def home(storage: Path) -> Iterator[Path]:
    place = storage / f"mpi-home-{time.monotonic_ns()}"
    place.mkdir(mode=0o700)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def user_at_machine(mode: Mode, flavour: Flavour, roots: dict[str, Path], home: Path) -> Machine:
    machine.require(flavour.name, *NEEDS[mode])
    prefix = machine.prefix()
    assert prefix is not None
    root = roots[flavour.name]
    if not root.exists():
        mpi_roots.make_root(flavour, root)
    if os.geteuid() != 0:
        world = World(account=Account(uid=os.getuid(), gid=os.getgid(), home=home, groups={}), private=False)
    elif mode is Mode.ROOT:
        world = World(account=ROOT, home=home)
    else:
        os.chown(home, UID, UID)
        world = World(account=Account(uid=UID, gid=UID), home=home)
    return Machine(Launcher(prefix=prefix, mode=mode, world=world, home=home, directory=home), flavour, root)


@pytest.fixture
def plain(flavour: Flavour, roots: dict[str, Path], home: Path) -> Machine:
    """Where one way of starting is enough: the one that a cluster has."""
    return user_at_machine(Mode.SUID if os.geteuid() == 0 else Mode.USERNS, flavour, roots, home)


def in_order(lines: list[str]) -> bool:
    """What rank 0 says comes in order; what the others say comes anywhere, once each."""
    others = sorted(line for line in lines if line.endswith("exiting"))
    return [line for line in lines if line in RING] == RING and others == [f"Process {n} exiting" for n in range(4)]


@FLAVOURS
@pytest.mark.parametrize("mode", list(Mode), ids=lambda each: each.value)
def test_a_ring_of_ranks_in_containers(mode: Mode, flavour: Flavour, roots: dict[str, Path], home: Path) -> None:
    user = user_at_machine(mode, flavour, roots, home)
    result = user.run(4, user.contained("/usr/bin/mpi_ring"))
    assert result.status == 0, str(result)
    assert in_order(result.lines), str(result)
    assert [line for line in result.lines if line not in RING and not line.endswith("exiting")] == [], str(result)


@FLAVOURS
@pytest.mark.parametrize(
    "how",
    [("abort", "7"), ("signal", str(int(signal.SIGKILL))), ("signal", str(int(signal.SIGSEGV))), ("exit", "3")],
    ids="-".join,
)
def test_the_end_of_one_rank_ends_the_job_as_natively(plain: Machine, how: tuple[str, str]) -> None:
    """mpiexec of MPICH 4.2 answers a signal with its number, or with 0, or with the status of another rank."""
    contained = plain.run_to_the_end(2, plain.contained("/usr/bin/mpi_case", *how))
    natively: set[int] = set()
    for _ in range(20):
        natively.add(plain.run_to_the_end(2, plain.native("mpi_case", *how)).status)
        if contained.status in natively and natively - {0, 1}:
            break
    assert natively - {0, 1}, "nothing ended"
    assert contained.status in natively, str(contained)
    assert "FATAL" not in contained.err, str(contained)


@FLAVOURS
def test_standard_input_reaches_rank_0(plain: Machine) -> None:
    result = plain.run(2, plain.contained("/usr/bin/mpi_case", "count"), stdin=b"x" * 40_001)
    assert result.status == 0, str(result)
    assert result.lines == ["40001 bytes"], str(result)


@FLAVOURS
def test_a_signal_to_the_launcher_reaches_every_rank(plain: Machine) -> None:
    argv = plain.words(3, *plain.contained("/usr/bin/mpi_case", "wait"))
    with plain.launcher.start(*argv) as process:
        assert process.stdout is not None
        ready = [process.stdout.readline().decode() for _ in range(3)]
        assert sorted(line.split()[1] for line in ready) == ["0", "1", "2"], ready
        process.send_signal(signal.SIGUSR1)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, sorted(out.split(b"\n"))) == (
        0, [b"", b"signalled 0", b"signalled 1", b"signalled 2"]
    ), err  # fmt: skip


@FLAVOURS
def test_a_launcher_that_is_ended_takes_its_ranks_along(plain: Machine) -> None:
    argv = plain.words(2, *plain.contained("/usr/bin/mpi_case", "wait"))
    with plain.launcher.start(*argv) as process:
        assert process.stdout is not None
        ranks = [int(process.stdout.readline().split()[2]) for _ in range(2)]
        for rank in ranks:
            assert machine.command_of(rank).startswith("/usr/bin/mpi_case"), "a rank is the process that was started"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline
        machine.children()  # buries them, where this process adopts orphans
        time.sleep(0.05)


@FLAVOURS
def test_ranks_copy_from_each_others_memory(plain: Machine) -> None:
    """CMA: what two ranks of one node use for large messages."""
    if plain.launcher.mode is Mode.USERNS:
        pytest.skip("separate user namespaces do not allow it")
    result = plain.run(2, plain.contained("/usr/bin/mpi_case", "copy"))
    assert result.lines == ["copied"], str(result)


def without_mpi(user: Machine, name: str, directory: Path) -> Machine:
    """The same with a library of that name in the image that has no MPI in it."""
    root = directory / "hollow"
    shutil.copytree(user.root, root, symlinks=True)
    (library,) = root.glob(f"usr/lib/*/{name}")
    tool("gcc", "-shared", "-o", library, "-x", "c", "/dev/null")
    return replace(user, root=root)


@pytest.mark.parametrize(
    ("flavour", "name"), [(OPENMPI, "libmpi.so.40"), (MPICH, "libmpich.so.12")], ids=["openmpi", "mpich"]
)
def test_the_hosts_mpi_takes_the_place_of_the_images(plain: Machine, name: str, home: Path) -> None:
    hollow = without_mpi(plain, name, home)
    hollow.root.parent.chmod(0o755)
    ring = "/usr/bin/mpi_ring"
    assert hollow.run(4, hollow.contained(ring)).status != 0
    for options in (("--mpi=auto",), ("--mpi=host",)):
        result = hollow.run(4, hollow.contained(ring, options=options))
        assert result.status == 0, str(result)
        assert in_order(result.lines), str(result)


@pytest.mark.parametrize("flavour", [MPICH], ids=["mpich"])
def test_an_mpi_of_another_family_is_refused_with_the_reason(plain: Machine) -> None:
    machine.require("openmpi")
    rank = {"OMPI_COMM_WORLD_SIZE": "1"}  # as Open MPI's launcher leaves it
    command = plain.contained("true", options=("--mpi=host",))
    plain.launcher.command(*command, env=rank).warned("libmpi.so.40 (Open MPI)", "libmpich.so.12 (the MPICH family)")
    plain.launcher.command(*plain.contained("true", options=("--mpi=auto",)), env=rank).ok()
    plain.launcher.command(*plain.contained("true", options=("--mpi=mine",))).misused("auto", "host", "container")


@pytest.mark.parametrize("flavour", [OPENMPI], ids=["openmpi"])
def test_where_the_launcher_has_its_mpi_is_told_to_the_hosts_only(plain: Machine) -> None:
    """Open MPI looks for its plugins there: the image's would find those of another version, or none."""
    places = {"OPAL_PREFIX": "/opt/openmpi", "PMIX_PREFIX": "/opt/openmpi"}
    own = plain.launcher.command(*plain.contained("env"), env=places).ok().lines
    hosts = plain.launcher.command(*plain.contained("env", options=("--mpi=host",)), env=places).ok().lines
    assert [line for line in own if line.startswith(("OPAL_", "PMIX_"))] == []
    assert {"OPAL_PREFIX=/opt/openmpi", "PMIX_PREFIX=/opt/openmpi"} <= set(hosts)
    assert "LD_LIBRARY_PATH=/.singularity.d/libs" in hosts


@pytest.mark.parametrize("flavour", [OPENMPI], ids=["openmpi"])
def test_the_site_may_choose_the_hosts_mpi(plain: Machine) -> None:
    for word, there in (("container", False), ("auto", True), ("host", True)):
        site = plain.launcher.configured(f"mpi = {word}\n")
        result = site.command(*plain.contained("ls", "/.singularity.d/libs"))
        assert ("libmpi.so.40" in result.lines) == there, str(result)
    site = plain.launcher.configured("mpi = host\n").with_env(SINGULARITY_MPI="container")
    assert "libmpi.so.40" not in site.command(*plain.contained("ls", "/.singularity.d/libs")).lines


# ---- ranks that are recorded ----


def recorded(user: Machine, home: Path) -> Result:
    """Two ranks, each with a record; they read and write in her home directory."""
    (home / "in.txt").write_text("21\n")
    line = user.launcher.argv("exec", "--record", "run.json", user.root, "/usr/bin/mpi_case", "files")
    return user.run(2, line)


@FLAVOURS
@pytest.mark.parametrize("mode", list(Mode), ids=lambda each: each.value)
def test_ranks_are_recorded_and_run_again(mode: Mode, flavour: Flavour, roots: dict[str, Path], home: Path) -> None:
    """Under a launcher each finds its own record; without one a rank is the only one, and looks for no others."""
    user = user_at_machine(mode, flavour, roots, home)
    result = recorded(user, home)
    assert result.status == 0, str(result)
    for rank in range(2):
        record = json.loads((home / f"run.{rank}.json").read_text())
        assert [Path(each["path"]).name for each in record["inputs"] if each["path"].endswith("/in.txt")] == ["in.txt"]
        written = [Path(each["path"]).name for each in record["outputs"] if "/out." in each["path"]]
        assert (written, (home / f"out.{rank}").read_text()) == ([f"out.{rank}"], f"{rank} of 2, 42\n")
    again = user.run(2, user.launcher.argv("rerun", "--check", "run.json"))
    assert (again.status, again.lines) == (0, ["same inputs, same outputs"] * 2), str(again)
    (home / "out.0").write_text("other\n")
    again = user.run(2, user.launcher.argv("rerun", "--outputs", "again", "--record", "new.json", "run.json"))
    assert again.status == 0, str(again)
    assert (home / "out.0").read_text() == "other\n"
    assert {path.name: path.read_text() for path in home.glob("again*/**/out.*")} == {
        "out.0": "0 of 2, 42\n", "out.1": "1 of 2, 42\n"
    }  # fmt: skip
    assert all((home / f"new.{rank}.json").exists() for rank in range(2))
    alone = user.launcher("rerun", "run.0.json", timeout=60)
    assert alone.status == 0, str(alone)
    assert "rank 0 of 2" in alone.err
    assert (home / "out.0").read_text() == "0 of 1, 21\n"
    other = user.run(3, user.launcher.argv("rerun", "run.json"))
    assert other.status != 0, str(other)
    assert "of 2" in other.err, str(other)


@FLAVOURS
def test_a_launcher_in_the_image_is_one_run(plain: Machine, home: Path) -> None:
    """With the launcher inside, all of it is below one recorder."""
    (home / "in.txt").write_text("21\n")
    words = [
        "--bind",
        "/usr,/lib,/lib64,/etc",
        plain.root,
        *plain.words(2, "/usr/bin/env"),
        plain.root / "usr/bin/mpi_case",
    ]
    result = plain.launcher("exec", "--record", "run.json", *words, "files", timeout=60)
    assert result.status == 0, str(result)
    record = json.loads((home / "run.json").read_text())
    assert {Path(each["path"]).name for each in record["outputs"]} >= {"out.0", "out.1"}
    again = plain.launcher("rerun", "--check", "run.json", timeout=60)
    assert [line for line in again.lines if "/out." in line] == [], str(again)
