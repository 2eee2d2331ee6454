"""The first look at a definition file: its stages, and in them the header lines and the sections, unread."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from singularity.errors import DefinitionError

SIZE_LIMIT = 4 << 20  # no definition file of a person is near it, and each is read in seconds
WORD_LIMIT = 60  # characters of a word that is quoted or compared

SECTIONS = (
    "pre", "setup", "files", "environment", "post", "runscript", "startscript", "test", "labels", "help", "arguments",
    "wrappers",
)  # fmt: skip
APP_SECTIONS = ("appinstall", "appfiles", "appenv", "apptest", "apphelp", "apprun", "appstart", "applabels")
_SHELL = frozenset({
    "pre", "setup", "environment", "post", "runscript", "startscript", "test", "appinstall", "appenv", "apptest",
    "apprun", "appstart",
})  # fmt: skip
# Names that were announced, that other formats have, or that are often taken for ours.
_MEANT = {
    "inside": "post", "outside": "setup", "install": "post", "build": "post", "env": "environment", "run": "runscript",
    "script": "runscript", "start": "startscript", "startup": "startscript", "label": "labels", "author": "labels",
    "description": "help", "doc": "help", "args": "arguments", "check": "test",
    "commands": "wrappers", "programs": "wrappers",
}  # fmt: skip

_SECTION_LINE = re.compile(r"(\s*)%(\w+)(:?)(?!\S)(.*)", re.DOTALL)
_WORD_LINE = re.compile(r"(\s*)%(\w[^\s:]*)(.*)", re.DOTALL)
_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")  # what word processors and web pages leave in text
_SPACED = re.compile(r"%\s+(\w+)\s*")
_STAGE_LINE = re.compile(r"bootstrap[ \t]*:", re.IGNORECASE)
_AGENT_LINE = re.compile(r"\s*(?:bootstrap|osbuild|ostype)\s*:", re.IGNORECASE)
_HERE_DOCUMENT = re.compile(r"(?<!<)<<(-?)[ \t]*(?:'([^'\n]+)'|\"([^\"\n]+)\"|\\?([A-Za-z_][\w.-]*))")


@dataclass(slots=True)
class Block:
    """One section as it stands in the file."""

    name: str
    arguments: str
    line: int
    body: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The body without empty lines around it; empty, or ending with a newline."""
        used = self.used
        return "\n".join(self.body[used.start : used.stop]).rstrip() + "\n" if used else ""

    @property
    def used(self) -> range:
        """Which lines of the body are between the empty ones around it."""
        filled = [number for number, line in enumerate(self.body) if line.strip()]
        return range(filled[0], filled[-1] + 1) if filled else range(0)

    def lines(self) -> Iterator[tuple[int, str]]:
        """The body's lines that are neither empty nor comments, with their numbers."""
        for number, line in enumerate(self.body, self.line + 1):
            if not is_blank(line):
                yield number, line.strip()


@dataclass(slots=True)
class RawStage:
    """A stage as it stands in the file: its header lines and its sections, unread."""

    line: int
    header: list[tuple[int, str]] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    complete: bool = False  # whether its agent is named: a further `Bootstrap:` line begins the next stage


@dataclass(frozen=True, slots=True)
class Split:
    """All stages of a file, and what is to be said about it."""

    stages: list[RawStage]
    warnings: list[str]


def normal(text: str) -> str:
    """`text` with our line ends, and without the mark that some editors put before it."""
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


def split(text: str, name: str) -> Split:
    """The stages of a file, at least one; `name` stands in messages. Raises DefinitionError."""
    if len(text) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=name)
    return _Splitter(name, normal(text).split("\n")).split()


