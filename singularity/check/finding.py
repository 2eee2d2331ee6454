"""What a check, or the doctor, has found: one line of a report."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """What a finding means for the job."""

    OK = "ok"
    WARNING = "warning"  # it would run, with less than it could have, or nobody promises that it does
    FAILS = "fails"


class Subject(Enum):
    """What a finding is about."""

    LAUNCH = "launch"
    BINDS = "binds"
    PROGRAM = "program"
    LIBRARIES = "libraries"
    KERNEL = "kernel"
    CPU = "cpu"
    MPI = "mpi"
    GPU = "gpu"
    FABRIC = "fabric"
    INSTALLATION = "installation"
    IDS = "ids"
    LIMITS = "limits"
    TOOLS = "tools"
    PLACES = "places"
    NETWORK = "network"

    def finding(self, what: str, found: str, needed: str, verdict: Verdict, advice: str = "") -> "Finding":
        """What was found about it."""
        return Finding(subject=self, what=what, found=found, needed=needed, verdict=verdict, advice=advice)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was compared."""

    subject: Subject
    what: str
    found: str
    needed: str
    verdict: Verdict
    advice: str = ""  # what to do about it


def fails(findings: Iterable[Finding]) -> bool:
    """Whether the job would fail."""
    return any(each.verdict is Verdict.FAILS for each in findings)
