"""What an ELF program needs to start, its loader and its libraries, and which build it is: as its headers say."""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_HEADER_64 = struct.Struct("16x HHI QQQ IHHHHHH")
_PROGRAM_64 = struct.Struct("II QQQQQQ")
_HEADER_32 = struct.Struct("16x HHI III IHHHHHH")
_PROGRAM_32 = struct.Struct("IIIIIIII")
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP, _PT_NOTE = 1, 2, 3, 4
_NOTE_LIMIT = 1 << 16  # bytes of a segment of notes
_BUILD_ID = (b"GNU\0", 3)  # the name and the type of the note that has it
_DT_NEEDED, _DT_STRTAB = 1, 5
_LIMIT = 256  # program headers, or libraries
_IDENT = 16  # bytes
_NAME_LIMIT = 4096  # bytes
_TABLE_LIMIT = 1 << 20  # bytes of dynamic entries
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

Read = Callable[[int, int], bytes]  # (size, offset): that part of the file, as os.pread reads it


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


def needs(read: Read) -> Needs | None:
    """What a program or library needs; None for what is no ELF file, or a damaged one. Only its tables are read."""
    try:
        ident = read(_IDENT, 0)
        if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            return None
        wide, order = ident[4] == 2, "<" if ident[5] == 1 else ">"
        segments = list(_segments(read, wide=wide, order=order))
        loader = next(
            (read(min(each.size, _NAME_LIMIT), each.offset) for each in segments if each.type == _PT_INTERP), b""
        )
        libraries = tuple(_libraries(read, segments, wide=wide, order=order))
        return Needs(loader=loader.rstrip(b"\0").decode(), libraries=libraries)
    except (struct.error, ValueError, IndexError, OverflowError, OSError):  # offsets that no file can have
        return None


def build_id(read: Read) -> str:
    """The build id of a program or library in hexadecimal; empty for one without, and for what is no ELF file."""
    try:
        ident = read(_IDENT, 0)
        if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            return ""
        order = "<" if ident[5] == 1 else ">"
        for segment in _segments(read, wide=ident[4] == 2, order=order):
            if segment.type == _PT_NOTE:
                data, at = read(min(segment.size, _NOTE_LIMIT), segment.offset), 0
                while at + 12 <= len(data):
                    name, size, kind = struct.unpack_from(f"{order}III", data, at)
                    begin = at + 12 + -(-name // 4) * 4
                    if (data[at + 12 : at + 12 + name], kind) == _BUILD_ID:
                        return data[begin : begin + size].hex()
                    at = begin + -(-size // 4) * 4
    except (struct.error, ValueError, IndexError, OverflowError, OSError):
        pass
    return ""


def architecture(head: bytes) -> str:
    """The machine of a program or library that begins so, as Go names it; empty for anything else."""
    if len(head) < 20 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return ""
    little = head[5] == 1
    machine = int.from_bytes(head[18:20], "little" if little else "big")
    return _MACHINES.get((machine, head[4] == 2, little), "")


def _segments(read: Read, *, wide: bool, order: str) -> Iterator[_Segment]:
    header = struct.Struct(order + (_HEADER_64 if wide else _HEADER_32).format)
    program = struct.Struct(order + (_PROGRAM_64 if wide else _PROGRAM_32).format)
    _, _, _, _, table, _, _, _, size, count, *_ = header.unpack(read(header.size, 0))
    count = min(count, _LIMIT)
    data = read(count * size, table)
    for number in range(count):
        fields = program.unpack_from(data, number * size)
        if wide:
            kind, _, offset, address, _, length, _, _ = fields
        else:
            kind, offset, address, _, length, _, _, _ = fields
        yield _Segment(type=kind, offset=offset, address=address, size=length)


def _libraries(read: Read, segments: list[_Segment], *, wide: bool, order: str) -> Iterator[str]:
    entry = struct.Struct(order + ("qQ" if wide else "iI"))
    dynamic = next((each for each in segments if each.type == _PT_DYNAMIC), None)
    if dynamic is None:
        return
    data = read(min(dynamic.size, _TABLE_LIMIT), dynamic.offset)
    entries = list(entry.iter_unpack(data[: len(data) // entry.size * entry.size]))
    address = next((value for tag, value in entries if tag == _DT_STRTAB), -1)
    loaded = (each for each in segments if each.type == _PT_LOAD and 0 <= address - each.address < each.size)
    table = next(loaded, None)
    if table is None:
        return
    strings = address - table.address + table.offset
    for _, value in [each for each in entries if each[0] == _DT_NEEDED][:_LIMIT]:
        name = read(_NAME_LIMIT, strings + value)
        yield name[: name.index(b"\0")].decode()
