"""The host's architecture, in the words of SIF files and of Debian."""

import platform
from dataclasses import dataclass
from pathlib import Path

from singularity.errors import BuildError


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One architecture by its names."""

    sif: str
    debian: str


_BY_MACHINE = {
    "x86_64": Architecture(sif="amd64", debian="amd64"),
    "aarch64": Architecture(sif="arm64", debian="arm64"),
    "i686": Architecture(sif="386", debian="i386"),
    "i586": Architecture(sif="386", debian="i386"),
    "armv7l": Architecture(sif="arm", debian="armhf"),
    "armv6l": Architecture(sif="arm", debian="armel"),
    "ppc64le": Architecture(sif="ppc64le", debian="ppc64el"),
    "ppc64": Architecture(sif="ppc64", debian="ppc64"),
    "s390x": Architecture(sif="s390x", debian="s390x"),
    "riscv64": Architecture(sif="riscv64", debian="riscv64"),
    "mips64": Architecture(sif="mips64le", debian="mips64el"),
    "loongarch64": Architecture(sif="loong64", debian="loong64"),
}


def find(name: str) -> Architecture:
    """The one of this name, as SIF files and Go know it; an empty one is the host's.

    Raises BuildError for one whose programs cannot be run here.
    """
    own = host()
    if name in ("", own.sif, own.debian, platform.machine()):
        return own
    for machine, known in _BY_MACHINE.items():
        if name in (known.sif, known.debian, machine):
            if _is_emulated(machine):
                return known
            hint = "install qemu-user-static, or build on such a machine"
            raise BuildError(f"--arch {name}: this machine runs programs for {own.sif} only", hint=hint)
    names = ", ".join(dict.fromkeys(each.sif for each in _BY_MACHINE.values()))
    raise BuildError(f'--arch: no architecture "{name}"', hint=f"known are {names}")


def _is_emulated(machine: str) -> bool:
    """Whether the kernel hands programs of a machine to an emulator, also in another root (binfmt_misc)."""
    name = {"i686": "i386", "i586": "i386", "armv7l": "arm", "armv6l": "arm"}.get(machine, machine)
    if name == "i386" and platform.machine() == "x86_64":
        return True
    try:
        lines = Path(f"/proc/sys/fs/binfmt_misc/qemu-{name}").read_text(encoding="ascii").split("\n")
    except OSError:
        return False
    return lines[0] == "enabled" and any(line.startswith("flags:") and "F" in line for line in lines)


def host() -> Architecture:
    """This machine's. Raises BuildError for one that SIF files have no code for."""
    found = _BY_MACHINE.get(platform.machine())
    if found is None:
        raise BuildError(f"SIF files know no architecture {platform.machine()}")
    return found
