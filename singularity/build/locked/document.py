"""The lock of a build, a JSON document: by digest, all that a build took from elsewhere, and what came of it.

`docs/locked-builds.md` says what each key means. A lock may come from a stranger: it is read into values that need no
second look, and its digests are the only names under which anything is looked for on a disk.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from singularity import files
from singularity.errors import BuildError, FileError, ImageError, NetworkError
from singularity.foreign_json import parse_json
from singularity.web.http import Origin

VERSION = 1
_LIMIT = 64 << 20  # bytes of a lock
_DIGITS = re.compile(r"[0-9a-f]{64}")
_URL = re.compile(r"https?://[^\s/]+(?:/\S*)?", re.ASCII)
_METHODS = ("GET", "POST")
_HEADER = re.compile(r"[ -~]*", re.ASCII)
_WHEN = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_PROGRAM = re.compile(r"[\w.+~-]{1,40}", re.ASCII)
_STATUSES = range(200, 500)
_SHOWN = 200  # characters of what a stranger may have written
_TIMES = 1 << 32  # what the formats of images have room for, in seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One answer of a server, and what it was an answer to."""

    url: str
    method: str = "GET"
    sent: str = ""  # of a POST: the SHA-256 of what was sent
    accept: str = ""  # the header of that name, where the answer depends on it (`Vary`)
    status: int = 200
    sha256: str = ""  # of the content; empty for an answer without any that matters
    size: int = 0  # of the content, in bytes
    headers: Mapping[str, str] = field(default_factory=dict)  # those that programs act upon

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What asks for it: two answers of one build have different ones."""
        return self.url, self.method, self.sent, self.accept

    def encode(self) -> dict[str, Any]:
        """As it stands in the document: what is usual is left out."""
        usual = Fetched(url="")
        names = ("method", "sent", "accept", "status", "sha256", "size", "headers")
        said = {name: getattr(self, name) for name in names if getattr(self, name) != getattr(usual, name)}
        return {"url": self.url, **said}


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """A file, directory or image that the build began with, and its digest, as the step that uses it has it."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A package of the image; `file` is the URL that it came from in this build, empty for what the base had."""

    manager: str
    name: str
    version: str
    architecture: str = ""
    file: str = ""
    sha256: str = ""

    @property
    def text(self) -> str:
        """For messages."""
        return f"{self.name} {self.version}"[:_SHOWN]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A whole lock."""

    created: str  # when the build began, in UTC: the date that a snapshot of a mirror is asked for
    program: str  # version of the program that made it
    epoch: int  # SOURCE_DATE_EPOCH of the build
    source: str  # the definition's name, for people
    definition: str  # SHA-256 of its text
    options: Mapping[str, Any]  # those that change what comes of it
    image: str = ""  # SHA-256 of the file that was built
    bases: tuple[Input, ...] = ()
    files: tuple[Input, ...] = ()
    fetched: tuple[Fetched, ...] = ()
    packages: tuple[Installed, ...] = ()

    def encode(self) -> bytes:
        """The document: sorted, so that two locks can be compared line by line; it ends with a newline."""
        document: dict[str, Any] = {
            "version": VERSION,
            "program": self.program,
            "created": self.created,
            "sourceDateEpoch": self.epoch,
            "definition": {"name": self.source, "sha256": self.definition},
            "options": dict(self.options),
            "image": {"sha256": self.image},
            "bases": [_pair(each) for each in self.bases],
            "files": [_pair(each) for each in self.files],
            "fetched": [each.encode() for each in sorted(self.fetched, key=lambda each: each.key)],
            "packages": [_package(each) for each in self.packages],
        }
        return json.dumps(document, indent=1).encode() + b"\n"


def _pair(each: Input) -> dict[str, str]:
    return {"name": each.name, "digest": each.digest}


def _package(each: Installed) -> dict[str, str]:
    names = ("manager", "name", "version", "architecture", "file", "sha256")
    return {name: getattr(each, name) for name in names if getattr(each, name)}


def write(path: Path, lock: Lock) -> None:
    """Writes a lock, whole or not at all, over one that is there. Raises FileError."""
    with files.replacing(path, overwrite=True) as new:
        files.write_at(new.fd, lock.encode(), 0)


def read(path: Path) -> Lock:
    """Reads a lock. Raises FileError, and BuildError for what is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except FileNotFoundError as error:
        raise FileError(f"{path}: no such lock", hint="build --lock writes it") from error
    except OSError as error:
        raise FileError.because(path, error) from error
    try:
        if len(data) > _LIMIT:
            raise _NoLockError(f"larger than {_LIMIT >> 20} MiB")
        return _lock(parse_json(data))
    except (_NoLockError, ImageError) as error:
        raise BuildError(f"{path}: no lock: {error}", hint="build --lock writes one") from error


