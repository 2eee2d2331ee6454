"""What an ELF program needs to start: its loader and its libraries, as its own headers name them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER_64 = struct.Struct("16x HHI QQQ IHHHHHH")
_PROGRAM_64 = struct.Struct("II QQQQQQ")
_HEADER_32 = struct.Struct("16x HHI III IHHHHHH")
_PROGRAM_32 = struct.Struct("IIIIIIII")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5
_LIMIT = 256  # program headers, or libraries
_MACHINES = {  # (e_machine, 64 bits, little-endian): the name that Go and SIF files have for it
    (3, False, True): "386",
    (62, True, True): "amd64",
    (40, False, True): "arm",
    (183, True, True): "arm64",
    (21, True, False): "ppc64",
    (21, True, True): "ppc64le",
    (8, False, False): "mips",
    (8, False, True): "mipsle",
    (8, True, False): "mips64",
    (8, True, True): "mips64le",
    (22, True, False): "s390x",
    (243, True, True): "riscv64",
    (258, True, True): "loong64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Names as they stand in the file; the loader is a path, libraries mostly are not."""

    loader: str
    libraries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    type: int
    offset: int
    address: int
    size: int  # in the file


def needs(data: bytes) -> Needs | None:
    """What a program or library needs; None for what is no ELF file, or a damaged one. `data` is all of the file."""
    try:
        if data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
            return None
        wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
        segments = list(_segments(data, wide=wide, order=order))
        loader = next(
            (data[each.offset : each.offset + each.size] for each in segments if each.type == _PT_INTERP), b""
        )
        libraries = tuple(_libraries(data, segments, wide=wide, order=order))
        return Needs(loader=loader.rstrip(b"\0").decode(), libraries=libraries)
    except (struct.error, ValueError, IndexError, OverflowError):
        return None


def architecture(head: bytes) -> str:
    """The machine of a program or library that begins so, as Go names it; empty for anything else."""
    if len(head) < 20 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return ""
    little = head[5] == 1
    machine = int.from_bytes(head[18:20], "little" if little else "big")
    return _MACHINES.get((machine, head[4] == 2, little), "")


def _segments(data: bytes, *, wide: bool, order: str) -> Iterator[_Segment]:
    header = struct.Struct(order + (_HEADER_64 if wide else _HEADER_32).format)
    program = struct.Struct(order + (_PROGRAM_64 if wide else _PROGRAM_32).format)
    _, _, _, _, table, _, _, _, size, count, *_ = header.unpack_from(data)
    for number in range(min(count, _LIMIT)):
        fields = program.unpack_from(data, table + number * size)
        if wide:
            kind, _, offset, address, _, length, _, _ = fields
        else:
            kind, offset, address, _, length, _, _, _ = fields
        yield _Segment(type=kind, offset=offset, address=address, size=length)


def _libraries(data: bytes, segments: list[_Segment], *, wide: bool, order: str) -> Iterator[str]:
    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    dynamic = next((each for each in segments if each.type == _PT_DYNAMIC), None)
    if dynamic is None:
        return
    entries = list(entry.iter_unpack(data[dynamic.offset : dynamic.offset + dynamic.size // entry.size * entry.size]))
    address = next((value for tag, value in entries if tag == _DT_STRTAB), -1)
    loaded = (each for each in segments if each.type == _PT_LOAD and 0 <= address - each.address < each.size)
    table = next(loaded, None)
    if table is None:
        return
    strings = address - table.address + table.offset
    for _, value in [each for each in entries if each[0] == _DT_NEEDED][:_LIMIT]:
        start = strings + value
        yield data[start : data.index(b"\0", start)].decode()
