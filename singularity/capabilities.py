"""Which capabilities users may add to their programs: root's policy, `capability.json` beside the configuration file.

The file is the family's: {"users": {"alice": ["CAP_NET_RAW"]}, "groups": {...}}; an empty one says nothing.
"""

import grp
import json
import logging
import os
import pwd
import stat
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from singularity import files, paths
from singularity.errors import FileError, ImageError, SingularityError
from singularity.foreign_json import parse_json

logger = logging.getLogger(__name__)

NAMES = (  # in the order of their numbers, as in launcher/front/capabilities.c
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
_SIZE_LIMIT = 1 << 20  # bytes
_KINDS = ("users", "groups")
_Listed = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """By name of a user or group, which they may add: CAP_NET_RAW..."""

    users: _Listed = field(default_factory=dict)
    groups: _Listed = field(default_factory=dict)


def place() -> Path:
    """Where the file is, or would be."""
    return paths.site_directory() / "capability.json"


def parse(words: str) -> tuple[str, ...]:
    """The names in a list with commas, in any of their spellings; `all` is each. Raises SingularityError."""
    found: list[str] = []
    for word in filter(None, (each.strip() for each in words.split(","))):
        bare = word.upper().removeprefix("CAP_")
        if bare not in (*NAMES, "ALL"):
            raise SingularityError(f'unknown capability "{word}"', hint="see: man 7 capabilities")
        found += [f"CAP_{name}" for name in (NAMES if bare == "ALL" else (bare,))]
    return tuple(dict.fromkeys(found))


def names_of(mask: int) -> frozenset[str]:
    """The names of the bits that are set."""
    return frozenset(f"CAP_{name}" for number, name in enumerate(NAMES) if mask >> number & 1)


def mask_of(names: Collection[str]) -> int:
    """The bits of these names."""
    return sum(1 << number for number, name in enumerate(NAMES) if f"CAP_{name}" in names)


def read(path: Path | None = None) -> Policy:
    """The policy of this installation, or in another such file. Raises FileError where it could be somebody else's."""
    path = path or place()
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(_SIZE_LIMIT + 1)
    except FileNotFoundError:
        return Policy()
    except OSError as error:
        raise FileError.because(path, error) from error
    if status.st_uid != _owner(path.parent) or stat.S_IMODE(status.st_mode) & 0o022:
        raise FileError(f"{path}: not root's alone", hint=f"chown root: {path}; chmod 644 {path}")
    if not data.strip():
        return Policy()
    with ImageError.named(path):
        document = parse_json(data[:_SIZE_LIMIT])
        return Policy(**{kind: _listed(document, kind) for kind in _KINDS})


def _owner(directory: Path) -> int:
    """Root; or whoever has installed this for himself, whom it protects from nobody."""
    return directory.stat().st_uid


def _listed(document: Any, kind: str) -> _Listed:
    found = document.get(kind) if isinstance(document, dict) else 0
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(names, list) for names in found.values()):
        raise ImageError(f"{kind}: lists of capabilities by name are wanted")
    return {str(name): [str(each) for each in names] for name, names in found.items()}


def write(policy: Policy) -> None:
    """Makes it the policy of this installation. Raises FileError."""
    path = place()
    document = {kind: {name: names for name, names in getattr(policy, kind).items() if names} for kind in _KINDS}
    owner = os.open(path.parent / "singularity.conf", os.O_RDONLY | os.O_CLOEXEC)  # not who called sudo
    with files.closing(owner), files.replacing(path, overwrite=True, like=owner) as new:
        files.write_at(new.fd, (json.dumps(document, indent=2) + "\n").encode(), 0)


def changed(listed: Mapping[str, list[str]], who: str, add: Iterable[str] = (), drop: Collection[str] = ()) -> _Listed:
    """The list with these of `who` added or dropped."""
    mine = list(dict.fromkeys([*listed.get(who, []), *add]))
    return {**listed, who: [name for name in mine if name not in drop]}


def allowed(uid: int, gids: Iterable[int]) -> frozenset[str]:
    """What this user, a member of these groups, may add. A file not to be relied on is a warning and allows none."""
    try:
        policy = read()
    except SingularityError as error:
        logger.warning("%s: no capability is authorized by it", error)
        return frozenset()
    found: set[str] = set()
    with suppress(KeyError):
        found.update(policy.users.get(pwd.getpwuid(uid).pw_name, []))
    for gid in gids:
        with suppress(KeyError):
            found.update(policy.groups.get(grp.getgrgid(gid).gr_name, []))
    return frozenset(found)
