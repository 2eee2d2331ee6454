"""The words of an instruction: quotes and escapes, variables filled in, lists in the form of JSON.

Variables are those of a shell that a Dockerfile has: `$NAME`, `${NAME}`, with `:-` `-` `:+` `+` `:?` `?`, and the
prefixes, suffixes and patterns of `#` `##` `%` `%%` `/` `//`.
"""

import fnmatch
import json
import re
from collections.abc import Iterator, Mapping

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?!$-]")
_NESTING_LIMIT = 50


class WordError(Exception):
    """A word that cannot be understood; whoever knows the line says where."""


def json_list(text: str) -> list[str] | None:
    """A list of words in the form of JSON; None where the text is none."""
    if not text.lstrip().startswith("["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else None


def first(text: str, escape: str) -> tuple[str, str]:
    """The first word as it stands there, quotes and all, and the text after it."""
    text = text.lstrip()
    end = _word_end(text, 0, escape)
    return text[:end], text[end:].lstrip()


def split(text: str, escape: str) -> list[str]:
    """Words as they stand there: blanks in quotes, and escaped ones, part none."""
    found, place = [], 0
    while place < len(text):
        if text[place].isspace():
            place += 1
            continue
        end = _word_end(text, place, escape)
        found.append(text[place:end])
        place = end
    return found


def _word_end(text: str, place: int, escape: str) -> int:
    quote = ""
    while place < len(text):
        letter = text[place]
        if letter == escape and quote != "'":
            place += 2
            continue
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        elif letter.isspace():
            return place
        place += 1
    return len(text)


def unquoted(word: str, escape: str) -> str:
    """A word without its quotes and escapes; dollars are letters."""
    return _Filler(word, {}, escape, dollars=False).whole()


def fill(word: str, values: Mapping[str, str], escape: str) -> str:
    """A word as the instruction means it: variables filled in, quotes and escapes taken off. Raises WordError."""
    return _Filler(word, values, escape).whole()


def fill_text(text: str, values: Mapping[str, str], escape: str) -> str:
    """A here-document with its variables filled in; quotes are letters. Raises WordError."""
    return _Filler(text, values, escape, quotes=False).whole()


class _Filler:
    def __init__(
        self,
        text: str,
        values: Mapping[str, str],
        escape: str,
        *,
        dollars: bool = True,
        quotes: bool = True,
        depth: int = 0,
    ) -> None:
        self.text = text
        self.values = values
        self.escape = escape
        self.dollars = dollars
        self.quotes = quotes
        self.depth = depth
        self.place = 0

    def whole(self) -> str:
        return "".join(self.until(""))

    def until(self, end: str) -> Iterator[str]:
        """All up to the character `end`, which is read too."""
        while self.place < len(self.text):
            letter = self.text[self.place]
            if end and letter == end:
                self.place += 1
                return
            self.place += 1
            if letter == "'" and self.quotes:
                yield from self.single()
            elif letter == '"' and self.quotes:
                yield from self.double()
            elif letter == self.escape:
                yield from self.escaped(self.quotes)
            elif letter == "$" and self.dollars:
                yield self.variable()
            else:
                yield letter
        if end:
            raise WordError(f'"{end}" is missing')

    def escaped(self, everything: bool) -> Iterator[str]:
        """What an escape stands before; one that ends the text is a letter."""
        following = self.text[self.place : self.place + 1]
        if not following:
            yield self.escape
        elif everything or following in ("$", self.escape):
            self.place += 1
            yield following
        else:
            yield self.escape

    def single(self) -> Iterator[str]:
        end = self.text.find("'", self.place)
        if end < 0:
            raise WordError("a quote ' has no end")
        yield self.text[self.place : end]
        self.place = end + 1

    def double(self) -> Iterator[str]:
        while self.place < len(self.text):
            letter = self.text[self.place]
            self.place += 1
            following = self.text[self.place : self.place + 1]
            if letter == '"':
                return
            if letter == "$" and self.dollars:
                yield self.variable()
            elif letter == self.escape and following in ('"', "$", self.escape):
                self.place += 1
                yield following
            else:
                yield letter
        raise WordError('a quote " has no end')

    def variable(self) -> str:
        """The value of what stands behind a dollar, which is a letter where no name is there."""
        if self.text[self.place : self.place + 1] != "{":
            match = _NAME.match(self.text, self.place)
            if match is None:
                return "$"
            name = match[0] if match[0][0].isalpha() or match[0][0] == "_" else match[0][0]
            self.place += len(name)
            return self.values.get(name, "")
        self.place += 1
        match = _NAME.match(self.text, self.place)
        if match is None:
            raise WordError("${ without a name")
        self.place = match.end()
        return self.modified(match[0])

    def modified(self, name: str) -> str:
        """What stands between a name in braces and the end of them."""
        value = self.values.get(name)
        rest = self.text[self.place :]
        if rest.startswith("}"):
            self.place += 1
            return value or ""
        for how in (":-", ":+", ":?", "-", "+", "?", "##", "#", "%%", "%", "//", "/"):
            if rest.startswith(how):
                break
        else:
            raise WordError(f"${{{name}{rest[:2]}: not understood")
        self.place += len(how)
        argument = self.argument()
        if how in ("#", "##", "%", "%%", "/", "//"):
            return _patterned(value or "", how, argument)
        there = bool(value) if how.startswith(":") else value is not None
        match how[-1]:
            case "-":
                return value or "" if there else argument
            case "+":
                return argument if there else ""
        if not there:
            raise WordError(f"{name}: {argument or 'is not set'}")
        return value or ""

    def argument(self) -> str:
        if self.depth >= _NESTING_LIMIT:
            raise WordError("variables in variables without an end")
        inner = _Filler(self.text, self.values, self.escape, quotes=self.quotes, depth=self.depth + 1)
        inner.place = self.place
        found = "".join(inner.until("}"))
        self.place = inner.place
        return found


def _patterned(value: str, how: str, pattern: str) -> str:
    if how[0] == "/":
        pattern, _, instead = pattern.partition("/")
        regex = re.compile(_regex(pattern), re.DOTALL)
        return regex.sub(lambda _: instead, value, count=0 if how == "//" else 1) if pattern else value
    regex = re.compile(_regex(pattern), re.DOTALL)
    ends = range(len(value) + 1)
    if how[0] == "#":
        matching = [end for end in ends if regex.fullmatch(value, 0, end)]
        return value[(min if how == "#" else max)(matching) :] if matching else value
    matching = [start for start in ends if regex.fullmatch(value, start)]
    return value[: (max if how == "%" else min)(matching)] if matching else value


def _regex(pattern: str) -> str:
    """A pattern of a shell, without the end that fnmatch puts behind it."""
    return fnmatch.translate(pattern).removeprefix("(?s:").removesuffix(r")\Z").removesuffix(r")\z")
