"""A control group of version 2 for this process and all that it becomes: found, limited, entered, removed at the end.

In a unit of systemd's, systemd makes a scope for it by `systemd-run`, which executes us there once more: groups that
it has not made it may undo. Elsewhere the kernel says where a group may be made (cgroup-v2.rst: delegation, and no
processes beside groups with controllers): below the caller's own group, or beside it; in a batch system's as well,
which finds its processes by it.
"""

import logging
import os
import select
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import files, process
from singularity.errors import FileError, SingularityError

logger = logging.getLogger(__name__)

NAME = "singularity-"  # of groups, before the id of the process
_UNITS = (".scope", ".service")  # how the groups end that systemd makes for processes (systemd.scope(5))
_PAGE = os.sysconf("SC_PAGESIZE")
_DELEGATED = "in a session of systemd, or where an administrator or the batch system delegates one to you"
_BOOT = "an administrator boots with systemd.unified_cgroup_hierarchy=1; the batch system may limit the job"


def enter(limits: Mapping[str, str], again: Callable[[Sequence[str]], object]) -> None:
    """Moves this process into a group in which the limits are in force; nothing is in force where it raises.

    `again` executes us behind these words. Raises SingularityError where there can be no such group, and FileError
    where the kernel refuses a limit.
    """
    own = group_of()
    missing = {name.split(".")[0] for name in limits} - set((_mount()[0] / "cgroup.controllers").read_text().split())
    if missing:
        raise SingularityError(
            f"limits: no control groups of version 2 for {', '.join(sorted(missing))} here", hint=_BOOT
        )
    if own.name.endswith(_UNITS) and not own.name.startswith(NAME):
        _enter_scope(again)
    obstacles = []
    for place in (own, own.parent) if own != _mount()[0] else (own,):
        try:
            _enter(place, own, limits)
        except OSError as error:
            if os.path.basename(error.filename or "") in limits:  # the place is right, the value is not
                raise _refused(error, limits) from error
            obstacles.append(f"{error.filename or place}: {error.strerror}")
        else:
            return
    raise SingularityError(
        f"limits: no control group of yours: {obstacles[0]}",
        hint=_DELEGATED,
    )


def obstacle() -> tuple[str, str]:
    """Why this process can have no limits, and the way out; both empty where it can. Nothing is made."""
    try:
        own, (mounted, _) = group_of(), _mount()
    except SingularityError as error:
        return error.what, error.hint
    missing = {"memory", "pids"} - set((mounted / "cgroup.controllers").read_text().split())
    if missing:
        return f"no control groups of version 2 for {', '.join(sorted(missing))}", _BOOT
    if own.name.endswith(_UNITS) and not own.name.startswith(NAME) and shutil.which("systemd-run") and _has_manager():
        return "", ""
    if any(os.access(place, os.W_OK) for place in ((own, own.parent) if own != mounted else (own,))):
        return "", ""
    return f"no control group of yours: {own} is not yours to write in", _DELEGATED


def made_for(process: int) -> Path | None:
    """The group that `enter` made for this process and all that it became; None: there is none to be seen."""
    with suppress(SingularityError, OSError):
        group = group_of(process)
        if group.name.startswith(NAME) and group.is_dir():
            return group
    return None


def group_of(process: int | str = "self") -> Path:
    """The directory of a process's group. Raises SingularityError where there is no version 2, and OSError."""
    mounted, root = _mount()
    lines = Path(f"/proc/{process}/cgroup").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    path = next((line[3:] for line in lines if line.startswith("0::")), "")
    if not path.startswith(root) or ".." in path.split("/"):
        raise SingularityError(f"limits: the control group {path} is not to be seen here")
    return mounted / path[len(root) :].lstrip("/")


