"""CUDA of the image beside the driver of the host; ROCm's devices; libraries of the driver beside the image's glibc.

The driver that each release of CUDA was made with, and the oldest one for each major release, are those of NVIDIA's
release notes (CUDA Toolkit Release Notes, tables of driver versions; CUDA Compatibility, minor version compatibility).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from singularity.check.environment import Environment
from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.launch import Launch
from singularity.check.loader import Closure, Loader
from singularity.check.versions import Version, shown, version
from singularity.check.view import Place, View
from singularity.errors import ImageError

_finding = Subject.GPU.finding
DRIVERS: Mapping[Version, Version] = {  # CUDA release: driver that it comes with, for Linux
    (7, 0): (346, 46),
    (7, 5): (352, 31),
    (8, 0): (367, 48),
    (9, 0): (384, 81),
    (9, 1): (390, 46),
    (9, 2): (396, 26),
    (10, 0): (410, 48),
    (10, 1): (418, 39),
    (10, 2): (440, 33),
    (11, 0): (450, 51, 5),
    (11, 1): (455, 32),
    (11, 2): (460, 27, 3),
    (11, 3): (465, 19, 1),
    (11, 4): (470, 42, 1),
    (11, 5): (495, 29, 5),
    (11, 6): (510, 39, 1),
    (11, 7): (515, 43, 4),
    (11, 8): (520, 61, 5),
    (12, 0): (525, 60, 13),
    (12, 1): (530, 30, 2),
    (12, 2): (535, 54, 3),
    (12, 3): (545, 23, 6),
    (12, 4): (550, 54, 14),
    (12, 5): (555, 42, 2),
    (12, 6): (560, 28, 3),
    (12, 8): (570, 26),
    (12, 9): (575, 51, 3),
    (13, 0): (580, 65, 6),
}
MINOR: Mapping[int, Version] = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580, 65, 6)}
"""Releases of one major number run on these drivers too, with less than all features."""

_RUNTIME = re.compile(r"libcudart\.so(?:\.(\d+)(?:\.(\d+))?)?[.\d]*")
_NVIDIA = re.compile(r"lib(?:cuda|cudart|nvidia-ml|cublas|cudnn|nccl|nvrtc)\.so[.\d]*")
_ROCM = re.compile(r"lib(?:amdhip64|hsa-runtime64|rccl)\.so[.\d]*")
_CORE = re.compile(r"lib(?:cuda|nvidia-ml|nvidia-ptxjitcompiler|amdhip64|hsa-runtime64)\.so")
_UNLOADABLE = "cannot be used here"  # how the launcher begins, of a library that it leaves out
_COMPAT = re.compile(r"libcuda\.so\.(\d+\.\d+(?:\.\d+)?)")
_DRIVER = re.compile(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cuda:
    """The CUDA runtime of an image."""

    version: Version
    where: str
    linked: bool  # by the program itself


def uses(closure: Closure | None, options: tuple[str, ...]) -> bool:
    """Whether a job would want a GPU."""
    names = set(closure.by_name) | {each.name for each in closure.missing} if closure else set()
    return "--nv" in options or "--rocm" in options or any(_NVIDIA.match(n) or _ROCM.match(n) for n in names)


def driver(host: Host) -> Version:
    """The NVIDIA driver that the kernel has; empty for none."""
    match = _DRIVER.search(host.text("/proc/driver/nvidia/version"))
    return version(match[1] if match else host.text("/sys/module/nvidia/version"))


def cuda(view: View, loader: Loader, closure: Closure | None, environment: Environment, machine: str) -> Cuda | None:
    """The CUDA that is linked with the program, else the one that the image has or says it has."""
    for name, loaded in (closure.by_name if closure else {}).items():
        if _RUNTIME.fullmatch(name):
            return Cuda(version=_release(loaded.place, name), where=loaded.name, linked=True)
    for name, place in sorted(loader.libraries(_RUNTIME, machine).items(), reverse=True):
        return Cuda(version=_release(place, name), where=place.path, linked=False)
    for name in sorted((n for n in view.names("/usr/local") if n.startswith("cuda")), reverse=True):
        for directory in ("lib64", "targets/x86_64-linux/lib"):
            for each in view.names(f"/usr/local/{name}/{directory}"):
                found = view.find(f"/usr/local/{name}/{directory}/{each}") if _RUNTIME.fullmatch(each) else None
                if found is not None:
                    return Cuda(version=_release(found, each), where=found.path, linked=False)
    said = version(environment.values.get("CUDA_VERSION", ""))
    return Cuda(version=said[:2], where="CUDA_VERSION of the image", linked=False) if said else None


def _release(place: Place, name: str) -> Version:
    """The release, by the name of the file in the end: libcudart.so.12.4.127 where libcudart.so.12 leads to."""
    longest = max((place.path.rpartition("/")[2], name), key=len)
    return version(longest.partition(".so.")[2])[:2]


def judge(
    view: View, loader: Loader, closure: Closure | None, environment: Environment, host: Host, launch: Launch,
    options: tuple[str, ...],
) -> Iterator[Finding]:  # fmt: skip
    """CUDA beside the driver, devices, and the libraries of the driver."""
    found = cuda(view, loader, closure, environment, host.machine)
    number = driver(host)
    rocm = "--rocm" in options
    if found is not None:
        yield _runtime(found, number, view, environment)
    elif not rocm:
        there = f"driver {shown(number)}" if number else "no NVIDIA driver"
        yield _finding("CUDA", there, "none found in the image", Verdict.OK)
    if "--nv" in options or (found is not None and found.linked and number):
        yield _device(
            view, "/dev/nvidiactl", "--nv" in options, "--nv", number=shown(number) if number else "no driver"
        )
    if rocm:
        yield _device(view, "/dev/kfd", True, "--rocm", number="the amdgpu driver")
    yield from _host_libraries(view, loader, launch)


def _runtime(found: Cuda, number: Version, view: View, environment: Environment) -> Finding:
    what, needed = f"NVIDIA driver for CUDA {shown(found.version)}", DRIVERS.get(found.version[:2])
    where = f" ({found.where})"
    worst = Verdict.FAILS if found.linked else Verdict.WARNING
    if not number:
        return _finding(what, "no driver", f"a driver{where}", worst, "run on a node with an NVIDIA GPU")
    least = MINOR.get(found.version[0] if found.version else 0, needed)
    if needed is None:
        needed = least or max((v for k, v in DRIVERS.items() if k <= found.version), default=())
    if number >= needed:
        return _finding(what, shown(number), f"{shown(needed)}{where}", Verdict.OK)
    if least and number >= least:
        advice = f"works by minor-version compatibility, without PTX and newer features; driver {shown(needed)} has all"
        return _finding(what, shown(number), f"{shown(least)}{where}", Verdict.WARNING, advice)
    compat = _compat(view)
    if compat is not None and any("/compat" in each for each in environment.libraries):
        advice = f"by the forward compatibility package ({compat.path}), on data centre GPUs only"
        return _finding(what, shown(number), f"{shown(least or needed)}{where}", Verdict.WARNING, advice)
    advice = f"a node with driver {shown(least or needed)}, or an image with an older CUDA"
    if compat is not None:
        advice += f", or on data centre GPUs --env LD_LIBRARY_PATH={compat.path.rpartition('/')[0]}"
    return _finding(what, shown(number), f"{shown(least or needed)}{where}", Verdict.FAILS, advice)


def _compat(view: View) -> Place | None:
    """The user half of a newer driver, which CUDA's package cuda-compat brings."""
    for name in sorted((n for n in view.names("/usr/local") if n.startswith("cuda")), reverse=True):
        for each in view.names(f"/usr/local/{name}/compat"):
            if _COMPAT.fullmatch(each):
                return view.find(f"/usr/local/{name}/compat/{each}")
    return None


