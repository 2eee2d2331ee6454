"""`--nv` and `--rocm` for scripts of a build: the devices of the host, and the programs and libraries of its driver.

What these are is listed in `nvliblist.conf` and `rocmliblist.conf`, the files that launches read too.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from singularity import process
from singularity.build.request import Bind
from singularity.errors import FileError

logger = logging.getLogger(__name__)

LIBRARIES = "/.singularity.d/libs"
_NVIDIA = re.compile(r"nvidia(\d+|ctl|-uvm|-uvm-tools|-modeset|-caps)")
_AMD = re.compile(r"kfd|dri")
_CACHED = re.compile(r"\s*(\S+) \(([^)]*)\) => (\S+)")


def binds(*, nv: bool, rocm: bool) -> Iterator[Bind]:
    """The devices and files; a warning where there are none."""
    for wanted, name, devices, option in (
        (nv, "nvliblist.conf", _NVIDIA, "--nv"),
        (rocm, "rocmliblist.conf", _AMD, "--rocm"),
    ):
        if wanted:
            found = [*_devices(devices), *_files(_names(name))]
            if not found:
                logger.warning("%s: no files and no devices of such a driver on this host", option)
            yield from found


def _devices(pattern: re.Pattern[str]) -> Iterator[Bind]:
    for name in sorted(os.listdir("/dev")):
        if pattern.fullmatch(name):
            yield Bind(source=Path("/dev", name), target=f"/dev/{name}")


def _names(name: str) -> list[str]:
    """The lines of a list, which is in the configuration directory of this installation, or in the source tree."""
    above = Path(__file__).resolve().parents
    places = [*(place / "etc" / "singularity" / name for place in above), *(place / "etc" / name for place in above)]
    for path in places:
        if path.is_file():
            try:
                lines = path.read_text(encoding="utf-8").splitlines()
            except OSError as error:
                raise FileError.because(path, error) from error
            return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    raise FileError(f"{name} is missing", hint="the installation is incomplete: install again")


def _files(names: list[str]) -> Iterator[Bind]:
    libraries = _loader_cache()
    for name in names:
        if name.startswith("/"):
            if os.path.exists(name):
                yield Bind(source=Path(name), target=name, writable=False)
        elif ".so" in name:
            for library, path in libraries.items():
                if library == name or library.startswith(f"{name}."):
                    yield Bind(source=path, target=f"{LIBRARIES}/{library}", writable=False)
        else:
            program = shutil.which(name, path=process.SYSTEM_PATH)
            if program:
                yield Bind(source=Path(program), target=f"/usr/bin/{name}", writable=False)


def _loader_cache() -> dict[str, Path]:
    """The libraries that the host's loader knows, the first of each name, for programs of this word size."""
    output = process.run(["ldconfig", "-p"], purpose="find the libraries of the driver")
    found: dict[str, Path] = {}
    for line in output.splitlines():
        match = _CACHED.match(line)
        if match and ("64" in match[2] or os.uname().machine not in ("x86_64", "ppc64le")):
            found.setdefault(match[1], Path(match[3]))
    return found
