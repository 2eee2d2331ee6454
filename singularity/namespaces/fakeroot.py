"""Builds by ordinary users: the process becomes root of a user namespace, and the build goes on as if by root.

With a range of subordinate ids (`/etc/subuid`, `/etc/subgid`) every owner in the image is as root's build would have
it. Without one, only the user's own id is mapped, to root, and what programs do to owners is emulated (`emulation`).
The launcher has the same in C (`launcher/perform/user_namespace.c`), and says it in the same words.
"""

import errno
import logging
import os
import pwd
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn

from singularity import kernel, process
from singularity.console import VERBOSE
from singularity.errors import BuildError, ToolError

logger = logging.getLogger(__name__)

_PURPOSE = "map the ids of the image to those given to you"
_PLACES = ("/etc/subuid", "/etc/subgid")
_ALL, _NOTHING, _HALF = range(3)  # of the two maps
_APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"


class Setting(NamedTuple):
    """A setting of the kernel that can forbid user namespaces."""

    name: str  # of the file below /proc/sys
    forbids: str  # the value that does
    allows: str  # one that does not
    way_out: str


SETTINGS = (
    Setting(
        "user/max_user_namespaces", "0", "28633", "sysctl user.max_user_namespaces is 0: an administrator raises it"
    ),
    Setting(
        "kernel/unprivileged_userns_clone",
        "0",
        "1",
        "sysctl kernel.unprivileged_userns_clone is 0: an administrator sets it to 1",
    ),
    Setting(
        _APPARMOR,
        "1",
        "0",
        (
            "sysctl kernel.apparmor_restrict_unprivileged_userns is 1: an administrator sets it to 0, or installs an "
            "AppArmor profile that allows userns to singularity"
        ),
    ),
)
_REACHED = "sysctl user.max_user_namespaces is reached: an administrator raises it"
_FILTER = "a seccomp filter is in force, as in Docker's containers: start those with --security-opt seccomp=unconfined"


@dataclass(frozen=True, slots=True, kw_only=True)
class IdRange:
    """A range of ids that `/etc/subuid` or `/etc/subgid` gives to a user."""

    start: int
    count: int


def subordinate(text: str, names: frozenset[str]) -> IdRange | None:
    """The first range that a file of lines `user:start:count` gives to one of `names`: a user's name and number."""
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 3 and fields[0] in names and fields[1].isdecimal() and fields[2].isdecimal():
            return IdRange(start=int(fields[1]), count=int(fields[2]))
    return None


def become_root() -> None:
    """Enters a user namespace in which this process, which has one thread, is root.

    Raises BuildError where there are no user namespaces, ToolError where ids cannot be mapped.
    """
    uid, gid = os.getuid(), os.getgid()
    ranges = _ranges(uid)
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    pid = os.getpid()
    mapper = 0
    if ranges:  # stays outside: only there may the setuid programs map ids for us
        mapper = process.fork(partial(_map_ranges, go_read, go_write, pid, uid, gid, *ranges))
    try:
        kernel.unshare(kernel.CLONE_NEWUSER)
    except OSError as error:
        what = f"only root can build here, since there are no user namespaces: {error.strerror}"
        raise BuildError(what, hint=obstacle(error.errno or 0) or "build with sudo") from error
    _check_profile()
    os.close(go_read)
    if ranges:
        os.write(go_write, b"1")
        done = os.waitstatus_to_exitcode(os.waitpid(mapper, 0)[1])
        if done == _HALF:
            raise ToolError(f"newgidmap could not {_PURPOSE}", hint="see /etc/subgid")
        if done == _NOTHING:
            _map_own(uid, gid)
    else:
        _map_own(uid, gid)
    os.close(go_write)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    for name in ("SUDO_UID", "SUDO_GID"):  # ids of another namespace
        os.environ.pop(name, None)


def obstacle(number: int = errno.EPERM) -> str:
    """Which setting forbids user namespaces here, and the way out; empty where none of those that are known does.

    `number` is what the kernel answers.
    """
    for each in SETTINGS:
        if setting(each.name) == each.forbids:
            return each.way_out
    if number == errno.ENOSPC:
        return _REACHED
    return _FILTER if number == errno.EPERM and "\nSeccomp:\t2\n" in _read("/proc/self/status") else ""


def setting(name: str) -> str:
    """The value of a setting of the kernel; empty where there is none of this name."""
    return _read(f"/proc/sys/{name}").strip()


def _check_profile() -> None:
    """Raises BuildError where AppArmor lets us make a namespace, and takes all rights over it."""
    confined = _read("/proc/self/attr/current").startswith("unprivileged_userns")
    if confined and setting(_APPARMOR) == "1":
        raise BuildError("a user namespace has no rights here", hint=obstacle())


def has_ranges() -> bool:
    """Whether this user has ids for others in images."""
    return _ranges(os.getuid()) is not None


def _read(place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def given(uid: int) -> dict[str, IdRange | None]:
    """The first range that each of the two files gives to a user. Raises KeyError for one without an account."""
    names = frozenset({str(uid), pwd.getpwuid(uid).pw_name})
    return {place: subordinate(_read(place), names) for place in _PLACES}


def _ranges(uid: int) -> tuple[IdRange, IdRange] | None:
    try:
        found = list(given(uid).values())
    except KeyError:
        logger.log(VERBOSE, "User %s has no account: only your own id is mapped, to root", uid)
        return None
    if found[0] is None or found[1] is None:
        what = "No subordinate ids for user %s (/etc/subuid, /etc/subgid): only your own id is mapped, to root"
        logger.log(VERBOSE, what, uid)
        return None
    try:
        for tool in ("newuidmap", "newgidmap"):
            process.find(tool, purpose=_PURPOSE)
    except ToolError as error:
        logger.info("%s: only your own id is mapped, to root", error)
        return None
    return found[0], found[1]


def _map_ranges(go: int, ours: int, pid: int, uid: int, gid: int, uids: IdRange, gids: IdRange) -> NoReturn:
    """The mapper's part; its status says how far it came."""
    status = _NOTHING
    os.close(ours)
    try:
        if os.read(go, 1):
            for tool, own, ids in (("newuidmap", uid, uids), ("newgidmap", gid, gids)):
                words = [tool, str(pid), "0", str(own), "1", "1", str(ids.start), str(ids.count)]
                process.run(words, purpose=_PURPOSE)
                status = _HALF if tool == "newuidmap" else _ALL
    except ToolError as error:
        logger.warning("%s", error)
    finally:
        os._exit(status)


def _map_own(uid: int, gid: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text, encoding="ascii")
