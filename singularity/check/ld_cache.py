"""The loader's cache, `/etc/ld.so.cache`: which libraries of an image glibc's loader finds without being told where.

Layout: glibc's `sysdeps/generic/dl-cache.h`, the format since 2.2, alone or behind the older one.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

PATH = "/etc/ld.so.cache"
LIMIT = 32 << 20  # bytes

_OLD, _NEW = b"ld.so-1.7.0", b"glibc-ld.so.cache1.1"
_OLD_HEADER, _OLD_ENTRY = 16, 12
_HEADER, _ENTRY = 48, 24
_BIG_ENDIAN = 3
_ENTRIES_LIMIT = 200_000


@dataclass(frozen=True, slots=True)
class Cached:
    """A library that is known."""

    name: str
    path: str


def read(data: bytes) -> tuple[Cached, ...]:
    """The libraries in order; none for what is no cache, and as far as it goes for a damaged one."""
    try:
        return tuple(_entries(data))
    except (struct.error, ValueError):
        return ()


def _entries(data: bytes) -> Iterator[Cached]:
    start = 0
    if data.startswith(_OLD):
        start = (_OLD_HEADER + int.from_bytes(data[12:16], "little") * _OLD_ENTRY + 7) // 8 * 8
    data = data[start:]
    if not data.startswith(_NEW):
        return
    order = ">" if len(data) > 28 and data[28] & 3 == _BIG_ENDIAN else "<"
    (count,) = struct.unpack_from(f"{order}I", data, 20)
    form = struct.Struct(f"{order}iIIIQ")
    for number in range(min(count, _ENTRIES_LIMIT, (len(data) - _HEADER) // _ENTRY)):
        _, name, path, _, _ = form.unpack_from(data, _HEADER + number * _ENTRY)
        yield Cached(_text(data, name), _text(data, path))


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at, at + 4096)].decode("utf-8", "surrogateescape")
