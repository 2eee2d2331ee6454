"""Containers under a real Slurm of two nodes: srun and sbatch as users type them, the scripts of examples/, the plugin.

What cannot be had on one machine is two hosts and GPUs. Both nodes are this one, which Open MPI cannot tell apart, also
natively (one /tmp, one /dev/shm, one address), so its ranks stay on one of them. The "cards" are two devices that every
machine has, so that Slurm hands them out; nvidia-smi is a script.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import mpi_roots
import pytest
from images import tool
from slurm_cluster import HOME, UID, Cluster, cgroups_lack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from images import Images
    from launching import Result

IMAGE = f"{HOME}/debian.sif"
EXAMPLES = machine.CHECKOUT / "examples/slurm"
DOUBLE = Path(__file__).with_name("spank_double.c")


@pytest.fixture(scope="session")
def running(storage: Path, images: Images) -> Iterator[Cluster]:
    machine.require("installation", "root", "slurm", "unsanitized")
    prefix = machine.prefix()
    assert prefix is not None
    cluster = Cluster.start(storage / "slurm", prefix / "bin")
    shutil.copy(images.sif, cluster.home / "debian.sif")
    shutil.copy(images.probe, cluster.home / "probe")
    for script in EXAMPLES.glob("*.sbatch"):
        shutil.copy(script, cluster.home)
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(running: Cluster) -> Iterator[Cluster]:
    """With nothing of a test left behind: no process of hers, no mount."""
    before = running.mounts()
    yield running
    deadline = time.monotonic() + 5
    while running.processes() and time.monotonic() < deadline:  # ended, and not yet buried
        time.sleep(0.02)
    assert running.processes() == []
    assert running.mounts() == before


@pytest.fixture
def plugin(cluster: Cluster) -> Iterator[Callable[..., None]]:
    """Loads the plugin on the cluster, for this test; called with words, with these after its path."""
    machine.require("spank")
    prefix = machine.prefix()
    table = cluster.directory / "etc/plugstack.conf"

    def load(*arguments: str, word: str = "required") -> None:
        table.write_text(" ".join([word, f"{prefix}/lib/slurm/singularity.so", *arguments]) + "\n")

    load()
    yield load
    table.write_text("")


def home_file(cluster: Cluster, name: str, text: str) -> Path:
    path = cluster.home / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def without_fds(text: str) -> list[str]:
    """What descriptors lead to, without the numbers of sockets and pipes."""
    return [re.sub(r"\[\d+\]", "[]", line) for line in text.splitlines()]


def started(output: Path) -> bool:
    return output.exists() and "started" in output.read_text()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


# ---- commands of Slurm's, called in a container ----


@pytest.fixture
def allowed(cluster: Cluster) -> Iterator[Callable[..., Result]]:
    """A site whose root lets containers call Slurm: a configuration that the machine of the cluster alone sees."""
    prefix = machine.prefix()
    assert prefix is not None
    told, site = cluster.directory / "etc/singularity.conf", prefix / "etc/singularity/singularity.conf"
    told.write_text("host commands = sbatch, squeue, srun, scancel\nhost commands = sinfo\n")
    cluster("mount", "--bind", told, site, root=True).ok()
    yield partial(cluster, "singularity", "exec", "--host-cmd=sbatch,squeue,srun,scancel", IMAGE, "sh", "-c")
    cluster("umount", site, root=True).ok()


def test_jobs_are_submitted_and_seen_from_a_container(cluster: Cluster, allowed: Callable[..., Result]) -> None:
    """The image has nothing of Slurm's; the job runs where it was submitted, with the host's variables."""
    home_file(cluster, "inner.sh", "#!/bin/sh\npwd; id -u; echo $FROM_HOST; ls /.singularity.d 2>&1; exit 3\n")
    done = allowed("sbatch --parsable --wait --output=inner.out inner.sh; echo $?", env={"FROM_HOST": "yes"})
    assert done.lines[0].isdecimal(), str(done)
    assert done.lines[1:] == ["3"]
    output = (cluster.home / "inner.out").read_text().splitlines()
    assert output[:3] == [str(HOME), "10001", "yes"]
    assert "No such file" in output[3]
    look = "squeue --noheader --format=%i"
    held = allowed(f"job=$(sbatch --parsable --hold --wrap true); {look}; scancel $job; {look}; echo end")
    assert held.ok().lines[0].isdecimal()
    assert held.lines[1:] == ["end"]


def test_steps_are_started_from_a_container(allowed: Callable[..., Result]) -> None:
    """Streams, status and ranks as of an srun that nothing stands between."""
    script = "echo typed | srun --quiet -N2 -n2 sh -c 'echo $SLURM_PROCID; cat'; srun --quiet sh -c 'exit 7'; echo $?"
    done = allowed(script)
    assert sorted(done.lines) == ["0", "1", "7", "typed"] or sorted(done.lines) == ["0", "1", "7", "typed", "typed"]
    assert "exit code 7" in done.err.lower()
    inside = allowed("srun --quiet -n2 singularity exec $PWD/debian.sif sh -c 'echo rank $SLURM_PROCID'").ok()
    assert sorted(inside.lines) == ["rank 0", "rank 1"]


def test_steps_of_the_job_that_the_container_runs_in(cluster: Cluster, allowed: Callable[..., Result]) -> None:
    """A workflow in a container that is a job itself, cleaned environment or not."""
    del allowed
    for option in ("", "--cleanenv", "--containall --bind $PWD --cwd $PWD"):
        step = 'srun --quiet -n1 sh -c "echo in \\$SLURM_JOB_ID"'
        start = f"singularity exec {option} --host-cmd=srun debian.sif sh -c '{step}'"
        text = f"#!/bin/sh\n{start}\necho $SLURM_JOB_ID\n"
        done = cluster.batch(home_file(cluster, "outer.sh", text), "-n1")
        assert done.status == 0, str(done)
        assert done.lines[0] == f"in {done.lines[1]}", str(done)
    left = [path for path in Path("/tmp").glob("singularity-host-*") if path.stat().st_uid == UID]
    assert left == [], "Slurm kills all of a job at its end"


def test_what_the_image_says_of_slurms_configuration_is_not_heard(
    cluster: Cluster, allowed: Callable[..., Result]
) -> None:
    """SLURM_CONF names plugins: code on the host."""
    home_file(cluster, "evil.conf", "ClusterName=evil\n")
    assert allowed(f"SLURM_CONF={HOME}/evil.conf squeue --noheader; echo $?").ok().lines == ["0"]


def test_killing_a_container_ends_its_srun(cluster: Cluster, allowed: Callable[..., Result]) -> None:
    """And its step, though SIGKILL tells nobody."""
    del allowed
    words = ("singularity", "exec", "--pid", "--host-cmd=srun", IMAGE, "srun", "--quiet", "sleep", "2996")
    for number, status in (("TERM", 124), ("KILL", 137)):
        assert cluster("timeout", "--foreground", f"--signal={number}", "4", *words).status == status
        wait_for(lambda: not any("2996" in line for line in cluster.processes()), "the end of the step")


# ---- without the plugin ----


def test_srun_starts_containers_on_every_node(cluster: Cluster) -> None:
    command = "echo $SLURM_PROCID on $SLURM_NODEID"
    tasks = cluster.srun("-N2", "-n4", "singularity", "exec", IMAGE, "sh", "-c", command).ok()
    assert sorted(tasks.lines) == ["0 on 0", "1 on 0", "2 on 1", "3 on 1"]


def test_an_image_is_staged_on_every_node_and_steps_that_follow_find_it(cluster: Cluster) -> None:
    """The two nodes are one machine, so each task says which directory is its node's."""
    place = "SINGULARITY_STAGEDIR=$PWD/node-$SLURM_NODEID exec singularity"
    told = cluster.srun("-N2", "-n4", "sh", "-c", f"{place} stage {IMAGE}")
    assert told.err.count("is on 2 of 2 nodes") == 1, str(told)
    assert sorted(line.split("/")[-3] for line in told.lines) == ["node-0", "node-0", "node-1", "node-1"]
    found = cluster.srun("-N2", "-n2", "sh", "-c", f"{place} --verbose exec {IMAGE} true")
    assert found.err.count(f"staged from {IMAGE}") == 2, str(found)
    cluster.srun("-N2", "-n2", "sh", "-c", f"{place} --quiet stage --clean").ok()
    assert [*cluster.home.glob("node-*/*")] == []


