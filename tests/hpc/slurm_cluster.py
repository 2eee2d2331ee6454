"""A real Slurm on this machine, of the distribution's daemons: two nodes, a private everything.

`Cluster` starts this file as process 1 of PID, mount, network and UTS namespaces: munge, slurmctld and a slurmd for
each node, with a configuration and ports that nobody else sees, an account "alice", and cgroups where they can be had.
When that process ends, every process of the cluster ends with it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent.parent))

from launching import Result, decode
from ordinary_user import MS_PRIVATE, MS_REC, bind, database, mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ADDRESS = "10.0.0.1"  # the resolver leaves hosts that have nothing but 127.0.0.1 without an answer
HEAD = "head"
NAME, UID, HOME = "alice", 10001, Path("/home/alice")
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP = 0x8914, 0x8916, 1
PATIENCE = 30.0
DAEMONS = "/usr/sbin:/usr/bin:/sbin:/bin"
CGROUPS = Path("/sys/fs/cgroup")
CONTROLLERS = ("memory", "cpuset", "freezer", "devices")  # that Slurm limits and follows jobs with

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={head}({address})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool/%n
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd-%n.pid
SlurmctldLogFile={directory}/log/slurmctld
SlurmdLogFile={directory}/log/slurmd-%n
PlugStackConfig={directory}/etc/plugstack.conf
ProctrackType=proctrack/{tracking}
TaskPlugin={tasks}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobCompType=jobcomp/filetxt
JobCompLoc={directory}/log/completed
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
TaskProlog={directory}/etc/task-prolog
KillWait=1
MessageTimeout=30
MpiDefault=none
GresTypes=gpu
NodeName={nodes} NodeHostname={head} NodeAddr={address} Port=[17001-17002] CPUs=2 RealMemory=1000 Gres=gpu:2
PartitionName=main Nodes=ALL Default=YES DefMemPerCPU=100 MaxTime=INFINITE State=UP
"""
CGROUP_CONFIGURATION = """\
CgroupPlugin={plugin}
ConstrainCores={constrain}
ConstrainRAMSpace={constrain}
ConstrainDevices={constrain}
"""


def node_names() -> tuple[str, str]:
    """Their cgroups are the machine's, so sessions side by side have nodes of different names."""
    return f"n{os.getpid()}a", f"n{os.getpid()}b"


