"""On what a run was: facts of the machine that explain differences. Who and where is told only when asked for."""

import getpass
import os
import platform
import re
from contextlib import suppress
from pathlib import Path


def facts(*, named: bool) -> dict[str, str]:
    """Kernel, distribution, processor, memory, drivers; `named`: the host's and the user's names as well."""
    system = os.uname()
    found = {
        "kernel": f"{system.sysname} {system.release}",
        "architecture": system.machine,
        "distribution": _line("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        "processor": _line("/proc/cpuinfo", r"^model name\s*:\s*(.*)"),
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": _line("/proc/meminfo", r"^MemTotal:\s*(.*)"),
        "nvidia driver": _line("/proc/driver/nvidia/version", r"^NVRM version:.*?\s(\d+\.[\d.]+)"),
        "amdgpu driver": _line("/sys/module/amdgpu/version", r"^(.*)"),
    }
    if named:
        found["name"] = platform.node()
        with suppress(KeyError, OSError):
            found["user"] = getpass.getuser()
    return {name: value for name, value in found.items() if value}


def _line(path: str, pattern: str) -> str:
    with suppress(OSError):
        match = re.search(pattern, Path(path).read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        return match[1].strip() if match else ""
    return ""
