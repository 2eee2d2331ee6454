"""Ranks that a launcher starts: which one this is, by its variables, and which of them lead to the launcher itself."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_NUMBERS = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"), ("PALS_RANKID", "PALS_LOCAL_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)  # fmt: skip
# Where it is: sockets, descriptors and directories that are gone with it. A library that finds one of them waits there.
_ADDRESSES = (
    "OMPI_MCA_ess", "OMPI_MCA_orte_", "OMPI_MCA_pmix", "OMPI_FILE_LOCATION", "PMIX_", "PMI_FD", "PMI_PORT", "PMI_ID",
    "PMI_CONTROL_", "PMI_JOBID", "HYDI_CONTROL_FD", "MPIR_CVAR_CH3_INTERFACE_HOSTNAME", "PALS_SPOOL_DIR",
    "PALS_APINFO", "SLURM_STEP", "SLURM_SRUN_", "SLURM_PMI", "SLURM_MPI_TYPE", "SLURM_LAUNCH_NODE_IPADDR",
)  # fmt: skip
_ALL = ("OMPI_", "PMIX_", "PMI_", "HYDI_", "MPI_LOCAL", "MPIR_CVAR_CH3_INTERFACE_HOSTNAME", "PALS_", "SLURM_")
_DIRECTORIES = ("PMIX_SERVER_TMPDIR", "OMPI_MCA_orte_top_session_dir")  # of files by which it speaks with its ranks
# UCX opens the memory of other ranks by /proc, which the kernel allows within one user namespace only.
APART = {"UCX_POSIX_USE_PROC_LINK": "n", "UCX_TLS": "^cma"}
_OF_A_JOB = "SLURM_ARRAY_"  # which part of the work it does: that of the run that was recorded


class Rank(NamedTuple):
    """One of several."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"rank {self.number} of {self.of}"


def find(variables: Mapping[str, str | None]) -> Rank | None:
    """The rank of a process with these variables; None: it is none, or alone."""
    for rank, size in _NUMBERS:
        number, all_of_them = variables.get(rank) or "", variables.get(size) or ""
        if number.isdecimal() and all_of_them.isdecimal() and int(all_of_them) > 1:
            return Rank(int(number), int(all_of_them))
    return None


def of_rank(path: Path, rank: Rank | None) -> Path:
    """Each rank has a name of its own: run.json is run.0.json, run.1.json, ..."""
    return path if rank is None else path.with_name(f"{path.stem}.{rank.number}{path.suffix}")


def directories(variables: Mapping[str, str]) -> list[str]:
    """What a launcher keeps for its ranks: files there are neither read nor written by the program for itself."""
    return [os.path.normpath(value) for name in _DIRECTORIES if (value := variables.get(name, "")).startswith("/")]


def without_addresses(variables: Mapping[str, str | None]) -> dict[str, str | None]:
    """What a program may be told once its launcher is gone."""
    return {name: value for name, value in variables.items() if not name.startswith(_ADDRESSES)}


def told(variables: Mapping[str, str]) -> dict[str, str]:
    """What a launcher has told its rank."""
    return {
        name: value for name, value in variables.items() if name.startswith(_ALL) and not name.startswith(_OF_A_JOB)
    }
