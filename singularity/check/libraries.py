"""Libraries that the loader would not find, and versions of symbols that those it finds do not have."""

import re
from collections.abc import Iterator

from singularity.check.environment import Environment
from singularity.check.finding import Finding, Subject, Verdict
from singularity.check.loader import Closure, Loader, Missing, Unresolved

_finding = Subject.LIBRARIES.finding
_LIMIT = 40  # findings of one kind
_OF_HOSTS = (  # what images leave to the host
    (
        re.compile(r"lib(cuda|nvidia-[a-z0-9-]+|nvcuvid|nvoptix)\.so"),
        "it is of the NVIDIA driver: --nv brings the host's",
    ),
    (re.compile(r"lib(amdhip64|hsa-runtime64|rocm[a-z_0-9]*)\.so"), "it is of ROCm: install it, or --rocm"),
    (re.compile(r"lib(ibverbs|rdmacm|mlx[45])\.so"), "it is of rdma-core: install it in the image, or bind the host's"),
    (re.compile(r"libmpi|libopen-(rte|pal)"), "it is of an MPI: install that in the image, or bind the host's"),
)


def judge(closure: Closure, loader: Loader, environment: Environment) -> Iterator[Finding]:
    """One finding for each thing that stops the loader, or one that says that nothing does."""
    program = closure.program.name
    if closure.interpreter:
        yield _fails(
            f"loader of {program}", "not in the container", closure.interpreter, _about_loader(closure.interpreter)
        )
        return
    for missing in closure.missing[:_LIMIT]:
        yield _missing(missing, loader, environment)
    for each in closure.unresolved[:_LIMIT]:
        yield _unresolved(each)
    if not closure.missing and not closure.unresolved and closure.program.elf.is_dynamic:
        count = len(closure.objects) - 1
        yield _finding(f"libraries of {program}", f"all {count}", f"{count}", Verdict.OK)


def _about_loader(path: str) -> str:
    if "ld-linux" in path:
        return "the program wants glibc: build it in the image, or take an image with glibc (Debian, Rocky, ...)"
    return "install what has it in the image, or build the program there"


def _missing(missing: Missing, loader: Loader, environment: Environment) -> Finding:
    elsewhere = loader.elsewhere(missing.name)
    advice = next((each for pattern, each in _OF_HOSTS if pattern.match(missing.name)), "install it in the image")
    if elsewhere:
        advice = f"{elsewhere} is not in the loader's cache: run ldconfig in %post"
    elif environment.code:
        advice += f"; LD_LIBRARY_PATH is set by code, which is not run here: {environment.code[0]}"
    found = f"unfit: {missing.unfit}" if missing.unfit else "not in the container"
    return _fails(missing.name, found, f"by {missing.wanted_by.name}", advice)


def _unresolved(each: Unresolved) -> Finding:
    family, _, newest = _newest(each).rpartition("_")
    found = f"{each.library.name}, up to {family}_{newest}" if newest else each.library.name
    needed = f"{each.need.version}, by {each.wanted_by.name}"
    if each.wanted_by.place.host:
        advice = "the host's library is too new for the image: leave its bind out, or take a newer image"
    elif each.library.place.host:
        advice = "the host's library is older than the image wants: leave its bind out"
    else:
        advice = "build the program in the image, or take an image with this version or a newer one"
    return _fails(each.need.library, found, needed, advice)


def _newest(each: Unresolved) -> str:
    """The newest version of the wanted family that the library has."""
    family = each.need.version.rpartition("_")[0]
    numbers = [
        (tuple(map(int, match[1].split("."))), version)
        for version in each.library.elf.versions
        if (match := re.fullmatch(re.escape(family) + r"_(\d+(?:\.\d+)*)", version))
    ]
    return max(numbers)[1] if numbers else ""


def _fails(what: str, found: str, needed: str, advice: str) -> Finding:
    return _finding(what, found, needed, Verdict.FAILS, advice)
