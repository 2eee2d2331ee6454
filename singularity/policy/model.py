"""A policy, read from `policy.json`. Source: containers-policy.json(5).

The reader is strict: a file with a member that is unknown, missing, there twice or of another type is refused whole,
so that no slip of the pen lets anything in.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from singularity.errors import FileError, ImageError, SignatureError
from singularity.registry import reference as references

_LIMIT = 4 << 20  # bytes of a policy, and of a file of keys
_DEPTH = 16
_SCOPE = re.compile(r"(?:\*\.)?[A-Za-z0-9][A-Za-z0-9.:_/@-]*")


class Kind(Enum):
    """What a requirement asks for; the values are the words of the file."""

    ACCEPT = "insecureAcceptAnything"
    REJECT = "reject"
    SIGNED_BY = "signedBy"
    SIGSTORE = "sigstoreSigned"


class Match(Enum):
    """How the name in a signature and the name of an image must go together."""

    EXACT = "matchExact"
    REPOSITORY_DIGEST_OR_EXACT = "matchRepoDigestOrExact"
    REPOSITORY = "matchRepository"
    EXACT_REFERENCE = "exactReference"
    EXACT_REPOSITORY = "exactRepository"
    REMAP = "remapIdentity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The name that a signature must speak of."""

    match: Match = Match.REPOSITORY_DIGEST_OR_EXACT
    name: str = ""  # of EXACT_REFERENCE and EXACT_REPOSITORY
    prefix: str = ""  # of REMAP, as is the next
    signed_prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One condition; keys are those that count, each enough."""

    kind: Kind
    key_paths: tuple[Path, ...] = ()
    key_data: tuple[bytes, ...] = ()
    identity: Identity = Identity()
    unknown: str = ""  # what of it is not understood here, so that it holds for no image

    def read_keys(self) -> list[bytes]:
        """The content of the keys' files, and the keys that stand in the policy. Raises FileError."""
        found = list(self.key_data)
        for path in self.key_paths:
            with FileError.about(path), path.open("rb") as file:
                found.append(file.read(_LIMIT))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The requirements of all images; of each list, all must hold."""

    path: Path
    default: tuple[Requirement, ...]
    transports: Mapping[str, Mapping[str, tuple[Requirement, ...]]]

    def requirements(self, transport: str, scopes: list[str]) -> tuple[Requirement, ...]:
        """Those for an image; `scopes` go from the most specific to the widest."""
        of_transport = self.transports.get(transport, {})
        return next((of_transport[each] for each in [*scopes, ""] if each in of_transport), self.default)


class _WrongError(Exception):
    """What is wrong, and where in the document."""


def read(path: Path) -> Policy:
    """The policy in a file. Raises SignatureError for one that is malformed, or cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except OSError as error:  # a link to nothing too
        raise SignatureError(f"{path}: the policy cannot be read: {error.strerror}") from error
    try:
        if len(data) > _LIMIT:
            raise _WrongError(f"more than {_LIMIT >> 20} MiB")
        return _policy(json.loads(data, object_pairs_hook=_once), path)
    except (_WrongError, ValueError, RecursionError) as error:
        hint = "nothing is fetched until it is repaired: containers-policy.json(5)"
        raise SignatureError(f"{path}: no policy: {error}", hint=hint) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for number, (name, _) in enumerate(pairs):
        if any(name == other for other, _ in pairs[:number]):
            raise _WrongError(f'"{name[:80]}" stands there twice')
    return dict(pairs)


def _policy(document: Any, path: Path) -> Policy:
    members = _members(document, "the policy", {"default": _requirements, "transports": _transports}, {"default"})
    return Policy(path=path, default=members["default"], transports=members.get("transports", {}))


def _members(
    value: Any, where: str, known: Mapping[str, Callable[[Any, str], Any]], needed: set[str]
) -> dict[str, Any]:
    """The members of an object, each read by its function; none is unknown, and those that are needed are there."""
    if not isinstance(value, dict):
        raise _WrongError(f"{where} is no object")
    for name in value:
        if name not in known:
            raise _WrongError(f'{where}: unknown "{name[:80]}"')
    for name in sorted(needed - value.keys()):
        raise _WrongError(f'{where}: "{name}" is missing')
    return {name: known[name](member, f"{where}: {name}") for name, member in value.items()}


def _transports(value: Any, where: str) -> dict[str, dict[str, tuple[Requirement, ...]]]:
    if not isinstance(value, dict):
        raise _WrongError(f"{where} is no object")
    found = {}
    for transport, scopes in value.items():
        if not isinstance(scopes, dict):
            raise _WrongError(f"{where}: {transport[:80]} is no object")
        for scope in scopes:
            if transport == "docker" and scope and not _SCOPE.fullmatch(scope):
                raise _WrongError(f'{where}: {transport}: "{scope[:80]}" is no scope')
        found[transport] = {
            scope: _requirements(each, f'{where}: {transport[:80]}: "{scope[:80]}"') for scope, each in scopes.items()
        }
    return found