def test_the_tasks_of_a_node_share_one_container(cluster: Cluster) -> None:
    command = "echo $SLURM_NODEID $(readlink /proc/self/ns/mnt); sleep 0.5"
    told = cluster.srun("-N2", "-n4", "singularity", "exec", IMAGE, "sh", "-c", command).ok().lines
    assert len(told) == 4
    assert sorted(line.split()[0] for line in set(told)) == ["0", "1"]
    assert len({line.split()[1] for line in told}) == 2


@pytest.mark.skipif(bool(cgroups_lack()), reason=cgroups_lack())
def test_an_instance_lives_as_long_as_its_job(cluster: Cluster) -> None:
    """Nothing of it is left: `cluster` looks. Steps of the job enter it."""
    look = "readlink /proc/self/ns/pid; ps | grep -c '[s]leep 2997'"
    lines = [
        "#!/bin/sh",
        "printf '#!/bin/sh\\nsleep 2997 &\\nsleep 2997\\n' >start; chmod +x start",
        f"singularity instance start --bind $PWD/start:/.singularity.d/startscript {IMAGE} service",
        "sleep 0.5",
        f'srun -N1 -n2 singularity exec instance://service sh -c "{look}"',
        "singularity instance list --json | grep -c service",
    ]
    result = cluster.batch(home_file(cluster, "instance.sbatch", "\n".join(lines) + "\n"), "-N1", "-n2")
    told = [line for line in result.lines if not line.startswith("INFO")]
    assert len(told) == 5, str(result)
    assert len({line for line in told if line.startswith("pid:")}) == 1
    assert told.count("2") >= 2


