"""The oldest kernel that the program and its libraries run on, beside the one that is here."""

from collections.abc import Iterator

from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.loader import Closure
from singularity.check.versions import shown


def judge(closure: Closure, host: Host) -> Iterator[Finding]:
    """The file that wants the newest kernel, by its note .note.ABI-tag; glibc refuses to go on below it."""
    wanted = max(closure.objects, key=lambda each: each.elf.kernel)
    if not wanted.elf.kernel:
        return
    old = host.kernel < wanted.elf.kernel
    needed = f"{shown(wanted.elf.kernel)}, by {wanted.name}"
    advice = "run on a host with a newer kernel, or take an image of an older distribution" if old else ""
    yield Subject.KERNEL.finding("Linux", host.release, needed, Verdict.FAILS if old else Verdict.OK, advice)
