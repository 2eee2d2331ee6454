"""`--nv` and `--rocm` for scripts of a build: the devices of the host, and the programs and libraries of its driver.

What these are is listed in `nvliblist.conf` and `rocmliblist.conf`, the files that launches read too.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from singularity import drivers, process
from singularity.build.request import Bind
from singularity.cdi import LIBRARIES as _LIBRARIES

logger = logging.getLogger(__name__)

LIBRARIES = str(_LIBRARIES)
_NVIDIA = re.compile(r"nvidia(\d+|ctl|-uvm|-uvm-tools|-modeset|-caps)")
_AMD = re.compile(r"kfd|dri")


def binds(*, nv: bool, rocm: bool) -> Iterator[Bind]:
    """The devices and files; a warning where there are none."""
    for wanted, name, devices, option in (
        (nv, "nvliblist.conf", _NVIDIA, "--nv"),
        (rocm, "rocmliblist.conf", _AMD, "--rocm"),
    ):
        if wanted:
            entries = drivers.table(name)
            own = [entry for entry in entries if entry.split()[1:] != ["support"]]
            found = [*_devices(devices), *_files(own)]
            if not found:
                logger.warning("%s: no files and no devices of such a driver on this host", option)
                continue
            yield from found
            yield from _files([entry for entry in entries if entry not in own])


def _devices(pattern: re.Pattern[str]) -> Iterator[Bind]:
    for name in sorted(os.listdir("/dev")):
        if pattern.fullmatch(name):
            yield Bind(source=Path("/dev", name), target=f"/dev/{name}")


def _files(entries: list[str]) -> Iterator[Bind]:
    for name, path in drivers.matching(entries, drivers.libraries()):
        yield Bind(source=path, target=f"{LIBRARIES}/{name}", writable=False)
    for name in (entry.split()[0] for entry in entries):
        if name.startswith("/") and not name.startswith("/dev/"):
            for found in sorted(glob(name)):
                yield Bind(source=Path(found), target=found, writable=False)
        elif ".so" not in name and name[0] not in "/$[":
            program = shutil.which(name, path=process.SYSTEM_PATH)
            if program:
                yield Bind(source=Path(program), target=f"/usr/bin/{name}", writable=False)
