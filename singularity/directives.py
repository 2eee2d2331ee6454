"""The administrator's configuration file as text: its directives are changed, and no word of its comments is lost.

The file explains each directive, with its kind and its default, in the comment above it (etc/singularity.conf):

    # MOUNT HOME: [BOOL]
    # DEFAULT: yes
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from singularity.errors import SingularityError, UsageError

_HEAD = re.compile(r"# ([A-Z][A-Z _-]*): \[([^\]]*)\]")
_UNDEFINED = "Undefined"


class Directive(NamedTuple):
    """One, where it is explained and set."""

    name: str
    kind: str  # BOOL, NUMBER, STRING, LIST, or the words that it may be, between slashes
    default: str  # "": none
    end: int  # the number of the line behind its comment
    lines: tuple[int, ...]  # the numbers of those that set it

    def check(self, value: str) -> None:
        """Raises UsageError for a value that the launcher would refuse."""
        words = {"BOOL": ["yes", "no"]}.get(self.kind, self.kind.split("/"))
        if self.kind == "NUMBER":
            fits, wanted = value.isdecimal(), "a number"
        elif self.kind in ("LIST", "STRING"):
            fits, wanted = bool(value.strip()) and "\n" not in value, "a line of text"
        else:
            fits, wanted = value in words, f"one of {', '.join(words)}"
        if not fits:
            raise UsageError(f"{self.name}: {value!r} is not {wanted}")


class Configuration:
    """The text of a file, which the changes below change."""

    def __init__(self, text: str) -> None:
        self._lines = text.splitlines()

    @property
    def text(self) -> str:
        """As it is now."""
        return "".join(f"{line}\n" for line in self._lines)

    def names(self) -> list[str]:
        """The directives that the file explains."""
        return [" ".join(head[1].lower().split()) for line in self._lines if (head := _HEAD.fullmatch(line))]

    def find(self, name: str) -> Directive:
        """A directive by its name, in any case. Raises UsageError for a name that the file does not explain."""
        wanted = " ".join(name.lower().split())
        for number, line in enumerate(self._lines):
            head = _HEAD.fullmatch(line)
            if head and " ".join(head[1].lower().split()) == wanted:
                return self._read(wanted, head[2], number)
        raise UsageError(f"no directive {name!r}", hint="singularity.conf explains each")

    def _read(self, name: str, kind: str, number: int) -> Directive:
        default = ""
        while number < len(self._lines) and self._lines[number].startswith("# "):
            before, _, after = self._lines[number].partition("DEFAULT: ")
            default = after if before == "# " and after != _UNDEFINED else default
            number += 1
        words = r"\s+".join(map(re.escape, name.split()))
        setting = re.compile(rf"\s*{words}\s*=.*", re.IGNORECASE)
        lines = (at for at, line in enumerate(self._lines) if setting.fullmatch(line))
        return Directive(name, kind, default, number, tuple(lines))

    def values(self, name: str, *, listed: bool = False) -> list[str]:
        """What a directive is set to: each entry of a list; without a line, the default.

        `listed` says that it is one, where the file calls it something else.
        """
        found = self.find(name)
        texts = [self._lines[at].partition("=")[2].strip() for at in found.lines]
        if found.kind != "LIST" and not listed:
            return texts[-1:] or [found.default]
        return [word.strip() for text in texts for word in text.split(",") if word.strip()]

    def set(self, name: str, values: Sequence[str]) -> None:
        """Sets it; to a list the values are added that it has not. Raises UsageError for what cannot be a value."""
        found = self.find(name)
        for value in values:
            found.check(value)
        if found.kind == "LIST":
            there = self.values(name)
            self._put(found, [*there, *(value for value in values if value not in there)])
        elif len(values) == 1:
            self._put(found, values)
        else:
            raise UsageError(f"{name}: one value is wanted", hint=found.kind)

    def unset(self, name: str, values: Sequence[str] = ()) -> None:
        """Takes values out of a list; without any, the directive has its default again."""
        found = self.find(name)
        if values and found.kind != "LIST":
            raise UsageError(f"{name}: no list", hint="without a value it is set to its default")
        self._put(found, [value for value in self.values(name) if value not in values] if values else [])

    def _put(self, found: Directive, values: Sequence[str]) -> None:
        """Where it stood first, or below its comment and what that shows."""
        at = found.lines[0] if found.lines else found.end
        while not found.lines and at < len(self._lines) and self._lines[at].startswith("#"):
            at += 1
        kept = [line for number, line in enumerate(self._lines) if number not in found.lines]
        kept[at:at] = [f"{found.name} = {value}" for value in values]
        self._lines = kept


# ---- ranges of ids ----

IDS = 65536  # in a range of one user, as everywhere
_RANGE = re.compile(r"!?([^:]+):(\d+):(\d+)\s*", re.ASCII)
_FIRST = 100_000  # below are the ids of people and of the system


def ids_added(text: str, user: str) -> str:
    """A file of subordinate ids (subuid(5)) in which a user has a range, behind all others; as it was, if he has one.

    A line that is no range has no part in it.
    """
    ranges = [_RANGE.fullmatch(line) for line in text.splitlines()]
    if any(found and found[1] == user for found in ranges):
        return text
    ends = [int(found[2]) + int(found[3]) for found in ranges if found]
    begin = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{begin}{user}:{max([_FIRST, *ends])}:{IDS}\n"


def ids_changed(text: str, user: str, change: str) -> str:
    """The ranges of a user taken out ("remove"), or put out of force by a "!" ("disable") and into it again ("enable").

    Raises SingularityError where he has none.
    """
    lines = text.splitlines(keepends=True)
    if not any(line.removeprefix("!").startswith(f"{user}:") for line in lines):
        raise SingularityError(f"{user}: no subordinate ids", hint="--add gives some")
    mark = {"disable": "!", "enable": ""}.get(change)
    changed = []
    for line in lines:
        bare = line.removeprefix("!")
        if not bare.startswith(f"{user}:"):
            changed.append(line)
        elif mark is not None:
            changed.append(f"{mark}{bare}")
    return "".join(changed)
