"""The program: found as a launch finds it, allowed to run, and whatever interprets it."""

import os
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from singularity.check.environment import Environment
from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.view import Place, View
from singularity.image import elf, metadata
from singularity.image.tree import Kind

_finding = Subject.PROGRAM.finding
_HEAD = 256  # bytes that the kernel looks at
_DEPTH = 5  # of interpreters: the kernel's limit
_RUNSCRIPT = f"{metadata.DIRECTORY}/runscript"
_ENV = ("/usr/bin/env", "/bin/env")


@dataclass(slots=True)
class Found:
    """The program, its interpreters, and what is wrong with them."""

    binaries: list[Place] = field(default_factory=list)  # ELF files that run
    findings: list[Finding] = field(default_factory=list)

    def wrong(self, what: str, found: str, needed: str, advice: str) -> None:
        """Notes a failure."""
        self.findings.append(_finding(what, found, needed, Verdict.FAILS, advice))


def find(view: View, environment: Environment, host: Host, words: Sequence[str], directory: str) -> Found:
    """What `words` start; without any, the runscript of the image."""
    found = Found()
    name = words[0] if words else _runscript(view)
    if not name:
        what = "the image has no runscript"
        found.findings.append(
            _finding("PROGRAM", "none", "a program", Verdict.WARNING, f"{what}: name one, -- PROGRAM")
        )
        return found
    _look(view, environment, host, name, directory, found)
    return found


def _runscript(view: View) -> str:
    return next((each for each in (_RUNSCRIPT, "/singularity", "/bin/sh") if view.find(each) is not None), "")


def _look(view: View, environment: Environment, host: Host, name: str, directory: str, found: Found) -> None:
    what = name
    for _ in range(_DEPTH):
        place = search(view, environment, name, directory)
        if place is None:
            found.wrong(what, "not in the container", "a program", _where(name, environment))
            return
        reason = _not_executable(place)
        if reason:
            found.wrong(what, f"{place.path}: {reason}", "an executable file", f"chmod +x {place.path} in the image")
            return
        try:
            with view.open(place) as file:
                head = file.read(_HEAD)
        except OSError as error:
            found.wrong(
                what, f"{place.path}: {error.strerror}", "a file that you may read", "mend its mode in the image"
            )
            return
        if head.startswith(b"\x7fELF"):
            _take_binary(place, head, host, what, found)
            return
        name = next(iter(_interpreters(head)), "")
        if not name:
            found.wrong(
                what, f"{place.path}: neither a program nor a script", "a program", "install it anew in the image"
            )
            return
        found.findings.append(_finding(what, f"{place.path}, a script", "a program", Verdict.OK))
        what = f"{what}: its interpreter {name}"
    found.wrong(name, f"more than {_DEPTH} interpreters", "a program", "name the program itself")


def _where(name: str, environment: Environment) -> str:
    if "/" in name:
        return "install it in the image, or --bind the directory that has it"
    return f"install it in the image, or name its path: PATH is {':'.join(environment.path)}"


def search(view: View, environment: Environment, name: str, directory: str) -> Place | None:
    """The file that a launch in `directory` would start by this name; None where there is none."""
    if "/" in name:
        return view.find(posixpath.join(directory, name))
    second = None
    for each in environment.path:
        place = view.find(posixpath.join(directory, each, name))
        if place is not None and place.node.kind is Kind.FILE:
            if not _not_executable(place):
                return place
            second = second or place
    return second


def _not_executable(place: Place) -> str:
    """Why the caller cannot start a file; empty where she can."""
    node = place.node
    if node.kind is not Kind.FILE:
        return "a directory" if node.kind is Kind.DIRECTORY else "no file"
    uid = os.geteuid()
    if uid == 0:
        allowed = bool(node.mode & 0o111)
    elif uid == node.uid:
        allowed = bool(node.mode & 0o100)
    else:
        allowed = bool(node.mode & (0o010 if node.gid in {os.getegid(), *os.getgroups()} else 0o001))
    return "" if allowed else f"not executable for you (mode {node.mode:04o})"


def _take_binary(place: Place, head: bytes, host: Host, what: str, found: Found) -> None:
    machine = elf.architecture(head) or "an unknown machine"
    how = host.runs(machine)
    if not how:
        advice = f"get an image for {host.machine}: build --arch {host.machine}"
        found.wrong(f"{what}: architecture", machine, host.machine, advice)
        return
    verdict = Verdict.OK if how == "natively" else Verdict.WARNING
    advice = "" if verdict is Verdict.OK else f"runs {how}, slowly"
    found.findings.append(_finding(what, f"{place.path}, for {machine}", host.machine, verdict, advice))
    if how == "natively":
        found.binaries.append(place)


def _interpreters(head: bytes) -> Iterator[str]:
    """The program that a script is given to: that of its first line, `env` seen through, or the shell."""
    if head.startswith(b"#!"):
        line = head[2:].partition(b"\n")[0].decode("utf-8", "surrogateescape").split()
        if line and line[0] in _ENV:
            yield from (word for word in line[1:] if not word.startswith("-") and "=" not in word)
        yield from line[:1]
    elif b"\0" not in head:
        yield "/bin/sh"
