"""An ordinary user of this machine, without adding an account to it.

Run by root: the command gets a private mount namespace in which /etc/passwd and its relatives know a user, /home holds
her home directory and /dev/fuse is usable; then root becomes that user for good and executes the command in place, so
status and signals are the command's own. Set-uid programs work as on a login node: no nosuid, no no_new_privs.
Nothing is written outside that namespace, and all of it ends with the last process in it.

    python tests/ordinary_user.py -- singularity exec debian.sif id
    python tests/ordinary_user.py --no-fuse --refuse openat2 --config my.conf -- singularity exec -u debian.sif id
"""

from __future__ import annotations

import argparse
import ctypes
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET = 0x00020000, 0x20000000, 0x40000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SHARED = 1, 32, 4096, 16384, 1 << 18, 1 << 20
MNT_DETACH = 2
PEOPLE = range(1000, 60000)  # ids that useradd gives; Debian has a few of its system above
FUSE_DEVICE = os.makedev(10, 229)
HERE = Path(__file__).resolve()
STAGE = next(  # covered by a tmpfs of our own, so not a directory that the checkout lies in
    Path(name) for name in ("/home", "/media", "/mnt", "/srv") if Path(name).is_dir() and not HERE.is_relative_to(name)
)

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def setns(fd: int) -> None:
    if _libc.setns(ctypes.c_int(fd), 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def mount(source: Path | str, target: Path | str, kind: str = "", flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), data.encode() or None
    )
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {source} on {target}: {os.strerror(number)}")


def bind(source: Path, target: Path, *, readonly: bool = False) -> None:
    mount(source, target, flags=MS_BIND | MS_REC)
    if readonly:
        mount("none", target, flags=MS_BIND | MS_REMOUNT | MS_RDONLY)


def database(name: str, text: str) -> str:
    """These entries of /etc/passwd, group, subuid or subgid behind those that come with the machine's system.

    What the machine says of people is left out: theirs may be the same names and numbers, and other ranges of ids.
    """
    ours = {line.partition(":")[0] for line in text.splitlines()}
    system = []
    for line in Path("/etc", name).read_text().splitlines(keepends=True) if name in ("passwd", "group") else ():
        owner, _, number, *_ = [*line.split(":"), "", ""]
        if owner not in ours and number.isdecimal() and int(number) not in PEOPLE:
            system.append(line)
    return "".join(system) + text


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    name: str = "alice"
    uid: int = 10001
    gid: int = 10001
    gecos: str = "Alice Liddell"
    home: Path = STAGE / "alice"
    shell: str = "/bin/sh"
    groups: Mapping[str, int] = field(default_factory=lambda: {"science": 10002, "storage": 10003})
    nameless_groups: tuple[int, ...] = ()
    listed: bool = True  # False: no entry in /etc/passwd

    def passwd_line(self) -> str:
        return f"{self.name}:x:{self.uid}:{self.gid}:{self.gecos}:{self.home}:{self.shell}\n" if self.listed else ""

    def group_lines(self) -> str:
        return f"{self.name}:x:{self.gid}:\n" + "".join(f"{n}:x:{g}:{self.name}\n" for n, g in self.groups.items())


