"""Builds by ordinary users: the process becomes root of a user namespace, and the build goes on as if by root.

With a range of subordinate ids (`/etc/subuid`, `/etc/subgid`) every owner in the image is as root's build would have
it. Without one, only the user's own id is mapped, to root; programs that change owners then fail.
"""

import logging
import os
import pwd
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import kernel, process
from singularity.console import VERBOSE
from singularity.errors import BuildError, ToolError

logger = logging.getLogger(__name__)

_PURPOSE = "map the ids of the image to those given to you"
_PLACES = ("/etc/subuid", "/etc/subgid")
_FIRST = 100_000  # the lowest id that useradd gives
_ALL, _NOTHING, _HALF = range(3)  # of the two maps


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
        raise BuildError(what, hint="build with sudo") from error
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


def has_ranges() -> bool:
    """Whether this user has ids for others in images."""
    return _ranges(os.getuid()) is not None


def why_one_id() -> str:
    """What a process that has become root with one id says when that may have been too few, and the way out."""
    uid = kernel.mapped_id()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    texts = {place: _read(place) for place in _PLACES}
    what = "for programs that change owners or groups, as package managers do"
    if all(subordinate(text, frozenset({name, str(uid)})) for text in texts.values()):
        return f"{what}, install uidmap: your subordinate ids could not be used"
    lines = [line.split(":") for text in texts.values() for line in text.splitlines()]
    ends = [int(each[1]) + int(each[2]) for each in lines if len(each) == 3 and (each[1] + each[2]).isdecimal()]
    return f"{what}, an administrator adds {name}:{max([_FIRST, *ends])}:65536 to /etc/subuid and /etc/subgid"


def _read(place: str) -> str:
    try:
        return Path(place).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _ranges(uid: int) -> tuple[IdRange, IdRange] | None:
    try:
        names = frozenset({str(uid), pwd.getpwuid(uid).pw_name})
    except KeyError:
        logger.log(VERBOSE, "User %s has no account: only your own id is mapped, to root", uid)
        return None
    found = [subordinate(_read(place), names) for place in _PLACES]
    if found[0] is None or found[1] is None:
        logger.log(VERBOSE, "No subordinate ids for user %s: only your own id is mapped, to root", uid)
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
