"""The ranks of a job step on one node share one container; nobody else does; whoever is killed, the others go on."""

from __future__ import annotations

import fcntl
import os
import random
import select
import shutil
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from images import extfs
from job_steps import UID, Node, ended, line_of, meetings, open_mpi, show, slurm, spaces_of, wait_until
from launching import Launcher, Mode, Result
from ordinary_user import Account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from images import Images

pytestmark = pytest.mark.needs("installation")


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


SHOW = ["readlink", "/proc/self/ns/mnt"]


@contextmanager
def _held(node: Node, image: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """A container that a launch without a program holds, until its input ends."""
    holder = node.launch("exec", *options, image)
    assert holder.stdin is not None
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"\n"
    yield holder
    holder.stdin.close()
    holder.wait(timeout=10)


def test_it_can_be_asked_for_by_a_name(node: Node, image: Path) -> None:
    """Of whatever job step and session; another name is another container. The directory is each launch's own."""
    with _held(node, image, "--join=@mine") as holder:
        ways = [((), {}), ((), slurm(0, 2)), (("--cwd", "/etc"), slurm(1, 2, step="7")), (("--cleanenv",), {})]
        launches = [node.launch("exec", "--join=@mine", *options, image, *SHOW, env=env) for options, env in ways]
        mine = {ended(each).ok().out for each in launches}
        assert len(mine) == 1
        assert ended(node.launch("exec", "--join=@mine", "--cwd", "/etc", image, "pwd")).ok().out == "/etc\n"
        for other in ("--join=@other", "--join=yes", "--join=no"):
            assert ended(node.launch("exec", other, image, *SHOW)).ok().out not in mine
        again = {ended(node.launch("exec", "--join=@mine", image, *SHOW)).ok().out}
        assert again == mine
        assert holder.poll() is None
    wait_until(lambda: not meetings())


def test_what_holds_a_container_ends_with_its_input(node: Node, images: Images) -> None:
    """Nothing of the image is needed for it; its own failure is told as that of any launch."""
    with _held(node, images.shellless_sandbox, "--join=@mine") as holder:
        assert meetings()
    assert holder.returncode == 0
    wait_until(lambda: not meetings())
    ended(node.launch("exec", "--join=@mine", "/none.sif")).refused("no such image")
    for words in (["exec"], ["exec", "--join=yes"]):
        ended(node.launch(*words, images.sandbox)).misused("no command given")
    ended(node.launch("exec", "--join=@", images.sandbox, "true")).misused('"auto", "yes", "no" or @ and a name')
    ended(node.launch("exec", f"--join=@{'x' * 200}", images.sandbox, "true")).misused("@ and a name")
    ended(node.launch("exec", f"--join=@{'x' * 199}", images.sandbox, "/bin/busybox", "true")).ok()


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
    source = Path(__file__).parents[1] / "cma.c"
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
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
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