ALICE = Account()
ROOT = Account(name="root", uid=0, gid=0, gecos="root", home=Path("/root"), groups={})


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What one command finds on the machine, and who runs it."""

    account: Account = ALICE
    home: Path | None = None  # the directory shown as the account's home; None: an empty one that ends with the command
    home_readonly: bool = False
    fuse: bool = True  # False: /dev/fuse cannot be opened
    user_namespaces: bool = True
    replaced: Mapping[Path, Path] = field(default_factory=dict)  # file or directory of the machine -> shown instead
    refusals: tuple[syscalls.Refusal, ...] = ()
    shared: bool = True  # mount propagation as systemd sets it up: a leak from the container would be seen
    cwd: Path | None = None  # None: the home directory
    cwd_as_root: bool = False  # she stands in `cwd` whether or not she could go there
    become: bool = True  # False: stay root, with the account's machine around
    private: bool = True  # False: the machine as it is and whoever calls, which needs no root
    before: Sequence[Callable[[], None]] = ()  # called in this order just before the command, as the user
    as_root: Sequence[Callable[[], None]] = ()  # called while still root, with the machine made

    def enter(self) -> None:
        """Turns the calling process, which is root's, into one of this world. Meant for a child before its exec."""
        try:
            if self.private:
                self._build()
            self._drop()
        except OSError as error:
            os.write(2, f"ordinary_user: {error}\n".encode())
            raise

    def _build(self) -> None:
        unshare(CLONE_NEWNS)
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        mount("tmpfs", STAGE, "tmpfs", data="mode=0755")
        self._databases()
        self._fuse_device()
        for target, source in self.replaced.items():
            bind(source, target)
        if self.home is not None:
            hold = os.open(self.home, os.O_PATH | os.O_DIRECTORY)
        _libc.umount2(os.fsencode(STAGE), MNT_DETACH)
        if self.account.uid != 0 or self.home is not None:
            self._home(hold if self.home is not None else -1)
        if self.shared:
            mount("none", "/", flags=MS_REC | MS_SHARED)
        for action in self.as_root:
            action()

    def _databases(self) -> None:
        lines = {
            "passwd": self.account.passwd_line(),
            "group": self.account.group_lines(),
            "subuid": f"{self.account.name}:1000000:65536\n",
            "subgid": f"{self.account.name}:1000000:65536\n",
        }
        for name, text in lines.items():
            target = Path("/etc", name)
            if self.account.uid == 0 or not target.exists():
                continue
            stage = STAGE / name
            stage.write_text(database(name, text))
            stage.chmod(0o644)
            bind(stage, target)

    def _fuse_device(self) -> None:
        if not Path("/dev/fuse").exists():
            return
        node = STAGE / "fuse"
        os.mknod(node, 0o020600, FUSE_DEVICE)
        node.chmod(0o666 if self.fuse else 0o600)
        bind(node, Path("/dev/fuse"))

    def _home(self, held: int) -> None:
        home = self.account.home
        if home.is_relative_to(STAGE):
            mount("tmpfs", STAGE, "tmpfs", data="mode=0755")
        if not home.is_dir():
            home.mkdir(mode=0o700, parents=True)
            os.chown(home, self.account.uid, self.account.gid)
        if held >= 0:
            bind(Path(f"/proc/self/fd/{held}"), home, readonly=self.home_readonly)
            os.close(held)

    def _drop(self) -> None:
        refusals = (*self.refusals, *(() if self.user_namespaces else syscalls.without_user_namespaces()))
        if refusals:
            syscalls.refuse(refusals)
        if self.cwd_as_root and self.cwd is not None:
            os.chdir(self.cwd)
        if self.become and self.private:
            account = self.account
            os.setgroups([*account.groups.values(), *account.nameless_groups])
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
        if not self.cwd_as_root:
            os.chdir(self.cwd or (self.account.home if self.private else "/"))
        for action in self.before:
            action()

    def environment(self, *directories: Path) -> dict[str, str]:
        """What a login gives her; `directories` come first on PATH."""
        standard = "/usr/local/bin:/usr/bin:/bin"
        return {
            "PATH": ":".join([*map(str, directories), standard]),
            "HOME": str(self.account.home),
            "USER": self.account.name,
            "LOGNAME": self.account.name,
            "SHELL": self.account.shell,
            "TERM": "dumb",
        }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Run a command as an ordinary user that this machine does not have.")
    parser.add_argument("--uid", type=int, default=ALICE.uid)
    parser.add_argument("--home", type=Path, help="directory shown as her home")
    parser.add_argument("--read-only-home", action="store_true")
    parser.add_argument("--no-passwd-entry", action="store_true")
    parser.add_argument("--no-fuse", action="store_true", help="/dev/fuse cannot be opened")
    parser.add_argument("--no-user-namespaces", action="store_true")
    parser.add_argument("--refuse", default="", metavar="CALLS", help="comma list of system calls that answer ENOSYS")
    parser.add_argument("--replace", action="append", default=[], metavar="PATH=FILE", help="show FILE at PATH")
    parser.add_argument("--cwd", type=Path, default=None)
    parser.add_argument("--root", action="store_true", help="stay root")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    if os.geteuid() != 0:
        parser.error("needs root, to make the private mount namespace")
    account = Account(uid=options.uid, gid=options.uid, listed=not options.no_passwd_entry)
    world = World(
        account=ROOT if options.root else account,
        home=options.home,
        home_readonly=options.read_only_home,
        fuse=not options.no_fuse,
        user_namespaces=not options.no_user_namespaces,
        refusals=tuple(syscalls.Refusal(name) for name in options.refuse.split(",") if name),
        replaced={Path(pair.partition("=")[0]): Path(pair.partition("=")[2]) for pair in options.replace},
        cwd=options.cwd or Path.cwd(),
    )
    here = world.environment()
    path = {"PATH": os.environ.get("PATH", here["PATH"])}
    world.enter()
    try:
        os.execvpe(options.command[0], options.command, {**os.environ, **here, **path})  # noqa: S606
    except FileNotFoundError:
        sys.stderr.write(f"{options.command[0]}: not found\n")
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