@pytest.mark.skipif(bool(cgroups_lack()), reason=cgroups_lack())
def test_an_instance_of_a_step_ends_with_the_step(cluster: Cluster) -> None:
    step = f"singularity instance start {IMAGE} of-step && singularity instance list --json | grep -c of-step"
    result = cluster.srun("-N1", "-n1", "sh", "-c", step)
    assert result.status == 0, str(result)
    assert int(result.lines[-1]) > 0
    wait_for(lambda: cluster.processes() == [], "the end of the instance")


def test_an_exit_code_reaches_the_record_of_the_job(cluster: Cluster) -> None:
    job = home_file(cluster, "fails.sbatch", f"#!/bin/sh\nexec singularity exec {IMAGE} sh -c 'exit 7'\n")
    submitted = cluster("sbatch", "--parsable", "--output=/dev/null", job.name).ok()
    record = cluster.completed(submitted.out.strip())
    assert record["JobState"] == "FAILED"
    assert record["ExitCode"] == "7:0"


def test_serial_example(cluster: Cluster) -> None:
    written = cluster.batch(cluster.home / "serial.sbatch").ok()
    assert re.fullmatch(r"job \d+ on \S+: Linux, 1 core\n", written.out)


def test_threads_example_sees_the_cores_of_the_job(cluster: Cluster) -> None:
    assert cluster.batch(cluster.home / "threads.sbatch").ok().out == "2 threads on 2 cores\n"


def test_array_example_runs_once_for_each_input(cluster: Cluster) -> None:
    job = cluster("sbatch", "--parsable", "array.sbatch").ok().out.strip()
    cluster.wait(job)
    written = [(cluster.home / f"array-{job}_{task}.out").read_text() for task in range(4)]
    assert written == ["0 alpha: 5 letters\n", "1 beta: 4 letters\n", "2 gamma: 5 letters\n", "3 delta: 5 letters\n"]


def test_gpu_example_has_the_card_that_slurm_gave(cluster: Cluster) -> None:
    tools = cluster.home / "tools"
    tools.mkdir(exist_ok=True)
    home_file(cluster, "tools/nvidia-smi", '#!/bin/sh\necho "$1: cards $CUDA_VISIBLE_DEVICES"\n')
    path = f"{HOME}/tools:{cluster.environment()['PATH']}"
    written = cluster.batch(cluster.home / "gpu.sbatch", env={"PATH": path})
    assert written.status == 0, written
    assert written.lines[-1] == "--list-gpus: cards 0"  # before it a warning: there are no driver libraries


@pytest.fixture(scope="session")
def mpi_images(running: Cluster) -> Cluster:
    mpi_roots.make_root(mpi_roots.OPENMPI, running.home / "ompi.sif")
    mpi_roots.make_root(mpi_roots.MPICH, running.home / "mpich.sif")
    return running


