"""Where the launches take place: what an ordinary user of this machine finds there, without an account being added."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ordinary_user import ALICE, Account, World, bind, mount

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SHOWN = Path("/srv")


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A machine with a user, an installation of singularity, and a directory of images and programs."""

    prefix: Path
    directory: Path  # as this process, which is root's, sees it; the user finds it at SHOWN
    config: Path  # the configuration in force
    usr: Path | None = None  # a newer system's /usr, shown in place of this machine's; its programs are the peers

    @property
    def account(self) -> Account:
        """The user."""
        return ALICE

    @property
    def singularity(self) -> str:
        """The program."""
        return str(self.prefix / "bin/singularity")

    @property
    def home(self) -> Path:
        """The user's home directory, as she names it."""
        return self.account.home

    def shown(self, name: str) -> Path:
        """A file of the directory, as the user names it."""
        return SHOWN / name

    def has(self, command: str) -> bool:
        """Whether there is such a program."""
        path = f"{self.usr}/sbin:{self.usr}/bin" if self.usr else "/usr/sbin:/usr/bin:/bin"
        return shutil.which(command, path=path) is not None

    def world(self, *, become: bool = True) -> World:
        """Root makes it around a process of its own, which then is the user's, or still root's for a tracer."""
        return World(
            home=self.directory / "home",
            replaced={
                SHOWN: self.directory,
                self.prefix / "etc/singularity/singularity.conf": self.config,
                **({Path("/usr"): self.usr} if self.usr else {}),
            },
            as_root=(
                partial(make_state, self.account.uid),
                one_hierarchy,
                *((partial(show_configuration, self.usr.parent / "etc"),) if self.usr else ()),
            ),
            become=become,
        )

    def environment(self) -> Mapping[str, str]:
        """What the user's processes have."""
        state = str(SHOWN / "state")
        return {**self.world().environment(), "PATH": "/usr/sbin:/usr/bin:/bin", "XDG_RUNTIME_DIR": state}

    def start(self, argv: Sequence[str], *, become: bool = True, stderr: int | None = None) -> subprocess.Popen[bytes]:
        """A process in this place, leading a group of its own, with pipes at standard input and output."""
        return subprocess.Popen(
            argv,
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            preexec_fn=self.world(become=become).enter,
            cwd="/",
        )

    def run(self, argv: Sequence[str], *, timeout: float, become: bool = True) -> str:
        """What a command in this place writes; it stops the benchmark when it fails or takes too long.

        Messages go to a file of the directory: some peers warn at each launch.
        """
        messages = self.directory / "messages"
        with messages.open("wb") as file, self.start(argv, become=become, stderr=file.fileno()) as process:
            try:
                out, _ = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                sys.exit(f"bench: not finished after {timeout:.0f} s: {' '.join(argv[:6])} ...")
        if process.returncode != 0:
            said = messages.read_text(errors="replace")[:2000]
            sys.exit(f"bench: status {process.returncode}: {' '.join(argv[:6])} ...\n{said}")
        return out.decode(errors="replace")


def make_state(uid: int) -> None:
    """A tmpfs for what runtimes keep of their containers, and for the one setuid program: it is on no disk."""
    state = SHOWN / "state"
    mount("tmpfs", state, "tmpfs", data=f"mode=0700,uid={uid},gid={uid}")
    shutil.copy(SHOWN / "floor", state / "floor-suid")
    (state / "floor-suid").chmod(0o4755)


def show_configuration(etc: Path) -> None:
    """What the newest peers are configured by, beside this machine's own files, with the user's databases."""
    names = ("passwd", "group", "subuid", "subgid")
    held = {path: os.open(path, os.O_PATH) for path in (Path("/etc", name) for name in names) if path.exists()}
    mount("tmpfs", "/mnt", "tmpfs")
    shutil.copytree(etc / "apptainer", "/mnt/apptainer")
    mount("overlay", "/etc", "overlay", data="lowerdir=/mnt:/etc")
    for path, fd in held.items():
        bind(Path(f"/proc/self/fd/{fd}"), path)
        os.close(fd)


def one_hierarchy() -> None:
    """Control groups as Debian boots with them, version 2 alone, also where the machine has another arrangement."""
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        subprocess.run(["umount", "--recursive", "/sys/fs/cgroup"], check=True)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2")


def make_place(prefix: Path, directory: Path, usr: Path | None = None) -> Place:
    """Prepares the directory and a configuration in which every row of the table is allowed."""
    for name in ("home", "state", "mnt"):
        (directory / name).mkdir(exist_ok=True)
    os.chown(directory / "home", ALICE.uid, ALICE.gid)
    shutil.copy(directory / "instant", directory / "home/instant")
    shipped = (prefix / "etc/singularity/singularity.conf").read_text()
    config = directory / "singularity.conf"
    for name in ("extfs", "erofs"):
        shipped = shipped.replace(f"allow setuid-mount {name} = no", f"allow setuid-mount {name} = yes")
    config.write_text(shipped)
    return Place(prefix=prefix, directory=directory, config=config, usr=usr)
