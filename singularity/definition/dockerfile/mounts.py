"""`RUN --mount=type=...,KEY=VALUE,...`: what a command sees, and the image does not keep."""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from singularity.definition.dockerfile.state import fail
from singularity.definition.model import Instruction
from singularity.definition.sections import WORD_LIMIT
from singularity.errors import DefinitionError

_KINDS = ("bind", "cache", "tmpfs", "secret")
_NAMES = {"src": "source", "dst": "target", "destination": "target", "readonly": "ro", "readwrite": "rw"}
_FLAGS = frozenset({"ro", "rw", "required"})
_KEYS: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"source", "target", "from", "ro", "rw"}),
    "cache": frozenset({"id", "source", "target", "from", "ro", "rw", "sharing", "mode", "uid", "gid"}),
    "tmpfs": frozenset({"target", "size"}),
    "secret": frozenset({"id", "source", "target", "required", "mode", "uid", "gid", "env"}),
}
_SHARING = ("shared", "private", "locked")
_SIZE = re.compile(r"(\d+)([kmgt]?)b?", re.IGNORECASE)
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One `--mount`."""

    kind: str  # bind, cache, tmpfs or secret
    target: str = ""  # as it stands there; empty: of a secret, what is usual, or nothing but a variable
    source: str = ""  # in the context or the stage
    stage: str = ""  # as it stands there; empty: the context
    id: str = ""  # of a secret, or of a cache
    writable: bool = True
    required: bool = False  # that there is such a secret
    sharing: str = "shared"  # of a cache between builds at once
    mode: int | None = None
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes that a tmpfs may have; 0: no limit
    variable: str = ""  # that has the secret as its value


def parse(instruction: Instruction, text: str, filled: Callable[[str], str] = str) -> Mount:
    """What a `--mount` says; `filled` fills variables in. Raises DefinitionError."""

    def wrong(what: str, hint: str = "") -> DefinitionError:
        return fail(instruction, f"--mount={text[:WORD_LIMIT]}: {what}", hint)

    given = _fields(text, filled, wrong)
    kind = given.pop("type", "bind")
    if kind == "ssh":
        raise wrong("keys of an SSH agent are not handed on", "a deploy key by type=secret does as well")
    if kind not in _KINDS:
        raise wrong(f'no type "{kind[:WORD_LIMIT]}"', f"known are {', '.join(_KINDS)}")
    for key in given:
        if key not in _KEYS[kind]:
            raise wrong(f'{kind} has no "{key[:WORD_LIMIT]}"', f"known are {', '.join(sorted(_KEYS[kind]))}")
    target, identifier = given.get("target", ""), given.get("id", "")
    if kind == "secret":
        identifier = identifier or (target or given.get("source", "")).rstrip("/").rpartition("/")[2]
        if not identifier:
            raise wrong("a secret needs an id", "--mount=type=secret,id=NAME")
    elif not target:
        raise wrong("no target", "target=/PATH says where it is seen")
    if given.get("sharing", "shared") not in _SHARING:
        raise wrong(f"sharing={given['sharing'][:WORD_LIMIT]}", f"known are {', '.join(_SHARING)}")
    return Mount(
        kind=kind,
        target=target,
        source=given.get("source", ""),
        stage=given.get("from", ""),
        id=identifier,
        writable=_truth(given, "rw", kind != "bind", wrong) and not _truth(given, "ro", False, wrong),
        required=_truth(given, "required", False, wrong),
        sharing=given.get("sharing", "shared"),
        mode=_number(given, "mode", 8, wrong),
        uid=_number(given, "uid", 10, wrong) or 0,
        gid=_number(given, "gid", 10, wrong) or 0,
        size=_size(given, wrong),
        variable=given.get("env", ""),
    )


_Wrong = Callable[[str], DefinitionError]


def _fields(text: str, filled: Callable[[str], str], wrong: _Wrong) -> dict[str, str]:
    try:
        (row,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as error:
        raise wrong("not understood") from error
    found = {}
    for word in row:
        key, equals, value = word.partition("=")
        key = _NAMES.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in _FLAGS:
            raise wrong(f'"{word[:WORD_LIMIT]}" is no KEY=VALUE')
        found[key] = (value if key in ("type", "from") else filled(value)) if equals else "true"
    return found


def _truth(given: Mapping[str, str], key: str, usual: bool, wrong: _Wrong) -> bool:
    if key not in given:
        return usual
    if given[key].lower() not in _TRUTH:
        raise wrong(f"{key}={given[key][:WORD_LIMIT]}: true or false")
    return _TRUTH[given[key].lower()]


def _number(given: Mapping[str, str], key: str, base: int, wrong: _Wrong) -> int | None:
    if key not in given:
        return None
    try:
        number = int(given[key], base)
    except ValueError:
        number = -1
    if not 0 <= number < (0o10000 if key == "mode" else (1 << 32) - 1):
        raise wrong(f"{key}={given[key][:WORD_LIMIT]}: not understood")
    return number


def _size(given: Mapping[str, str], wrong: _Wrong) -> int:
    if "size" not in given:
        return 0
    match = _SIZE.fullmatch(given["size"])
    if match is None:
        raise wrong(f"size={given['size'][:WORD_LIMIT]}: not understood (such as 64m)")
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}[match[2].lower()]