@pytest.mark.parametrize(
    ("script", "options"), [("mpi.sbatch", ("--nodes=1", "--overcommit")), ("mpich.sbatch", ("--nodes=2",))]
)
def test_mpi_examples_send_a_number_round_a_ring(
    cluster: Cluster, mpi_images: Cluster, script: str, options: tuple[str, ...]
) -> None:
    written = cluster.batch(mpi_images.home / script, *options)
    assert written.status == 0, written
    assert "Process 0 sending 10 to 1, tag 201 (4 processes in ring)" in written.lines
    assert [f"Process {rank} exiting" in written.lines for rank in range(4)] == [True] * 4


# ---- the plugin ----


@pytest.mark.usefixtures("plugin")
def test_the_plugin_starts_the_program_of_the_image(cluster: Cluster) -> None:
    arguments = ("", "two words", '$HOME "quoted"', "-x")
    seen = cluster.srun(f"--singularity-image={IMAGE}", "probe", "argv", *arguments).ok()
    assert seen.stdout.split(b"\0")[:-1] == [argument.encode() for argument in arguments]
    assert cluster.srun(f"--singularity-image={IMAGE}", "cat", "/etc/image-name").ok().out == "busybox of the tests\n"
    help_page = cluster("srun", "--help").out
    assert all(f"--singularity-{option}" in help_page for option in ("image", "bind", "args"))


@pytest.mark.usefixtures("plugin")
def test_a_task_in_the_container_is_what_it_is_outside(cluster: Cluster) -> None:
    """Umask, nice value, signals, affinity, limits, ids and descriptors, also with --propagate."""
    for what in ("state", "limits", "ids"):
        command = f'ulimit -S -n 333; ulimit -S -s 4096; umask 027; srun --quiet -c1 "$@" {what}'
        outside = cluster("sh", "-c", command, "sh", f"{HOME}/probe").ok()
        inside = cluster("sh", "-c", command, "sh", f"--singularity-image={IMAGE}", "/bin/probe").ok()
        assert inside.out == outside.out
    fds = cluster.srun(f"--singularity-image={IMAGE}", "probe", "fds").ok()
    assert without_fds(fds.out)[:3] == without_fds(cluster.srun("./probe", "fds").ok().out)[:3]
    asked = cluster(
        "sh", "-c", f"ulimit -S -n 444; srun --quiet --propagate=NOFILE --singularity-image={IMAGE} sh -c 'ulimit -n'"
    )
    assert asked.ok().out == "444\n"


@pytest.mark.usefixtures("plugin")
def test_a_task_prolog_reaches_the_program(cluster: Cluster) -> None:
    """By the plugin only from 23.11 on: before, Slurm runs it after it has called the plugins."""
    command = ("sh", "-c", "echo ${FROM_TASK_PROLOG-nothing}")
    assert cluster.srun("singularity", "exec", IMAGE, *command).ok().out == "here\n"
    expected = "here\n" if cluster.release() >= (23, 11) else "nothing\n"
    assert cluster.srun(f"--singularity-image={IMAGE}", *command).ok().out == expected


@pytest.mark.usefixtures("plugin")
def test_programs_of_multi_prog_never_start_outside(cluster: Cluster) -> None:
    (cluster.home / "several.conf").write_text("0 /bin/echo ran\n")
    ended = cluster.srun("--multi-prog", f"--singularity-image={IMAGE}", "several.conf")
    if cluster.release() < (23, 11):  # Slurm does not tell plugins the program of the task
        assert ended.status != 0
        assert ended.out == ""


@pytest.mark.usefixtures("plugin")
def test_standard_streams_directory_and_names_of_files_hold(cluster: Cluster) -> None:
    work = cluster.home / "work"
    work.mkdir(exist_ok=True)
    work.chmod(0o777)
    options = (f"--singularity-image={IMAGE}", f"--chdir={HOME}/work")
    assert cluster.srun(*options, "cat", stdin=b"\0binary\n").ok().stdout == b"\0binary\n"
    assert cluster.srun(*options, "pwd").ok().out == f"{HOME}/work\n"
    terminal = cluster("script", "-qec", f"srun --pty {options[0]} tty", "/dev/null")
    assert re.search(r"/dev/pts/\d+", terminal.out), terminal
    cluster.srun(*options, "--output=rank-%t", "-n2", "sh", "-c", "echo $SLURM_PROCID; echo error >&2").ok()
    assert [(work / f"rank-{rank}").read_text() for rank in (0, 1)] == ["0\nerror\n", "1\nerror\n"]


