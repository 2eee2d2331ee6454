"""Definition files as values that programs make, change and write: `Definition` and its stages.

What is kept is the text of each section as it stands in a file, comments and templates too, so that what is read and
not changed is written as it was. What a text means, the parser of builds says (`definition.parse`).
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, overload

from singularity import files
from singularity.api.door import Word
from singularity.definition import dockerfile, parse, sections, version1
from singularity.errors import DefinitionError, FileError


@dataclass(slots=True)
class Section:
    """A section of a definition file: `%name arguments` and the text below."""

    name: str  # in lower case, without %
    text: str = ""
    arguments: str = ""  # what stands behind the name: that of an application, `from STAGE`, options of a shell

    @property
    def key(self) -> str:
        """Name and arguments, as sections are asked for: `post`, `files from build`, `apprun hello`."""
        return f"{self.name} {self.arguments}".rstrip()

    def __str__(self) -> str:
        text = self.text.strip("\n")
        return f"%{self.key}\n{text}\n" if text.strip() else f"%{self.key}\n"


class _Text:
    """A section of one name, as an attribute."""

    def __init__(self, about: str) -> None:
        self.__doc__ = about

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, stage: None, owner: type) -> Self: ...

    @overload
    def __get__(self, stage: "_Stage", owner: type) -> str: ...

    def __get__(self, stage: "_Stage | None", owner: type) -> "Self | str":
        return self if stage is None else stage[self._name]

    def __set__(self, stage: "_Stage", text: str) -> None:
        stage[self._name] = text


class _Stage:
    """What a stage has, and a definition of its last one."""

    pre = _Text("%pre: runs on the host before anything else")
    setup = _Text("%setup: runs on the host, with the root file system in SINGULARITY_ROOTFS")
    post = _Text("%post: runs in the container, and installs what is wanted")
    test = _Text("%test: runs in the finished container")
    environment = _Text("%environment: a shell script that sets variables")
    runscript = _Text("%runscript: what `run` runs")
    startscript = _Text("%startscript: what instances run")
    help = _Text("%help: a text for people")

    def _of(self) -> "Stage":
        raise NotImplementedError

    @property
    def header(self) -> dict[str, str]:
        """Keywords and values: `{"Bootstrap": "docker", "From": "debian:12"}`."""
        return self._of().keywords

    def __getitem__(self, key: str) -> str:
        """The text of the sections `post`, `files from STAGE`, `apprun NAME`; empty where there is none."""
        return "".join(each.text for each in self._of().sections if each.key == key)

    def __setitem__(self, key: str, text: str) -> None:
        """One section in place of those of that name, or behind all others; an empty text removes them."""
        stage = self._of()
        places = [number for number, each in enumerate(stage.sections) if each.key == key]
        kept = [each for each in stage.sections if each.key != key]
        if text.strip():
            name, _, arguments = key.partition(" ")
            place = places[0] if places else len(kept)
            kept.insert(place, Section(name, text.strip("\n") + "\n", arguments))
        stage.sections[:] = kept

    def __delitem__(self, key: str) -> None:
        self[key] = ""

    @property
    def labels(self) -> Mapping[str, str]:
        """%labels; set as a whole: `definition.labels = {**definition.labels, "Version": "1.2"}`."""
        lines = (line for line in self["labels"].splitlines() if not sections.is_blank(line))
        return dict(parse.parse_label(line) for line in lines)

    @labels.setter
    def labels(self, labels: Mapping[str, str]) -> None:
        self["labels"] = "".join(f"{_word(name)} {value}\n" for name, value in labels.items())

    def copy(self, source: Word, target: Word = "", *, stage: str = "") -> None:
        """One more line of %files: what is copied from the host or, with `stage`, from an earlier stage."""
        key = f"files from {stage}" if stage else "files"
        words = [_word(os.fspath(each)) for each in (source, target) if os.fspath(each)]
        self[key] = f"{self[key]}{' '.join(words)}\n"


def _word(text: str) -> str:
    """A word as files have it: with quotes where blanks are in it."""
    if not any(letter.isspace() or letter in "\"'\\#" for letter in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@dataclass(slots=True)
class Stage(_Stage):
    """One root file system of a definition: a header, and sections in order."""

    keywords: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    def _of(self) -> "Stage":
        return self

    def __str__(self) -> str:
        lines = []
        for keyword, value in self.keywords.items():
            text = value.strip().replace("\n", "\\n\\\n")
            lines.append(f"{keyword}: {text}\n")
        return "\n".join(["".join(lines), *map(str, self.sections)])


class Definition(_Stage):
    """A definition file: `Definition(Bootstrap="docker", From="debian:12")`, then `definition.post = "..."`.

    It has stages, at least one; attributes are those of the last, which the image is made of. `str(definition)` is the
    file: what was read and not changed is as it was.
    """

    def __init__(self, *stages: Stage, name: str = "image.def", **header: str) -> None:
        """Of these stages, or of one with this header. `name` is for messages."""
        if bool(stages) == bool(header):
            raise TypeError("Definition() takes stages, or the keywords of a header")
        self.stages = list(stages) or [Stage(header)]
        self.name = name
        self._read: tuple[str, str] | None = None  # the text as it was read, and as it would be written

    def _of(self) -> Stage:
        return self.stages[-1]

    def __repr__(self) -> str:
        agent = next((value for key, value in self.header.items() if key.lower() == "bootstrap"), "")
        return f"<Definition {self.name!r}, {agent}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Definition) and _parts(self.stages) == _parts(other.stages)

    __hash__ = None  # type: ignore[assignment] # it changes

    def __str__(self) -> str:
        """The text of the file. Raises DefinitionError where it would say something else than this object."""
        text = self._written()
        if self._read and self._read[1] == text:
            return self._read[0]
        if _parts(self._split(text, self.name)) != _parts(self.stages):
            raise DefinitionError("a value or a line of a section would be read as something else", name=self.name)
        return text

    def _written(self) -> str:
        return "\n".join(map(str, self.stages))

    @classmethod
    def parse(cls, text: str, *, name: str = "image.def") -> Self:
        """That of a text. Raises DefinitionError for one that is none; `name` stands in it."""
        if version1.recognise(text) or dockerfile.recognise(name, text):
            kind = "a Dockerfile" if dockerfile.recognise(name, text) else "of the first format"
            raise DefinitionError(f"{kind}, which has no stages and sections", name=name, hint="build takes the file")
        parse.parse(text, name)
        found = cls(*cls._split(text, name), name=name)
        found._read = (text, found._written())
        return found

    @classmethod
    def read(cls, path: Word) -> Self:
        """That of a file. Raises FileError and DefinitionError."""
        with FileError.about(Path(path)):
            text = Path(path).read_bytes().decode("utf-8", "surrogateescape")
        return cls.parse(text, name=os.fspath(path))

    def write(self, path: Word) -> None:
        """Writes the file, which is whole or as it was before. Raises DefinitionError and FileError."""
        data = str(self).encode("utf-8", "surrogateescape")
        files.write(Path(path), data, overwrite=True)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a build would warn of. Raises DefinitionError for what it would refuse."""
        return parse.parse(str(self), self.name).warnings

    @staticmethod
    def _split(text: str, name: str) -> list[Stage]:
        return [
            Stage(
                _header(parse.header_line(line) for _, line in parse.logical_lines(raw.header)),
                [Section(each.name, each.text, each.arguments) for each in raw.blocks],
            )
            for raw in sections.split(text, name).stages
        ]


def _header(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Keywords and values; those of several Include lines add up, as they do for the parser."""
    header: dict[str, str] = {}
    for keyword, value in lines:
        adds = keyword.lower() == "include" and keyword in header
        header[keyword] = f"{header[keyword]} {value}" if adds else value
    return header


def _parts(stages: Iterable[Stage]) -> list[Any]:
    """All that is said, without what blank lines and the letters of keywords make no difference to."""
    return [
        (
            [(key.lower(), value.strip()) for key, value in each.keywords.items()],
            [(section.key, section.text.strip("\n")) for section in each.sections],
        )
        for each in stages
    ]
