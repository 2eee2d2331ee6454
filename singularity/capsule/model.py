"""A capsule: the record of one run, as values and as the JSON document that it is kept in."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

from singularity import documents
from singularity.errors import FileError, ImageError
from singularity.foreign_json import parse_json

FORMAT, VERSION = "singularity-capsule", 1
_LIMIT = 1 << 30  # bytes of a record: those of two million files have less
_Absolute = Annotated[str, re.compile("/.*", re.DOTALL)]


class Kind(Enum):
    """What has a name."""

    FILE = "file"
    DIRECTORY = "directory"  # one that was listed
    LINK = "link"
    OTHER = "other"  # a pipe or a device: what went through it is not known


class Part(Enum):
    """By which way something of the host is in the container."""

    USER = "user"  # the home directory, the current one, binds
    HOST = "host"  # what the launcher brings in: /etc/hosts, libraries of drivers
    OPTION = "option"  # a file that an option of the launch names: an overlay
    STREAM = "stream"  # standard input, output or error


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """A file of the host, and what was in it. Bytes of names that are no UTF-8 are as by Python's surrogateescape."""

    path: _Absolute  # on the host
    inside: str  # in the container; empty for options and streams
    kind: Kind
    part: Part = Part.USER
    size: int = 0  # bytes; of a directory, names
    digest: str = (
        ""  # "sha256:..." of the content, of a directory's names, or of what a link says; empty: `note` has why
    )
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Which image it was."""

    named: str  # as it was typed
    path: str  # of the file or directory
    digest: str  # "sha256:..." of the file; of a directory "tree-sha256:..."; empty where it changed meanwhile
    size: int = 0  # bytes of the file


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One run."""

    image: Image
    verb: Annotated[str, re.compile("exec|run|test")]
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    directory: _Absolute
    variables: Mapping[str, str | None]  # what the program got; None: withheld, since its name says that it is a secret
    option_variables: Mapping[str, str]  # SINGULARITY_*, as the launcher took them
    host: Mapping[str, str]
    started: str  # RFC 3339, UTC
    ended: str
    status: int  # as a shell has it: 128 and its number for a signal
    streams: Mapping[str, str]  # "stdin": "file PATH", "terminal", "pipe", ...
    inputs: tuple[Content, ...] = ()
    outputs: tuple[Content, ...] = ()
    removed: tuple[_Absolute, ...] = ()  # files that were there before
    connections: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    temporary: int = 0  # how many files were made and are gone
    program: Mapping[str, str] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        found = asdict(self)
        for part in ("inputs", "outputs"):
            for each in found[part]:
                each["kind"], each["part"] = each["kind"].value, each["part"].value
                if not each["note"]:
                    del each["note"]
        return {"format": FORMAT, "version": VERSION, **found}


def read(path: Path) -> Record:
    """The record in a file, which anybody may have written. Raises FileError, and ImageError for what is no record."""
    with FileError.about(path), path.open("rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise FileError(f"{path}: larger than {_LIMIT >> 30} GiB, and no record", hint="exec --record writes one")
    with ImageError.named(f"{path}: no record of a run that this version understands"):
        found = parse_json(data)
        if not isinstance(found, dict) or (found.get("format"), found.get("version")) != (FORMAT, VERSION):
            raise ImageError(f'"format" "{FORMAT}" and "version" {VERSION} are wanted')
        return documents.decoded(found, Record)


def written(record: Record) -> Iterable[str]:
    """The document's text, in pieces."""
    yield from json.JSONEncoder(indent=1).iterencode(record.document())
    yield "\n"
