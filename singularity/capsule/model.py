"""A capsule: the record of one run, as values and as the JSON document that it is kept in."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

from singularity.errors import FileError, ImageError
from singularity.foreign_json import parse_json

FORMAT, VERSION = "singularity-capsule", 1
_LIMIT = 1 << 30  # bytes of a record: those of two million files have less


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

    path: str  # on the host: absolute
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
    verb: str
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    directory: str
    variables: Mapping[str, str | None]  # what the program got; None: withheld, since its name says that it is a secret
    option_variables: Mapping[str, str]  # SINGULARITY_*, as the launcher took them
    host: Mapping[str, str]
    started: str  # RFC 3339, UTC
    ended: str
    status: int  # as a shell has it: 128 and its number for a signal
    streams: Mapping[str, str]  # "stdin": "file PATH", "terminal", "pipe", ...
    inputs: tuple[Content, ...] = ()
    outputs: tuple[Content, ...] = ()
    removed: tuple[str, ...] = ()  # files that were there before
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
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise FileError(f"{path}: larger than {_LIMIT >> 30} GiB, and no record", hint="exec --record writes one")
        document = parse_json(data)
    except OSError as error:
        raise FileError.because(path, error) from error
    except ImageError as error:
        raise ImageError(f"{path}: no record of a run: {error}") from error
    try:
        return _record(document)
    except (KeyError, TypeError, ValueError) as error:
        raise ImageError(f"{path}: no record of a run that this version understands: {error}") from error


def _record(document: Any) -> Record:
    if not isinstance(document, dict) or document.get("format") != FORMAT or document.get("version") != VERSION:
        raise ValueError(f'"format" {FORMAT!r} and "version" {VERSION} are wanted')
    return Record(
        image=Image(**_checked(document["image"], Image)),
        verb=_one_of(document["verb"], ("exec", "run", "test")),
        options=_texts(document["options"]),
        arguments=_texts(document["arguments"]),
        directory=_absolute(document["directory"]),
        variables={name: None if value is None else _text(value) for name, value in _object(document["variables"])},
        option_variables={name: _text(value) for name, value in _object(document["option_variables"])},
        host={name: _text(value) for name, value in _object(document["host"])},
        started=_text(document["started"]),
        ended=_text(document["ended"]),
        status=_number(document["status"]),
        streams={name: _text(value) for name, value in _object(document["streams"])},
        inputs=tuple(_content(each) for each in document["inputs"]),
        outputs=tuple(_content(each) for each in document["outputs"]),
        removed=tuple(map(_absolute, document["removed"])),
        connections=_texts(document["connections"]),
        not_seen=_texts(document["not_seen"]),
        temporary=_number(document["temporary"]),
        program={name: _text(value) for name, value in _object(document["program"])},
    )


def _content(value: Any) -> Content:
    known = _checked(value, Content)
    _absolute(known["path"])
    return Content(**{**known, "kind": Kind(known["kind"]), "part": Part(known["part"])})


def _checked(value: Any, kind: type) -> dict[str, Any]:
    """The members of an object that are fields of this kind, each a text, or a number for `size`."""
    found = dict(_object(value))
    names = {each.name for each in fields(kind)}
    return {name: _number(each) if name == "size" else _text(each) for name, each in found.items() if name in names}


def _object(value: Any) -> Iterable[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise TypeError(f"{str(value)[:60]!r} is no object")
    for name in value:
        _text(name)
    return value.items()


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise TypeError(f"{str(value)[:60]!r} is no text")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{str(value)[:60]!r} is no list")
    return tuple(map(_text, value))


def _absolute(value: Any) -> str:
    if not _text(value).startswith("/"):
        raise ValueError(f"{value[:60]!r} is no absolute path")
    return str(value)


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{str(value)[:60]!r} is no number")
    return value


def _one_of(value: Any, words: tuple[str, ...]) -> str:
    if value not in words:
        raise ValueError(f"{str(value)[:60]!r} is none of {', '.join(words)}")
    return str(value)


def written(record: Record) -> Iterable[str]:
    """The document's text, in pieces."""
    yield from json.JSONEncoder(indent=1).iterencode(record.document())
    yield "\n"