@pytest.mark.usefixtures("plugin")
def test_a_relative_image_is_that_of_the_directory_where_srun_is_typed(cluster: Cluster) -> None:
    cluster.srun("--singularity-image=debian.sif", "--chdir=/tmp", "true").ok()


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize("export", ["NONE", "FROM_OUTSIDE", "ALL"])
def test_options_add_up_and_travel_without_the_environment(cluster: Cluster, export: str) -> None:
    for name in ("one", "two, 3"):
        (cluster.home / name).mkdir(exist_ok=True)
    seen = cluster.srun(
        f"--export={export}",
        f"--singularity-image={IMAGE}",
        f"--singularity-bind={HOME}/one:/srv/one",
        rf"--singularity-bind={HOME}/two\, 3:/srv/two:ro",
        "--singularity-args=--env 'WORD=with blanks'",
        "--singularity-args=--no-home",
        "sh",
        "-c",
        'cd /srv; echo *; echo "$WORD"; touch two/x 2>/dev/null || echo read-only; env | grep -c SLURM_SINGULARITY',
        env={"FROM_OUTSIDE": "x", "SINGULARITY_IMAGE": "/nowhere"},
    )
    assert seen.lines == ["one two", "with blanks", "read-only", "0"], seen


@pytest.mark.usefixtures("plugin")
def test_variables_follow_export(cluster: Cluster) -> None:
    image = f"--singularity-image={IMAGE}"
    env = {"KEPT": "yes", "LEFT": "yes"}
    assert "LEFT=yes" in cluster.srun(image, "env", env=env).ok().lines
    chosen = cluster.srun(image, "--export=KEPT", "env", env=env).ok().lines
    assert "KEPT=yes" in chosen
    assert "LEFT=yes" not in chosen


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("sh", "-c", "exit 3"), 3, "Exited with exit code 3"),
        (("sh", "-c", "kill -SEGV $$"), 139, "Segmentation fault"),
        (("no-such-program",), 127, 'FATAL:   "no-such-program": executable file not found'),
    ],
)
def test_how_a_task_ends_is_how_srun_ends(cluster: Cluster, words: tuple[str, ...], status: int, said: str) -> None:
    ended = cluster("srun", f"--singularity-image={IMAGE}", *words)
    assert ended.status == status, ended
    assert said in ended.err


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--singularity-image=/no/image.sif",), "FATAL:   /no/image.sif: no such image"),
        (("--singularity-bind=/srv",), "error: singularity: --singularity-bind and --singularity-args are of no use"),
        ((f"--singularity-image={IMAGE}", "--singularity-args=--env 'a"), "--singularity-args: a quote is not closed"),
        ((f"--singularity-image={IMAGE}", "--singularity-args=--no-such"), "--no-such"),
    ],
)
def test_mistakes_are_told_in_a_line_and_run_nothing(cluster: Cluster, options: tuple[str, ...], said: str) -> None:
    refused = cluster.srun(*options, "sh", "-c", "echo ran")
    assert refused.status != 0
    assert refused.out == ""
    assert len([line for line in refused.err.splitlines() if said in line]) == 1, refused


def test_an_optional_plugin_does_not_start_the_program_outside_instead(
    cluster: Cluster, plugin: Callable[..., None]
) -> None:
    plugin("singularity=/nowhere/singularity", word="optional")
    refused = cluster.srun(f"--singularity-image={IMAGE}", "sh", "-c", "echo ran")
    assert (refused.status, refused.out) == (255, "")
    assert "singularity: /nowhere/singularity: No such file or directory" in refused.err


def test_an_argument_that_the_plugin_does_not_know_is_told(cluster: Cluster, plugin: Callable[..., None]) -> None:
    plugin("image=/x")
    assert 'plugstack.conf: unknown argument "image=/x"' in cluster.srun("true").err


