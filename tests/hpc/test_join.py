"""The ranks of a job step on one node share one container; nobody else does; whoever is killed, the others go on."""

from __future__ import annotations

import array
import errno
import fcntl
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from images import extfs
from job_steps import Node, ended, line_of, meetings, open_mpi, slurm, wait_until
from launching import Launcher, Mode, Result
from ordinary_user import ROOT, Account, World
from syscalls import Refusal, before_6_5, before_6_16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from images import Images

pytestmark = pytest.mark.needs("installation")

UID = 20_000 + (os.getpid() + 11) % 40_000
NEEDS = {Mode.SUID: ("root", "setuid"), Mode.USERNS: ("userns",), Mode.ROOT: ("root",)}
SPACES = "/proc/self/ns/mnt /proc/self/ns/user /proc/self/ns/ipc /proc/self/ns/pid"
SHOW = f"for space in {SPACES}; do readlink $space; done | xargs; read wait"
F_SETPIPE_SZ = 1031


@pytest.fixture(params=list(Mode), ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> Mode:
    chosen: Mode = request.param
    machine.require(*NEEDS[chosen])
    return chosen


@pytest.fixture
def directory(storage: Path) -> Iterator[Path]:
    """The test's own directory, which any user can enter."""
    place = storage / f"join-{time.monotonic_ns()}"
    place.mkdir(mode=0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def launcher(mode: Mode, directory: Path) -> Launcher:
    prefix = machine.prefix()
    assert prefix is not None
    home = directory / "home"
    home.mkdir(mode=0o700)
    if os.geteuid() != 0:
        world = World(account=Account(uid=os.getuid(), gid=os.getgid(), home=home, groups={}), private=False)
    elif mode is Mode.ROOT:
        world = World(account=ROOT, home=home)
    else:
        os.chown(home, UID, UID)
        world = World(account=Account(uid=UID, gid=UID, groups={"science": UID + 1}), home=home)
    return Launcher(prefix=prefix, mode=mode, world=world, home=home, directory=directory)


@pytest.fixture
def node(launcher: Launcher) -> Iterator[Node]:
    booted = Node.boot(launcher)
    yield booted
    booted.shut_down()


@pytest.fixture
def image(mode: Mode, images: Images) -> Path:
    if mode is Mode.USERNS:
        machine.require("fuse")
    return images.sif


@pytest.fixture(autouse=True)
def nothing_left_behind(storage: Path) -> Iterator[None]:
    """R-B1, R-I3: no process, no loop device, and no socket of a meeting, once the last rank is gone."""
    machine.adopt_orphans()
    before, met = machine.children(), meetings()
    yield
    deadline = time.monotonic() + 5
    while True:
        left = [f"process {child}: {machine.command_of(child)}" for child in machine.children() - before]
        left += machine.loops_of(storage)
        left += sorted(meetings() - met)
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    assert not left, f"left behind: {left}"


def show(node: Node, image: Path, *options: str, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """A rank that prints which namespaces it is in, and waits for the end of its input."""
    return node.launch("exec", *options, image, "sh", "-c", SHOW, env=env)


def spaces_of(ranks: list[subprocess.Popen[bytes]]) -> list[str]:
    """The namespaces of ranks, all of which are alive until the last has told."""
    told = [line_of(rank) for rank in ranks]
    for rank in ranks:
        ended(rank).ok()
    return told


# ---- who shares, and who does not ----


@pytest.mark.parametrize("options", [(), ("--contain",), ("--containall",), ("--fakeroot",)], ids=" ".join)
def test_the_ranks_of_a_step_are_in_one_container(node: Node, image: Path, options: tuple[str, ...]) -> None:
    told = spaces_of([show(node, image, *options, env=open_mpi(rank, 4)) for rank in range(4)])
    assert len(set(told)) == 1, told


@pytest.mark.parametrize("form", ["sandbox", "squashfs", "ext3"])
def test_whatever_the_format_of_the_image(node: Node, images: Images, mode: Mode, form: str) -> None:
    if mode is Mode.USERNS and form != "sandbox":
        machine.require("fuse", *(["fuse2fs"] if form == "ext3" else []))
    told = spaces_of([show(node, images.of_format(form), env=slurm(rank, 2)) for rank in range(2)])
    assert len(set(told)) == 1, told


def test_what_a_rank_has_of_its_own_makes_no_difference(node: Node, image: Path) -> None:
    """Variables, words, streams, the verb, and what says how loud it is."""
    ranks = [
        show(node, image, env=open_mpi(0, 3)),
        show(node, image, "--cleanenv", env={**open_mpi(1, 3), "SINGULARITYENV_MINE": "1"}),
        node.launch("run", "--no-eval", image, env={**open_mpi(2, 3), "SINGULARITY_QUIET": "1"}),
    ]
    told = [line_of(rank) for rank in ranks[:2]]
    assert told[0] == told[1]
    assert ended(ranks[2]).out.startswith("runscript got 0")
    for rank in ranks[:2]:
        ended(rank).ok()


@pytest.mark.parametrize("what", ["job", "step", "launcher", "bind", "option", "image", "changed image"])
def test_what_differs_has_a_container_of_its_own(node: Node, image: Path, directory: Path, what: str) -> None:
    copy = directory / "copy.sif"
    shutil.copy(image, copy)
    env = {
        "job": slurm(1, 2, job="1235"),
        "step": slurm(1, 2, step="1"),
        "launcher": {**slurm(1, 2), **open_mpi(1, 2)},
    }.get(what, slurm(1, 2))
    options = {"bind": ["-B", f"{directory}:/opt"], "option": ["--no-home"]}.get(what, [])
    one = show(node, copy, env=slurm(0, 2))
    first = line_of(one)
    if what == "changed image":  # in its place, by its owner
        os.utime(copy, (1, 1))
    two = show(node, image if what == "image" else copy, *options, env=env)
    assert line_of(two).split()[0] != first.split()[0]
    ended(one).ok()
    ended(two).ok()


@pytest.mark.needs("root")
def test_another_user_has_a_container_of_his_own(launcher: Launcher, node: Node, image: Path, directory: Path) -> None:
    if launcher.mode is Mode.ROOT:
        pytest.skip("root is one")
    home = directory / "other"
    home.mkdir(mode=0o700)
    os.chown(home, UID + 5, UID + 5)
    account = Account(name="bob", uid=UID + 5, gid=UID + 5, groups={})
    other = Node(launcher=launcher.changed(account=account, home=home, cwd=Path("/")), holder=node.holder)
    one, two = show(node, image, env=slurm(0, 2)), show(other, image, env=slurm(1, 2))
    assert line_of(one).split()[0] != line_of(two).split()[0]
    ended(one).ok()
    ended(two).ok()


def test_without_a_launcher_of_ranks_nothing_is_shared(node: Node, image: Path) -> None:
    told = spaces_of([show(node, image, env={}) for _ in range(2)])
    assert told[0].split()[0] != told[1].split()[0]
    assert not meetings()


def test_it_can_be_asked_for_within_a_session(node: Node, image: Path) -> None:
    """--join=yes without any launcher: what one script starts belongs together."""
    for word, containers in (("yes", 1), ("no", 3)):
        program = ["sh", "-c", "'readlink /proc/self/ns/mnt; sleep 0.4'"]
        argv = " ".join(node.launcher.argv("exec", f"--join={word}", image, *program))
        told = ended(node.start("sh", "-c", f"{argv} & {argv} & {argv} & wait")).ok().lines
        assert (len(told), len(set(told))) == (3, containers)


# ---- what the plan says ----

AUTO = {
    "none": ({}, None),
    "Open MPI": (open_mpi(0, 4), "yes (4 ranks of Open MPI job step 4711 on this node)"),
    "Open MPI, alone": (open_mpi(0, 1), "no (one rank of Open MPI on this node)"),
    "Open MPI without a name": ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4"}, "no (Open MPI gives its job step no name)"),
    "PALS": ({"PALS_LOCAL_SIZE": "3", "PALS_APID": "ab-12"}, "yes (3 ranks of PALS job step ab-12 on this node)"),
    "MPICH": (
        {"MPI_LOCALNRANKS": "2", "PMI_PORT": "node:5000", "PMI_RANK": "1"},
        "yes (2 ranks of MPICH job step node:5000 on this node)",
    ),
    "MPICH without a name": ({"MPI_LOCALNRANKS": "2"}, "no (MPICH gives its job step no name)"),
    "Slurm": (slurm(0, 8), "yes (8 ranks of Slurm job step 0 on this node)"),
    "Slurm, uneven": (
        {**slurm(0, 1), "SLURM_STEP_TASKS_PER_NODE": "1(x2),5,1", "SLURM_NODEID": "2"},
        "yes (5 ranks of Slurm job step 0 on this node)",
    ),
    "Slurm, alone": ({**slurm(0, 1), "SLURM_STEP_TASKS_PER_NODE": "1(x2),5"}, "no (one rank of Slurm on this node)"),
    "Slurm, nonsense": ({**slurm(0, 1), "SLURM_STEP_TASKS_PER_NODE": "4(x"}, "no (one rank of Slurm on this node)"),
    "a batch script": ({"SLURM_JOB_ID": "1", "SLURM_TASKS_PER_NODE": "4", "SLURM_LOCALID": "0"}, None),
    "mpirun in Slurm": ({**slurm(0, 1), **open_mpi(0, 2)}, "yes (2 ranks of Open MPI job step 4711 on this node)"),
}


def join_line(result: Result) -> str | None:
    found = [line.removeprefix("join: ") for line in result.ok().lines if line.startswith("join: ")]
    return found[0] if found else None


@pytest.mark.parametrize("mode", [Mode.USERNS], indirect=True, ids=["userns"])
@pytest.mark.parametrize("case", AUTO)
def test_the_plan_says_whether_and_why(node: Node, images: Images, case: str) -> None:
    env, expected = AUTO[case]
    assert join_line(node.command("exec", "--dry-run", images.of_format("sandbox"), "true", env=env)) == expected
    assert not meetings()


@pytest.mark.parametrize("mode", [Mode.USERNS], indirect=True, ids=["userns"])
@pytest.mark.parametrize(
    ("option", "env", "expected"),
    [
        ("--join=no", open_mpi(0, 4), "no (--join=no)"),
        ("--join=yes", open_mpi(0, 1), "yes (--join=yes, 1 ranks of Open MPI job step 4711 on this node)"),
        ("--compat", open_mpi(0, 4), "no (--no-init: the program is the first process of its container)"),
    ],
)
def test_options_go_before_what_is_usual(
    node: Node, images: Images, option: str, env: dict[str, str], expected: str
) -> None:
    assert (
        join_line(node.command("exec", option, "--dry-run", images.of_format("sandbox"), "true", env=env)) == expected
    )


@pytest.mark.parametrize("mode", [Mode.USERNS], indirect=True, ids=["userns"])
def test_a_wrong_word_is_refused(node: Node, images: Images) -> None:
    node.command("exec", "--join=perhaps", images.sif, "true").misused("--join perhaps", "auto", "yes", "no")


# ---- what it is for ----


@pytest.fixture(scope="session")
def cma(storage: Path) -> Path:
    machine.require("gcc")
    program = storage / "cma"
    source = Path(__file__).parent / "cma.c"
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-O1", "-static", "-Wall", "-Werror", "-o", program, source], check=True)
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("shared", ["auto", "no"])
def test_ranks_copy_each_others_memory(node: Node, mode: Mode, image: Path, cma: Path, shared: str) -> None:
    """Single-copy transfers (CMA): the kernel allows them within one user namespace only."""
    words = ["exec", f"--join={shared}", "-B", f"{cma}:/usr/bin/cma", image, "/usr/bin/cma"]
    one = node.launch(*words, env=open_mpi(0, 2))
    copied = node.command(*words, *line_of(one).split(), env=open_mpi(1, 2)).ok().out
    ended(one).ok()
    apart = shared == "no" and mode is Mode.USERNS
    assert copied == ("Operation not permitted\n" if apart else "from the memory of another rank\n")


def test_one_server_one_device_one_mount(node: Node, mode: Mode, image: Path, storage: Path) -> None:
    before = machine.children()
    ranks = [show(node, image, env=open_mpi(rank, 5)) for rank in range(5)]
    for rank in ranks:
        line_of(rank)
    commands = [machine.command_of(child) for child in machine.children() - before]
    servers = [command for command in commands if command == "image-server"]
    keepers = [command for command in commands if command.startswith("sexec ")]
    assert len(keepers) == 1, commands
    assert len(servers) == (1 if mode is Mode.USERNS else 0), commands
    assert len(machine.loops_of(storage)) == (0 if mode is Mode.USERNS else 1)
    assert len(meetings()) == 1
    for rank in ranks:
        ended(rank).ok()


def test_ranks_write_one_image_together(node: Node, mode: Mode, images: Images, directory: Path) -> None:
    """Alone each would keep the others out."""
    if mode is not Mode.ROOT:
        machine.require("fuse", "fuse2fs")
    tree = images.modern_tree(directory / "tree")
    if os.geteuid() == 0:
        for place in (tree, *tree.rglob("*")):
            os.chown(place, node.launcher.account.uid, node.launcher.account.gid, follow_symlinks=False)
    image = extfs(tree, directory / "written.ext3", mebibytes=16)
    image.chmod(0o666)
    script = "echo $OMPI_COMM_WORLD_LOCAL_RANK >> /written; echo written; read go; xargs < /written"
    ranks = [
        node.launch("exec", "--writable", "--no-home", "--cwd", "/", image, "sh", "-c", script, env=open_mpi(r, 3))
        for r in range(3)
    ]
    assert [line_of(rank) for rank in ranks] == ["written"] * 3
    assert {" ".join(sorted(ended(rank).ok().out.split())) for rank in ranks} == {"0 1 2"}


def test_ranks_see_one_tmp_and_each_others_processes(node: Node, image: Path) -> None:
    """As processes of one node do, with --containall too: shared memory in files, and meaningful process ids."""
    one = node.launch("exec", "-C", image, "sh", "-c", "echo $$ > /dev/shm/one; echo ready; read wait", env=slurm(0, 2))
    line_of(one)
    two = node.command("exec", "-C", image, "sh", "-c", "kill -0 $(cat /dev/shm/one) && echo there", env=slurm(1, 2))
    assert two.ok().out == "there\n"
    ended(one).ok()


@pytest.mark.parametrize("name", ["mpirun.openmpi", "mpiexec.mpich"])
def test_ranks_of_a_real_launcher(node: Node, mode: Mode, image: Path, name: str) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"{name} is not installed")
    open_mpi_words = ["--oversubscribe", *(["--allow-run-as-root"] if mode is Mode.ROOT else [])]
    words = [program, *(open_mpi_words if "openmpi" in name else []), "-np", "4"]
    script = "readlink /proc/self/ns/mnt; sleep 0.3"
    told = ended(node.start(*words, *node.launcher.argv("exec", image, "sh", "-c", script))).ok().lines
    assert len(told) == 4
    assert len(set(told)) == 1


# ---- ends ----


@pytest.mark.parametrize("options", [(), ("--pid",)], ids=" ".join)
@pytest.mark.parametrize("how", ["ends", "is killed"])
def test_the_container_lives_as_long_as_its_last_rank(
    node: Node, image: Path, options: tuple[str, ...], how: str
) -> None:
    """Whichever came first; and those that come later find those that are left."""
    ranks = [show(node, image, *options, env=open_mpi(rank, 4)) for rank in range(3)]
    told = {line_of(rank) for rank in ranks}
    for rank in ranks[:2]:
        if how == "is killed":
            rank.kill()
            assert ended(rank).status == -signal.SIGKILL
        else:
            ended(rank).ok()
    late = show(node, image, *options, env=open_mpi(3, 4))
    assert {line_of(late)} | told == told
    assert node.command("exec", *options, image, "cat", "/etc/image-name", env=open_mpi(0, 4)).ok().out
    for rank in (ranks[2], late):
        ended(rank).ok()
    wait_until(lambda: not meetings())
    ended(show(node, image, *options, env=open_mpi(0, 4))).ok()


@pytest.mark.parametrize("options", [(), ("--pid",), ("--new-session",)], ids=" ".join)
def test_statuses_and_signals_are_those_of_the_rank(node: Node, image: Path, options: tuple[str, ...]) -> None:
    other = show(node, image, *options, env=open_mpi(0, 2))
    line_of(other)
    assert node.command("exec", *options, image, "sh", "-c", "exit 7", env=open_mpi(1, 2)).status == 7
    assert node.command("exec", *options, image, "absent", env=open_mpi(1, 2)).refused("absent", status=127)
    rank = node.launch("exec", *options, image, "sh", "-c", "echo up; exec sleep 30", env=open_mpi(1, 2))
    line_of(rank)
    rank.terminate()
    assert ended(rank).status == -signal.SIGTERM
    ended(other).ok()


def test_a_killed_launcher_takes_its_program_along(node: Node, image: Path) -> None:
    """R-L16, in a PID namespace that goes on for others."""
    other = show(node, image, "--pid", env=open_mpi(0, 2))
    line_of(other)
    rank = node.launch("exec", "--pid", image, "sh", "-c", "echo up; exec sleep 31", env=open_mpi(1, 2))
    line_of(rank)
    rank.kill()
    listed = ["exec", "--pid", image, "ps"]
    wait_until(lambda: "sleep 31" not in node.command(*listed, env=open_mpi(1, 2)).ok().out)
    ended(other).ok()


def test_a_ranks_output_ends_with_the_rank(node: Node, image: Path) -> None:
    """The launcher of ranks reads until the end: nothing that stays for the others may hold the first one's pipes."""
    first = show(node, image, env=open_mpi(0, 2))
    line_of(first)
    second = show(node, image, env=open_mpi(1, 2))
    line_of(second)
    assert ended(first, timeout=5).ok().out == ""
    ended(second).ok()


def test_the_keeper_may_be_killed(node: Node, image: Path) -> None:
    """Those that are inside stay; those that come make another container."""
    before = machine.children()
    first = show(node, image, env=open_mpi(0, 3))
    told = line_of(first)
    (keeper,) = [child for child in machine.children() - before if machine.command_of(child).startswith("sexec ")]
    os.kill(keeper, signal.SIGKILL)
    wait_until(lambda: not meetings())
    second = show(node, image, env=open_mpi(1, 3))
    assert line_of(second).split()[0] != told.split()[0]
    ended(first).ok()
    ended(second).ok()


def test_an_image_that_cannot_be_mounted_stops_every_rank(node: Node, images: Images, directory: Path) -> None:
    image = directory / "damaged.sif"
    damaged = bytearray(images.sif.read_bytes())
    start = damaged.index(b"hsqs")
    damaged[start + 96 : start + 4096] = bytes(4000)
    damaged[start + 64 : start + 96] = bytes(32)
    image.write_bytes(damaged)
    ranks = [node.launch("exec", image, "true", env=open_mpi(rank, 3)) for rank in range(3)]
    for rank in ranks:
        result = ended(rank)
        assert result.status == 255, result
        assert "FATAL" in result.err, result


def descendants(process: int) -> list[int]:
    """Children, and theirs, from the nearest on."""
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        found += [int(child), *descendants(int(child))]
    return found


def stand_still(node: Node, words: list[str | Path], step: int) -> tuple[subprocess.Popen[bytes], int, bool]:
    """A first rank that has come to this step of its set-up, the pipe that holds it there, and whether it got so far.

    Messages of --debug go into a pipe with room for one.
    """
    read, write = os.pipe2(os.O_DIRECT | os.O_CLOEXEC)
    fcntl.fcntl(write, F_SETPIPE_SZ, 4096)
    first = node.launch(*words, first=["-d"], env=open_mpi(0, 2), stderr=write)
    os.close(write)
    for _ in range(step):
        if not os.read(read, 4096):
            return first, read, False
    return first, read, True


@pytest.mark.parametrize("options", [("--no-mount", "tmp"), ("--containall",)], ids=" ".join)
def test_the_first_rank_is_killed_at_each_step(node: Node, image: Path, options: tuple[str, ...]) -> None:
    """R-B1, R-L16."""
    words: list[str | Path] = ["exec", *options, image, "echo", "through"]
    for step in range(0, 1000, 17):
        first, pipe, more = stand_still(node, words, step)
        second = node.launch(*words, env=open_mpi(1, 2))
        select.select([], [], [], 0.004)
        first.kill()
        os.close(pipe)
        assert ended(second, timeout=15).ok().out == "through\n"
        assert first.wait(timeout=10) in (-signal.SIGKILL, 0)
        if not more:
            break
    assert step > 100


def is_left(process: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    return False


def test_whoever_sets_up_does_not_outlive_the_first_rank(node: Node, image: Path) -> None:
    """R-L16: not even those that wait for a reader of their messages, one of them with privilege."""
    for step in range(10, 90, 2):
        first, pipe, _ = stand_still(node, ["exec", image, "true"], step)
        select.select([], [], [], 0.01)
        working = descendants(first.pid)
        first.kill()
        first.wait(timeout=10)
        wait_until(lambda left=working: not any(map(is_left, left)))
        os.close(pipe)


def test_whoever_sets_up_is_killed_at_each_step(node: Node, image: Path) -> None:
    """R-B1: not the rank, but the processes that work for it and for the others: both ranks come through."""
    words: list[str | Path] = ["exec", image, "echo", "through"]
    for step in range(5, 1000, 23):
        first, pipe, more = stand_still(node, words, step)
        second = node.launch(*words, env=open_mpi(1, 2))
        with suppress(OSError):
            for process in reversed(descendants(first.pid)):
                os.kill(process, signal.SIGKILL)
        while os.read(pipe, 4096):
            pass
        os.close(pipe)
        for rank in (first, second):
            assert (ended(rank, timeout=15).out, rank.returncode) == ("through\n", 0)
        if not more:
            break
    assert step > 100


def test_ranks_are_killed_at_any_moment(node: Node, image: Path) -> None:
    source = random.Random(5)  # noqa: S311
    for _ in range(12):
        ranks = [node.launch("exec", image, "sleep", "30", env=open_mpi(number, 4)) for number in range(3)]
        last = node.launch("exec", image, "echo", "through", env=open_mpi(3, 4))
        for rank in source.sample(ranks, 3):
            select.select([], [], [], source.uniform(0, 0.015))
            rank.kill()
        assert ended(last, timeout=15).ok().out == "through\n"
        for rank in ranks:
            assert ended(rank).status == -signal.SIGKILL


# ---- what is in the way ----


@pytest.mark.needs("root")
def test_kernels_before_5_3_have_containers_of_their_own(launcher: Launcher, image: Path) -> None:
    old = Node.boot(launcher.changed(refusals=(*before_6_5(), Refusal("pidfd_open"))))
    try:
        words = ["exec", image, "readlink", "/proc/self/ns/mnt"]
        result = old.command(*words, first=["-v"], env=open_mpi(0, 2))
        assert result.status == 0, result
        assert "a container of its own" in result.err, result
        assert "Linux 5.3" in result.err, result
        old.command("exec", "--join=yes", image, "true", env=open_mpi(0, 2)).warned("--join=yes", "Linux 5.3")
    finally:
        old.shut_down()


@pytest.mark.needs("root")
@pytest.mark.parametrize("refusals", [before_6_16(), before_6_5()], ids=["6.15", "6.4"])
def test_older_kernels_share_too(launcher: Launcher, image: Path, refusals: tuple[Refusal, ...]) -> None:
    """Where it is the guest that says which process it is."""
    old = Node.boot(launcher.changed(refusals=refusals))
    try:
        told = spaces_of([show(old, image, env=open_mpi(rank, 3)) for rank in range(3)])
        assert len(set(told)) == 1, told
    finally:
        old.shut_down()


@pytest.mark.needs("root")
def test_where_namespaces_cannot_be_entered_there_are_containers_of_their_own(launcher: Launcher, image: Path) -> None:
    kept_out = Node.boot(launcher.changed(refusals=(Refusal("setns", errno.EPERM),)))
    try:
        for option, word in (("auto", "VERBOSE"), ("yes", "WARNING")):
            words = ["exec", f"--join={option}", image, "echo", "through"]
            result = kept_out.command(*words, first=["-v"], env=open_mpi(0, 2))
            assert (result.status, result.out) == (0, "through\n"), result
            assert any(line.startswith(word) and "container of" in line for line in result.err.splitlines()), result
    finally:
        kept_out.shut_down()


def name_of_meeting(node: Node, image: Path) -> bytes:
    """The name at which these ranks meet."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    ended(rank).ok()
    wait_until(lambda: name not in meetings())
    return b"\0" + name.removeprefix("@").encode()


def serve(node: Node, name: bytes, respond: Callable[[socket.socket], None], *, root: bool) -> int:
    """A process of the user on this node, or of root, that has taken the name and answers in its own way."""
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if not root:
                node.enter()
            place = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            place.bind(name)
            place.listen()
            os.write(done, b"!")
            while True:
                respond(place.accept()[0])
        finally:
            os._exit(1)
    os.close(done)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    return child


def offer_namespaces_of(pid: int, node: Node) -> Callable[[socket.socket], None]:
    def respond(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        spaces = ["user", "mnt"] if node.launcher.mode is Mode.USERNS else ["mnt"]
        fds = array.array("i", [os.open(f"/proc/{pid}/ns/{space}", os.O_RDONLY) for space in spaces])
        connection.sendmsg([b"y"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])

    return respond


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.ROOT], indirect=True, ids=["suid", "root"])
def test_a_container_that_the_user_offers_is_not_entered(node: Node, image: Path) -> None:
    """The kernel tells who listens: where root is wanted, it must be root."""
    if node.launcher.mode is Mode.ROOT:
        stranger = Node(
            launcher=node.launcher.changed(account=Account(uid=UID, gid=UID), cwd=Path("/")), holder=node.holder
        )
    else:
        stranger = node
    server = serve(stranger, name_of_meeting(node, image), offer_namespaces_of(node.holder.pid, node), root=False)
    try:
        result = node.command("exec", image, "readlink", "/proc/self/ns/mnt", first=["-v"], env=open_mpi(0, 2))
        assert result.status == 0, result
        assert "has taken the name" in result.err, result
        assert result.out.strip() != os.readlink(f"/proc/{node.holder.pid}/ns/mnt")
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)


@pytest.mark.needs("root", "userns")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.ROOT], indirect=True, ids=["suid", "root"])
def test_namespaces_of_a_users_making_are_not_entered(node: Node, image: Path) -> None:
    """Not even when root itself hands them over."""
    made = node.start("unshare", "-Ur", "-m", "sh", "-c", "echo made; read wait")
    line_of(made)
    server = serve(node, name_of_meeting(node, image), offer_namespaces_of(made.pid, node), root=True)
    try:
        node.command("exec", image, "id", env=open_mpi(0, 2)).refused("not of this program's making")
    finally:
        os.kill(server, signal.SIGKILL)
        os.waitpid(server, 0)
        ended(made)


@pytest.mark.needs("root", "gcc")
@pytest.mark.parametrize("mode", [Mode.USERNS], indirect=True, ids=["userns"])
def test_a_program_in_a_container_does_not_pass_for_a_keeper(
    node: Node, image: Path, images: Images, directory: Path
) -> None:
    """R-J2: it has the user's id, and a user namespace that the user has made. It knows the name by having seen it."""
    forged = images.modern_tree(directory / "forged")
    (forged / "etc/image-name").write_text("forged\n")
    poser = images.program(Path(__file__).parents[1] / "end_to_end/poser.c")
    name = name_of_meeting(node, image)[1:].decode()
    words = ["exec", "--containall", "--join=no", "-B", f"{poser}:/opt/data", forged, "/opt/data", "pose", name]
    jailed = node.launch(*words, env={})
    assert line_of(jailed) == "ready"
    try:
        result = node.command("exec", image, "cat", "/etc/image-name", first=["-v"], env=open_mpi(0, 2))
    finally:
        os.killpg(jailed.pid, signal.SIGKILL)
    assert (result.status, result.out) == (0, "busybox of the tests\n"), str(result)
    assert "has taken the name" in result.err, str(result)


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.USERNS], indirect=True, ids=["suid", "userns"])
def test_a_keeper_answers_its_own_user_only(node: Node, image: Path) -> None:
    """R-J2: somebody else, root too, is shown out before a byte or a descriptor of his is read, however many he is."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    strangers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(500)]
    try:
        for stranger in strangers:
            stranger.settimeout(20)
            stranger.connect(b"\0" + name.removeprefix("@").encode())
        show_second = show(node, image, env=open_mpi(1, 2))
        assert line_of(show_second)
        ended(show_second).ok()
        for stranger in strangers:
            assert stranger.recv(16) == b""
    finally:
        for stranger in strangers:
            stranger.close()
    ended(rank).ok()


@pytest.mark.needs("root")
@pytest.mark.parametrize("mode", [Mode.SUID, Mode.USERNS], indirect=True, ids=["suid", "userns"])
def test_a_keeper_tells_a_wrong_key_no(node: Node, image: Path) -> None:
    """Also the user herself, who asks for a container of other options."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    script = (
        "import array, os, socket\n"
        "asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        f"asking.connect({(chr(0) + name.removeprefix('@')).encode()!r})\n"
        "mine = array.array('i', [os.pidfd_open(os.getpid())])\n"
        "try:\n"
        "    asking.sendmsg([b'whatever'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, mine)])\n"
        "except PermissionError:\n"  # from Linux 6.16 on nobody sends a keeper descriptors
        "    asking.send(b'whatever')\n"
        "print(asking.recvmsg(16, 1024)[:2])\n"
    )
    asked = node.start("/usr/bin/python3", "-c", script)
    assert line_of(asked).strip() == "(b'n', [])"
    ended(asked).ok()
    ended(rank).ok()


