"""What the definitions that an image keeps say about one of its files: the line that copies it, or speaks of it.

Scripts are not run and not understood: a line of one that has the name in it is a hint, and told as that.
"""

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import NamedTuple

from singularity.definition.dockerfile import lines as dockerfile_lines
from singularity.definition.dockerfile.parse import recognise
from singularity.definition.model import Copy, Script, Stage
from singularity.definition.parse import parse
from singularity.errors import DefinitionError
from singularity.image.metadata import APPS, DIRECTORY

_ORDINARY = {"bin", "lib", "lib64", "usr", "opt", "etc", "share", "local", "sbin", "home", "srv", "var", "python3"}
_NEAREST = 8  # directories above a file that are looked for
_SHORTEST = 3  # letters of a name that says something where it stands in a script
_WORD = re.compile(r"[\w.+-]+")
_WRITTEN = {  # what a build writes, and the section of the definition that has it
    "runscript": "runscript",
    "startscript": "startscript",
    "test": "test",
    "runscript.help": "help",
    "labels.json": "labels",
    "env/90-environment.sh": "environment",
}


class Line(NamedTuple):
    """A line of a definition."""

    name: str  # of the definition, in the image
    number: int  # 0: all of it
    text: str
    section: str  # "post", "files", "RUN", ...; with the stage, where it has a name
    base: str  # what the stage begins with
    certain: bool = True  # else it only has the name in it


@dataclass(frozen=True, slots=True)
class _Part:
    """Lines of a section that may speak of files or packages."""

    section: str
    base: str
    lines: tuple[tuple[str, int], ...]
    copies: tuple[tuple[str, str, int], ...] = ()  # sources and target of a line, and its number


class Definition:
    """One definition; a text that cannot be understood says nothing."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._lines = text.split("\n")
        self._is_dockerfile = recognise(name, text)
        self.base: tuple[str, int] | None = None  # of the last stage: what it begins with, and the line that says so
        self._parts: tuple[_Part, ...] = ()
        try:
            parts = _of_dockerfile(text, name) if self._is_dockerfile else _of_definition(text, name)
            self._parts = tuple(parts)
        except DefinitionError:
            return
        base = next((part.base for part in reversed(self._parts) if part.base), "")
        self.base = (base, self._begin(base)) if base else None

    def _begin(self, base: str) -> int:
        """The line that names it; of an agent that takes more than a name, the line that begins its header."""
        word, agent = base.rpartition("//")[2] or base, base.split()[0]
        header = re.compile(rf"\s*bootstrap\s*:\s*{re.escape(agent)}\s*(#|$)", re.IGNORECASE)
        named = (number for number, line in enumerate(self._lines, 1) if word in line)
        begun = (number for number, line in enumerate(self._lines, 1) if header.match(line))
        return next(named, 0) or next(begun, 0)

    def copied(self, path: str) -> Iterator[Line]:
        """The lines that copy a file to `path` or to a directory above it; the last is the one that counts."""
        for part in self._parts:
            numbers = (number for source, target, number in part.copies if _covers(target, source, path))
            yield from (self._line(number, part) for number in dict.fromkeys(numbers))

    def speaks_of(self, path: str) -> list[Line]:
        """The lines of scripts that have the path in them, else its nearest directory, else at least its name."""
        name = path.rpartition("/")[2]
        for word in [path, *islice(_directories(path), _NEAREST), *([name] if len(name) >= _SHORTEST else [])]:
            found = list(self._having(_whole(word)))
            if found:
                return found
        return []

    def names(self, package: str) -> Iterator[Line]:
        """The lines of scripts that have the name of a package as a word."""
        if package in self._words:  # a tenth of a second for each of a hundred thousand packages would be hours
            yield from self._having(_whole(package))

    @cached_property
    def _words(self) -> frozenset[str]:
        """What stands between other letters than those of names."""
        found = {word for part in self._parts for text, _ in part.lines for word in _WORD.findall(text)}
        return frozenset(found | {word.rstrip(".") for word in found})

    def written(self, path: str) -> Iterator[Line]:
        """For a file of the program's own: the section that it is made from."""
        rest = path.removeprefix(f"{DIRECTORY}/")
        if rest == "Singularity" or path.startswith(f"{DIRECTORY}/bootstrap_history/"):
            yield Line(self.name, 0, "the definition itself", "", "")
            return
        section, app = _WRITTEN.get(rest, ""), ""
        if path.startswith(f"{APPS}/"):
            app = path.split("/")[3]
            section = "app"
        if section:
            for number, line in enumerate(self._lines, 1):
                words = line.split()
                if words and words[0].lower().startswith(f"%{section}") and (not app or words[1:2] == [app]):
                    yield Line(self.name, number, line.strip(), section, "")

    def _having(self, word: re.Pattern[str]) -> Iterator[Line]:
        for part in self._parts:
            for text, number in part.lines:
                if not text.lstrip().startswith("#") and word.search(text):
                    yield self._line(number, part)._replace(text=" ".join(text.split()), certain=False)

    def _line(self, number: int, part: _Part) -> Line:
        text = self._lines[number - 1].strip() if 0 < number <= len(self._lines) else ""
        return Line(self.name, number, text, part.section, part.base)


