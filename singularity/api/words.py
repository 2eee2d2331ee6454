"""Options of the command line as keywords: each is called like the option, with `_` for `-`.

True and False are for flags; what has a value takes a string or a number, what can be repeated also a list of them. A
string is what would be typed, commas and all; a path is just that path, whatever letters are in it.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from singularity.cli.options_table import Entry, Kind, entries


class Option(NamedTuple):
    """An option, wherever it is defined."""

    name: str  # the long one, without dashes
    kind: Kind
    is_csv: bool = True  # values of mappings are quoted as in CSV where they need it


def keyword(name: str) -> str:
    """The keyword that an option is."""
    return name.replace("-", "_")


def of_launches(verb: str) -> dict[str, Option]:
    """The options of a launch verb by their keywords."""
    return {keyword(each.names[0]): Option(each.names[0], each.kind) for each in entries(verb) if is_keyword(each)}


def is_keyword(entry: Entry) -> bool:
    """Whether an entry of the table is of use to programs."""
    is_here = bool(entry.names) and entry.kind is not Kind.NONE_HERE
    return is_here and entry.identifier not in ("help", "dry_run") and "global" not in entry.verbs


def spelled(function: str, known: Mapping[str, Option], given: Mapping[str, Any]) -> list[str]:
    """The words of the command line. Raises TypeError for keywords that are none, and for values of other types."""
    words: list[str] = []
    for name, value in given.items():
        option = known.get(name)
        if option is None:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{function}() has no option {name!r}{hint}")
        if value is not None:
            words += (f"--{option.name}{text}" for text in _texts(function, name, option, value))
    return words


def _texts(function: str, name: str, option: Option, value: Any) -> Iterator[str]:
    """What stands behind the name of an option, once for each value."""
    if option.kind is Kind.FLAG:
        if not isinstance(value, bool):
            raise TypeError(f"{function}(): {name} is True or False, not {value!r}")
        yield "" if value else "=false"
        return
    if option.kind is Kind.OPTIONAL and isinstance(value, bool):
        yield from [""] * value
        return
    for each in _values(option, value):
        if isinstance(each, bool) or not isinstance(each, str | int | float | os.PathLike):
            raise TypeError(f"{function}(): {name} takes no {type(each).__name__}: {each!r}")
        yield f"={_text(option, each)}"


def _values(option: Option, value: Any) -> Iterable[Any]:
    """All values of an option: of a mapping, `NAME=VALUE`."""
    if option.kind not in (Kind.LIST_CSV, Kind.LIST_RAW) or isinstance(value, str | os.PathLike):
        return (value,)
    if isinstance(value, Mapping):
        texts = [f"{key}={_plain(each)}" for key, each in value.items()]
        return map(_quoted, texts) if option.is_csv else texts
    return value if isinstance(value, Iterable) else (value,)


def _text(option: Option, value: Any) -> str:
    if not isinstance(value, os.PathLike):
        return str(value)
    path = os.fsdecode(value)
    if option.name == "bind":
        return path.replace(":", "\\:").replace(",", "\\,")
    return _quoted(path) if option.kind is Kind.LIST_CSV else path


def _plain(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)


def _quoted(text: str) -> str:
    """One value of a list, as CSV has it."""
    if any(letter in text for letter in ',"\n\r'):
        return '"' + text.replace('"', '""') + '"'
    return text
