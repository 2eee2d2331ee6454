"""The lock of a build, a JSON document: by digest, all that a build took from elsewhere, and what came of it.

`docs/locked-builds.md` says what each key means. A lock may come from a stranger: it is read into values that need no
second look, and its digests are the only names under which anything is looked for on a disk.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from singularity import documents, files
from singularity.errors import BuildError, FileError, ImageError, NetworkError
from singularity.foreign_json import parse_json
from singularity.web.http import Origin

VERSION = 1
_LIMIT = 64 << 20  # bytes of a lock
_SHOWN = 200  # characters of what a stranger may have written
_TIMES = 1 << 32  # what the formats of images have room for, in seconds
_Digits = Annotated[str, re.compile(r"[0-9a-f]{64}")]
_Url = Annotated[str, re.compile(r"https?://[^\s/]+(?:/\S*)?", re.ASCII)]
_Header = Annotated[str, re.compile(r"[ -~]*", re.ASCII)]
_Program = Annotated[str, re.compile(r"[\w.+~-]{1,40}", re.ASCII)]
_When = Annotated[str, re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One answer of a server, and what it was an answer to."""

    url: _Url
    method: Annotated[str, re.compile("GET|POST")] = "GET"
    sent: _Digits = ""  # of a POST: the SHA-256 of what was sent
    accept: _Header = ""  # the header of that name, where the answer depends on it (`Vary`)
    status: Annotated[int, range(200, 500)] = 200
    sha256: _Digits = ""  # of the content; empty for an answer without any that matters
    size: int = 0  # of the content, in bytes
    headers: Mapping[_Header, _Header] = field(default_factory=dict)  # those that programs act upon

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What asks for it: two answers of one build have different ones."""
        return self.url, self.method, self.sent, self.accept


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
    """A whole lock, its members in the order of the document."""

    program: _Program  # version of the program that made it
    created: _When  # when the build began, in UTC: the date that a snapshot of a mirror is asked for
    epoch: Annotated[int, range(_TIMES)] = field(metadata={"key": "sourceDateEpoch"})  # SOURCE_DATE_EPOCH of the build
    source: str = field(metadata={"key": "definition.name"})  # for people
    definition: _Digits = field(metadata={"key": "definition.sha256"})  # of its text
    options: Mapping[str, Any]  # those that change what comes of it
    image: _Digits = field(metadata={"key": "image.sha256"})  # of the file that was built
    bases: tuple[Input, ...]
    files: tuple[Input, ...]
    fetched: tuple[Fetched, ...]
    packages: tuple[Installed, ...]

    def encode(self) -> bytes:
        """The document: sorted, so that two locks can be compared line by line; it ends with a newline."""
        lock = replace(self, fetched=tuple(sorted(self.fetched, key=lambda each: each.key)))
        return json.dumps({"version": VERSION, **documents.encoded(lock)}, indent=1).encode() + b"\n"


def write(path: Path, lock: Lock) -> None:
    """Writes a lock, whole or not at all, over one that is there. Raises FileError."""
    files.write(path, lock.encode(), overwrite=True)


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
        return _lock(data)
    except ImageError as error:
        raise BuildError(f"{path}: no lock: {error}", hint="build --lock writes one") from error


def _lock(data: bytes) -> Lock:
    if len(data) > _LIMIT:
        raise ImageError(f"larger than {_LIMIT >> 20} MiB")
    found = parse_json(data)
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise ImageError(f"version {str(version)[:20]}, and this program reads {VERSION}")
    made = documents.decoded(found, Lock)
    for each in made.fetched:
        try:
            Origin.of(each.url)
        except NetworkError as error:
            raise ImageError(str(error)) from error
    if len({each.key for each in made.fetched}) != len(made.fetched):
        raise ImageError("two answers to one request")
    return made
