"""The MPI that a program is linked with, beside the launcher that would start its ranks.

What is known of compatibility:
- Open MPI finds its ranks together through PMIx since version 2, by protocols of its own before. PMIx 1.2.5, 2.0.3,
  2.1.1, and all from 3 on understand each other in both directions; others only their own series.
- The host's Open MPI should be the newer or the same one: an older one works over PMIx too, and nobody promises it.
- MPICH 3.1 and newer, Intel MPI, MVAPICH2, Cray MPICH and ParaStation share one ABI (`libmpi.so.12`) and PMI.
- `libmpi.so.40` is that of Open MPI 3, 4 and 5, `libmpi_abi` that of the standard of MPI 5: programs that are linked
  with it run with either, but the library that is there has a launcher of its own.
- Under the launcher of another family each rank believes that it is alone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from singularity.check import elf
from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.launchers import Launcher, Starter
from singularity.check.loader import Closure, Loader
from singularity.check.versions import Version, shown, version
from singularity.check.view import Place, View
from singularity.errors import ImageError

_finding = Subject.MPI.finding
LIBRARY = re.compile(r"lib(?:mpi(?:ch|_abi|_cray|_gnu_\d+|_intel)?|pmpi)\.so\.\d+")
_PMIX = re.compile(r"libpmix\.so\.\d+")
_PMIX_VERSION = re.compile(rb"(?:OpenPMIx|PMIx) v?(\d+\.\d+\.\d+)")
_PMIX_LIMIT = 16 << 20  # bytes of the library that are looked through
_OPEN_MPI = {1: "1.5 to 1.8", 12: "1.10", 20: "2", 40: "3, 4 or 5"}  # versions by the number of libmpi.so
_EMBEDDED = (  # the PMIx that comes with an Open MPI from this version on
    ((5, 0), (4, 2, 0)),
    ((4, 1), (3, 2, 0)),
    ((4, 0), (3, 1, 0)),
    ((3, 1), (2, 1, 1)),
    ((3, 0, 2), (2, 0, 3)),
    ((3, 0), (2, 0, 1)),
    ((2, 1, 3), (1, 2, 5)),
    ((2, 0), (1, 1, 5)),
)


class Family(Enum):
    """Libraries of one family can stand for each other."""

    OPEN_MPI = "Open MPI"
    MPICH = "MPICH"
    UNKNOWN = "unknown MPI"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mpi:
    """An MPI library."""

    family: Family
    library: str  # its name, such as libmpi.so.40
    version: Version = ()
    pmix: Version = ()
    host: bool = False  # mounted from the host

    @property
    def name(self) -> str:
        """As people call it."""
        number = shown(self.version) if self.version else ""
        if self.family is Family.OPEN_MPI and not number:
            number = _OPEN_MPI.get(_number(self.library), "")
        standard = " (standard ABI)" if self.library.startswith("libmpi_abi") else ""
        return f"{self.family.value} {number}".rstrip() + standard


def _number(library: str) -> int:
    return int(library.rpartition(".")[2])


def inside(view: View, loader: Loader, closure: Closure | None, machine: str) -> tuple[Mpi, ...]:
    """The MPI that the program is linked with; where it is linked with none, those of the image."""
    linked = {name: each.place for name, each in (closure.by_name if closure else {}).items()}
    found = {name: place for name, place in linked.items() if LIBRARY.fullmatch(name)}
    if not found:
        found = loader.libraries(LIBRARY, machine)
    known = {**loader.libraries(_PMIX, machine), **linked}
    by_place = {place.path: (name, place) for name, place in sorted(found.items(), reverse=True)}
    return tuple(_identify(view, loader, name, place, known) for name, place in by_place.values())


def _identify(view: View, loader: Loader, name: str, place: Place, known: Mapping[str, Place]) -> Mpi:
    names = ("ompi_version_string", "MPII_Version_string", "MPIR_Version_string", "ompi_mpi_init", "MPID_Init")
    try:
        with view.open(place) as file:
            symbols = elf.symbols(file, names)
        closure = loader.load(place)
    except (ImageError, OSError):
        return Mpi(family=Family.UNKNOWN, library=name)
    needed = {each for loaded in closure.objects[:1] for each in loaded.elf.needed} | set(closure.by_name)
    text = next((symbols[each] for each in names[:3] if each in symbols), b"")
    number = version(text.partition(b"\0")[0].decode("ascii", "replace"))
    pmix: Version = ()
    if {"ompi_version_string", "ompi_mpi_init"} & symbols.keys() or any("libopen-pal" in each for each in needed):
        family = Family.OPEN_MPI
        pmix = _pmix(view, known) or _embedded(number)
    elif _number(name) == 40:
        family = Family.OPEN_MPI
    else:
        known_symbols = {"MPII_Version_string", "MPIR_Version_string", "MPID_Init"} & symbols.keys()
        family = Family.MPICH if _number(name) in (10, 12) or known_symbols else Family.UNKNOWN
    if any(_PMIX.fullmatch(each) for each in needed):
        pmix = _pmix(view, {**known, **{each: loaded.place for each, loaded in closure.by_name.items()}})
    return Mpi(family=family, library=name, version=number, pmix=pmix, host=bool(place.host))


def _pmix(view: View, libraries: Mapping[str, Place]) -> Version:
    place = next((place for name, place in libraries.items() if _PMIX.fullmatch(name)), None)
    if place is None:
        return ()
    try:
        with view.open(place) as file:
            match = _PMIX_VERSION.search(file.read(_PMIX_LIMIT))
    except OSError:
        return ()
    return version(match[1].decode()) if match else ()


def _embedded(number: Version) -> Version:
    return next((pmix for least, pmix in _EMBEDDED if number >= least), ())


def crosses(number: Version) -> bool:
    """Whether a version of PMIx understands those of other series."""
    return (1, 2, 5) <= number < (2,) or (2, 0, 3) <= number < (2, 1) or number >= (2, 1, 1)


def _understand(one: Version, other: Version) -> bool:
    return (crosses(one) and crosses(other)) or one[:2] == other[:2]


def judge(found: tuple[Mpi, ...], launcher: Launcher | None, *, linked: bool) -> Iterator[Finding]:
    """Each MPI of the image beside the launcher. `linked`: the program itself is linked with it."""
    for each in found:
        if launcher is None:
            advice = "ranks can only be started by a launcher inside the container, on one node"
            where = "neither mpirun nor srun in PATH"
            yield _finding(each.name, where, "a launcher on the host", Verdict.WARNING, advice)
            continue
        verdict, advice = _compare(each, launcher)
        if verdict is Verdict.FAILS and not linked:
            verdict, advice = Verdict.WARNING, f"for programs that use it: {advice}"
        yield _finding(launcher.name, launcher.found, f"for {each.name} inside", verdict, advice)
        if launcher.starter is Starter.SLURM and each.pmix and launcher.pmix:
            yield _pmix_finding(each, max(launcher.pmix))


def _pmix_finding(each: Mpi, best: Version) -> Finding:
    good = _understand(each.pmix, best)
    advice = "" if good else "take an image whose PMIx is 3 or newer: those understand each other"
    verdict = Verdict.OK if good else Verdict.FAILS
    return _finding("PMIx", shown(best), f"for {shown(each.pmix)} inside", verdict, advice)


def _compare(each: Mpi, launcher: Launcher) -> tuple[Verdict, str]:
    if launcher.starter is Starter.SLURM:
        return _under_slurm(each, launcher)
    if each.family is Family.UNKNOWN:
        return Verdict.WARNING, "it is not known whether they understand each other"
    if (each.family is Family.OPEN_MPI) != (launcher.starter is Starter.OPEN_MPI):
        advice = f"every rank would believe that it is alone: start it with the host's {each.family.value}"
        if launcher.others:
            advice += f" ({', '.join(launcher.others)} there)"
        return Verdict.FAILS, advice
    if each.family is Family.MPICH:
        return Verdict.OK, ""
    return _open_mpi(each, launcher)


def _open_mpi(each: Mpi, launcher: Launcher) -> tuple[Verdict, str]:
    if not each.version or not launcher.version:
        return Verdict.WARNING, "a version is not known: the host's must be newer than the image's, or the same"
    outside, image = launcher.version, each.version
    if image[:2] == outside[:2]:
        return Verdict.OK, ""
    if min(image, outside) < (2,):
        return Verdict.FAILS, f"before version 2 both must be the same: Open MPI {shown(image)} on the host"
    if min(image, outside) < (3,):
        return Verdict.FAILS, "take an image with Open MPI 3 or newer, or start it with the host's Open MPI 2"
    pmix = each.pmix or _embedded(image)
    if not _understand(pmix, _embedded(outside)):
        return Verdict.FAILS, f"its PMIx {shown(pmix)} understands its own series alone: take Open MPI 3.0.2 or newer"
    if image > outside:
        newer = f"newer inside: works over PMIx, and is not promised; Open MPI {shown(image)} or newer on the host is"
        return Verdict.WARNING, newer
    return Verdict.OK, ""


def _under_slurm(each: Mpi, launcher: Launcher) -> tuple[Verdict, str]:
    plugins = launcher.plugins
    if each.family is Family.OPEN_MPI and () < each.version < (2,):
        return Verdict.FAILS, "Open MPI before version 2 has no PMIx: start it with the mpirun of the same version"
    wanted = "pmix" if each.family is Family.OPEN_MPI or each.pmix else "pmi2"
    if not plugins:
        return Verdict.WARNING, f"srun does not say what it has: --mpi={wanted} is needed"
    if not any(plugin == wanted or plugin.startswith(f"{wanted}_") for plugin in plugins):
        return Verdict.FAILS, f"this Slurm has no --mpi={wanted}: use mpirun inside the allocation"
    return Verdict.OK, f"srun --mpi={wanted}"


def replacement(found: tuple[Mpi, ...], host: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a library of the host could take the place of the image's: `host` has paths by names."""
    for each in found:
        if each.host or each.family is Family.UNKNOWN:
            continue
        same = host.get(
            "libmpi.so.12" if each.library == "libmpich.so.12" else each.library, host.get(each.library, "")
        )
        if same:
            yield _finding(f"ABI of {each.library}", same, each.library, Verdict.OK, "the host's could take its place")
