"""What of the host decides whether a job runs: kernel, processor, drivers, devices, the launcher of MPI programs."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from singularity import process
from singularity.check.versions import Version, version
from singularity.variables import handed_on

_LIMIT = 1 << 20  # bytes of a file of /proc or /sys
_LEVELS = (  # x86-64 psABI: what each level adds, as /proc/cpuinfo names it
    frozenset({"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}),
    frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"}),
    frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
)
_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "i386": "386",
    "i686": "386",
    "armv7l": "arm",
    "armv8l": "arm",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
    "loongarch64": "loong64",
}
_QEMU = {"amd64": "x86_64", "arm64": "aarch64", "386": "i386"}


@dataclass(frozen=True, kw_only=True)
class Host:
    """The host whose files are below `root`; tests have others than this machine's."""

    root: Path = Path("/")
    release: str = field(default_factory=lambda: os.uname().release)  # of the kernel
    hardware: str = field(default_factory=lambda: os.uname().machine)
    search_path: str = field(default_factory=process.search_path)
    environment: Mapping[str, str] = field(default_factory=handed_on)

    @property
    def machine(self) -> str:
        """As Go names it."""
        return _MACHINES.get(self.hardware, self.hardware)

    @property
    def kernel(self) -> Version:
        """The version of the kernel."""
        return version(self.release)[:3]

    def text(self, path: str) -> str:
        """What a small file holds; empty where there is none that can be read."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return file.read(_LIMIT).decode("utf-8", "replace")
        except OSError:
            return ""

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted."""
        try:
            return sorted(os.listdir(self.root / path.lstrip("/")))
        except OSError:
            return []

    @cached_property
    def isa(self) -> int:
        """The level of x86-64 that the processor has, 1 to 4; 0 for other processors, and where nothing tells."""
        if self.machine != "amd64":
            return 0
        match = re.search(r"^flags\s*:(.*)$", self.text("/proc/cpuinfo"), re.MULTILINE)
        if match is None:
            return 0
        flags = set(match[1].split())
        return 1 + next((number for number, needed in enumerate(_LEVELS) if not needed <= flags), len(_LEVELS))

    def runs(self, machine: str) -> str:
        """How programs of a machine run here: "natively", "through" an interpreter of the kernel's, or empty."""
        if machine == self.machine or (machine, self.machine) in (("386", "amd64"), ("arm", "arm64")):
            return "natively"
        name = f"qemu-{_QEMU.get(machine, machine)}"
        found = self.text(f"/proc/sys/fs/binfmt_misc/{name}")
        return f"through {name}" if found.startswith("enabled") else ""
