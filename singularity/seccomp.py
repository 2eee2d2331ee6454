"""Profiles of system calls (seccomp), as Docker and the OCI have them in JSON, made into filters by libseccomp.

What a profile means is theirs: https://docs.docker.com/engine/security/seccomp/ and config-linux.md of the OCI's
runtime specification. libseccomp compiles, and is called by ctypes: every system with systemd has it.
"""

import ctypes
import errno
import logging
import os
import platform
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from singularity import files
from singularity.errors import FileError, ImageError, ToolError
from singularity.foreign_json import parse_json

logger = logging.getLogger(__name__)

LIMIT = 4096  # instructions: BPF_MAXINSNS of the kernel
_SIZE_LIMIT = 1 << 20  # bytes of a profile
_INSTRUCTION = 8  # bytes
_ERRNO, _TRACE = 0x00050000, 0x7FF00000
_ACTIONS = {  # linux/seccomp.h
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": _ERRNO,
    "SCMP_ACT_TRACE": _TRACE,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
_LENIENT = frozenset({_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]})
_OPERATORS = {  # enum scmp_compare of seccomp.h
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "i686": "x86", "armv7l": "arm"}  # the rest are called the same
_PROFILE_KEYS = frozenset(
    {"defaultAction", "defaultErrnoRet", "defaultErrno", "architectures", "archMap", "flags", "syscalls", "comment"}
)
_RULE_KEYS = frozenset({"names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes"})
_ARGUMENT_KEYS = frozenset({"index", "value", "valueTwo", "op"})
_FILTER_KEYS = frozenset({"caps", "arches", "minKernel"})
_UNKNOWN_CALL = -1  # __NR_SCMP_ERROR
_OPTIMIZE, _BINARY_TREE = 8, 2  # SCMP_FLTATR_CTL_OPTIMIZE: fewer instructions are run for each call


