"""The host's architecture, in the words of SIF files and of Debian."""

import platform
from dataclasses import dataclass

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


def host() -> Architecture:
    """This machine's. Raises BuildError for one that SIF files have no code for."""
    found = _BY_MACHINE.get(platform.machine())
    if found is None:
        raise BuildError(f"SIF files know no architecture {platform.machine()}")
    return found