def _whole(word: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.+-]){re.escape(word)}(?![\w+-]|\.\w)")


def _directories(path: str) -> Iterator[str]:
    """Those above a path that are its own: the name of none of them is one that every image has."""
    above = posixpath.dirname(path)
    while above.count("/") > 1 or (above != "/" and above[1:] not in _ORDINARY):
        if above.rpartition("/")[2] not in _ORDINARY:
            yield above
        above = posixpath.dirname(above)


def _covers(target: str, source: str, path: str) -> bool:
    """Whether `source`, copied to `target`, may be what is at `path`."""
    place = posixpath.normpath(posixpath.join("/", target or source))
    if path == place or path.startswith(f"{place.rstrip('/')}/"):
        if not target.endswith("/"):
            return True
        name = posixpath.basename(source.rstrip("/"))
        first = path.removeprefix(place.rstrip("/")).lstrip("/").partition("/")[0]
        return not first or any(letter in name for letter in "*?[.") or first == name or source.endswith("/")
    return False


def _of_definition(text: str, name: str) -> Iterator[_Part]:
    for stage in parse(text, name, header_optional=True).stages:
        suffix = f" of stage {stage.name}" if stage.name else ""
        base = _base(stage)
        for section, script in (("setup", stage.setup), ("post", stage.post), ("pre", stage.pre)):
            yield _Part(f"%{section}{suffix}", base, _numbered(script))
        yield _Part(f"%files{suffix}", base, (), tuple(map(_copy, stage.files)))
        for app in stage.apps:
            yield _Part(f"%appinstall {app.name}{suffix}", base, _numbered(app.install))
            yield _Part(f"%appfiles {app.name}{suffix}", base, (), tuple(map(_copy, app.files)))


def _copy(line: Copy) -> tuple[str, str, int]:
    return line.source, line.target, line.line


def _numbered(script: Script | None) -> tuple[tuple[str, int], ...]:
    """Lines of a script; one that goes on behind a backslash is one, by the number of its first."""
    found: list[tuple[str, int]] = []
    whole, first = "", 0
    for text, number in script.numbered if script else ():
        first = first or number
        line = text.rstrip("\n")
        whole += line.removesuffix("\\")
        if not line.endswith("\\"):
            found.append((whole, first))
            whole, first = "", 0
    return (*found, *([(whole, first)] if whole else []))


def _base(stage: Stage) -> str:
    place = stage.value("from")
    if place:
        return f"{stage.agent}://{place}" if stage.agent not in ("", "localimage") else place
    version = stage.value("osversion")
    return f"{stage.agent} {version}".rstrip()


def _of_dockerfile(text: str, name: str) -> Iterator[_Part]:
    base, stage = "", ""
    for each in dockerfile_lines.read(text, name).instructions:
        words = each.text.split()
        if each.name == "FROM":
            base = words[0] if words else ""
            stage = f" of stage {words[2]}" if len(words) > 2 and words[1].lower() == "as" else ""
            yield _Part("FROM", base, ())
        elif each.name in ("COPY", "ADD") and len(words) > 1:
            copies = tuple((source.strip('[]",'), words[-1].strip('[]",'), each.line) for source in words[:-1])
            yield _Part(f"{each.name}{stage}", base, (), copies)
        elif each.name in ("RUN", "WORKDIR", "VOLUME"):
            documents = "\n".join(document.body for document in each.documents)
            yield _Part(f"{each.name}{stage}", base, ((f"{each.text}\n{documents}", each.line),))
