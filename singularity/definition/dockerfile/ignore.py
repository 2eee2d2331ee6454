"""Patterns of `.dockerignore`: which files of a context no instruction sees.

One a line: `*` and `?` as in a shell, `**` for any number of directories, `!` in front for what is seen all the same;
the last that fits decides. What fits a directory fits all in it.
"""

import re
from collections.abc import Sequence
from functools import cached_property

from singularity.errors import DefinitionError

_LIMIT = 10_000  # patterns


class Patterns:
    """What a list of patterns leaves out."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)

    @cached_property
    def _rules(self) -> list[tuple[bool, re.Pattern[str]]]:
        return [(not each.startswith("!"), re.compile(_regex(each.removeprefix("!")))) for each in self.patterns]

    @cached_property
    def has_exceptions(self) -> bool:
        """Whether something can be seen in a directory that is not."""
        return any(each.startswith("!") for each in self.patterns)

    def leaves_out(self, path: str) -> bool:
        """Whether a file is not seen; its path is relative, without a slash at its ends."""
        found = False
        for ignored, rule in self._rules:
            if ignored != found and rule.match(path):
                found = ignored
        return found


def read(text: str, name: str) -> Patterns:
    """The patterns of a file. Raises DefinitionError."""
    found = []
    for line in text.removeprefix("\ufeff").splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        inverted, pattern = pattern.startswith("!"), pattern.removeprefix("!").strip()
        pattern = "/".join(_normal(pattern))
        if pattern:
            found.append(f"!{pattern}" if inverted else pattern)
        if len(found) > _LIMIT:
            raise DefinitionError(f"more than {_LIMIT} patterns", name=name)
    patterns = Patterns(found)
    try:
        patterns.leaves_out("")
    except re.error as error:
        raise DefinitionError(f"a pattern that is none: {error}", name=name) from error
    return patterns


def _normal(pattern: str) -> list[str]:
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _regex(pattern: str) -> str:
    """Of a path that fits, or lies in a directory that does."""
    found, place = "", 0
    while place < len(pattern):
        letter = pattern[place]
        place += 1
        if pattern.startswith("**/", place - 1):
            found += "(?:[^/]+/)*"
            place += 2
        elif pattern.startswith("**", place - 1):
            found += ".*"
            place += 1
        elif letter == "*":
            found += "[^/]*"
        elif letter == "?":
            found += "[^/]"
        elif letter == "[" and (end := pattern.find("]", place + 1)) > 0:
            inner = pattern[place:end].replace("\\", r"\\")
            found += "[" + (f"^{inner[1:]}" if inner[0] in "!^" else inner) + "]"
            place = end + 1
        elif letter == "\\" and place < len(pattern):
            found += re.escape(pattern[place])
            place += 1
        else:
            found += re.escape(letter)
    return rf"(?s:{found}(?:/.*)?)\Z"
