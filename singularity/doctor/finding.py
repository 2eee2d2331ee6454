"""How the findings of a doctor are made: as those of a check, with the command that mends."""

import os
import shutil

from singularity import process
from singularity.check.finding import Finding, Subject, Verdict


def good(subject: Subject, what: str, found: str, needed: str = "") -> Finding:
    """As it should be."""
    return subject.finding(what, found, needed, Verdict.OK)


def lacking(subject: Subject, what: str, found: str, needed: str, advice: str) -> Finding:
    """Something works with less than it could have."""
    return subject.finding(what, found, needed, Verdict.WARNING, advice)


def wrong(subject: Subject, what: str, found: str, needed: str, advice: str) -> Finding:
    """Something does not work."""
    return subject.finding(what, found, needed, Verdict.FAILS, advice)


def root(command: str) -> str:
    """A command as whoever asks would type it."""
    return command if os.geteuid() == 0 else f"sudo {command}"


def install(package: str) -> str:
    """The command that installs a package, by Debian's name, where that is what packages are called."""
    if shutil.which("apt-get", path=process.SYSTEM_PATH):
        return root(f"apt-get install {package}")
    return f"install {package}, or what it is called here"
