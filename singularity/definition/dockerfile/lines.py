"""The text of a Dockerfile as instructions: parser directives, comments, continued lines, flags and here-documents."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from singularity.definition.dockerfile import words
from singularity.definition.model import HereDocument, Instruction
from singularity.definition.sections import SIZE_LIMIT, WORD_LIMIT
from singularity.errors import DefinitionError

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_FIRST = re.compile(r"\s*(\S+)\s*(.*)", re.DOTALL)
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(.*))?", re.DOTALL)
_HERE = re.compile(r"\d*<<(-?)([^<]+)", re.DOTALL)
_WITH_HERE_DOCUMENTS = ("ADD", "COPY", "RUN")
_ESCAPES = ("\\", "`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """A whole file."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"


def read(text: str, name: str) -> Lines:
    """The instructions of a file; `name` stands in messages. Raises DefinitionError."""
    if len(text) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no Dockerfile", name=name)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DefinitionError("a NUL byte: no Dockerfile", name=name, line=line)
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    directives = _directives(lines, name)
    reader = _Reader(lines, name, directives.get("escape", "\\"))
    return Lines(instructions=tuple(reader.instructions()), escape=reader.escape)


def trigger(text: str, name: str, line: int, escape: str) -> Instruction:
    """The instruction that an `ONBUILD` holds. Raises DefinitionError."""
    found = tuple(_Reader(text.split("\n"), name, escape, at=line).instructions())
    if len(found) != 1:
        raise DefinitionError("ONBUILD: one instruction is expected behind it", name=name, line=line)
    return found[0]


def _directives(lines: list[str], name: str) -> dict[str, str]:
    """What the lines above everything else say to the parser."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _DIRECTIVES:
            break
        key, value = match[1].lower(), match[2]
        if key in found:
            raise DefinitionError(f"{key} is said twice", name=name, line=number)
        if key == "escape" and value not in _ESCAPES:
            raise DefinitionError(f'escape={value[:WORD_LIMIT]}: "\\" or "`"', name=name, line=number)
        found[key] = value
    return found


class _Reader:
    def __init__(self, lines: list[str], name: str, escape: str, at: int = 0) -> None:
        self.lines = lines
        self.name = name
        self.escape = escape
        self.at = at  # the line that all instructions are said to stand in; 0: their own
        self.next = 0
        character = re.escape(escape)
        self.continued = re.compile(rf"(?<!{character}){character}[ \t]*\Z")

    def fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        return DefinitionError(what, name=self.name, line=line, hint=hint)

    def instructions(self) -> Iterator[Instruction]:
        while self.next < len(self.lines):
            start = self.at or self.next + 1
            text = self.logical_line()
            if text:
                yield self.instruction(text, start)

    def logical_line(self) -> str:
        """The next line with those that continue it; comments and empty lines between them are left out."""
        parts: list[str] = []
        while self.next < len(self.lines):
            line = self.lines[self.next]
            self.next += 1
            if not line.strip() or line.lstrip().startswith("#"):
                if parts:
                    continue
                return ""
            end = self.continued.search(line)
            parts.append(line[: end.start()] if end else line)
            if not end:
                break
        return "".join(parts).strip()

    def instruction(self, text: str, line: int) -> Instruction:
        match = _FIRST.fullmatch(text)
        name, rest = (match[1].upper(), match[2]) if match else (text, "")
        flags: list[tuple[str, str]] = []
        nested = name == "ONBUILD"  # its flags are those of the instruction that it holds
        while not nested and rest.startswith("--"):
            word, after = words.first(rest, self.escape)
            found = _FLAG.fullmatch(word)
            if found is None:
                if word == "--":
                    rest = after
                break
            flags.append((found[1], found[2] if found[2] is not None else "true"))
            rest = after
        inner = rest.split(None, 1)[:1] if nested else [name]
        documents: tuple[HereDocument, ...] = ()
        if inner and inner[0].upper() in _WITH_HERE_DOCUMENTS:
            documents = tuple(self.here_documents(rest, line))
        return Instruction(
            name=name,
            flags=tuple(flags),
            text=rest,
            documents=documents,
            file=self.name,
            line=line,
            escape=self.escape,
        )

    def here_documents(self, text: str, line: int) -> Iterator[HereDocument]:
        if words.json_list(text) is not None:
            return
        for word in words.split(text, self.escape):
            match = _HERE.fullmatch(word)
            if match:
                name = words.unquoted(match[2], self.escape)
                yield HereDocument(
                    word=word,
                    name=name,
                    body=self.body(name, line, tabs=bool(match[1])),
                    expands=name == match[2],
                    tabs=bool(match[1]),
                )

    def body(self, name: str, line: int, *, tabs: bool) -> str:
        """The lines up to the one that is its name alone; without tabs at their beginning where `<<-` asks for that."""
        found: list[str] = []
        while self.next < len(self.lines):
            text = self.lines[self.next].lstrip("\t") if tabs else self.lines[self.next]
            self.next += 1
            if text == name:
                return "".join(f"{each}\n" for each in found)
            found.append(text)
        raise self.fail(
            line, f"the here-document <<{name[:WORD_LIMIT]} has no end", f"a line {name[:WORD_LIMIT]} ends it"
        )
