"""The parser of definition files: from text to `Definition`, without touching anything else.

A file is a header of `Keyword: value` lines and sections that begin with `%name`; a further `Bootstrap:` line begins a
further stage. Files of the first format are read by `version1`. `DefinitionError` is the only exception that leaves,
whatever the text holds.
"""

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from singularity.definition import keywords, version1
from singularity.definition.keywords import KEYWORDS
from singularity.definition.model import App, Copy, Definition, Field, Script, Stage
from singularity.definition.sections import (
    APP_SECTIONS,
    SECTIONS,
    SIZE_LIMIT,
    WORD_LIMIT,
    Block,
    RawStage,
    is_blank,
    split,
    without_comment,
)
from singularity.errors import DefinitionError
from singularity.image import offered
from singularity.image.offered import Command

__all__ = ["APP_NAME", "APP_SECTIONS", "KEYWORDS", "SECTIONS", "SIZE_LIMIT", "parse", "parse_label"]

APP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_HEADER_LINE = re.compile(r"\s*([A-Za-z][\w-]*)\s*:(.*)", re.DOTALL)
_OLD_LINE = re.compile(r"\s*DistType\s")  # of the first format, left over in files of the second
_LABEL = re.compile(r"(\"[^\"]*\"|'[^']*'|[^\s=]+?)(\s*=\s*|:(?!\S)\s*|\s+:(?!\S)\s*|\s+|$)(.*)", re.DOTALL)
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'")
# Sections that are not scripts, and have nothing to be told.
_PLAIN = frozenset(
    {"environment", "labels", "help", "arguments", "wrappers", "appenv", "applabels", "apphelp", "appfiles"}
)
_BEGIN = "a definition file begins with a line Bootstrap: AGENT"


def parse(text: str, name: str, *, header_optional: bool = False, arguments: Sequence[str] = ()) -> Definition:
    """The definition that `text` is; `name` stands in messages. Raises DefinitionError.

    With `header_optional`, for a container that is there already, the header may be missing or name no agent; then
    the agent of the stage is empty. `arguments` are the positional ones of a definition of the first format.
    """
    if version1.recognise(text):
        return version1.parse(text, name, arguments)
    return _Parser(name, header_optional=header_optional).definition(text)


def parse_label(line: str) -> tuple[str, str]:
    """Name and value of a label: `NAME VALUE`, and as people write it too, `NAME=VALUE` and `NAME: VALUE`.

    Quotes around the name are not part of it, nor around the whole value behind `=` or `:`. Behind a blank they are, as
    everywhere in the family.
    """
    match = _LABEL.fullmatch(line.strip())
    if not match:
        return line.strip(), ""
    value = match[3].strip()
    return _unquoted(match[1]), _unquoted(value) if match[2].strip() else value


def _unquoted(text: str) -> str:
    return text[1:-1] if _QUOTED.fullmatch(text) else text


def header_line(line: str) -> tuple[str, str]:
    """Keyword and value of a logical line of a header; of what is none, which the parser refuses, the line alone."""
    match = _HEADER_LINE.fullmatch(line)
    return (match[1], match[2].strip()) if match else (line.strip(), "")


