"""What a launch asks of file systems, counted from a trace of its system calls, the program's own calls included."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment
from footprint import CALL, DIRECTORY, whole_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

OPENS = frozenset({"open", "openat", "openat2"})
LOOKS = frozenset(
    {"stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat"}
    | {"chdir", "statfs", "open_tree", "getxattr", "lgetxattr"}
)
LISTS = frozenset({"getdents", "getdents64"})
READS = frozenset({"read", "pread64", "readv", "preadv", "preadv2"})
FORKS = frozenset({"clone", "clone3", "fork", "vfork"})
TRACED = ",".join(
    sorted({*OPENS, *LOOKS, *LISTS, *READS, *FORKS, "execve", "execveat", "pivot_root", "chroot", "setns"})
)
KERNEL = ("/proc", "/sys", "/dev")
PATH = re.compile(r"\"(?P<path>(?:[^\"\\]|\\.)*)\"")
DESCRIPTOR = re.compile(r"^\(\d+<(?P<path>[^>]*)>")
RESULT = re.compile(r"= \d+<(?P<path>[^>]*)>$")
LINKS = 40  # followed in one path, as the kernel does


class Owner(Enum):
    """Whose a file is."""

    IMAGE = "image"
    RUNTIME = "runtime"  # the program that launches, and what it is made of
    HOST = "host"  # everything else but the kernel's own file systems


@dataclass(slots=True)
class Operations:
    """Calls on the files of one owner. `names` are the directory entries that were asked for, there or not."""

    opens: int = 0
    looks: int = 0  # stat, access, readlink and their kin, and opens of a place alone (O_PATH)
    lists: int = 0
    reads: int = 0
    bytes: int = 0  # of these reads; what is mapped is not among them
    names: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)  # that were opened or executed

    def summary(self) -> dict[str, int]:
        """Numbers alone."""
        return {
            "opens": self.opens,
            "looks": self.looks,
            "lists": self.lists,
            "reads": self.reads,
            "bytes": self.bytes,
            "names": len(self.names),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where a traced launch finds things, as the traced processes name them."""

    image: str  # a file, or a directory
    tree: Path | None  # that directory as this process sees it; None: the image is one file
    stages: tuple[str, ...]  # where the image is mounted before the launch has changed its root
    scratch: tuple[str, ...]  # what a launch makes for itself in memory
    runtime: tuple[str, ...]  # files, and directories with all below
    shown: tuple[str, ...]  # paths of the host that are shown in the container


def within(path: str, tops: Sequence[str]) -> bool:
    """Whether a path is one of these or below one."""
    return any(path == top or path.startswith(f"{top.rstrip('/')}/") for top in tops)


def names_asked(tree: Path, path: str) -> list[str]:
    """The entries below `tree` that the kernel asks for to find `path`, with `tree` as its root.

    Links are followed inside; the first entry that is not there is the last one.
    """
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    here: list[str] = []
    asked: list[str] = []
    links = 0
    while pending:
        part = pending.pop()
        if part == "..":
            here = here[:-1]
            continue
        name = "/".join([*here, part])
        asked.append(name)
        entry = tree / name
        if entry.is_symlink() and links < LINKS:
            links += 1
            target = str(entry.readlink())
            here = [] if target.startswith("/") else here
            pending += [word for word in reversed(target.split("/")) if word not in ("", ".")]
        elif entry.exists():
            here = [*here, part]
        else:
            break
    return asked


def loader_of(path: Path) -> str | None:
    """The loader that a program names: the kernel opens it, in no call of its own."""
    try:
        with path.open("rb") as file:
            for segment in ELFFile(file).iter_segments("PT_INTERP"):
                return str(segment.get_interp_name()) if isinstance(segment, InterpSegment) else None
    except (OSError, ELFError):
        return None
    return None


def count(text: str, layout: Layout) -> dict[Owner, Operations]:
    """Reads what `strace -f -y` has written."""
    counter = _Counter(layout)
    for line in whole_lines(text):
        if found := CALL.match(line):
            counter.add(found["pid"], found["name"], found["rest"], int(found["result"]), line)
    return counter.found