def test_a_default_image_is_for_who_names_none(cluster: Cluster, plugin: Callable[..., None], images: Images) -> None:
    plugin(f"default_image={IMAGE}")
    assert cluster.srun("cat", "/etc/image-name").ok().out == "busybox of the tests\n"
    assert cluster.srun("--singularity-image=none", "cat", "/etc/image-name").status != 0
    other = cluster.srun(f"--singularity-image={images.old_sandbox}", "sh", "-c", "echo $SINGULARITY_NAME").ok()
    assert other.out == "old-sandbox\n"


@pytest.mark.usefixtures("plugin")
def test_a_batch_script_runs_in_the_image_that_it_names(cluster: Cluster) -> None:
    script = home_file(
        cluster,
        "inside.sbatch",
        f"#!/bin/sh\n#SBATCH --singularity-image={IMAGE}\n#SBATCH --singularity-bind=/usr:/srv\n"
        'cat /etc/image-name; ls -d /srv/bin; pwd; echo "${SLURM_SINGULARITY_IMAGE-unset} $#"\n',
    )
    written = cluster.batch(script).ok()
    assert written.lines == ["busybox of the tests", "/srv/bin", str(HOME), "unset 0"]


@pytest.mark.usefixtures("plugin")
def test_plugin_example(cluster: Cluster) -> None:
    written = cluster.batch(cluster.home / "plugin.sbatch").ok()
    assert sorted(written.lines) == ["0: in debian.sif, /data", "1: in debian.sif, /data"]


@pytest.mark.usefixtures("plugin")
def test_steps_of_an_allocation_run_in_the_image_of_salloc(cluster: Cluster) -> None:
    srun = "srun --quiet"  # it tells where it had to wait for its turn
    script = f"{srun} cat /etc/image-name; {srun} ls -d /srv/debian.sif; {srun} --singularity-image=none printenv HOME"
    options = [f"--singularity-image={IMAGE}", f"--singularity-bind={HOME}:/srv"]
    seen = cluster("salloc", "--quiet", *options, "sh", "-c", script).ok()
    assert seen.lines == ["busybox of the tests", "/srv/debian.sif", str(HOME)]


@pytest.mark.usefixtures("plugin")
def test_cores_of_the_task_are_those_of_the_container(cluster: Cluster) -> None:
    for cores in (1, 2):
        seen = cluster.srun(f"-c{cores}", f"--singularity-image={IMAGE}", "nproc").ok()
        assert seen.out == f"{cores}\n"


@pytest.mark.usefixtures("plugin")
def test_the_memory_limit_of_the_job_holds_inside(cluster: Cluster) -> None:
    if cgroups_lack():
        pytest.skip(f"Slurm cannot limit memory here: {cgroups_lack()}")
    words = ("--mem=60", f"--singularity-image={IMAGE}", "dd", "if=/dev/zero", "of=/dev/null", "count=1")
    cluster.srun(*words, "bs=20M")
    ended = cluster.srun(*words, "bs=200M")
    assert ended.status != 0
    assert "Out Of Memory" in ended.err


@pytest.mark.usefixtures("plugin")
def test_devices_of_other_jobs_stay_shut_inside(cluster: Cluster) -> None:
    if cgroups_lack():
        pytest.skip(f"Slurm cannot shut devices here: {cgroups_lack()}")
    words = (f"--singularity-image={IMAGE}", "sh", "-c", "echo x >/dev/full")
    assert "Operation not permitted" in cluster.srun(*words).err
    assert "No space left on device" in cluster.srun("--gpus=1", *words).err


@pytest.mark.usefixtures("plugin")
def test_the_usage_of_the_program_inside_is_accounted(cluster: Cluster) -> None:
    """Without a database there is no sacct; sstat and the completion record are Slurm's other two."""
    script = home_file(
        cluster,
        "used.sbatch",
        "#!/bin/sh\nsrun "
        f"--singularity-image={IMAGE} sh -c 'dd if=/dev/zero bs=64M count=1 2>/dev/null | (sleep 3; wc -c)'\n",
    )
    job = cluster("sbatch", "--parsable", "--output=/dev/null", script.name).ok().out.strip()
    seen = ["0"]

    def counted() -> bool:
        seen[0] = (
            cluster("sstat", "--noheader", "--parsable2", "--noconvert", "--format=MaxRSS", f"{job}.0").out.strip()
            or "0"
        )
        return int(seen[0]) > 64 << 20

    wait_for(counted, "sstat to see the memory of the program")
    record = cluster.completed(job)
    assert record["JobState"] == "COMPLETED"
    assert record["UserId"].startswith("alice")