def cgroups_lack() -> str:
    """Why Slurm cannot limit with cgroups here, or "": of version 2 it wants systemd as well."""
    missing = [name for name in CONTROLLERS if not (CGROUPS / name / "cgroup.procs").exists()]
    if missing:
        return f"no cgroup controller of version 1: {', '.join(missing)}"
    probe = CGROUPS / "memory" / f"singularity-tests-{os.getpid()}"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        return f"cgroups cannot be made: {error.strerror}"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """The cluster as seen from outside: a place to type commands as alice."""

    directory: Path  # where everything of it lies: configuration, logs, spool
    bin: Path  # of the installation under test, first on PATH
    process: subprocess.Popen[str]
    first: int  # its process 1, as it is called out here

    @classmethod
    def start(cls, directory: Path, bin_directory: Path) -> Cluster:
        """Raises RuntimeError with the logs when it is not there after PATIENCE seconds."""
        nodes = node_names()
        directory.mkdir(mode=0o755)
        for name in ("etc", "munge", "state", "spool", "log", "home"):
            (directory / name).mkdir(mode=0o755)
        os.chown(directory / "home", UID, UID)
        namespaces = ["--mount", "--net", "--pid", "--uts", "--fork", "--kill-child=KILL", "--mount-proc"]
        process = subprocess.Popen(
            ["unshare", *namespaces, sys.executable, __file__, str(directory), *nodes],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        if said != "ready\n":
            process.kill()
            process.wait()
            raise RuntimeError(f"Slurm did not start: {said}\n{logs(directory)}")
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return cls(directory=directory, bin=bin_directory, process=process, first=int(children[0]))

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        for node in node_names():
            for top in CGROUPS.glob(f"*/slurm_{node}"):
                remove_cgroups(top)

    @property
    def home(self) -> Path:
        """Alice's home directory as this process sees it; she calls it HOME."""
        return self.directory / "home"

    def command(self, *words: str | Path, cwd: Path = HOME, root: bool = False) -> list[str]:
        """The command line that has alice, or root, type these words on the cluster."""
        enter = ["nsenter", f"--target={self.first}", "--mount", "--net", "--pid", "--uts", "--wd=/"]
        become = [] if root else ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        return [*enter, *become, "env", f"--chdir={cwd}", *map(str, words)]

    def environment(self, more: Mapping[str, str] = {}) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin",
            "HOME": str(HOME),
            "USER": NAME,
            "LANG": "C",
            "SLURM_CONF": str(self.directory / "etc/slurm.conf"),
            **more,
        }

    def __call__(
        self,
        *words: str | Path,
        stdin: bytes = b"",
        env: Mapping[str, str] = {},
        cwd: Path = HOME,
        root: bool = False,
        timeout: float = 60.0,
    ) -> Result:
        """What came of a command."""
        argv = self.command(*words, cwd=cwd, root=root)
        done = subprocess.run(
            argv, input=stdin, capture_output=True, timeout=timeout, check=False, env=self.environment(env)
        )
        return decode(done.returncode, [str(word) for word in words], done.stdout, done.stderr)

    def srun(self, *words: str | Path, **more: object) -> Result:
        return self("srun", "--quiet", *words, **more)  # type: ignore[arg-type] # the keywords of __call__

    def batch(self, script: Path, *options: str, env: Mapping[str, str] = {}) -> Result:
        """Submits a script that lies in her home directory; the result has the status and output of the job."""
        submitted = self("sbatch", "--parsable", "--output=job-%j.out", *options, script.name, env=env).ok()
        job = submitted.out.strip()
        status = self.completed(job)["ExitCode"].partition(":")[0]
        output = self.home / f"job-{job}.out"
        return decode(int(status), submitted.argv, output.read_bytes(), submitted.stderr)

    def wait(self, job: str) -> None:
        """Until Slurm has nothing more to do for it; `sbatch --wait` asks every two seconds, then less often."""
        for _ in range(300):
            if self("squeue", "--noheader", f"--jobs={job}").out == "":
                return
            time.sleep(0.1)
        raise AssertionError(f"job {job} has not ended")

    def release(self) -> tuple[int, ...]:
        """Year and month of this Slurm."""
        return tuple(int(number) for number in self("srun", "--version").out.split()[-1].split(".")[:2])

    def processes(self) -> list[str]:
        """The command lines of the processes that are alice's."""
        found = self("ps", "-u", str(UID), "-o", "args=", root=True)
        return found.lines

    def mounts(self) -> list[str]:
        return self("cat", "/proc/mounts", root=True).lines

    def completed(self, job: str) -> dict[str, str]:
        """The line that Slurm wrote about a job at its end, as its keys and values."""
        record = self.directory / "log/completed"
        for _ in range(300):
            for line in record.read_text().splitlines() if record.exists() else []:
                fields = dict(word.split("=", 1) for word in line.split() if "=" in word)
                if fields.get("JobId") == job:
                    return fields
            time.sleep(0.1)
        raise AssertionError(f"no record of job {job}")


def remove_cgroups(top: Path) -> None:
    """From the leaves on; a leaf is free a moment after its last process has gone."""
    for directory, _, _ in os.walk(top, topdown=False):
        for _ in range(50):
            try:
                Path(directory).rmdir()
                break
            except OSError:
                time.sleep(0.02)


def logs(directory: Path) -> str:
    return "\n".join(
        f"--- {log.name}\n" + log.read_text(errors="replace")[-2000:] for log in sorted((directory / "log").iterdir())
    )


# ---- inside: process 1 of the cluster ----