class _NoLockError(Exception):
    """What is wrong with a document."""


def _lock(document: Any) -> Lock:
    found = _object(document, "the document")
    if found.get("version") != VERSION:
        raise _NoLockError(f"version {str(found.get('version'))[:20]}, and this program reads {VERSION}")
    definition, image = _object(found.get("definition"), "definition"), _object(found.get("image"), "image")
    made = Lock(
        created=_text(found, "created", _WHEN),
        program=_text(found, "program", _PROGRAM),
        epoch=_number(found, "sourceDateEpoch", _TIMES),
        source=_text(definition, "name"),
        definition=_text(definition, "sha256", _DIGITS),
        options=_object(found.get("options"), "options"),
        image=_text(image, "sha256", _DIGITS),
        bases=tuple(_input(each) for each in _list(found, "bases")),
        files=tuple(_input(each) for each in _list(found, "files")),
        fetched=tuple(_fetched(each) for each in _list(found, "fetched")),
        packages=tuple(_installed(each) for each in _list(found, "packages")),
    )
    if len({each.key for each in made.fetched}) != len(made.fetched):
        raise _NoLockError("two answers to one request")
    return made


def _input(each: Mapping[str, Any]) -> Input:
    return Input(name=_text(each, "name"), digest=_text(each, "digest"))


def _fetched(each: Mapping[str, Any]) -> Fetched:
    headers = _object(each.get("headers", {}), "headers")
    if not all(isinstance(value, str) and _HEADER.fullmatch(value) for pair in headers.items() for value in pair):
        raise _NoLockError("headers that are none")
    url = _text(each, "url", _URL)
    try:
        Origin.of(url)
    except NetworkError as error:
        raise _NoLockError(str(error)) from error
    made = Fetched(
        url=url,
        method=_text({"method": "GET", **each}, "method"),
        sent=_text(each, "sent", _DIGITS) if "sent" in each else "",
        accept=_text({"accept": "", **each}, "accept", _HEADER),
        status=_number({"status": 200, **each}, "status"),
        sha256=_text(each, "sha256", _DIGITS) if "sha256" in each else "",
        size=_number({"size": 0, **each}, "size"),
        headers=headers,
    )
    if made.method not in _METHODS or made.status not in _STATUSES:
        raise _NoLockError(f"{made.url[:200]}: no answer that a build notes")
    return made


def _installed(each: Mapping[str, Any]) -> Installed:
    names = ("manager", "name", "version", "architecture", "file", "sha256")
    return Installed(**{name: _text({name: "", **each}, name) for name in names})


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _NoLockError(f"{name} is no object")
    return value


def _list(found: Mapping[str, Any], name: str) -> Sequence[Mapping[str, Any]]:
    value = found.get(name)
    if not isinstance(value, list):
        raise _NoLockError(f"{name} is no list")
    return [_object(each, f"an entry of {name}") for each in value]


def _text(found: Mapping[str, Any], name: str, form: re.Pattern[str] | None = None) -> str:
    value = found.get(name)
    if not isinstance(value, str) or (form is not None and not form.fullmatch(value)):
        raise _NoLockError(f"{name} is missing, or makes no sense")
    return value


def _number(found: Mapping[str, Any], name: str, end: int = 1 << 62) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < end:
        raise _NoLockError(f"{name} is no number")
    return value