@pytest.mark.usefixtures("plugin")
def test_scancel_ends_what_ignores_it_and_leaves_nothing(cluster: Cluster) -> None:
    """A step that is told to end and does not, and a batch script in a container with all that it has started."""
    program = 'trap "echo told to end >told" TERM; sleep 1000 & sleep 2000 & echo started; while :; do sleep 1; done'
    home_file(cluster, "step.sbatch", f"#!/bin/sh\nsrun singularity exec {IMAGE} sh -c '{program}'\n")
    program = 'trap "" TERM INT; sleep 3000 & echo started; sleep 4000; sleep 5000'
    home_file(cluster, "script.sbatch", f"#!/bin/sh\n#SBATCH --singularity-image={IMAGE}\n{program}\n")
    jobs = {}
    for name in ("step", "script"):
        submitted = cluster("sbatch", "--parsable", f"--output={name}.out", f"{name}.sbatch")
        jobs[name] = submitted.ok().out.strip()
    for name in jobs:
        output = cluster.home / f"{name}.out"
        wait_for(partial(started, output), f"the {name} to start")
    seen = " ".join(cluster.processes())
    assert "sleep 2000" in seen
    assert "sleep 3000" in seen
    cluster("scancel", "--full", *jobs.values()).ok()
    wait_for(lambda: cluster.processes() == [], "the processes of the jobs to end")
    assert (cluster.home / "told").read_text() == "told to end\n"
    assert [cluster.completed(job)["JobState"] for job in jobs.values()] == ["CANCELLED", "CANCELLED"]


@pytest.mark.usefixtures("plugin")
def test_a_user_namespace_is_as_good(cluster: Cluster, images: Images) -> None:
    userns = (f"--singularity-image={images.sandbox}", "--singularity-args=--userns")
    assert cluster.srun(*userns, "-N2", "-n4", "cat", "/etc/image-name").ok().lines == ["busybox of the tests"] * 4
    assert cluster.srun(*userns, "sh", "-c", "exit 5").status == 5


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("mpi", "image", "nodes", "ranks"), [("pmix", "ompi.sif", 1, 2), ("pmi2", "mpich.sif", 2, 4)], ids=["pmix", "pmi2"]
)
def test_ranks_in_containers_of_the_plugin_find_each_other(
    mpi_images: Cluster, mpi: str, image: str, nodes: int, ranks: int
) -> None:
    options = (f"--nodes={nodes}", f"--ntasks={ranks}", f"--mpi={mpi}", f"--singularity-image={HOME}/{image}")
    ring = mpi_images.srun(*options, "mpi_ring")
    assert ring.status == 0, ring
    assert sorted(line for line in ring.lines if "exiting" in line) == [
        f"Process {rank} exiting" for rank in range(ranks)
    ]


# ---- ranks that are recorded ----


@pytest.mark.parametrize(
    ("mpi", "image", "nodes", "program"),
    [
        ("none", "ompi.sif", 2, ("sh", "-c", "cat in.txt > out.$SLURM_PROCID")),
        ("pmix", "ompi.sif", 1, ("mpi_case", "files")),
        ("pmi2", "mpich.sif", 2, ("mpi_case", "files")),
    ],
    ids=["none", "pmix", "pmi2"],
)
def test_ranks_of_srun_are_recorded_and_run_again(
    mpi_images: Cluster, mpi: str, image: str, nodes: int, program: tuple[str, ...]
) -> None:
    cluster = mpi_images
    for name in cluster.home.glob("*.json"):
        name.unlink()
    home_file(cluster, "in.txt", "21\n")
    step = (f"--nodes={nodes}", "--ntasks=2", "--overcommit", f"--mpi={mpi}", "singularity", "--quiet")
    recorded = cluster.srun(*step, "exec", "--record", "run.json", f"{HOME}/{image}", *program)
    assert recorded.status == 0, str(recorded)
    said = ["21\n"] * 2 if mpi == "none" else ["0 of 2, 42\n", "1 of 2, 42\n"]
    for rank in range(2):
        record = json.loads((cluster.home / f"run.{rank}.json").read_text())
        assert {each["path"] for each in record["inputs"] if each["part"] == "user"} >= {f"{HOME}/in.txt"}
        assert [each["path"] for each in record["outputs"]] == [f"{HOME}/out.{rank}"]
        assert (cluster.home / f"out.{rank}").read_text() == said[rank]
    again = cluster.srun(*step, "rerun", "--check", "run.json")
    assert (again.status, again.lines) == (0, ["same inputs, same outputs"] * 2), str(again)
    alone = cluster("singularity", "--quiet", "rerun", "run.1.json")
    assert alone.status == 0, str(alone)
    assert mpi != "none" or (cluster.home / "out.1").read_text() == "21\n"  # which part it does is kept
    assert mpi == "none" or (cluster.home / "out.0").read_text() == "0 of 1, 21\n"