class _Compared(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = [
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What rules may depend on."""

    capabilities: Collection[str]  # that the program will have: CAP_SYS_ADMIN...
    machine: str = platform.machine()
    kernel: str = platform.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A condition on one argument of a system call."""

    index: int
    operator: int
    first: int
    second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What happens to some system calls; all of `arguments` must hold."""

    key: str  # where it stands in the profile
    action: int
    names: tuple[str, ...]
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A profile, as far as it applies here."""

    default: int
    architectures: tuple[tuple[str, str], ...]  # in libseccomp's words, and where each stands
    rules: tuple[Rule, ...]


def _fault(key: str, what: str) -> ImageError:
    """For a key of the profile that makes no sense; an empty one is the profile itself."""
    return ImageError(f"{key}: {what}" if key else what)


def compiled(path: Path, surroundings: Surroundings) -> bytes:
    """The filter of the profile at `path`, as the kernel wants it.

    Raises FileError, ImageError for a profile that makes no sense, which names the line or the key, ToolError without
    libseccomp.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from error
    if len(data) > _SIZE_LIMIT:
        raise ImageError(f"{path}: longer than {_SIZE_LIMIT} bytes")
    with ImageError.named(path):
        return _exported(read(parse_json(data), surroundings))


# ---- the document ----


def read(document: Any, surroundings: Surroundings) -> Profile:
    """What a profile says, of that which applies. Raises an error that names the key."""
    profile = _keyed("", document, _PROFILE_KEYS)
    default = _action("defaultAction", profile, "defaultErrnoRet", "defaultErrno")
    for flag in _texts("flags", profile.get("flags", [])):
        if flag == "SECCOMP_FILTER_FLAG_LOG":  # the other flags change nothing for a program that has one thread
            logger.warning("the profile's %s is left out: what is refused is not logged", flag)
    rules = [
        rule
        for number, each in enumerate(_list("syscalls", profile.get("syscalls", [])))
        if (rule := _rule(f"syscalls[{number}]", each, surroundings)) is not None
    ]
    return Profile(default=default, architectures=tuple(_architectures(profile, surroundings)), rules=tuple(rules))


def _keyed(key: str, value: Any, known: Collection[str]) -> Mapping[str, Any]:
    """An object; a key that nobody knows might be a restriction, misspelt."""
    if not isinstance(value, dict):
        raise _fault(key, "an object is wanted")
    for name in value:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise _fault(f"{key}.{name}".lstrip("."), f"unknown{hint}")
    return value


def _list(key: str, value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _fault(key, "a list is wanted")
    return value


def _texts(key: str, value: Any) -> list[str]:
    found = _list(key, value)
    if not all(isinstance(each, str) for each in found):
        raise _fault(key, "a list of words is wanted")
    return found


def _number(key: str, value: Any, limit: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < limit:
        raise _fault(key, f"a number from 0 to {limit - 1} is wanted")
    return value


def _action(key: str, where: Mapping[str, Any], number: str, name: str) -> int:
    """An action with its errno: `key` ends in the name of its own key in `where`."""
    above, _, own = key.rpartition(".")
    word = where.get(own)
    if not isinstance(word, str) or word not in _ACTIONS:
        if word == "SCMP_ACT_NOTIFY":
            raise _fault(key, "there is nobody here to be notified")
        raise _fault(key, f'"{word}" is no action' if isinstance(word, str) else "an action is missing")
    action = _ACTIONS[word]
    if action not in (_ERRNO, _TRACE):
        return action
    if where.get(number) is not None:
        return action | _number(f"{above}.{number}".lstrip("."), where[number], 4096)
    if where.get(name) is not None:
        value = getattr(errno, str(where[name]), None)
        if not isinstance(value, int):
            raise _fault(f"{above}.{name}".lstrip("."), f'"{where[name]}" is no errno')
        return action | value
    return action | errno.EPERM


def _architectures(profile: Mapping[str, Any], surroundings: Surroundings) -> Iterator[tuple[str, str]]:
    for number, name in enumerate(_texts("architectures", profile.get("architectures", []))):
        yield _architecture(f"architectures[{number}]", name), f"architectures[{number}]"
    native = surroundings.machine.replace("arm64", "aarch64")
    for number, each in enumerate(_list("archMap", profile.get("archMap", []))):
        key = f"archMap[{number}]"
        entry = _keyed(key, each, {"architecture", "subArchitectures"})
        word: Any = entry.get("architecture")
        if not isinstance(word, str):
            raise _fault(f"{key}.architecture", "a word is wanted")
        if _architecture(f"{key}.architecture", word) != native:
            continue
        for place, below in enumerate(_texts(f"{key}.subArchitectures", entry.get("subArchitectures", []))):
            yield _architecture(f"{key}.subArchitectures[{place}]", below), f"{key}.subArchitectures[{place}]"


def _architecture(key: str, word: str) -> str:
    if not word.startswith("SCMP_ARCH_"):
        raise _fault(key, f'"{word}" is no architecture')
    return word.removeprefix("SCMP_ARCH_").lower()


def _rule(key: str, value: Any, surroundings: Surroundings) -> Rule | None:
    """None: it does not apply."""
    given = _keyed(key, value, _RULE_KEYS)
    names = _texts(f"{key}.names", given.get("names", []))
    if isinstance(given.get("name"), str) and given["name"]:
        names = [*names, given["name"]]
    if not names:
        raise _fault(f"{key}.names", "no system call is named")
    action = _action(f"{key}.action", given, "errnoRet", "errno")
    arguments = [
        _argument(f"{key}.args[{at}]", each) for at, each in enumerate(_list(f"{key}.args", given.get("args")))
    ]
    included, excluded = (_filter(f"{key}.{name}", given.get(name)) for name in ("includes", "excludes"))
    if not _included(included, surroundings) or _excluded(excluded, surroundings):
        return None
    return Rule(key=key, action=action, names=tuple(names), arguments=tuple(arguments))


def _argument(key: str, value: Any) -> Argument:
    given = _keyed(key, value, _ARGUMENT_KEYS)
    operator = given.get("op")
    if operator not in _OPERATORS:
        raise _fault(f"{key}.op", f'"{operator}" compares nothing')
    index = _number(f"{key}.index", given.get("index"), 6)
    first, second = (_number(f"{key}.{name}", given.get(name, 0), 1 << 64) for name in ("value", "valueTwo"))
    return Argument(index=index, operator=_OPERATORS[operator], first=first, second=second)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    capabilities: tuple[str, ...]
    machines: tuple[str, ...]
    kernel: tuple[int, ...]


def _filter(key: str, value: Any) -> _Filter:
    given = _keyed(key, value or {}, _FILTER_KEYS)
    kernel = given.get("minKernel", "")
    return _Filter(
        capabilities=tuple(_texts(f"{key}.caps", given.get("caps", []))),
        machines=tuple(_texts(f"{key}.arches", given.get("arches", []))),
        kernel=_version(f"{key}.minKernel", kernel) if kernel else (),
    )


def _version(key: str, text: Any) -> tuple[int, ...]:
    words = str(text).split("-")[0].split("+")[0].split(".")
    if len(words) < 2 or not all(word.isdecimal() for word in words[:2]):
        raise _fault(key, f'"{text}" is no version of a kernel')
    return int(words[0]), int(words[1])


def _included(wanted: _Filter, surroundings: Surroundings) -> bool:
    """Whether all that a rule asks for is there."""
    machine = _MACHINES.get(surroundings.machine, surroundings.machine)
    return (
        all(name in surroundings.capabilities for name in wanted.capabilities)
        and (not wanted.machines or machine in wanted.machines)
        and _version("kernel", surroundings.kernel) >= wanted.kernel
    )


def _excluded(unwanted: _Filter, surroundings: Surroundings) -> bool:
    """Whether any of what keeps a rule out is there."""
    machine = _MACHINES.get(surroundings.machine, surroundings.machine)
    return (
        any(name in surroundings.capabilities for name in unwanted.capabilities)
        or machine in unwanted.machines
        or (bool(unwanted.kernel) and _version("kernel", surroundings.kernel) >= unwanted.kernel)
    )


# ---- the filter ----


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise ToolError("libseccomp.so.2 not found, needed to compile profiles", hint="install libseccomp2") from error
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    return library


def _exported(profile: Profile) -> bytes:
    library = _library()
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(profile.default)))
    if not context:
        raise _fault("defaultAction", "libseccomp does not know it")
    try:
        library.seccomp_attr_set(context, ctypes.c_int(_OPTIMIZE), ctypes.c_uint32(_BINARY_TREE))
        for word, key in profile.architectures:
            _add_architecture(library, context, word, key)
        for rule in profile.rules:
            _add(library, context, profile.default, rule)
        return _written(library, context)
    finally:
        library.seccomp_release(context)


def _add_architecture(library: ctypes.CDLL, context: ctypes.c_void_p, word: str, key: str) -> None:
    token = library.seccomp_arch_resolve_name(word.encode())
    result = library.seccomp_arch_add(context, ctypes.c_uint32(token)) if token else -errno.EINVAL
    if result not in (0, -errno.EEXIST):
        raise _fault(key, f"SCMP_ARCH_{word.upper()} is none that libseccomp has here")


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, default: int, rule: Rule) -> None:
    """A name that libseccomp does not know is a newer system call, or a mistake: fatal where it was to be refused."""
    if rule.action == default:
        return
    for name in rule.names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL and default in _LENIENT and rule.action not in _LENIENT:
            raise _fault(
                f"{rule.key}.names", f'"{name}" is no system call that libseccomp knows, so it cannot be refused'
            )
        if number == _UNKNOWN_CALL:
            logger.debug("%s: %s is no system call that libseccomp knows", rule.key, name)
            continue
        for arguments in _together(rule.arguments):
            compared = (_Compared * len(arguments))(
                *(_Compared(each.index, each.operator, each.first, each.second) for each in arguments)
            )
            result = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(rule.action), ctypes.c_int(number), ctypes.c_uint(len(arguments)), compared
            )
            if result not in (0, -errno.EEXIST):
                raise _fault(rule.key, f"{name}: libseccomp does not take this rule ({os.strerror(-result)})")


def _together(arguments: tuple[Argument, ...]) -> list[tuple[Argument, ...]]:
    """Conditions on one argument twice are alternatives, since libseccomp has one for each; all others go together."""
    if len({each.index for each in arguments}) == len(arguments):
        return [arguments]
    return [(each,) for each in arguments]


def _written(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    with files.closing(os.memfd_create("filter")) as memory:
        if library.seccomp_export_bpf(context, ctypes.c_int(memory)) != 0:
            raise _fault("", "libseccomp could not compile it")
        size = os.fstat(memory).st_size
        if size > LIMIT * _INSTRUCTION:
            raise _fault("", f"{size // _INSTRUCTION} instructions, and the kernel takes {LIMIT}")
        return os.pread(memory, size, 0)
