"""The variables that environment scripts set to the same values at every start, and what only a shell can tell.

An OCI configuration has values and no code. Scripts are read as `shell.words` reads shell text: assignments
and `export` are followed, with variables that earlier ones have set; all else is code that runs at a start, and so are
the variables that only a start knows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from singularity.errors import DefinitionError
from singularity.shell.words import Command, Lexer, Piece, Word

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""What Docker and podman give a program of an image that sets no PATH."""

_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNED = re.compile(r"(?:^|[\s;&|{(])(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=")
_OF_A_START = re.compile(
    r"(HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|HOSTNAME|TERM|DISPLAY|TMPDIR|LANG|UID|EUID|PPID|RANDOM|SECONDS|LINENO|IFS|OPTIND"
    r"|(SINGULARITY|APPTAINER|SLURM|PBS|SGE|LSB|OMPI|PMI|CUDA|NVIDIA|XDG)[A-Z]*_.*)"
)
_SCRIPTS_LIMIT = 256 << 10  # letters of all scripts that are read; a start reads the others
_VALUE_LIMIT = 128 << 10  # letters, which no program gets more of: MAX_ARG_STRLEN
_OPENING, _CLOSING = frozenset(["if", "case", "for", "while", "until", "{"]), frozenset(["fi", "esac", "done", "}"])
_INNER = frozenset(["then", "else", "elif", "do", "!"])
_SPECIAL = re.compile(r"\$[-$!?]")  # parameters that the lexer takes for text
_NOTHING = frozenset((":", "true"))
_GOES_ON = ("\\", "|", "&", "{", "(")


@dataclass(slots=True)
class Constants:
    """What was found, in the order of its setting."""

    values: dict[str, str] = field(default_factory=dict)  # of the exported variables
    code: list[str] = field(default_factory=list)  # what was left out: `script:line (variable)`


def exported(scripts: Mapping[str, str], before: Mapping[str, str]) -> Constants:
    """The variables that scripts, by their names and in their order, set for programs.

    `before` are those that are set when the first one begins.
    """
    state, left = _State(dict(before)), _SCRIPTS_LIMIT
    for name, text in scripts.items():
        script = _Script(name, text, state)
        left -= len(text)
        if left >= 0:
            script.read()
        else:
            script.leave_out()
    return state.found


class _Live(Exception):  # noqa: N818 - no error: the word is known to a start only
    """A value that is not the same at every start."""


class _State:
    """What is set so far."""

    def __init__(self, before: dict[str, str]) -> None:
        self.values = before
        self.exported = set(before)
        self.unknown: set[str] = set()  # set by code
        self.found = Constants()

    def set(self, name: str, value: str) -> None:
        self.values[name] = value
        self.unknown.discard(name)
        self._publish(name)

    def export(self, name: str) -> None:
        self.exported.add(name)
        self._publish(name)

    def unset(self, name: str) -> None:
        self.values.pop(name, None)
        self.exported.discard(name)
        self.found.values.pop(name, None)

    def _publish(self, name: str) -> None:
        if name in self.exported and name in self.values:
            self.found.values[name] = self.values[name]


class _Script:
    """One script."""

    def __init__(self, name: str, text: str, state: _State) -> None:
        self.name = name
        self.text = text
        self.lines = text.splitlines(keepends=True)
        self.state = state
        self.depth = 0  # of conditions and loops, whose content is code

    def read(self) -> None:
        start, places = 0, [0, *accumulate(map(len, self.lines))]
        while start < len(self.lines):
            lexer = Lexer(self.text, self.name, places[start])
            try:
                for command in lexer.commands():
                    first, last = start + command.line, start + lexer.line
                    if _SPECIAL.search("".join(self.lines[first - 1 : last])):
                        self._leave_out(first, [name for word in command.words if (name := _assigned_name(word))])
                    else:
                        self._take(command, first)
                return
            except DefinitionError:
                failed = min(start + lexer.line, len(self.lines))
            line = self.lines[failed - 1]
            self._leave_out(failed, _ASSIGNED.findall(line))
            if not _stands_alone(line):
                rest = self.text[places[failed] :]
                self._leave_out(failed + 1, _ASSIGNED.findall(rest), rest=True)
                return
            start = failed

    def leave_out(self) -> None:
        """Takes all of it for code."""
        self._leave_out(1, _ASSIGNED.findall(self.text))

    def _take(self, command: Command, line: int) -> None:
        first = command.first
        if first in _OPENING:
            self.depth += 1
        if first in _CLOSING:
            self.depth = max(0, self.depth - 1)
        if self.depth or first in _OPENING | _CLOSING | _INNER or command.redirects or command.raw:
            names = [name for word in command.words if (name := _assigned_name(word))]
            if first != "fi" or names:
                self._leave_out(line, names)
            return
        words = list(command.words)
        if first in _NOTHING:
            return
        if first in ("export", "unset"):
            words.pop(0)
        elif not all(_assigned_name(word) for word in words):
            self._leave_out(line, [])
            return
        before = dict(self.state.values) if first == "export" else self.state.values
        for word in words:
            self._declare(first, word, before, line)

    def _declare(self, how: str, word: Word, before: Mapping[str, str], line: int) -> None:
        """One word of an assignment, `export` or `unset`; variables in it have the values of `before`."""
        name = _assigned_name(word)
        if not name:
            plain = word[0].text if len(word) == 1 and not word[0].name else ""
            if not _NAME.fullmatch(plain):
                self._leave_out(line, [])
            elif how == "unset":
                self.state.unset(plain)
            else:
                self.state.export(plain)
            return
        try:
            value = self._value(word, before)
        except _Live:
            self._leave_out(line, [name])
            return
        if how == "export":
            self.state.exported.add(name)
        self.state.set(name, value)

    def _value(self, word: Word, before: Mapping[str, str]) -> str:
        """What an assignment word assigns."""
        match = _ASSIGNMENT.fullmatch(word[0].text)
        if match is None or match[2] or match[3].startswith("~"):
            raise _Live
        value = match[3] + "".join(self._expanded(piece, before) for piece in word[1:])
        if len(value) > _VALUE_LIMIT:
            raise _Live
        return value

    def _expanded(self, piece: Piece, before: Mapping[str, str]) -> str:
        if not piece.name:
            return piece.text
        if not _NAME.fullmatch(piece.name) or piece.name in self.state.unknown:
            raise _Live
        value = before.get(piece.name)
        if piece.default is not None and (value is None or (piece.colon and not value)):
            return "".join(self._expanded(each, before) for each in piece.default)
        if value is None:
            if piece.name == "PATH":
                return DEFAULT_PATH
            if _OF_A_START.fullmatch(piece.name):
                raise _Live
        return value or ""

    def _leave_out(self, line: int, names: list[str], *, rest: bool = False) -> None:
        if rest and not names:
            return
        for name in names:
            self.state.unknown.add(name)
            self.state.found.values.pop(name, None)
        about = f" ({', '.join(dict.fromkeys(names))})" if names else ""
        self.state.found.code.append(f"{self.name}:{line}{about}")


def _assigned_name(word: Word) -> str:
    """The variable that a word `NAME=...` sets; empty for another word."""
    match = _ASSIGNMENT.fullmatch(word[0].text) if word and not word[0].quoted and not word[0].name else None
    return match[1] if match else ""


def _stands_alone(line: str) -> bool:
    """Whether what follows a line that was not understood can be read by itself."""
    text = line.strip()
    balanced = text.count("(") == text.count(")") and all(text.count(quote) % 2 == 0 for quote in "`'\"")
    return balanced and "<<" not in text and not text.endswith(_GOES_ON)