def test_a_batch_script_is_recorded_as_one_run_and_its_steps_as_ranks(mpi_images: Cluster) -> None:
    cluster, image = mpi_images, f"{HOME}/ompi.sif"
    script = home_file(
        cluster,
        "recorded.sbatch",
        "#!/bin/sh\n"
        f"singularity exec --record batch.json {image} sh -c 'echo $SLURM_JOB_NAME > batch.out'\n"
        f"srun --overcommit singularity exec --record step.json {image} sh -c 'echo x > step.out.$SLURM_PROCID'\n",
    )
    done = cluster.batch(script, "--ntasks=2", "--overcommit")
    assert done.status == 0, str(done)
    assert {path.name for path in cluster.home.glob("[bs][at]*.json")} == {
        "batch.json", "step.0.json", "step.1.json"
    }  # fmt: skip
    again = cluster(
        "singularity", "--quiet", "rerun", "--check", "batch.json"
    )  # outside of the job, with its variables
    assert (again.status, again.lines[-1]) == (0, "same inputs, same outputs"), str(again)


# ---- releases of Slurm that this machine lacks ----


@pytest.fixture(scope="session")
def double(storage: Path) -> Path:
    machine.require("installation", "spank", "gcc")
    program = storage / "spank_double"
    tool("gcc", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-rdynamic", "-o", program, DOUBLE)
    return program


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"SLURM_SINGULARITY_IMAGE": "/i.sif"}, ["--", "/i.sif"]),
        (
            {"SLURM_SINGULARITY_IMAGE": "a b", "SLURM_SINGULARITY_BIND": "/x,/y", "SLURM_SINGULARITY_ARGS": "--nv -e"},
            ["--bind", "/x,/y", "--nv", "-e", "--", "a b"],
        ),
        ({"SLURM_SINGULARITY_IMAGE": "/i.sif", "STEP": "batch"}, ["--bind", r"/a\:b/prog", "--", "/i.sif"]),
        (
            {"SLURM_SINGULARITY_IMAGE": "/i.sif", "PMIX_SERVER_TMPDIR": "/spool/pmix.1.0/"},
            ["--bind", "/spool/pmix.1.0/", "--", "/i.sif"],
        ),
        ({"SLURM_SINGULARITY_IMAGE": "none"}, None),
        ({}, None),
    ],
    ids=["image", "options", "batch", "pmix", "none", "nothing"],
)
def test_from_23_11_on_slurm_itself_starts_the_task(
    double: Path, variables: dict[str, str], words: list[str] | None
) -> None:
    plugin = f"{machine.prefix()}/lib/slurm/singularity.so"
    played = subprocess.run(
        [double, plugin, "/a:b/prog", "word"], env=variables, capture_output=True, text=True, check=False
    )
    assert (played.returncode, played.stderr) == (0, "")
    expected = [] if words is None else ["/bin/true", "exec", *words]
    assert played.stdout.split("\0")[:-1] == expected


def test_from_23_11_on_a_missing_program_is_told_as_before(double: Path) -> None:
    variables = {"SLURM_SINGULARITY_IMAGE": "/i.sif", "ABSENT": ""}
    plugin = f"{machine.prefix()}/lib/slurm/singularity.so"
    played = subprocess.run([double, plugin, "word"], env=variables, capture_output=True, text=True, check=False)
    assert (played.returncode, played.stdout) == (255, "")
    assert "singularity: /nowhere/singularity: No such file or directory" in played.stderr