@pytest.mark.needs("root", "unsanitized")
@pytest.mark.parametrize("mode", [Mode.SUID], indirect=True, ids=["suid"])
def test_a_keeper_has_no_privilege_and_cannot_be_traced(node: Node, image: Path) -> None:
    """R-L6, R-L8."""
    before = machine.children()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (keeper,) = [child for child in machine.children() - before if machine.command_of(child).startswith("sexec ")]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{keeper}/status").read_text().splitlines())
    assert status["Uid"].split() == [str(UID)] * 4
    assert {status[name] for name in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert Path(f"/proc/{keeper}/mem").stat().st_uid == 0  # not dumpable
    assert sorted(os.readlink(f"/proc/{keeper}/fd/{fd}").split(":")[0] for fd in range(3)) == ["/memfd"] * 3
    ended(rank).ok()


# ---- strangers ----

ONLY_SUID = pytest.mark.parametrize("mode", [Mode.SUID], indirect=True, ids=["suid"])
STRANGER = UID + 7

LINGERING = """
import array, os, socket, struct, sys
server = socket.socket()
server.bind(("127.0.0.1", 0))
server.listen()
client = socket.socket()
client.connect(server.getsockname())
peer, _ = server.accept()
client.setblocking(False)
try:
    while True:
        client.send(b"x" * 65536)
except BlockingIOError:
    pass
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 1000))

def leave(connection):
    try:
        connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [client.fileno()]))])
    except OSError:
        return  # and keeps it, for who closes it last waits
    client.close()

meeting = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
name = chr(0) + sys.argv[1]
try:
    meeting.bind(name)
except OSError:
    meeting.connect(name)
    leave(meeting)
    print("ready", flush=True)
else:
    meeting.listen()
    print("ready", flush=True)
    leave(meeting.accept()[0])
sys.stdin.read()
"""

SQUATTING = """
import socket, sys
name = chr(0) + sys.argv[1]
place = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
place.bind(name)
place.listen(0)
callers = []
try:
    while True:
        callers.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        callers[-1].setblocking(False)
        callers[-1].connect(name)
except BlockingIOError:
    pass
print("full", flush=True)
sys.stdin.read()
"""


def stranger(script: str, name: str) -> subprocess.Popen[bytes]:
    words = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "/usr/bin/python3", "-c"]
    process = subprocess.Popen([*words, script, name.removeprefix("@")], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def traced(node: Node, image: Path, *options: str) -> None:
    """One rank under strace of root's, who can trace the starter."""
    groups = ",".join(str(group) for group in node.launcher.account.groups.values())
    words = ["strace", "-f", *options, "nsenter", f"--mount=/proc/{node.holder.pid}/ns/mnt",
             "setpriv", f"--reuid={UID}", f"--regid={UID}", f"--groups={groups}",
             "env", f"--chdir={node.launcher.account.home}", *node.launcher.argv("exec", image, "true")]  # fmt: skip
    environment = node.launcher.environment(open_mpi(1, 2))
    subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, check=True, cwd="/", timeout=30)


