"""Launch requests as the front door writes them, for tests that write their own: fields by the names of request.def."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFINITION = Path(__file__).resolve().parent.parent / "launcher/request.def"
LEVEL_USUAL = 17  # messages from INFO on

Entry = tuple[int, bytes, bytes]
Value = bool | int | bytes | Entry


@dataclass(frozen=True, slots=True)
class Kind:
    """A line of request.def."""

    tag: int
    name: str
    shape: str  # FLAG, NUMBER, TEXT, LIST
    limit: int  # of a list's entries


@cache
def kinds() -> dict[str, Kind]:
    lines = re.findall(r"^REQUEST_(\w+)\((\d+), (\w+)(?:, (\d+))?\)", DEFINITION.read_text(), re.MULTILINE)
    return {name: Kind(int(tag), name, shape, int(limit or 1)) for shape, tag, name, limit in lines}


def field(tag: int | str, value: bytes = b"") -> bytes:
    number = kinds()[tag].tag if isinstance(tag, str) else tag
    return struct.pack("<HHI", number, 0, len(value)) + value


def entry(number: int, first: bytes, second: bytes) -> bytes:
    return struct.pack("<QI", number, len(first)) + first + second


def request(*fields: bytes, version: int = 1, count: int | None = None, length: int | None = None) -> bytes:
    body = b"".join(fields)
    size = 16 + len(body) if length is None else length
    return b"SGRQ" + struct.pack("<III", version, size, len(fields) if count is None else count) + body


def encode(name: str, value: Value) -> bytes:
    if isinstance(value, bool):
        return field(name)
    if isinstance(value, int):
        return field(name, struct.pack("<Q", value))
    return field(name, value if isinstance(value, bytes) else entry(*value))


def fields_of(asked: Iterable[tuple[str, Value]]) -> list[bytes]:
    """Each of them as bytes, in the order that the starter wants; a list as one an entry."""
    return [encode(name, value) for name, value in sorted(asked, key=lambda one: kinds()[one[0]].tag)]


def request_for(image: Path | str, *more: tuple[str, Value], userns: bool = False) -> bytes:
    """The request of `exec IMAGE` from the root directory, and what else is asked for."""
    usual: list[tuple[str, Value]] = [("level", LEVEL_USUAL), ("image", os.fsencode(image)), ("cwd", b"/")]
    given = {name for name, _ in more}
    usual = [one for one in usual if one[0] not in given]
    return request(*fields_of([*([("userns", True)] if userns else []), *usual, *more]))


def seal(octets: bytes, number: int) -> None:
    """Puts a sealed memory file with these bytes at this descriptor, as the front door does."""
    memory = os.memfd_create("request", os.MFD_ALLOW_SEALING)
    os.write(memory, octets)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    os.dup2(memory, number)
    os.close(memory)