def _requirements(value: Any, where: str) -> tuple[Requirement, ...]:
    if not isinstance(value, list) or not value:
        raise _WrongError(f"{where} is no list of requirements, or an empty one")
    return tuple(_requirement(each, where) for each in value)


def _requirement(value: Any, where: str) -> Requirement:
    said = value.get("type") if isinstance(value, dict) else None
    kind = next((each for each in Kind if each.value == said), None)
    if kind is None:
        raise _WrongError(f'{where}: no requirement of the type "{str(said)[:80]}" is known')
    if kind in (Kind.ACCEPT, Kind.REJECT):
        _members(value, where, {"type": _text}, set())
        return Requirement(kind=kind)
    members = _members(value, where, _SIGNED if kind is Kind.SIGNED_BY else _SIGSTORE, set())
    given = [name for name in members if name not in ("type", "signedIdentity", "keyType")]
    unknown = [name for name in given if name not in _KEYS]
    if kind is Kind.SIGNED_BY and members.get("keyType") != "GPGKeys":
        raise _WrongError(f'{where}: "keyType" is "GPGKeys" alone')
    if len([name for name in given if name in _KEYS]) != 1 and not unknown:
        raise _WrongError(f"{where}: exactly one of keyPath, keyPaths, keyData{_MORE[kind]} is needed")
    return Requirement(
        kind=kind,
        key_paths=(*members.get("keyPath", ()), *members.get("keyPaths", ())),
        key_data=(*members.get("keyData", ()), *members.get("keyDatas", ())),
        identity=members.get("signedIdentity", Identity()),
        unknown=", ".join(unknown),
    )


def _identity(value: Any, where: str) -> Identity:
    said = value.get("type") if isinstance(value, dict) else None
    match = next((each for each in Match if each.value == said), None)
    if match is None:
        raise _WrongError(f'{where}: no identity of the type "{str(said)[:80]}" is known')
    own = _IDENTITIES.get(match, {})
    members = _members(value, where, {"type": _text, **own}, set(own))
    return Identity(
        match=match,
        name=members.get("dockerReference") or members.get("dockerRepository") or "",
        prefix=members.get("prefix", ""),
        signed_prefix=members.get("signedPrefix", ""),
    )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise _WrongError(f"{where} is no text")
    return value


def _path(value: Any, where: str) -> tuple[Path, ...]:
    path = Path(_text(value, where))
    if not path.is_absolute():
        raise _WrongError(f"{where} is no absolute path")
    return (path,)


def _data(value: Any, where: str) -> tuple[bytes, ...]:
    try:
        return (base64.b64decode(_text(value, where), validate=True),)
    except binascii.Error as error:
        raise _WrongError(f"{where} is no base64") from error


def _several(one: Callable[[Any, str], tuple[Any, ...]]) -> Callable[[Any, str], tuple[Any, ...]]:
    def read_all(value: Any, where: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise _WrongError(f"{where} is no list, or an empty one")
        return tuple(each for member in value for each in one(member, where))

    return read_all


def _anything(value: Any, where: str) -> Any:
    del where
    return value


def _reference(value: Any, where: str) -> str:
    text = _text(value, where)
    try:
        named = references.parse(text)
    except ImageError as error:
        raise _WrongError(f"{where}: {error.what}") from error
    if ":" not in text.rpartition("/")[2]:  # of the tag, or of the digest
        raise _WrongError(f"{where}: neither a tag nor a digest")
    return str(named)


def _repository(value: Any, where: str) -> str:
    text = _text(value, where)
    if "@" in text or ":" in text.rpartition("/")[2]:
        raise _WrongError(f"{where}: a repository has no tag and no digest")
    try:
        named = references.parse(text)
    except ImageError as error:
        raise _WrongError(f"{where}: {error.what}") from error
    return f"{named.host}/{named.repository}"


def _prefix(value: Any, where: str) -> str:
    text = _text(value, where)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::[0-9]+)?(?:/[a-z0-9._-]+)*", text):
        raise _WrongError(f"{where}: no host, namespace or repository in full")
    return text


_IDENTITIES: dict[Match, dict[str, Callable[[Any, str], Any]]] = {
    Match.EXACT_REFERENCE: {"dockerReference": _reference},
    Match.EXACT_REPOSITORY: {"dockerRepository": _repository},
    Match.REMAP: {"prefix": _prefix, "signedPrefix": _prefix},
}
_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_OF_BOTH: dict[str, Callable[[Any, str], Any]] = {
    "type": _text, "keyPath": _path, "keyPaths": _several(_path), "keyData": _data, "signedIdentity": _identity,
}  # fmt: skip
_SIGNED = {**_OF_BOTH, "keyType": _text}
_SIGSTORE = {
    **_OF_BOTH,
    "keyDatas": _several(_data),
    **dict.fromkeys(
        ("fulcio", "pki", "rekorPublicKeyPath", "rekorPublicKeyPaths", "rekorPublicKeyData", "rekorPublicKeyDatas"),
        _anything,
    ),
}
_MORE = {Kind.SIGNED_BY: "", Kind.SIGSTORE: ", keyDatas"}