def is_blank(line: str) -> bool:
    """Whether a line is empty or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def without_comment(text: str) -> str:
    """`text` up to a `#` that stands at its beginning or after a blank: the one in a URL is none."""
    for match in re.finditer("#", text):
        if match.start() == 0 or text[match.start() - 1].isspace():
            return text[: match.start()].rstrip()
    return text


class _Splitter:
    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines
        self.index = _Index(lines)
        self.warnings: list[str] = []
        self.stages: list[RawStage] = []
        self.inside = 0  # number of the last line of the here-document that is open

    def fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        return DefinitionError(what, name=self.name, line=line, hint=hint)

    def split(self) -> Split:
        for number, line in enumerate(self.lines, 1):
            if "\0" in line:
                raise self.fail(number, "a NUL byte: no definition file")
            begins = number > self.inside and bool(_STAGE_LINE.match(line))
            if not self.stages and is_blank(line):
                continue
            if not self.stages or (begins and self.stages[-1].complete):
                self.stages.append(RawStage(number))
            self.take(number, line)
        if not self.stages:
            raise DefinitionError("empty", name=self.name, hint="a definition file begins with a line Bootstrap: AGENT")
        return Split(self.stages, self.warnings)

    def take(self, number: int, line: str) -> None:
        """Puts a line where it belongs in the last stage."""
        stage = self.stages[-1]
        if number <= self.inside:
            stage.blocks[-1].body.append(line)
            return
        if not stage.blocks or "%" in line:
            line = self.visible(number, line)
        block = self.section(number, line, inside=bool(stage.blocks))
        if block:
            stage.blocks.append(block)
        elif stage.blocks:
            stage.blocks[-1].body.append(line)
            if stage.blocks[-1].name in _SHELL:
                self.inside = self.end_of_here_documents(number, line)
        else:
            stage.header.append((number, line))
            stage.complete = stage.complete or bool(_AGENT_LINE.match(line))

    def visible(self, number: int, line: str) -> str:
        """A header line, or one that may begin a section, without characters that nobody sees."""
        if not _INVISIBLE.search(line):
            return line
        cleaned = _INVISIBLE.sub("", line)
        if self.stages[-1].blocks and not cleaned.lstrip().startswith("%"):
            return line
        self.warnings.append(f"{self.name}:{number}: characters that cannot be seen are left out")
        return cleaned

    def section(self, number: int, line: str, *, inside: bool) -> Block | None:
        """The section that `line` begins, if any; an indented line of a body may begin with a %word that is none."""
        match = _SECTION_LINE.fullmatch(line)
        word = match[2].lower() if match else ""
        if match and (word in SECTIONS or word in APP_SECTIONS):
            if match[3]:
                self.warnings.append(f"{self.name}:{number}: %{match[2]} has no colon")
            return Block(word, without_comment(match[4]).strip(), number)
        spaced = _SPACED.fullmatch(line)
        if spaced and spaced[1].lower() in SECTIONS:
            raise self.fail(number, f'"% {spaced[1]}" is no section', f'write "%{spaced[1]}", or indent the line')
        other = _WORD_LINE.fullmatch(line)
        if not other:
            return None
        near = _near(other[2].lower()[:WORD_LIMIT])
        if inside and other[1] and not near:
            return None
        hint = f'did you mean "%{near}"?' if near else "indent a line of text that begins with %" if inside else ""
        raise self.fail(number, f'unknown section "%{other[2][:WORD_LIMIT]}"', hint)

    def end_of_here_documents(self, number: int, line: str) -> int:
        """Where the here-documents that a line of a script opens end; 0 where it opens none, or they do not end.

        What looks like one is none where, before the line that would end it, a section begins in which a here-document
        with the same word is opened: that line is the end of the other one.
        """
        if "<<" not in line or line.lstrip().startswith("#"):
            return 0
        end = number
        for match in _HERE_DOCUMENT.finditer(line):
            last = self.index.end(end, match[2] or match[3] or match[4], tabs=bool(match[1]))
            if not last:
                return 0
            end = last
        return end if end > number else 0


class _Index:
    """Where in the file lines that end or open here-documents stand, and where sections begin; numbers from 1."""

    def __init__(self, lines: list[str]) -> None:
        self.ends: dict[str, list[int]] = {}
        self.tabbed_ends: dict[str, list[int]] = {}
        self.openers: dict[str, list[int]] = {}
        self.sections: list[int] = []
        for number, line in enumerate(lines, 1):
            if "<<" in line:
                for match in _HERE_DOCUMENT.finditer(line):
                    self.openers.setdefault(match[2] or match[3] or match[4], []).append(number)
            begins = _SECTION_LINE.fullmatch(line) if line.startswith("%") else None
            if begins and begins[2].lower() in SECTIONS + APP_SECTIONS:
                self.sections.append(number)
        for number, line in enumerate(lines, 1):
            if line in self.openers:
                self.ends.setdefault(line, []).append(number)
            if line.lstrip("\t") in self.openers:
                self.tabbed_ends.setdefault(line.lstrip("\t"), []).append(number)

    def end(self, after: int, word: str, *, tabs: bool) -> int:
        """The line that ends a here-document opened in line `after`; 0 for none."""
        last = _next((self.tabbed_ends if tabs else self.ends).get(word, []), after)
        section = _next(self.sections, after)
        if not last or not section or last < section:
            return last
        opener = _next(self.openers[word], section)
        return 0 if opener and opener < last else last


def _next(numbers: list[int], after: int) -> int:
    """The first of the sorted numbers beyond `after`; 0 for none."""
    place = bisect_right(numbers, after)
    return numbers[place] if place < len(numbers) else 0


def _near(word: str) -> str:
    """The section that was meant, as far as one can tell; empty where one cannot."""
    if word in _MEANT:
        return _MEANT[word]
    names = APP_SECTIONS if word.startswith("app") else SECTIONS
    near = get_close_matches(word, names, n=1)
    return near[0] if near else ""
