"""Dataclasses as JSON documents, and the other way round, where a document may be of somebody else's making.

The type of a field says what is taken for it: texts without zero bytes, whole numbers without a sign, truths, `Path`,
the words of an `Enum`, tuples, mappings, dataclasses, or any of them or None; `Annotated` with a pattern or a range
narrows it. A field with a default may be missing, and `metadata={"key": "a.b"}` says that it is the member b of the
member a.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum, EnumType
from functools import cache
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin, get_type_hints

from singularity.errors import ImageError

_NUMBER_LIMIT = 1 << 62
_SHOWN = 80  # characters of a value in a message
_T = TypeVar("_T")
_Reader = Callable[[Any], Any]


def decoded(document: Any, kind: type[_T]) -> _T:
    """A parsed document as a dataclass; members that are none of its fields are passed over.

    Raises ImageError, which names the member.
    """
    made: _T = _reader(cast("Any", kind))(document)
    return made


def encoded(value: Any) -> dict[str, Any]:
    """What `decoded` makes this dataclass of, without the members that are as by default."""
    made: dict[str, Any] = {}
    for each in fields(value):
        said = getattr(value, each.name)
        if said == each.default or (each.default_factory is not MISSING and not said):
            continue
        place = made
        *above, name = _path(each)
        for key in above:
            place = place.setdefault(key, {})
        place[name] = _plain(said)
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Path | Enum):
        return str(value) if isinstance(value, Path) else value.value
    return encoded(value) if is_dataclass(value) else value


def _path(field: Field[Any]) -> list[str]:
    return str(field.metadata.get("key", field.name)).split(".")


@cache
def _reader(kind: Any) -> _Reader:
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _limited(_reader(of[0]), of[1])
    if NoneType in of:
        read = _reader(of[0])
        return lambda value: None if value is None else read(value)
    if origin is tuple:
        return _list(_reader(of[0]))
    if origin is Mapping:
        return _mapping(_reader(of[0]), _reader(of[1]))
    return _PLAIN[kind] if kind in _PLAIN else _word(kind) if isinstance(kind, EnumType) else _object(kind)


def _refuse(value: Any, why: str) -> Any:
    raise ImageError(f"missing, and {why}" if value is MISSING else f"{repr(value)[:_SHOWN]} is {why}")


def _text(value: Any) -> Any:
    return value if isinstance(value, str) and "\0" not in value else _refuse(value, "no text")


def _number(value: Any) -> Any:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _NUMBER_LIMIT
    return value if good else _refuse(value, "no number")


def _truth(value: Any) -> Any:
    return value if isinstance(value, bool) else _refuse(value, "neither true nor false")


_PLAIN: dict[Any, _Reader] = {
    str: _text,
    int: _number,
    bool: _truth,
    Path: lambda value: Path(_text(value)),
    Any: lambda value: value,
}


def _limited(read: _Reader, limit: re.Pattern[str] | range) -> _Reader:
    def made(value: Any) -> Any:
        found = read(value)
        good = found in limit if isinstance(limit, range) else limit.fullmatch(found)
        return found if good else _refuse(value, "none that makes sense")

    return made


def _word(kind: EnumType) -> _Reader:
    words: dict[str, Any] = {each.value: each for each in kind}  # type: ignore[var-annotated]
    return lambda value: words.get(_text(value)) or _refuse(value, f"none of {', '.join(words)}")


def _list(read: _Reader) -> _Reader:
    def made(value: Any) -> Any:
        found = []
        for number, each in enumerate(value if isinstance(value, list) else _refuse(value, "no list")):
            try:
                found.append(read(each))
            except ImageError as error:
                raise ImageError(f"entry {number}: {error}") from error
        return tuple(found)

    return made


def _mapping(name: _Reader, member: _Reader) -> _Reader:
    def made(value: Any) -> Any:
        found = value if isinstance(value, dict) else _refuse(value, "no object")
        return {name(key): member(each) for key, each in found.items()}

    return made


def _object(kind: Any) -> _Reader:
    types = get_type_hints(kind, include_extras=True)
    members = [(each, _path(each), _reader(types[each.name])) for each in fields(kind)]

    def made(value: Any) -> Any:
        found = {}
        for field, path, read in members:
            said = value
            try:
                for key in path:
                    said = said.get(key, MISSING) if isinstance(said, dict) else _refuse(said, "no object")
                if said is not MISSING or field.default is field.default_factory is MISSING:
                    found[field.name] = read(said)
            except ImageError as error:
                raise ImageError(f"{'.'.join(path)}: {error}") from error
        return kind(**found)

    return made
