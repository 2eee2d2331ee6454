"""Shell text as words: what a static reader needs, and a refusal with its line for all that it would have to run."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from singularity.errors import DefinitionError

ROOT = "\0root"  # in place of a path that only a running build knows; texts hold no NUL byte
_HINT = "one command a line, or write the second format: Bootstrap: and sections"
_NAME = re.compile(r"[A-Za-z_]\w*|[0-9]|[@*#]", re.ASCII)
_BRACED = re.compile(r"([A-Za-z_]\w*|[0-9]{1,4}|[@*#])(?:(:?)(-)|\})", re.ASCII)
_RAW = re.compile(r"RunScript[ \t]+((?:[^\\\n]|\\.|\\\n|\\$)*)")
_QUOTING = "\\'\"$`"
_PLAIN = re.compile(r"[^\s;>|&()<\\'\"$`]+")
_PLAIN_DEFAULT = re.compile(r"[^\n;>|&()<\\'\"$`}]+")
_OPERATOR = re.compile(r"([12]?)(>>?)(?![|(])")
_DESCRIPTOR = re.compile(r"&[0-9]")
_DEPTH_LIMIT = 20  # of defaults within defaults
_OR_TRUE = re.compile(r"\|\|[ \t]*(?:/bin/)?(?:true|:)[ \t]*(?=[\n;#]|\Z)")
_REFUSED = {
    "|": "a pipe", "&": "a list of commands", "(": "a group of commands", ")": "a group of commands",
    "<": "input from a file or here-document",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a word: text, or a variable that stands for some."""

    text: str = ""
    quoted: bool = False
    name: str = ""  # of the variable; empty for text
    default: tuple["Piece", ...] | None = None  # in place of a variable without a value
    colon: bool = False  # also in place of an empty one


