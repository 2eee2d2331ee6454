"""What a page of documentation says can be typed, as data: a doctest for the shell.

Blocks marked `sh` are command lines that end well; those marked `console` show them behind `$ `, and what they print.
Before a block may stand a comment that readers do not see:

    <!-- run: not, REASON -->             it cannot run here
    <!-- run: by tests/x/test_y.py -->    that test, or script, does it
    <!-- run: before COMMANDS -->         typed first, unseen; may go over several lines
    <!-- run: file NAME -->               the block is what is in that file (of any language, or none)
    <!-- run: on a cluster -->            typed where Slurm is
    <!-- run: output differs, REASON -->  it ends well, and what it prints is not compared
    <!-- run: ends with N -->             its last line fails, with this status
    <!-- run: the page by tests/... -->   all blocks of the page that say nothing else
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PART = re.compile(r"<!-- run: (.*?) -->|^( *)```(\w*)\n(.*?)^\2```$", re.MULTILINE | re.DOTALL)
_WORDS = ("not, ", "by ", "before ", "file ", "on a cluster", "output differs, ", "ends with ", "the page by ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One command line and what is shown below it; None: nothing is said of what it prints."""

    text: str
    output: tuple[str, ...] | None = None
    status: int | None = 0  # that it ends with; None: any but 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a page: its language, its text, what the comments before it say."""

    language: str
    text: str
    number: int  # of the page's line that it begins in
    said: tuple[str, ...]

    def word(self, beginning: str) -> str | None:
        """What follows this word in a comment before it; None without one."""
        return next((said.removeprefix(beginning) for said in self.said if said.startswith(beginning)), None)

    @property
    def is_typed(self) -> bool:
        return self.language in ("sh", "console") and self.word("file ") is None

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is not run, or by another test."""
        return self.word("not, ") is not None or self.word("by ") is not None

    def lines(self) -> list[Line]:
        text = re.sub(r"\\\n\s*", "", self.text)
        if self.language == "sh":
            return [Line(text=each) for each in _commands(text)]
        found = []
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            shown = None if self.word("output differs, ") is not None else tuple(output)
            refused = any(each.startswith("FATAL:") for each in output)
            found.append(Line(text=command, output=shown, status=None if refused else 0))
        if self.word("ends with ") is not None:
            found[-1] = replace(found[-1], status=int(self.word("ends with ") or 0))
        return found


def _commands(text: str) -> list[str]:
    """The command lines of a script; a here-document belongs to its line."""
    found: list[str] = []
    end = ""
    for line in text.splitlines():
        if end:
            found[-1] += "\n" + line
            end = "" if line == end else end
        elif line.strip() and not line.lstrip().startswith("#"):
            found.append(line)
            opened = re.search(r"<<-? ?'?(\w+)'?", line)
            end = opened[1] if opened else ""
    return found


def blocks(path: Path) -> list[Block]:
    """The blocks of a page in order. Raises ValueError for a comment that says nothing we know."""
    text = path.read_text()
    found: list[Block] = []
    said: list[str] = []
    page: list[str] = []
    for match in _PART.finditer(text):
        number = text.count("\n", 0, match.start()) + 1
        if match[1] is not None:
            if not match[1].startswith(_WORDS):
                raise ValueError(f"{path}:{number}: run: {match[1]}")
            (page if match[1].startswith("the page by ") else said).append(match[1].removeprefix("the page "))
            continue
        here = tuple(said) or tuple(page)
        found.append(Block(language=match[3], text=_dedent(match[4], match[2]), number=number, said=here))
        said = []
    return found


def _dedent(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def alike(shown: tuple[str, ...], printed: list[str]) -> bool:
    """Whether a command printed what a page shows.

    `[...]` stands for any lines, `...` for any words; numbers and the width of blanks are not compared.
    """
    pattern = ""
    for line in shown:
        if line.strip() == "[...]":
            pattern += r"(?:.*\n)*"
        else:
            parts = (re.escape(_plain(part)) for part in line.rstrip().split("..."))
            pattern += ".*".join(parts) + r"\n"
    return re.fullmatch(pattern, "".join(_plain(line.rstrip()) + "\n" for line in printed)) is not None


def _plain(line: str) -> str:
    return re.sub(r"\d+(?:\.\d+)*", "0", re.sub(r"\s+", " ", line))