@pytest.mark.needs("root", "closed-sockets")
@ONLY_SUID
def test_what_a_stranger_leaves_with_a_keeper_stalls_nobody(node: Node, image: Path) -> None:
    """R-J2: a TCP socket that lingers is closed by whoever lets it go last, and for as long as its owner likes."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    with stranger(LINGERING, name) as other:
        try:
            time.sleep(0.5)
            begin = time.monotonic()
            second = show(node, image, env=open_mpi(1, 2))
            line_of(second)
            took = time.monotonic() - begin
        finally:
            other.kill()
    ended(second).ok()
    ended(rank).ok()
    assert took < 10


@pytest.mark.needs("root", "strace", "closed-sockets")
@ONLY_SUID
def test_what_a_stranger_leaves_under_a_name_stalls_nobody(node: Node, image: Path, directory: Path) -> None:
    """R-J2: the same to a rank that finds the name taken; strace gives the stranger the time he needs."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    ended(rank).ok()
    wait_until(lambda: not meetings() - before)
    with stranger(LINGERING, name) as other:
        try:
            traced(node, image, "-o", str(directory / "trace"), "-e", "inject=connect:delay_exit=500000")
        finally:
            other.kill()


@pytest.mark.needs("root")
@ONLY_SUID
def test_who_takes_a_name_and_never_accepts_stalls_nobody(node: Node, image: Path) -> None:
    """R-J2: names are read in /proc/net/unix; a rank waited for a minute in a stranger's full queue."""
    before = meetings()
    rank = show(node, image, env=open_mpi(0, 2))
    line_of(rank)
    (name,) = meetings() - before
    ended(rank).ok()
    wait_until(lambda: not meetings() - before)
    with stranger(SQUATTING, name) as other:
        try:
            begin = time.monotonic()
            second = node.command("exec", image, "true", first=["-v"], env=open_mpi(0, 2))
            took = time.monotonic() - begin
        finally:
            other.kill()
    assert second.status == 0, str(second)
    assert "accepts nobody" in second.err, str(second)
    assert took < 10


