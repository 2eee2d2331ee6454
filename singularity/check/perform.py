"""One check: what the launch would be, what its program would find, and what the host has."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from singularity.check import binds, cpu, environment, fabric, gpu, kernel, launch, launchers, libraries, mpi, program
from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.launch import Launch
from singularity.check.loader import Closure, Loader
from singularity.check.view import View
from singularity.errors import ImageError
from singularity.image import removed
from singularity.image.identify import Image
from singularity.image.lookup import translated

_HOST_DIRECTORIES = (
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/usr/local/lib",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is to be checked."""

    image: Image
    words: tuple[str, ...]  # the program and its arguments; none: the runscript
    options: tuple[str, ...]  # of the launch
    chosen: frozenset[Subject]  # that were named: told about also where the program has nothing to do with them
    only: bool = False  # these, and nothing else


def check(request: Request, planned: Launch, host: Host) -> list[Finding]:
    """All findings, in the order of the subjects. Raises ImageError and FileError for an image that cannot be read."""
    with translated(request.image.path), launch.viewed(planned) as view:
        found = list(_Check(request, planned, host, view).findings())
        gone = removed.read(view)
        return [_with_removed(each, view, frozenset(gone)) for each in found] if gone else found


def _with_removed(finding: Finding, view: View, gone: frozenset[str]) -> Finding:
    """Says of a file that is missing whether `build --only` has removed it."""
    if finding.found != "not in the container":
        return finding
    for word in (finding.what.rpartition(" ")[2], finding.needed):
        if "/" in word:
            path = removed.why_missing(gone, view.resolve(word)[0])
        else:
            path = min((each for each in gone if each.endswith(f"/{word}")), default="")
        if path:
            return replace(finding, advice=removed.advice(path))
    return finding


class _Check:
    def __init__(self, request: Request, planned: Launch, host: Host, view: View) -> None:
        self.request, self.planned, self.host, self.view = request, planned, host, view
        self.environment = environment.read(view, planned.environment, request.options)
        self.loader = Loader(view, self.environment, directory=planned.directory, isa=host.isa)

    def findings(self) -> Iterator[Finding]:
        yield from binds.judge(self.planned)
        found = program.find(self.view, self.environment, self.host, self.request.words, self.planned.directory)
        yield from found.findings
        yield from self._architecture()
        closures: list[Closure] = []
        for place in found.binaries:
            try:
                closures.append(self.loader.load(place))
            except ImageError as error:
                what = str(error).removeprefix(f"{place.path}: ")
                advice = "the file is damaged: build or fetch the image anew"
                yield Subject.PROGRAM.finding(place.path, what, "a program", Verdict.FAILS, advice)
        for closure in closures:
            if self._wants(Subject.LIBRARIES):
                yield from libraries.judge(closure, self.loader, self.environment)
            if self._wants(Subject.KERNEL):
                yield from kernel.judge(closure, self.host)
            if self._wants(Subject.CPU):
                yield from cpu.judge(closure, self.host)
        yield from self._devices(closures[0] if closures else None)

    def _wants(self, subject: Subject) -> bool:
        return not self.request.only or subject in self.request.chosen

    def _architecture(self) -> Iterator[Finding]:
        said = self.request.image.architecture
        if said and not self.host.runs(said):
            machine = self.host.machine
            advice = f"get an image for {machine}"
            yield Subject.PROGRAM.finding("architecture of the SIF file", said, machine, Verdict.FAILS, advice)

    def _devices(self, closure: Closure | None) -> Iterator[Finding]:
        chosen, options = self.request.chosen, self.request.options
        linked = closure is not None and any(mpi.LIBRARY.fullmatch(name) for name in closure.by_name)
        lacks = closure is not None and any(mpi.LIBRARY.fullmatch(each.name) for each in closure.missing)
        if (Subject.MPI in chosen and not lacks) or (linked and not self.request.only):
            yield from self._mpi(closure, linked=linked)
        if Subject.GPU in chosen or (gpu.uses(closure, options) and not self.request.only):
            yield from gpu.judge(self.view, self.loader, closure, self.environment, self.host, self.planned, options)
        if Subject.FABRIC in chosen or (fabric.uses(closure) and not self.request.only):
            yield from fabric.judge(self.view, self.loader, self.host)

    def _mpi(self, closure: Closure | None, *, linked: bool) -> Iterator[Finding]:
        found = mpi.inside(self.view, self.loader, closure, self.host.machine)
        if not found:
            yield Subject.MPI.finding("MPI", "none in the image", "none", Verdict.OK)
            return
        yield from mpi.judge(found, launchers.find(self.host), linked=linked)
        yield from mpi.replacement(found, _host_libraries(self.host))


def _host_libraries(host: Host) -> dict[str, str]:
    """MPI libraries of the host, by name."""
    found: dict[str, str] = {}
    for directory in _HOST_DIRECTORIES:
        for name in host.names(directory):
            if re.fullmatch(mpi.LIBRARY, name):
                found.setdefault(name, os.path.join(directory, name))
    return found
