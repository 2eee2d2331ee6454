"""Words of a script of the first format: variables and arguments get their values, and nothing is run."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from singularity.errors import DefinitionError
from singularity.shell.words import ROOT, Command, Piece, Word

ROOTS = ("SINGULARITY_ROOTFS", "SINGULARITY_BUILD_ROOT")  # the container's root file system, as the host sees it
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """The variables and arguments of a script at one place of it, and what words become with them."""

    name: str  # of the definition, for messages
    arguments: tuple[str, ...]
    variables: dict[str, str] = field(default_factory=lambda: {"HOME": "/root", **dict.fromkeys(ROOTS, ROOT)})

    def fail(self, line: int, what: str, hint: str = "") -> DefinitionError:
        """An error at a line; the stand-in for the root file system becomes its variable again."""
        what, hint = (text.replace("\n", " ").replace(ROOT, f"${ROOTS[0]}") for text in (what, hint))
        return DefinitionError(what, name=self.name, line=line, hint=hint)

    def assign(self, command: Command) -> int:
        """Carries out the assignments that a command begins with; how many words they are."""
        count = 0
        for word in command.words:
            first = word[0]
            match = None if first.quoted or first.name else ASSIGNMENT.fullmatch(first.text)
            if match is None:
                break
            count += 1
            value = self.unsplit((Piece(text=match[2]), *word[1:]), command.line)
            if match[1] in ROOTS:
                raise self.fail(command.line, f"{match[1]} is set by the build")
            self.variables[match[1]] = value
        return count

    def fields(self, words: Sequence[Word], line: int) -> list[list[Piece]]:
        """Words after expansion: each a row of pieces, which are quoted or not."""
        return [found for word in words for found in self.expanded(word, line)]

    def unsplit(self, word: Word, line: int) -> str:
        """What a word stands for where a shell splits none: in an assignment, or a default."""
        whole = tuple(replace(piece, quoted=True) for piece in word)
        return "".join(piece_text(each) for each in self.expanded(whole, line))

    def expanded(self, word: Word, line: int) -> list[list[Piece]]:
        """The words that one becomes: none, one or several."""
        rows: list[list[Piece]] = []
        row: list[Piece] = []

        def end() -> None:
            nonlocal row
            if row:
                rows.append(row)
                row = []

        for piece in word:
            if not piece.name:
                row.append(piece)
                continue
            values = self._values(piece, line)
            joined = "" if piece.quoted else " ".join(values)
            values = values if piece.quoted else joined.split()
            if joined[:1].isspace():
                end()
            for number, value in enumerate(values):
                if number:
                    end()
                row.append(Piece(text=value, quoted=piece.quoted))
            if joined[-1:].isspace():
                end()
        end()
        return rows

    def _values(self, piece: Piece, line: int) -> list[str]:
        values = self._value(piece.name)
        if piece.default is not None and (values is None or (piece.colon and not "".join(values))):
            return [self.unsplit(piece.default, line)]
        if values is None:
            if piece.name.isdecimal():
                hint = f"give it after the definition file, or write ${{{piece.name}:-DEFAULT}}"
                raise self.fail(line, f"argument {piece.name} is not given", hint)
            raise self.fail(line, f"{piece.name} has no value", f"set it above: {piece.name}=VALUE")
        return values

    def _value(self, name: str) -> list[str] | None:
        """What a name or number stands for; None where it has no value; several words for `@` only."""
        if name in ("@", "*"):
            return list(self.arguments) if name == "@" else [" ".join(self.arguments)]
        if name == "#":
            return [str(len(self.arguments))]
        if name.isdecimal():
            number = int(name)
            if number == 0:
                return [self.name]
            return [self.arguments[number - 1]] if number <= len(self.arguments) else None
        found = self.variables.get(name)
        return None if found is None else [found]


def piece_text(pieces: Sequence[Piece]) -> str:
    """The text of a word after expansion."""
    return "".join(piece.text for piece in pieces)
