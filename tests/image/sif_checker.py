"""An independent reader of SIF files, written from the format's tables alone: it shares no line with the program.

`check(path)` returns what the file says, or fails on whatever the format does not allow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEADER, ROW = 128, 585
NO_GROUP = 0xF0000000
ARCHITECTURES = {f"{number:02}\0".encode() for number in range(14)}
TYPES = range(0x4001, 0x400C)


@dataclass(frozen=True)
class Object:
    type: int
    id: int
    group: int
    link: int
    data: bytes
    offset: int
    name: bytes
    extra: bytes


@dataclass(frozen=True)
class File:
    architecture: bytes
    objects: list[Object]
    free: int

    def of_type(self, kind: int) -> list[Object]:
        return [each for each in self.objects if each.type == kind]


def check(path: Path) -> File:
    data = path.read_bytes()
    launch, magic, version, architecture = data[:32], data[32:42], data[42:45], data[45:48]
    assert launch == b"#!/usr/bin/env run-singularity\n".ljust(32, b"\0")
    assert magic == b"SIF_MAGIC\0"
    assert version == b"01\0"
    assert architecture in ARCHITECTURES
    created, modified, free, total, table, table_size, start, size = struct.unpack("<8q", data[64:HEADER])
    assert created <= modified
    assert (total, table, table_size, start) == (48, 4096, 48 * ROW, 4096 + 48 * ROW)
    assert not any(data[HEADER:table])
    objects = []
    taken: list[tuple[int, int]] = []
    primaries = []
    for index in range(total):
        row = data[table + index * ROW : table + (index + 1) * ROW]
        if not row[4]:
            assert not any(row), f"descriptor {index} is unused and not zero"
            continue
        found = _object(row, data, index)
        assert start <= found.offset <= found.offset + len(found.data) <= start + size
        taken.append((found.offset, found.offset + len(found.data)))
        objects.append(found)
        if found.type == 0x4004:
            filesystem, use, code = struct.unpack("<ii3s", found.extra[:11])
            assert 1 <= filesystem <= 6
            assert 1 <= use <= 4
            assert code in ARCHITECTURES
            if use == 2:
                primaries.append(code)
    taken.sort()
    assert all(end <= begin for (_, end), (begin, _) in pairwise(taken))
    assert free == total - len(objects)
    assert len(data) >= start + size
    assert start + size == max([start, *(end for _, end in taken)])
    assert primaries in ([], [architecture]), "the header's architecture is that of the primary partition"
    assert primaries or architecture == b"00\0"
    return File(architecture, objects, free)


def _object(row: bytes, data: bytes, index: int) -> Object:
    kind, used, number, group, link = struct.unpack("<iBIII", row[:17])
    offset, size, padded, created, modified, uid, gid = struct.unpack("<7q", row[17:73])
    name, extra = row[73:201], row[201:585]
    assert kind in TYPES
    assert used == 1
    assert number == index + 1
    assert group & NO_GROUP == NO_GROUP
    assert size >= 0
    assert padded >= size
    assert offset + size <= len(data)
    assert created <= modified
    assert (uid, gid) == (0, 0)
    assert not any(name[name.index(b"\0") :] if b"\0" in name else b"")
    return Object(
        type=kind,
        id=number,
        group=group & ~NO_GROUP,
        link=link,
        data=data[offset : offset + size],
        offset=offset,
        name=name.rstrip(b"\0"),
        extra=extra,
    )
