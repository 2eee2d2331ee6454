"""`if`, `elif`, `else` and `fi` in a script of the first format, with tests that need no program."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from singularity.definition.sections import WORD_LIMIT
from singularity.definition.version1.expansion import Expansion, piece_text
from singularity.errors import DefinitionError
from singularity.shell.words import Command

MODERN = "or write the second format: Bootstrap: and sections"
_NUMBER = re.compile(r"[+-]?[0-9]{1,18}")
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "-eq": int.__eq__,
    "-ne": int.__ne__,
    "-lt": int.__lt__,
    "-le": int.__le__,
    "-gt": int.__gt__,
    "-ge": int.__ge__,
}


@dataclass(slots=True)
class _If:
    """An `if` that is not closed yet."""

    line: int
    outer: bool  # whether its commands count at all
    chosen: bool = False  # whether a branch was taken already
    here: bool = False  # whether the present branch is the one


class Conditions:
    """The `if`s that are open at a place of the script, and whether a shell would carry out what stands there."""

    def __init__(self, words: Expansion) -> None:
        self.words = words
        self.ifs: list[_If] = []

    def chosen(self, commands: Iterable[Command]) -> Iterator[Command]:
        """The commands of branches that a shell would take; each is to be carried out before the next is asked for.

        Raises DefinitionError for what is not understood.
        """
        for command in commands:
            yield from self._chosen(command)
        if self.ifs:
            raise self.words.fail(self.ifs[-1].line, "if without fi")

    @property
    def _counts(self) -> bool:
        """Whether a shell would carry out what comes next."""
        return not self.ifs or (self.ifs[-1].outer and self.ifs[-1].here)

    def _chosen(self, command: Command) -> Iterator[Command]:
        """The command itself, what follows a word such as `then`, or nothing."""
        while (word := command.first) in ("then", "else", "do"):
            if word == "do" or not self.ifs:
                raise self.words.fail(command.line, f'"{word}" is not understood here', MODERN)
            if word == "else":
                self.ifs[-1].here = not self.ifs[-1].chosen
                self.ifs[-1].chosen = True
            command = command.without_first()
            if not command.words:
                return
        if word == "if":
            self.ifs.append(_If(command.line, self._counts))
            self._branch(command)
        elif word in ("elif", "fi"):
            if not self.ifs:
                raise self.words.fail(command.line, f"{word} without if")
            if word == "fi":
                self.ifs.pop()
            else:
                self._branch(command)
        elif self._counts:
            yield command

    def _branch(self, command: Command) -> None:
        """Decides a branch; its test is evaluated only where a shell would."""
        own = self.ifs[-1]
        own.here = own.outer and not own.chosen and self._test(command.without_first())
        own.chosen = own.chosen or own.here

    def _test(self, command: Command) -> bool:
        words = [piece_text(each) for each in self.words.fields(command.words, command.line)]
        hint = f"[ A = B ], [ -n A ] and such; {MODERN}"
        unknown = self.words.fail(command.line, "a test that is not understood", hint)
        if command.redirects or command.may_fail or not words:
            raise unknown
        if words[0] == "!":
            return not self._test_words(words[1:], unknown, command.line)
        return self._test_words(words, unknown, command.line)

    def _test_words(self, words: list[str], unknown: DefinitionError, line: int) -> bool:
        if words[:1] == ["["] and words[-1:] == ["]"] and len(words) > 1:
            words = words[1:-1]
        elif words[:1] == ["test"]:
            words = words[1:]
        elif words in (["true"], [":"], ["false"]):
            return words != ["false"]
        else:
            raise unknown
        negative = words[:1] == ["!"] and len(words) > 1
        return self._evaluate(words[1:] if negative else words, unknown, line) is not negative

    def _evaluate(self, words: list[str], unknown: DefinitionError, line: int) -> bool:
        match words:
            case []:
                return False
            case [one]:
                return one != ""
            case ["-n", one]:
                return one != ""
            case ["-z", one]:
                return one == ""
            case [one, "=" | "==", other]:
                return one == other
            case [one, "!=", other]:
                return one != other
            case [one, sign, other] if sign in _COMPARISONS:
                for number in (one, other):
                    if not _NUMBER.fullmatch(number):
                        raise self.words.fail(line, f'"{number[:WORD_LIMIT]}" is no number')
                return _COMPARISONS[sign](int(one), int(other))
        raise unknown