def question_of(node: Node, image: Path, directory: Path) -> str:
    """What a rank sends to the keeper, in hexadecimal digits."""
    trace = directory / "trace"
    traced(node, image, "-xx", "-s", "200000", "-e", "trace=sendmsg", "-o", str(trace))
    found = re.search(r'iov_base="((?:\\x[0-9a-f]{2}){40,})"', trace.read_text())
    assert found
    return found.group(1).replace("\\x", "")


FORGED = """
import array, os, socket, sys
asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
asking.connect(chr(0) + sys.argv[1])
never = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [os.eventfd(0)]))]
try:
    asking.sendmsg([bytes.fromhex(sys.argv[2])], never)
except PermissionError:
    asking.send(bytes.fromhex(sys.argv[2]))
print(asking.recvmsg(16, 1024)[0], flush=True)
sys.stdin.read()
"""


@pytest.mark.needs("root", "strace", "closed-sockets")
@ONLY_SUID
def test_a_guest_is_the_process_that_connected(node: Node, image: Path, directory: Path) -> None:
    """R-B1, R-J2: the user's own forged rank hands over a descriptor that never ends in the place of its process. It is
    let in all the same, and forgotten when it ends."""
    before = meetings()
    first = show(node, image, env=open_mpi(0, 2))
    line_of(first)
    (name,) = meetings() - before
    question = question_of(node, image, directory)
    guest = node.start("/usr/bin/python3", "-c", FORGED, name.removeprefix("@"), question)
    assert line_of(guest) == "b'y'"
    ended(first).ok()
    assert meetings() - before == {name}, "a guest that lives keeps its container"
    ended(guest).ok()
    try:
        wait_until(lambda: not meetings() - before)
    finally:
        for left in machine.children():
            if machine.command_of(left).startswith("sexec "):
                os.kill(left, signal.SIGKILL)
