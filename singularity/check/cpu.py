"""The processor that program and libraries were built for, as their notes say (x86-64-v2 and above)."""

from collections.abc import Iterator

from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.loader import Closure


def level(bits: int) -> int:
    """The level of x86-64 that the bits of a note stand for, 1 to 4; 0 for none."""
    return min(bits, 0xF).bit_length()


def judge(closure: Closure, host: Host) -> Iterator[Finding]:
    """The file that wants the best processor; glibc refuses to load it on another one."""
    wanted = max(closure.objects, key=lambda each: level(each.elf.isa))
    needed = level(wanted.elf.isa)
    if not needed or not host.isa:
        return
    lacks = host.isa < needed
    here, there = _name(host.isa), _name(needed)
    advice = f"run on nodes with {there}, or build for {here} (-march)" if lacks else ""
    verdict = Verdict.FAILS if lacks else Verdict.OK
    yield Subject.CPU.finding("processor", here, f"{there}, by {wanted.name}", verdict, advice)


def _name(number: int) -> str:
    return f"x86-64-v{number}" if number > 1 else "x86-64"