def _mount() -> tuple[Path, str]:
    """Where version 2 is mounted, and which group is its root there."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                place = Path(fields[4])
                if (place / "cgroup.controllers").exists():
                    return place, "" if fields[3] == "/" else fields[3]
    raise SingularityError("limits need control groups of version 2, and there are none here", hint=_BOOT)


def _enter(place: Path, own: Path, limits: Mapping[str, str]) -> None:
    """Makes a group at `place`, limits it, and moves there. Raises OSError, with nothing changed."""
    group = place / f"{NAME}{os.getpid()}"
    _sweep(place)
    group.mkdir()
    try:
        if place == own:  # first, since a group with processes of its own gets no controllers
            _write(group / "cgroup.procs", str(os.getpid()))
        _enable(place, {name.split(".")[0] for name in limits})
        for name, text in limits.items():
            for line in text.splitlines():
                _write(group / name, line)
            _check(group / name, text)
        if place != own:
            _write(group / "cgroup.procs", str(os.getpid()))
    except OSError:
        with suppress(OSError):
            _write(own / "cgroup.procs", str(os.getpid()))
        with suppress(OSError):
            group.rmdir()
        raise
    logger.debug("Control group: %s", group)
    if place != own or place == _mount()[0]:
        _remove_at_the_end(group, own)


def _enable(place: Path, wanted: set[str]) -> None:
    control = place / "cgroup.subtree_control"
    missing = sorted(wanted - set(control.read_text().split()))
    if missing:
        _write(control, " ".join(f"+{name}" for name in missing))


def _write(path: Path, text: str) -> None:
    """In one write, with the file's name in what is raised. The kernel makes no such file, so none is made."""
    try:
        with files.closing(os.open(path, os.O_WRONLY | os.O_CLOEXEC)) as fd:
            os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _check(path: Path, text: str) -> None:
    """Raises OSError where the kernel has taken something else: a limit is in force, or nothing runs."""
    found = path.read_text().strip()
    if path.name.startswith("cpuset."):
        effective = path.with_name(f"{path.name}.effective").read_text().strip()
        in_force = _numbers(effective) == _numbers(text)
    elif text.isdecimal() and path.name.startswith("memory."):
        in_force = found == str(int(text) // _PAGE * _PAGE)
    else:
        in_force = path.name.startswith("io.") or found == text
    if not in_force:
        raise OSError(0, f"{text} asked for, {found or 'nothing'} in force", str(path))


def _numbers(text: str) -> set[int]:
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _refused(error: OSError, limits: Mapping[str, str]) -> FileError:
    name = os.path.basename(error.filename)
    return FileError(f"limits: the kernel does not take {limits[name]!r} for {name}: {error.strerror}")


# ---- the end of a group ----


def _sweep(place: Path) -> None:
    """Removes what is left of launches whose group nobody could remove; what is in use, or about to be, stays."""
    with suppress(OSError):
        for each in place.glob(f"{NAME}*"):
            if not Path("/proc", each.name.removeprefix(NAME)).exists():
                with suppress(OSError):
                    each.rmdir()


def _remove_at_the_end(group: Path, own: Path) -> None:
    """A process that is nobody's child waits, in the group that this one came from, until the new one is empty."""
    pid = process.fork(partial(_leave_behind, group, own))
    os.waitpid(pid, 0)


def _leave_behind(group: Path, own: Path) -> NoReturn:
    if os.fork() == 0:
        with suppress(BaseException):
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):  # whoever reads our output waits for its end
                os.dup2(null, standard)
            os.closerange(3, 1 << 16)
            os.chdir("/")
            _write(own / "cgroup.procs", str(os.getpid()))
            for empty in _states(group):
                if empty:
                    break
            group.rmdir()
    os._exit(0)


def _states(group: Path) -> Iterator[bool]:
    """Whether the group is empty, at each change."""
    events = os.open(group / "cgroup.events", os.O_RDONLY)
    changed = select.poll()
    changed.register(events, select.POLLPRI)
    while True:
        yield b"populated 0" in os.pread(events, 4096, 0)
        changed.poll()


# ---- systemd ----


def _enter_scope(again: Callable[[Sequence[str]], object]) -> None:
    """Executes us again in a scope of systemd's that is the caller's; returns where there can be none."""
    program = shutil.which("systemd-run")
    if program is None or not _has_manager():
        return
    user = [] if os.geteuid() == 0 else ["--user"]
    unit = f"--unit={NAME}{os.getpid()}.scope"
    again([program, *user, "--scope", "--quiet", "--collect", unit, "--property=Delegate=yes", "--"])


def _has_manager() -> bool:
    if os.geteuid() == 0:
        return Path("/run/systemd/system").is_dir()
    directory = os.environ.get("XDG_RUNTIME_DIR", "")  # of a session: systemd-run finds the manager by it
    return Path(directory).is_absolute() and Path(directory, "bus").is_socket() and Path(directory, "systemd").is_dir()


def python_words(words: Sequence[str]) -> list[str]:
    """The command line of this interpreter for a launch of these words."""
    return [sys.executable, "-I", "-m", "singularity", "launch", *words]