class _Parser:
    def __init__(self, name: str, *, header_optional: bool) -> None:
        self.name = name
        self.header_optional = header_optional
        self.warnings: list[str] = []

    def fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        return DefinitionError(what, name=self.name, line=line, hint=hint)

    def warn(self, line: int, what: str) -> None:
        self.warnings.append(f"{self.name}:{line}: {what}")

    def definition(self, text: str) -> Definition:
        found = split(text, self.name)
        self.warnings += found.warnings
        stages = tuple(self.stage(raw) for raw in found.stages)
        return Definition(name=self.name, text=text, stages=stages, warnings=tuple(self.warnings))

    def stage(self, raw: RawStage) -> Stage:
        header = self.header(raw)
        for block in raw.blocks:
            words = block.arguments.split()[block.name in APP_SECTIONS :]
            if block.name in _PLAIN and words:
                what = f'"{words[0][:WORD_LIMIT]}" behind %{block.name} is not used: its text begins in the next line'
                self.warn(block.line, what)
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
            wrappers=tuple(self.wrappers(blocks)),
            apps=tuple(self.apps(raw.blocks)),
        )

    # The header.

    def header(self, raw: RawStage) -> dict[str, Field]:
        header: dict[str, Field] = {}
        written: dict[str, str] = {}
        included: list[str] = []
        for number, line in logical_lines(raw.header):
            match = _HEADER_LINE.fullmatch(line)
            if not match:
                self.not_a_header_line(number, line)
                continue
            keyword, value = self.keyword(number, match[1]), match[2].strip()
            if keyword == "bootstrap" and match[1].lower() in keywords.OLD_BOOTSTRAP:
                value = keywords.OLD_AGENTS.get(value.lower(), value)
            if keyword == "include":
                included.append(value)
            elif keyword in header:
                self.warn(number, f"{match[1]} is given twice: the last one counts")
            header[keyword] = Field(value=value, line=number)
            written[keyword] = match[1]
        if included:
            header["include"] = Field(value=" ".join(filter(None, included)), line=header["include"].line)
        if not raw.header and not self.header_optional:
            raise self.fail(raw.line, "a section before any header", "begin with a line Bootstrap: AGENT")
        if not header.get("bootstrap", Field(value="", line=0)).value and not self.header_optional:
            raise self.fail(raw.line, "no bootstrap agent", _BEGIN)
        self.check_uses(header, written)
        return {keyword: self.filled_in(keyword, field, header) for keyword, field in header.items()}

    def not_a_header_line(self, number: int, line: str) -> None:
        """A leftover of the first format beside the second is ignored, as it always was; anything else is wrong."""
        if not _OLD_LINE.match(line):
            what = f'"{line.strip()[:WORD_LIMIT]}" is no header line'
            hint = "expected Keyword: value, or %section"
            if line.lstrip().startswith("<"):
                hint = "a web page? download the file itself"
            elif line.startswith(("FROM ", "ARG ")):
                hint = "a Dockerfile? SOURCE may be one, with a name like Dockerfile, or after --file"
            raise self.fail(number, what, hint)
        self.warn(number, "DistType has no meaning beside Bootstrap")

    def keyword(self, number: int, word: str) -> str:
        keyword = word.lower()
        if keyword in keywords.OLD_BOOTSTRAP:
            self.warn(number, f"{word} is the old name of Bootstrap")
            return "bootstrap"
        if keywords.is_known(keyword):
            return keyword
        raise self.fail(number, f'unknown header keyword "{word[:WORD_LIMIT]}"', keywords.nearest(word))

    def check_uses(self, header: dict[str, Field], written: dict[str, str]) -> None:
        """Warns of what the agent has no use for."""
        agent = header["bootstrap"].value.lower() if "bootstrap" in header else ""
        names_version = any(keywords.names_version(keyword, field.value) for keyword, field in header.items())
        for keyword, field in header.items():
            if keywords.is_used(keyword, agent) or (keyword == "osversion" and names_version):
                continue
            self.warn(field.line, f"{written[keyword]} has no meaning for bootstrap agent {agent}")

    def filled_in(self, keyword: str, field: Field, header: dict[str, Field]) -> Field:
        """The value with `%{OSVERSION}` filled in, and without a scheme that says once more what the agent is."""
        value = field.value
        agent = header["bootstrap"].value.lower() if "bootstrap" in header else ""
        if keyword == "from" and value.lower().startswith(f"{agent}://"):
            value = value[len(agent) + 3 :]
            self.warn(field.line, f"From needs no {agent}://")
        if keywords.names_version(keyword, value):
            version = header.get("osversion")
            if version is None or not version.value:
                what = f"{keywords.spelling(keyword)} names %{{OSVERSION}}, but OSVersion is not given"
                raise self.fail(field.line, what, "add a line OSVersion: VERSION")
            value = keywords.with_version(value, version.value)
        return field if value == field.value else Field(value=value, line=field.line)

    # The sections.

    def script(self, blocks: Iterable[Block], name: str) -> Script | None:
        """The section `name`, repeated ones joined; None when all of them are empty."""
        found = [block for block in blocks if block.name == name]
        body = "".join(block.text for block in found)
        if not body and not any(block.arguments for block in found):
            return None
        arguments = tuple(self.words(found[0].line, found[0].arguments))
        if arguments and not arguments[0].startswith(("-", "+")):
            what = f'%{name} is followed by options of its shell, not by "{arguments[0][:WORD_LIMIT]}"'
            raise self.fail(found[0].line, what, "its script begins in the next line")
        if not body:
            return None
        return Script(
            body=body,
            arguments=arguments,
            line=found[0].line,
            lines=tuple(block.line + 1 + number for block in found for number in block.used),
        )

    def words(self, number: int, text: str) -> list[str]:
        try:
            return shlex.split(text)
        except ValueError as error:
            raise self.fail(number, f"{error}".lower()) from error

    def files(self, blocks: Iterable[Block], name: str) -> Iterator[Copy]:
        for block in blocks:
            if block.name != name:
                continue
            arguments = self.words(block.line, block.arguments if name == "files" else "")
            if arguments and (len(arguments) != 2 or arguments[0].lower() != "from"):
                raise self.fail(block.line, f"%files {block.arguments}: not understood", "%files, or %files from STAGE")
            for number, line in block.lines():
                words = self.words(number, _before_comment(line))
                if not words or len(words) > 2:
                    raise self.fail(number, f"%{name}: {len(words)} words", "SOURCE [TARGET]; quote names with blanks")
                yield Copy(
                    source=words[0],
                    target=words[1] if len(words) == 2 else "",
                    stage=arguments[1] if arguments else "",
                    line=number,
                    section=name,
                )

    def labels(self, blocks: Iterable[Block], name: str) -> dict[str, str]:
        return dict(parse_label(line) for block in blocks if block.name == name for _, line in block.lines())

    def wrappers(self, blocks: Iterable[Block]) -> Iterator[Command]:
        known: set[str] = set()
        for number, line in (each for block in blocks if block.name == "wrappers" for each in block.lines()):
            try:
                found = offered.parse(_before_comment(line))
            except ValueError as error:
                raise self.fail(number, f"%wrappers: {error}", "NAME, or NAME=PROGRAM [ARGUMENT...]") from error
            if not known.isdisjoint(found):
                raise self.fail(number, f"%wrappers: {min(known & found.keys())} is named twice")
            known |= found.keys()
            yield from found.values()

    def apps(self, blocks: Iterable[Block]) -> Iterator[App]:
        by_name: dict[str, list[Block]] = {}
        for block in blocks:
            if block.name in APP_SECTIONS:
                name, block.arguments = (*block.arguments.split(None, 1), "", "")[:2]
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


def _before_comment(line: str) -> str:
    """`line` up to a `#` that begins a word, as in a shell: not within quotes, nor after a backslash."""
    quote, escaped, between = "", False, True
    for place, letter in enumerate(line):
        if escaped:
            escaped = between = False
            continue
        if letter == "#" and between and not quote:
            return line[:place].rstrip()
        between = letter.isspace() and not quote
        if letter == "\\" and quote != "'":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
    return line


def _joined(blocks: Iterable[Block], name: str) -> str:
    return "".join(block.text for block in blocks if block.name == name)


def logical_lines(lines: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    r"""Header lines without comments and empty ones; `\` at a line's end joins the next, `\n\` with a newline."""
    parts: list[str] = []
    start = 0
    for number, line in lines:
        if not parts and is_blank(line):
            continue
        start = start if parts else number
        text = without_comment(line)
        if text.endswith("\\n\\"):
            parts.append(text[:-3] + "\n")
        elif text.endswith("\\"):
            parts.append(text[:-1])
        else:
            yield from _whole(start, [*parts, text])
            parts = []
    yield from _whole(start, parts)


def _whole(number: int, parts: Sequence[str]) -> Iterator[tuple[int, str]]:
    text = "".join(parts)
    if text.strip():
        yield number, text
