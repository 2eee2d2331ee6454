"""What drivers of the host bring into a container besides `--nv` and `--rocm`: `--nvccli`, `--compat32`, `--intel-hpu`.

And the tables of those two, as builds read them.
"""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from singularity import process
from singularity.cdi import LIBRARIES, Bind, Needed
from singularity.errors import FileError, SingularityError

logger = logging.getLogger(__name__)

LIBRARIES_32 = f"{LIBRARIES}32"  # as today's family has it
_CACHED = re.compile(r"\s*(\S+) \(([^)]*)\) => (\S+)")
_GAUDI = re.compile(r"accel(?:_controlD)?(\d+)")  # of the kernel's drivers/accel and of Intel's own driver
_NUMBERS = re.compile(r"\d+(,\d+)*")
_TOOL = "nvidia-container-cli"
_NO_DEVICE = ("", "none", "void")  # of NVIDIA_VISIBLE_DEVICES


def table(name: str) -> list[str]:
    """The entries of a table (`nvliblist.conf`), beside this installation's configuration or in the source tree."""
    above = Path(__file__).resolve().parents
    places = [*(place / "etc" / "singularity" / name for place in above), *(place / "etc" / name for place in above)]
    for path in places:
        if path.is_file():
            with FileError.about(path):
                lines = path.read_text(encoding="utf-8").splitlines()
            return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    raise FileError(f"{name} is missing", hint="the installation is incomplete: install again")


def libraries(*, bits: int = 64) -> dict[str, Path]:
    """The libraries that the host's loader knows, the first of each name, for programs of this word size."""
    output = process.run(["ldconfig", "-p"], purpose="find the libraries of the driver")
    found: dict[str, Path] = {}
    for line in output.splitlines():
        match = _CACHED.match(line)
        if match and (("64" in match[2]) == (bits == 64) or os.uname().machine not in ("x86_64", "ppc64le")):
            found.setdefault(match[1], Path(match[3]))
    return found


def matching(names: Sequence[str], known: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """Those of these libraries that entries of a table name (`libcuda.so driver`), with their names."""
    starts = [name.split()[0] for name in names if ".so" in name and name[0] not in "/$["]
    for library, path in known.items():
        if any(library == start or library.startswith(f"{start}.") for start in starts):
            yield library, path


def compat32(tables: Sequence[str]) -> Needed:
    """The libraries of these tables for programs of 32 bits, where their loader looks."""
    known = libraries(bits=32)
    binds = [
        Bind(source=str(path), target=f"{LIBRARIES_32}/{library}", writable=False)
        for name in tables
        for library, path in matching(table(name), known)
    ]
    if not binds:
        logger.warning("--compat32: this host has no libraries of such a driver for programs of 32 bits")
    return Needed(binds=binds)


def gaudi(environment: Mapping[str, str]) -> Needed:
    """Intel's Gaudi devices, those that HABANA_VISIBLE_DEVICES names, all without it. Raises SingularityError."""
    chosen = environment.get("HABANA_VISIBLE_DEVICES", "all")
    if chosen != "all" and not _NUMBERS.fullmatch(chosen):
        raise SingularityError(
            f'HABANA_VISIBLE_DEVICES="{chosen}": numbers of devices, or "all", are wanted', hint="0,1"
        )
    directory = Path("/dev/accel")
    names = sorted(os.listdir(directory)) if directory.is_dir() else []
    devices = {name: match[1] for name in names if (match := _GAUDI.fullmatch(name))}
    binds = [
        Bind(source=f"{directory}/{name}", target=f"{directory}/{name}", writable=True)
        for name, number in devices.items()
        if chosen == "all" or number in chosen.split(",")
    ]
    if not binds:
        logger.warning("Could not find any Gaudi devices on this host")
    given = [f"HABANA_VISIBLE_DEVICES={chosen}"] if "HABANA_VISIBLE_DEVICES" in environment else []
    return Needed(binds=binds, environment=given)


def nvidia(environment: Mapping[str, str], *, contained: bool) -> Needed:
    """What NVIDIA's own tool lists for the devices of NVIDIA_VISIBLE_DEVICES. Raises ToolError without the tool.

    The tool only tells, and nothing of it runs with privilege: what it would do to a container is done by binds.
    """
    chosen = environment.get("NVIDIA_VISIBLE_DEVICES", "none" if contained else "all")
    words = [] if chosen in _NO_DEVICE else [f"--device={chosen}"]
    lines = process.run([_TOOL, "list", *words, "--libraries", "--binaries", "--ipcs"], purpose="carry out --nvccli")
    binds = [
        Bind(source=path, target=_target(path), writable=path.startswith("/dev/"))
        for path in lines.splitlines()
        if path
    ]
    return Needed(binds=binds, environment=[f"NVIDIA_VISIBLE_DEVICES={chosen}"])


def _target(path: str) -> str:
    """Programs and libraries are where they are looked for, all else is at its path: devices, sockets of services."""
    if not os.path.isfile(path):
        return path
    name = os.path.basename(path)
    return f"{LIBRARIES}/{name}" if ".so" in name else f"/usr/bin/{name}"
