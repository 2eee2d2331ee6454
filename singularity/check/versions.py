"""Numbers of versions, as they are compared: 4.1.10 is newer than 4.1.9."""

import re
from typing import TypeAlias

Version: TypeAlias = tuple[int, ...]

_NUMBERS = re.compile(r"\d{1,9}(?:\.\d{1,9}){0,4}")


def version(text: str) -> Version:
    """The first number of a version in a text, of up to five parts; empty where there is none."""
    match = _NUMBERS.search(text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def shown(number: Version) -> str:
    """As people write it."""
    return ".".join(map(str, number)) or "unknown"
