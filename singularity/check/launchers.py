"""The program of the host that would start the ranks of a job, and what it says about itself."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from singularity import process
from singularity.check.host import Host
from singularity.check.versions import Version, version
from singularity.errors import ToolError

_LAST = {1: (1, 2, 5), 2: (2, 2)}  # PMIx of a series: Slurm tells no more than its first number
_OTHERS = ("mpirun.openmpi", "mpirun.mpich", "mpiexec.hydra")


class Starter(Enum):
    """Kinds of launchers."""

    OPEN_MPI = "Open MPI"
    HYDRA = "Hydra"
    SLURM = "Slurm"
    UNKNOWN = "unknown launcher"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """The launcher."""

    starter: Starter
    path: str
    version: Version = ()
    pmix: tuple[Version, ...] = ()  # versions of PMIx that it serves, where they are known
    plugins: tuple[str, ...] = ()  # of Slurm
    others: tuple[str, ...] = ()  # further launchers of this host

    @property
    def name(self) -> str:
        """What stands for it in a table."""
        return os.path.basename(self.path)

    @property
    def found(self) -> str:
        """Kind and version."""
        number = ".".join(map(str, self.version))
        return f"{self.starter.value} {number}".strip()


_SAYS = (  # in the order of trust: prterun of Open MPI 5 says both
    (Starter.OPEN_MPI, re.compile(r"\((?:Open MPI|OpenRTE|PRRTE)\) (\S+)")),
    (Starter.HYDRA, re.compile(r"HYDRA build details:\s+Version:\s+(\S+)")),
    (Starter.HYDRA, re.compile(r"Intel\(R\) MPI Library[^\n]*Version (\S+)")),
)


def find(host: Host) -> Launcher | None:
    """Slurm's in a job of Slurm or where nothing else is there, else the first `mpirun` or `mpiexec`."""
    srun = shutil.which("srun", path=host.search_path)
    mpirun = next(filter(None, (shutil.which(name, path=host.search_path) for name in ("mpirun", "mpiexec"))), None)
    if srun and ("SLURM_JOB_ID" in host.environment or mpirun is None):
        return _slurm(srun, host)
    return _mpirun(mpirun, host) if mpirun else None


def _mpirun(path: str, host: Host) -> Launcher:
    text = _said([path, "--version"], host)
    others = (
        each for each in _OTHERS if (there := shutil.which(each, path=host.search_path)) and not _same(there, path)
    )
    for starter, pattern in _SAYS:
        match = pattern.search(text)
        if match:
            number = version(match[1])
            return Launcher(starter=starter, path=path, version=number, others=tuple(others))
    return Launcher(starter=Starter.UNKNOWN, path=path)


def _same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _slurm(path: str, host: Host) -> Launcher:
    plugins = tuple(_plugins(_said([path, "--mpi=list"], host)))
    numbers = tuple(_LAST.get(int(each[6:]), (int(each[6:]),)) for each in plugins if re.fullmatch(r"pmix_v\d+", each))
    return Launcher(
        starter=Starter.SLURM,
        path=path,
        version=version(_said([path, "--version"], host)),
        pmix=numbers,
        plugins=plugins,
    )


def _plugins(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from re.findall(r"\b(none|pmi2|cray_shasta|pmix(?:_v\d+)?)\b", line)


def _said(argv: list[str], host: Host) -> str:
    """What a launcher says, in the caller's environment: `module load` has told it there where its libraries are."""
    try:
        told = process.call(argv, purpose="ask the launcher for its version", environment=host.environment)
    except ToolError:
        return ""
    return f"{told.output}\n{told.complaints}"
