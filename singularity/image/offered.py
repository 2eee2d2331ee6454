"""What an image offers as commands of its host: entries of `%wrappers`, of the label with them, of a command line.

An entry is `NAME`, the program of that name in the image, or `NAME=PROGRAM [ARGUMENT...]`, quoted as for a shell. In
the place of PROGRAM may stand `%runscript`, or `%apprun APP`. Between entries are commas or line ends.
"""

import re
import shlex
from collections.abc import Iterable
from typing import NamedTuple

LABEL = "singularity.wrappers"
RUNSCRIPT, APP = "%runscript", "%apprun"

_ENTRY = re.compile(r"(?:[^,\n'\"\\]|\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"|['\"\\])+")  # a comma in quotes separates nothing
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Command(NamedTuple):
    """A command of the host, and what it starts in the image."""

    name: str
    words: tuple[str, ...]  # a program and its first arguments; or `%runscript` or `%apprun APP`, and its

    @property
    def program(self) -> str:
        """The program; empty where a runscript is started."""
        return "" if self.words[0] in (RUNSCRIPT, APP) else self.words[0]

    @property
    def launch(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The words before the image and after it: verb and options, and what is handed to it."""
        if self.words[0] == RUNSCRIPT:
            return ("run",), self.words[1:]
        if self.words[0] == APP:
            return ("run", "--app", self.words[1]), self.words[2:]
        return ("exec",), self.words

    def __str__(self) -> str:
        if self.words == (self.name,):
            return self.name
        return f"{self.name}={' '.join(map(_quoted, self.words))}"


def parse(text: str) -> dict[str, Command]:
    """The commands that `text` has, by name. Raises ValueError, which says what is wrong with which entry."""
    found: dict[str, Command] = {}
    for entry in filter(None, (each.strip() for each in _ENTRY.findall(text))):
        command = _command(entry)
        if command.name in found:
            raise ValueError(f"{command.name} is named twice")
        found[command.name] = command
    return found


def text(commands: Iterable[Command]) -> str:
    """The same as one line, which `parse` understands."""
    return ", ".join(map(str, commands))


def added(before: str, commands: Iterable[Command]) -> str:
    """The text with more commands; of one that is named again, the new one counts. What makes no sense is left out."""
    try:
        known = parse(before)
    except ValueError:
        known = {}
    return text((known | {each.name: each for each in commands}).values())


def _command(entry: str) -> Command:
    name, equals, program = (part.strip() for part in entry.partition("="))
    if not _NAME.fullmatch(name):
        raise ValueError(f'"{name[:60]}" is no name of a command: letters, digits, "_", ".", "+" and "-"')
    if not equals:
        return Command(name, (name,))
    if _CONTROL.search(program):
        raise ValueError(f"{name}: a control character in its program")
    try:
        words = tuple(shlex.split(program))
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).lower()}") from error
    if not words or not words[0]:
        raise ValueError(f"{name}: the program is missing behind =")
    if words[0].startswith("%") and words[0] not in (RUNSCRIPT, APP):
        raise ValueError(f"{name}: {words[0]} is neither {RUNSCRIPT} nor {APP}")
    if words[0] == APP and (len(words) == 1 or not _NAME.fullmatch(words[1])):
        raise ValueError(f"{name}: {APP} needs the name of an application")
    return Command(name, words)


def _quoted(word: str) -> str:
    return shlex.quote(word) if "," not in word else "'" + word.replace("'", "'\"'\"'") + "'"