Word = tuple[Piece, ...]  # at least one piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Redirect:
    """Where a command's output goes."""

    operator: str
    word: Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A simple command."""

    line: int
    words: tuple[Word, ...]
    redirects: tuple[Redirect, ...] = ()
    raw: str = ""  # of RunScript: the rest of its line, as it stands
    may_fail: bool = False  # `|| true` follows

    @property
    def first(self) -> str:
        """The first word where it is nothing but unquoted text, as keywords are."""
        if not self.words or len(self.words[0]) != 1:
            return ""
        piece = self.words[0][0]
        return "" if piece.quoted or piece.name else piece.text

    def without_first(self) -> "Command":
        """What follows a keyword."""
        return replace(self, words=self.words[1:])


class Lexer:
    """One text, from its beginning, or another place in it, to its end; lines are counted from there."""

    def __init__(self, text: str, name: str, place: int = 0) -> None:
        self.text = text
        self.name = name
        self.place = place
        self.line = 1

    def _fail(self, what: str, hint: str = _HINT) -> DefinitionError:
        return DefinitionError(what, name=self.name, line=self.line, hint=hint)

    def commands(self) -> Iterator[Command]:
        """Every command in order. Raises DefinitionError where the text is not understood."""
        zero = self.text.find("\0", self.place)
        if zero >= 0:
            self.line += self.text.count("\n", self.place, zero)
            raise self._fail("a NUL byte: no definition file", "")
        words: list[Word] = []
        redirects: list[Redirect] = []
        start, may_fail = 0, False
        while self.place < len(self.text):
            if self._between():
                continue
            if self.text[self.place] in "\n;":
                if words or redirects:
                    yield Command(line=start, words=tuple(words), redirects=tuple(redirects), may_fail=may_fail)
                    words, redirects, may_fail = [], [], False
                self._skip(1)
            elif words and (match := _OR_TRUE.match(self.text, self.place)):
                self._skip(len(match[0]))
                may_fail = True
            elif not words and (match := _RAW.match(self.text, self.place)):
                line = self.line
                self._skip(len(match[0]))
                yield Command(line=line, words=((Piece(text="RunScript"),),), raw=match[1].rstrip() or ":")
            else:
                start = start if words or redirects else self.line
                operator = self._operator()
                if operator:
                    redirects.append(Redirect(operator=operator, word=self._target()))
                else:
                    words.append(self._word(0))
        if words or redirects:
            yield Command(line=start, words=tuple(words), redirects=tuple(redirects), may_fail=may_fail)

    def _between(self) -> bool:
        """Skips a blank, or a comment; False where there is none."""
        letter = self.text[self.place]
        if letter in " \t\r" or self.text.startswith("\\\n", self.place):
            self._skip(2 if letter == "\\" else 1)
        elif letter == "#":
            end = self.text.find("\n", self.place)
            self.place = end if end >= 0 else len(self.text)
        else:
            return False
        return True

    def _skip(self, count: int) -> None:
        self.line += self.text.count("\n", self.place, self.place + count)
        self.place += count

    def _operator(self) -> str:
        """`>` or `>>`, with the descriptor before it, where one stands here."""
        match = _OPERATOR.match(self.text, self.place)
        if not match:
            return ""
        self._skip(len(match[0]))
        return match[0]

    def _target(self) -> Word:
        descriptor = _DESCRIPTOR.match(self.text, self.place)
        if descriptor:
            self._skip(2)
            return (Piece(text=descriptor[0], quoted=True),)
        while self.text[self.place : self.place + 1] in (" ", "\t"):
            self._skip(1)
        return self._word(0)

    def _word(self, depth: int, end: str = "") -> Word:
        """One word; with `end`, which is consumed, all up to that letter, and no piece where there is nothing."""
        pieces: list[Piece] = []
        plain = _PLAIN_DEFAULT if end else _PLAIN
        while self.place < len(self.text):
            letter = self.text[self.place]
            if letter == end:
                self._skip(1)
                return tuple(pieces)
            if letter in _REFUSED:
                raise self._fail(f"{_REFUSED[letter]} ({letter}) is not understood")
            match = plain.match(self.text, self.place)
            if match:
                pieces.append(Piece(text=match[0]))
                self._skip(len(match[0]))
            elif letter in _QUOTING:
                pieces += self._quoted(letter, depth)
            else:
                break
        if end or not pieces:
            raise self._fail(f'no closing "{end}"' if end else "a word is missing", "")
        return tuple(pieces)

    def _quoted(self, letter: str, depth: int) -> list[Piece]:
        if letter == "\\":
            following = self.text[self.place + 1 : self.place + 2]
            self._skip(2)
            return [] if following == "\n" else [Piece(text=following or "\\", quoted=True)]
        if letter == "'":
            return [Piece(text=self._until_quote(), quoted=True)]
        if letter == '"':
            return self._double_quoted(depth)
        return [self._expansion(depth, quoted=False) or Piece(text="$")]

    def _until_quote(self) -> str:
        end = self.text.find("'", self.place + 1)
        if end < 0:
            raise self._fail("no closing quotation", "")
        text = self.text[self.place + 1 : end]
        self._skip(len(text) + 2)
        return text

    def _double_quoted(self, depth: int) -> list[Piece]:
        pieces: list[Piece] = []
        plain: list[str] = []
        opened = self.line
        self._skip(1)
        while self.place < len(self.text):
            letter = self.text[self.place]
            if letter == '"':
                self._skip(1)
                if plain or not pieces:
                    pieces.append(Piece(text="".join(plain), quoted=True))
                return pieces
            if letter == "\\":
                following = self.text[self.place + 1 : self.place + 2]
                self._skip(2)
                plain.append("" if following == "\n" else following if following in '$`"\\' else f"\\{following}")
            elif letter in "$`":
                piece = self._expansion(depth, quoted=True)
                if piece is None:
                    plain.append("$")
                    continue
                if plain:
                    pieces.append(Piece(text="".join(plain), quoted=True))
                    plain = []
                pieces.append(piece)
            else:
                plain.append(letter)
                self._skip(1)
        self.line = opened
        raise self._fail("no closing quotation", "")

    def _expansion(self, depth: int, *, quoted: bool) -> Piece | None:
        """What `$` begins; None for a `$` that stands for itself."""
        if self.text[self.place] == "`" or self.text.startswith("$(", self.place):
            raise self._fail("the output of a command ($(...)) is not understood")
        braced = self.text.startswith("${", self.place)
        match = (_BRACED if braced else _NAME).match(self.text, self.place + (2 if braced else 1))
        if not match:
            if braced:
                raise self._fail("${...} of this kind is not understood", "${NAME}, ${NAME:-DEFAULT}")
            self._skip(1)
            return None
        self._skip(match.end() - self.place)
        if not braced or match[3] is None:
            return Piece(name=match[1] if braced else match[0], quoted=quoted)
        if depth >= _DEPTH_LIMIT:
            raise self._fail("defaults within defaults")
        default = self._word(depth + 1, "}")
        return Piece(name=match[1], quoted=quoted, default=default, colon=bool(match[2]))
