"""JSON documents of somebody else's making: no depth of theirs ends our process, and every fault is an ImageError."""

import json
from typing import Any

from singularity.errors import ImageError

_DEPTH_LIMIT = 64


def parse_json(data: bytes) -> Any:
    """A JSON document of somebody else's making. Raises ImageError when it is none, or nested deeper than 64."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"not JSON: {error}") from error
    level = [document]
    for _ in range(_DEPTH_LIMIT):
        level = [below for each in level for below in _children(each)]
        if not level:
            return document
    raise ImageError(f"JSON nested deeper than {_DEPTH_LIMIT}")


def parse_answer(data: bytes, who: str) -> dict[str, Any]:
    """The object that a server answered with; empty for another value. `who` it is stands in messages."""
    with ImageError.named(f"{who} makes no sense"):
        document = parse_json(data)
    return document if isinstance(document, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list of somebody else's; none where it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