def _device(view: View, path: str, asked: bool, option: str, *, number: str) -> Finding:
    there = view.find(path) is not None
    if there:
        return _finding("device", path, path, Verdict.OK)
    advice = f"{path} is not in the container: run on a node with such a GPU" if asked else f"use {option}"
    return _finding("device", f"none, {number}", path, Verdict.FAILS, advice)


def _host_libraries(view: View, loader: Loader, launch: Launch) -> Iterator[Finding]:
    """The host's libraries would be loaded with the image's glibc and libstdc++."""
    count = 0
    for step in launch.host_libraries:
        place = view.find(step.target)
        if place is None or not place.host:
            continue
        count += 1
        try:
            closure = loader.load(place)
        except ImageError as error:
            yield _finding(step.target, str(error), "a library", Verdict.WARNING, f"mend {step.source} on the host")
            continue
        wrong = next((each for each in closure.unresolved if each.wanted_by.place.host), None)
        if wrong is not None:
            core = _CORE.match(step.target.rpartition("/")[2]) is not None
            found = f"{wrong.library.name} of the image"
            advice = f"{step.source} of the host cannot be loaded in this image: take an image with a newer glibc"
            verdict = Verdict.FAILS if core else Verdict.WARNING
            yield _finding(step.target.rpartition("/")[2], found, wrong.need.version, verdict, advice)
    for step in launch.steps:
        name = step.target.rpartition("/")[2]
        if step.reason.startswith(("--nv", "--rocm")) and step.skipped.startswith(_UNLOADABLE) and _CORE.match(name):
            advice = f"{step.source} of the host {step.skipped}: take an image with a newer glibc"
            yield _finding(name, "left out", "the driver's", Verdict.FAILS, advice)
    if count:
        yield _finding("host libraries", f"{count}", "versions of symbols that the image has", Verdict.OK)