def interface_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        fcntl.ioctl(channel, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
        address = struct.pack("16sH2s4s8x", b"lo:1", socket.AF_INET, b"\0\0", socket.inet_aton(ADDRESS))
        fcntl.ioctl(channel, SIOCSIFADDR, address)


def files_shown(directory: Path, nodes: Sequence[str]) -> None:
    """Names of hosts and accounts, and her home directory, for this mount namespace only."""
    shown = {
        "hosts": f"127.0.0.1 localhost\n{ADDRESS} {HEAD} {' '.join(nodes)}\n",
        "passwd": database("passwd", f"{NAME}:x:{UID}:{UID}:Alice:{HOME}:/bin/sh\n"),
        "group": database("group", f"{NAME}:x:{UID}:\n"),
    }
    for name, text in shown.items():
        source = directory / "etc" / name
        source.write_text(text)
        source.chmod(0o644)
        bind(source, Path("/etc", name))
    held = os.open(directory / "home", os.O_PATH | os.O_DIRECTORY)
    if directory.is_relative_to(HOME.parent):
        raise SystemExit("the tests' directory lies below /home")
    mount("tmpfs", HOME.parent, "tmpfs", data="mode=0755")
    HOME.mkdir()
    bind(Path(f"/proc/self/fd/{held}"), HOME)
    os.close(held)


def configuration(directory: Path, nodes: Sequence[str]) -> None:
    etc = directory / "etc"
    limited = not cgroups_lack()
    text = CONFIGURATION.format(
        head=HEAD,
        address=ADDRESS,
        directory=directory,
        nodes=",".join(nodes),
        tracking="cgroup" if limited else "linuxproc",
        tasks="task/cgroup,task/affinity" if limited else "task/affinity",
    )
    (etc / "slurm.conf").write_text(text)
    plugin = "cgroup/v1" if limited else "disabled"
    constrain = "yes" if limited else "no"
    (etc / "cgroup.conf").write_text(CGROUP_CONFIGURATION.format(plugin=plugin, constrain=constrain))
    # Two devices that every machine has, in place of cards: the first tells by its errno whether it could be opened.
    lines = [f"NodeName={node} Name=gpu File={card}\n" for node in nodes for card in ("/dev/full", "/dev/kmsg")]
    (etc / "gres.conf").write_text("".join(lines))
    (etc / "plugstack.conf").touch()
    prolog = etc / "task-prolog"
    prolog.write_text("#!/bin/sh\necho export FROM_TASK_PROLOG=here\n")
    prolog.chmod(0o755)
    key = directory / "munge/key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)


def daemons(directory: Path, nodes: Sequence[str]) -> list[Sequence[str]]:
    munge = directory / "munge"
    return [
        [
            "munged", "--foreground", "--force", f"--key-file={munge}/key", f"--socket={munge}/socket",
            f"--pid-file={munge}/pid", f"--log-file={directory}/log/munged", f"--seed-file={munge}/seed",
        ],
        ["slurmctld", "-D"],
        *(["slurmd", "-D", "-N", node] for node in nodes),
    ]  # fmt: skip


def start_daemons(directory: Path, nodes: Sequence[str], environment: Mapping[str, str]) -> None:
    for number, command in enumerate(daemons(directory, nodes)):
        program = shutil.which(command[0], path=DAEMONS) or command[0]
        with (directory / f"log/output-{number}").open("w") as log:
            subprocess.Popen([program, *command[1:]], env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        socket_of_munge = directory / "munge/socket"
        for _ in range(100):
            if command[0] != "munged" or socket_of_munge.exists():
                break
            time.sleep(0.02)


def nodes_wait(environment: Mapping[str, str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        seen = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%t"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if seen.stdout.split() == ["idle", "idle"]:
            return
        time.sleep(0.1)
    raise SystemExit(f"the nodes are not idle: {seen.stdout} {seen.stderr}")


def main(directory: Path, *nodes: str) -> None:
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    socket.sethostname(HEAD)
    interface_up()
    files_shown(directory, nodes)
    configuration(directory, nodes)
    environment = {"PATH": DAEMONS, "SLURM_CONF": str(directory / "etc/slurm.conf"), "LANG": "C"}
    start_daemons(directory, nodes, environment)
    nodes_wait(environment)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:  # what the daemons leave behind becomes a child of process 1
        os.wait()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
