"""JSON documents of somebody else's making: no depth of theirs ends our process, and every fault is an ImageError."""

import json
import re
from typing import Any

from singularity.errors import ImageError

_DEPTH_LIMIT = 64
_HALF = re.compile("[\ud800-\udc7f\udd00-\udfff]")  # of a character, and no byte as Python keeps it


def parse_json(data: bytes) -> Any:
    """A JSON document of somebody else's making. Raises ImageError when it is none, or nested deeper than 64.

    Halves of characters, which JSON may spell and nothing can write, are replaced.
    """
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ImageError(f"not JSON: {error}") from error
    level = [document]
    for _ in range(_DEPTH_LIMIT):
        level = [below for each in level for below in _children(each)]
        if not level:
            return _whole(document) if b"\\ud" in data or b"\\uD" in data else document
    raise ImageError(f"JSON nested deeper than {_DEPTH_LIMIT}")


def parse_answer(data: bytes, who: str) -> dict[str, Any]:
    """The object that a server answered with; empty for another value. `who` it is stands in messages."""
    with ImageError.named(f"{who} makes no sense"):
        document = parse_json(data)
    return document if isinstance(document, dict) else {}


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list of somebody else's; none where it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _whole(document: Any) -> Any:
    return json.loads(_HALF.sub("\N{REPLACEMENT CHARACTER}", json.dumps(document, ensure_ascii=False)))


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