class _Counter:
    """Follows which processes have changed their root."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.found = {owner: Operations() for owner in Owner}
        self.entered: set[str] = set()

    def add(self, pid: str, name: str, rest: str, result: int, line: str) -> None:
        if name in FORKS:
            if pid in self.entered and result > 0:
                self.entered.add(str(result))
        elif name in ("pivot_root", "chroot"):
            if result == 0:
                self.entered.add(pid)
        elif name in READS or name in LISTS:
            if (path := DESCRIPTOR.match(rest)) and result >= 0:
                self._read(pid, name, path["path"], result)
        elif name in OPENS or name in LOOKS or name in ("execve", "execveat"):
            self._named(pid, name, rest, result, line)

    def _read(self, pid: str, name: str, path: str, result: int) -> None:
        if (place := self._place(pid, path)) is None:
            return
        found = self.found[place[0]]
        if name in LISTS:
            found.lists += 1
        else:
            found.reads += 1
            found.bytes += result

    def _named(self, pid: str, name: str, rest: str, result: int, line: str) -> None:
        opening = name in OPENS and "O_PATH" not in rest
        path = _named_path(rest)
        opened = RESULT.search(line)
        if opening and opened and within(opened["path"], [self.layout.image]):
            path = opened["path"]  # also what was opened by way of /proc/self/fd
        if path is None or (place := self._place(pid, path)) is None:
            return
        owner, inside = place
        found = self.found[owner]
        executed = name.startswith("execve") and result == 0
        if opening and result >= 0:
            found.opens += 1
            found.files.add(inside)
        elif executed:
            found.opens += 1
            found.files.add(inside)
            self._loader(owner, inside)
        else:
            found.looks += 1
        self._ask(owner, inside)

    def _loader(self, owner: Owner, program: str) -> None:
        tree = self.layout.tree if owner is Owner.IMAGE else Path("/")
        if tree is not None and (loader := loader_of(Path(f"{tree}/{program}").resolve())):
            place = Owner.IMAGE if owner is Owner.IMAGE else Owner.HOST
            self.found[place].opens += 1
            self._ask(place, loader)

    def _ask(self, owner: Owner, inside: str) -> None:
        if owner is not Owner.IMAGE:
            self.found[owner].names.update(names_asked(Path("/"), inside))
        elif self.layout.tree is None:
            self.found[owner].names.add(inside)
        else:
            self.found[owner].names.update(names_asked(self.layout.tree, inside))

    def _place(self, pid: str, path: str) -> tuple[Owner, str] | None:
        """Whose it is, and its path below that; None: of no file system of interest, or inside of an image file."""
        layout = self.layout
        if within(path, [layout.image]):
            return Owner.IMAGE, path[len(layout.image) :] if layout.tree is not None else path
        for stage in layout.stages:
            if within(path, [stage]):
                return (Owner.IMAGE, path[len(stage) :]) if layout.tree is not None else None
        if not path.startswith("/") or within(path, (*KERNEL, *layout.scratch)):
            return None
        if pid in self.entered and not within(path, ["/oldroot"]):
            if within(path, layout.shown):
                return Owner.HOST, path
            return (Owner.IMAGE, path) if layout.tree is not None else None
        path = path.removeprefix("/oldroot")
        return (Owner.RUNTIME if within(path, layout.runtime) else Owner.HOST), path


def _named_path(rest: str) -> str | None:
    """The path that a call names: absolute where the trace tells of what it is relative to."""
    if found := DIRECTORY.match(rest):
        path, base = found["path"], found["at"]
        if path.startswith("/") and "RESOLVE_IN_ROOT" not in rest:
            return path
        if base is None or path == "":
            return None
        return f"{base.rstrip('/')}/{path.lstrip('/')}".removesuffix("/.")
    if found := PATH.search(rest):
        return found["path"] or None
    return None
