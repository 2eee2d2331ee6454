"""InfiniBand and its kin: the devices and the ABI of the kernel beside the libraries that would use them."""

import re
from collections.abc import Iterator

from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.host import Host
from singularity.check.loader import Closure, Loader
from singularity.check.versions import version
from singularity.check.view import View
from singularity.errors import ImageError

_finding = Subject.FABRIC.finding
OLDEST_ABI, NEWEST_ABI = 3, 6
"""What libibverbs speaks: IB_USER_VERBS_MIN_ABI_VERSION and IB_USER_VERBS_MAX_ABI_VERSION of rdma-core."""

_LIBRARIES = re.compile(r"lib(?:ibverbs|rdmacm|ucp|uct|fabric|psm2)\.so\.\d+")
_VERBS = re.compile(r"libibverbs\.so\.\d+")
_PRIVATE = re.compile(r"IBVERBS_PRIVATE_(\d+)")
_PROVIDER = re.compile(r"lib(\w+)-rdmav(\d+)\.so")
_PROVIDERS = {  # by the start of a device's name: the library that drives it
    "mlx5": "mlx5",
    "mlx4": "mlx4",
    "hfi1": "hfi1verbs",
    "qib": "ipathverbs",
    "bnxt_re": "bnxt_re",
    "cxgb4": "cxgb4",
    "efa": "efa",
    "irdma": "irdma",
    "i40iw": "irdma",
    "mthca": "mthca",
    "rxe": "rxe",
    "siw": "siw",
    "qedr": "qedr",
    "hns": "hns",
    "vmw_pvrdma": "vmw_pvrdma",
}
_CLASS = "/sys/class/infiniband"


def uses(closure: Closure | None) -> bool:
    """Whether the program is linked with a library for fabrics."""
    return closure is not None and any(_LIBRARIES.fullmatch(name) for name in closure.by_name)


def judge(view: View, loader: Loader, host: Host) -> Iterator[Finding]:
    """Kernel, devices, libraries and the drivers among them."""
    devices = host.names(_CLASS)
    libraries = loader.libraries(_LIBRARIES, host.machine)
    if not devices:
        yield _finding("fabric", "no device on this host", "none", Verdict.OK, "programs use TCP and shared memory")
        return
    verbs = {name: place for name, place in libraries.items() if _VERBS.fullmatch(name)}
    if not verbs:
        advice = "install libibverbs (rdma-core) and its drivers in the image, or bind the host's: else TCP is used"
        yield _finding("libibverbs", "not in the image", f"for {', '.join(devices)}", Verdict.FAILS, advice)
        return
    yield _abi(host)
    if view.find("/dev/infiniband") is None:
        advice = "without --contain, or with --bind /dev/infiniband"
        yield _finding("/dev/infiniband", "not in the container", "the devices", Verdict.FAILS, advice)
    private = _private(loader, host)
    for device in devices:
        yield _provider(device, view, loader, private, host)


def _abi(host: Host) -> Finding:
    text = host.text("/sys/class/infiniband_verbs/abi_version").strip()
    number = version(text)[:1]
    needed = f"{OLDEST_ABI} to {NEWEST_ABI}"
    if not number:
        return _finding("ABI of uverbs", "unknown", needed, Verdict.WARNING, "load the kernel module ib_uverbs")
    good = OLDEST_ABI <= number[0] <= NEWEST_ABI
    advice = "" if good else "the image's rdma-core does not know this kernel: bind the host's libraries"
    return _finding("ABI of uverbs", text, needed, Verdict.OK if good else Verdict.FAILS, advice)


def _private(loader: Loader, host: Host) -> str:
    """The number that the image's libibverbs shares with drivers of its own build, such as 34."""
    for place in loader.libraries(_VERBS, host.machine).values():
        try:
            versions = loader.load(place).program.elf.versions
        except ImageError:
            continue
        for match in filter(None, map(_PRIVATE.fullmatch, versions)):
            return match[1]
    return ""


def _provider(device: str, view: View, loader: Loader, private: str, host: Host) -> Finding:
    start = next((each for each in _PROVIDERS if device.startswith(each)), "")
    if not start:
        return _finding(device, "a device of unknown kind", "its driver", Verdict.WARNING, "ask who runs the cluster")
    wanted = _PROVIDERS[start]
    directories = {place.path.rpartition("/")[0] for place in loader.libraries(_VERBS, host.machine).values()}
    names = [name for each in sorted(directories) for name in view.names(f"{each}/libibverbs")]
    drivers = {match[1]: match[2] for name in names if (match := _PROVIDER.fullmatch(name))}
    if wanted not in drivers:
        advice = f"install the driver {wanted} in the image (ibverbs-providers, libibverbs), else TCP is used"
        return _finding(device, "no driver in the image", f"lib{wanted}", Verdict.FAILS, advice)
    if private and drivers[wanted] != private:
        advice = "libibverbs and its drivers are of different builds: take both from one place"
        return _finding(device, f"lib{wanted}-rdmav{drivers[wanted]}", f"rdmav{private}", Verdict.FAILS, advice)
    return _finding(device, f"lib{wanted}-rdmav{drivers[wanted]}", f"lib{wanted}", Verdict.OK)
