"""The parser of definition files: from text to `Definition`, without touching anything else.

A file is a header of `Keyword: value` lines and sections that begin with `%name`; a further `Bootstrap:` line begins a
further stage. `DefinitionError` is the only exception that leaves, whatever the text holds.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from singularity.definition.model import App, Copy, Definition, Field, Script, Stage
from singularity.errors import DefinitionError

SIZE_LIMIT = 16 << 20
_WORD_LIMIT = 60  # characters of a word that is quoted or compared

KEYWORDS = (
    "Bootstrap", "From", "Stage", "Include", "IncludeCmd", "MirrorURL", "UpdateURL", "OSVersion", "Library", "Registry",
    "Namespace", "Product", "User", "Regcode", "ProductPGP", "RegisterURL", "Modules", "Fingerprints", "ConfURL",
    "Setopt", "Target", "Frontend", "Filename", "BuildArgs", "Token",
)  # fmt: skip
SECTIONS = (
    "pre", "setup", "files", "environment", "post", "runscript", "startscript", "test", "labels", "help", "arguments",
)  # fmt: skip
APP_SECTIONS = ("appinstall", "appfiles", "appenv", "apptest", "apphelp", "apprun", "appstart", "applabels")

_KEYWORDS = {keyword.lower(): keyword for keyword in KEYWORDS}
_OLD_BOOTSTRAP = ("osbuild", "ostype")
_OTHER_URL = re.compile(r"otherurl\d+")
_SECTION_LINE = re.compile(r"(\s*)%(\w+)(.*)", re.DOTALL)
_STAGE_LINE = re.compile(r"bootstrap[ \t]*:", re.IGNORECASE)
_HEADER_LINE = re.compile(r"\s*([A-Za-z][\w-]*)\s*:(.*)", re.DOTALL)
_VERSION_1 = re.compile(r"DistType\s")
APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(slots=True)
class _Block:
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
            if line.strip() and not line.lstrip().startswith("#"):
                yield number, line.strip()


@dataclass(slots=True)
class RawStage:
    """A stage as it stands in the file: its header lines and its sections, unread."""

    line: int
    header: list[tuple[int, str]] = field(default_factory=list)
    blocks: list[_Block] = field(default_factory=list)
    complete: bool = False  # whether its agent is named: a further `Bootstrap:` line begins the next stage


def parse(text: str, name: str) -> Definition:
    """The definition that `text` is; `name` stands in messages. Raises DefinitionError."""
    return _Parser(name).definition(text)


def split_stages(text: str, name: str) -> list[RawStage]:
    """The stages of a file with their headers and sections apart. Raises DefinitionError."""
    return _Parser(name).stages(text)


class _Parser:
    def __init__(self, name: str) -> None:
        self.name = name
        self.warnings: list[str] = []

    def fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        return DefinitionError(what, name=self.name, line=line, hint=hint)

    def definition(self, text: str) -> Definition:
        stages = tuple(self.stage(raw) for raw in self.stages(text))
        return Definition(name=self.name, text=text, stages=stages, warnings=tuple(self.warnings))

    # From text to raw stages.

    def stages(self, text: str) -> list[RawStage]:
        if len(text) > SIZE_LIMIT:
            raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=self.name)
        stages: list[RawStage] = []
        for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            if "\0" in line:
                raise self.fail(number, "a NUL byte: no definition file")
            begins = bool(_STAGE_LINE.match(line))
            if not stages and is_blank(line):
                continue
            if not stages or (begins and stages[-1].complete):
                stages.append(RawStage(number))
            stage = stages[-1]
            block = self.section(number, line, inside=bool(stage.blocks))
            if block and not stage.header:
                raise self.fail(number, "a section before any header", "begin with a line Bootstrap: AGENT")
            if block:
                stage.blocks.append(block)
            elif stage.blocks:
                stage.blocks[-1].body.append(line)
            else:
                stage.header.append((number, line))
                stage.complete = stage.complete or begins
        if not stages:
            raise DefinitionError("empty", name=self.name, hint="a definition file begins with a line Bootstrap: AGENT")
        return stages

    def section(self, number: int, line: str, *, inside: bool) -> _Block | None:
        """The section that `line` begins, if any; an indented line of a body may begin with a %word that is none."""
        match = _SECTION_LINE.fullmatch(line)
        if not match:
            return None
        indent, word, rest = match[1], match[2].lower(), match[3]
        if word in SECTIONS or word in APP_SECTIONS:
            return _Block(word, _without_comment(rest).strip(), number)
        near = get_close_matches(word[:_WORD_LIMIT], SECTIONS + APP_SECTIONS, n=1)
        if inside and indent and not near:
            return None
        raise self.fail(
            number, f'unknown section "%{match[2][:_WORD_LIMIT]}"', f'did you mean "%{near[0]}"?' if near else ""
        )

    # From a raw stage to a stage.

    def stage(self, raw: RawStage) -> Stage:
        header = self.header(raw)
        blocks = [block for block in raw.blocks if block.name in SECTIONS and block.name != "arguments"]
        return Stage(
            header=header,
            line=raw.line,
            pre=self.script(blocks, "pre"),
            setup=self.script(blocks, "setup"),
            post=self.script(blocks, "post"),
            test=self.script(blocks, "test"),
            runscript=self.script(blocks, "runscript"),
            startscript=self.script(blocks, "startscript"),
            files=tuple(self.files(blocks, "files")),
            environment=_joined(blocks, "environment"),
            help=_joined(blocks, "help"),
            labels=self.labels(blocks, "labels"),
            apps=tuple(self.apps(raw.blocks)),
        )

    def header(self, raw: RawStage) -> dict[str, Field]:
        header: dict[str, Field] = {}
        for number, line in _logical_lines(raw.header):
            if _VERSION_1.match(line):
                raise self.fail(number, "a definition of the first format (DistType)", "write Bootstrap: and sections")
            match = _HEADER_LINE.fullmatch(line)
            if not match:
                raise self.fail(
                    number, f'"{line.strip()[:_WORD_LIMIT]}" is no header line', "expected Keyword: value, or %section"
                )
            keyword, value = self.keyword(number, match[1]), match[2].strip()
            if keyword == "include" and keyword in header:
                value = f"{header[keyword].value} {value}"
            elif keyword in header:
                self.warnings.append(f"{self.name}:{number}: {match[1]} is given twice: the last one counts")
            header[keyword] = Field(value=value, line=number)
        if not header.get("bootstrap", Field(value="", line=0)).value:
            raise self.fail(raw.line, "no bootstrap agent", "a definition file begins with a line Bootstrap: AGENT")
        return header

    def keyword(self, number: int, word: str) -> str:
        keyword = word.lower()
        if keyword in _OLD_BOOTSTRAP:
            self.warnings.append(f"{self.name}:{number}: {word} is the old name of Bootstrap")
            return "bootstrap"
        if keyword in _KEYWORDS or _OTHER_URL.fullmatch(keyword):
            return keyword
        near = get_close_matches(keyword[:_WORD_LIMIT], list(_KEYWORDS), n=1)
        hint = f'did you mean "{_KEYWORDS[near[0]]}"?' if near else ""
        raise self.fail(number, f'unknown header keyword "{word[:_WORD_LIMIT]}"', hint)

    def script(self, blocks: Iterable[_Block], name: str) -> Script | None:
        """The section `name`, repeated ones joined; None when all of them are empty."""
        found = [block for block in blocks if block.name == name]
        body = "".join(block.text for block in found)
        if not body:
            return None
        return Script(
            body=body,
            arguments=tuple(self.words(found[0].line, found[0].arguments)),
            line=found[0].line,
            lines=tuple(block.line + 1 + number for block in found for number in block.used),
        )

    def words(self, number: int, text: str) -> list[str]:
        try:
            return shlex.split(text)
        except ValueError as error:
            raise self.fail(number, f"{error}".lower()) from error

    def files(self, blocks: Iterable[_Block], name: str) -> Iterator[Copy]:
        for block in blocks:
            if block.name != name:
                continue
            arguments = self.words(block.line, block.arguments if name == "files" else "")
            if arguments and (len(arguments) != 2 or arguments[0].lower() != "from"):
                raise self.fail(block.line, f"%files {block.arguments}: not understood", "%files, or %files from STAGE")
            for number, line in block.lines():
                words = self.words(number, line)
                if not words or len(words) > 2:
                    raise self.fail(number, f"%{name}: {len(words)} words", "SOURCE [TARGET]; quote names with blanks")
                stage = arguments[1] if arguments else ""
                yield Copy(source=words[0], target=words[1] if len(words) == 2 else "", stage=stage, line=number)

    def labels(self, blocks: Iterable[_Block], name: str) -> dict[str, str]:
        labels: dict[str, str] = {}
        for block in blocks:
            if block.name == name:
                for _, line in block.lines():
                    key, _, value = line.replace("\t", " ", 1).partition(" ")
                    labels[key] = value.strip()
        return labels

    def apps(self, blocks: Iterable[_Block]) -> Iterator[App]:
        by_name: dict[str, list[_Block]] = {}
        for block in blocks:
            if block.name in APP_SECTIONS:
                name, _, block.arguments = block.arguments.partition(" ")
                if not APP_NAME.fullmatch(name):
                    raise self.fail(block.line, f'%{block.name} needs the name of an application, not "{name}"')
                by_name.setdefault(name, []).append(block)
        for name, own in by_name.items():
            yield App(
                name=name,
                install=self.script(own, "appinstall"),
                run=self.script(own, "apprun"),
                start=self.script(own, "appstart"),
                test=self.script(own, "apptest"),
                files=tuple(self.files(own, "appfiles")),
                environment=_joined(own, "appenv"),
                help=_joined(own, "apphelp"),
                labels=self.labels(own, "applabels"),
            )


def is_blank(line: str) -> bool:
    """Whether a line is empty or a comment."""
    return not line.strip() or line.lstrip().startswith("#")


def _without_comment(text: str) -> str:
    """`text` up to a `#` that stands at its beginning or after a blank: the one in a URL is none."""
    for match in re.finditer("#", text):
        if match.start() == 0 or text[match.start() - 1].isspace():
            return text[: match.start()].rstrip()
    return text


def _joined(blocks: Iterable[_Block], name: str) -> str:
    return "".join(block.text for block in blocks if block.name == name)


def _logical_lines(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    r"""Header lines without comments and empty ones; `\` at a line's end joins the next, `\n\` with a newline."""
    pending, start = "", 0
    for number, line in lines:
        start = start or number
        if not pending and is_blank(line):
            start = 0
            continue
        text = pending + _without_comment(line)
        if text.endswith("\\n\\"):
            pending = text[:-3] + "\n"
        elif text.endswith("\\"):
            pending = text[:-1]
        else:
            if text.strip():
                yield start, text
            pending, start = "", 0
    if pending.strip():
        yield start, pending
