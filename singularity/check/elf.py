"""What an ELF file asks of whoever loads it, as pyelftools reads it.

Only what the loader itself looks at counts: program headers, the dynamic segment and the tables that it points to.
Section headers, which a stripped file may lack, are used for names of symbols alone.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO

from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection
from elftools.elf.segments import InterpSegment, NoteSegment

from singularity.check.versions import Version
from singularity.errors import ImageError
from singularity.image import elf as heads

_SEGMENTS, _TAGS, _VERSIONS, _NOTES = 256, 2048, 8192, 64  # the most of each that is looked at
_READ_LIMIT = 4 << 20  # bytes that are read of one file
_NAME_SIZE, _NAME_LIMIT = 64, 16 << 10  # bytes of most names, and of any
_SYMBOLS_LIMIT, _STRINGS_LIMIT = 16 << 20, 32 << 20  # bytes of the tables of symbols and of their names
_ISA_NEEDED = 0xC0008002  # GNU_PROPERTY_X86_ISA_1_NEEDED
_NO_DEFAULT_LIBRARIES = 0x800  # DF_1_NODEFLIB
_WEAK = 0x2  # VER_FLG_WEAK


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A version of symbols that a file wants of a library."""

    library: str
    version: str
    weak: bool  # does without


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """A program or library; texts as they stand in the file, empty where it has none."""

    machine: str  # as Go names it; empty: unknown
    wide: bool  # 64 bits
    interpreter: str = ""
    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    default_directories: bool = True
    needs: tuple[Need, ...] = ()
    versions: frozenset[str] = frozenset()  # that it defines
    kernel: Version = ()  # the oldest one that it runs on
    isa: int = 0  # bits of GNU_PROPERTY_X86_ISA_1_NEEDED

    @property
    def is_dynamic(self) -> bool:
        """Whether a loader has work with it."""
        return bool(self.interpreter or self.needed or self.soname)


def read(file: BinaryIO) -> Elf:
    """What the file says. Raises ImageError for what is no ELF file, or a damaged one."""
    with _translated():
        elf = _opened(file, _READ_LIMIT)
        return _read(elf)


def symbols(file: BinaryIO, names: Sequence[str], *, size: int = 64) -> dict[str, bytes]:
    """The bytes, at most `size`, that dynamic symbols of a library stand for; those of functions are their code.

    Symbols that it does not define are left out, and all of them when it has no section headers.
    """
    with _translated():
        elf = _opened(file, _SYMBOLS_LIMIT + _STRINGS_LIMIT, sections=True)
        table = elf.get_section_by_name(".dynsym")
        if table is None:
            return {}
        strings = elf.get_section(table["sh_link"])
        form = elf.structs.Elf_Sym
        data = _part(elf.stream, table["sh_offset"], min(table["sh_size"], _SYMBOLS_LIMIT))
        texts = _part(elf.stream, strings["sh_offset"], min(strings["sh_size"], _STRINGS_LIMIT))
        found = {}
        for name in names:
            place = texts.find(b"\0" + name.encode() + b"\0") + 1
            if place:
                at = _entry(data, form.sizeof(), place, elf.little_endian)
                if at >= 0:
                    symbol = form.parse(data[at : at + form.sizeof()])
                    content = _content(elf, symbol["st_value"], min(symbol["st_size"], size))
                    if symbol["st_shndx"] != "SHN_UNDEF":
                        found[name] = content
        return found


def _entry(table: bytes, size: int, name: int, little: bool) -> int:
    """Where the entry of the symbol with this place of a name begins: it is the first word of an entry."""
    word = name.to_bytes(4, "little" if little else "big")
    at = table.find(word)
    while at >= 0 and at % size:
        at = table.find(word, at + 1)
    return at


def _content(elf: ELFFile, address: int, size: int) -> bytes:
    offset = next(iter(elf.address_offsets(address)), None)
    return b"" if offset is None else _part(elf.stream, offset, size)


def _part(stream: Any, offset: int, size: int) -> bytes:
    stream.seek(offset)
    data: bytes = stream.read(size)
    return data


@contextmanager
def _translated() -> Iterator[None]:
    """The library has errors of its own, and trips over damaged files in many other ways: they are one here."""
    try:
        yield
    except (ImageError, OSError):
        raise
    except Exception as error:
        raise ImageError(f"damaged ELF file ({type(error).__name__}: {error})") from error


class _Bounded(io.RawIOBase, BinaryIO):
    """A file of which only so many bytes are read: no table in it keeps us busy for ever."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        self._file, self._left = file, limit
        self._size = file.seek(0, os.SEEK_END)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if not 0 <= offset <= self._size:
            raise ImageError("damaged ELF file: a table at an impossible place")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._left:
            raise ImageError("damaged ELF file: larger tables than can be meant")
        data = self._file.read(size)
        self._left -= max(len(data), 8)
        return data


class _Strings:
    """A table of names."""

    def __init__(self, stream: Any, offset: int) -> None:
        self._stream, self._offset = stream, offset

    def get_string(self, offset: int) -> str:
        text = _part(self._stream, self._offset + offset, _NAME_SIZE)
        if b"\0" not in text:
            text = _part(self._stream, self._offset + offset, _NAME_LIMIT)
        return text[: text.index(b"\0")].decode("utf-8", "surrogateescape")


def _opened(file: BinaryIO, limit: int, *, sections: bool = False) -> ELFFile:
    if file.read(4) != b"\x7fELF":
        raise ImageError("no ELF file")
    elf = ELFFile(_Bounded(file, limit))
    if not sections:
        elf.header["e_shoff"] = 0  # as the loader sees it: without any
    return elf


def _read(elf: ELFFile) -> Elf:
    head = _part(elf.stream, 0, 20)
    segments = [elf.get_segment(number) for number in range(min(elf.header["e_phnum"], _SEGMENTS))]
    interpreter = next((each for each in segments if isinstance(each, InterpSegment)), None)
    dynamic = next((each for each in segments if isinstance(each, DynamicSegment)), None)
    tags = _tags(dynamic) if dynamic is not None else _Tags()
    kernel, isa = _notes(segments)
    return Elf(
        machine=heads.architecture(head),
        wide=elf.elfclass == 64,
        interpreter=interpreter.get_interp_name() if interpreter is not None else "",
        soname=tags.soname,
        needed=tuple(tags.needed),
        rpath=tuple(filter(None, tags.rpath[:_NAME_LIMIT].split(":"))),
        runpath=tuple(filter(None, tags.runpath[:_NAME_LIMIT].split(":"))),
        default_directories=not tags.numbers.get("DT_FLAGS_1", 0) & _NO_DEFAULT_LIBRARIES,
        needs=tuple(_needs(elf, tags)),
        versions=frozenset(_defined(elf, tags)),
        kernel=kernel,
        isa=isa,
    )


class _Tags:
    """The dynamic segment."""

    def __init__(self) -> None:
        self.needed: list[str] = []
        self.soname = self.rpath = self.runpath = ""
        self.numbers: dict[str, int] = {}


def _tags(dynamic: DynamicSegment) -> _Tags:
    found = _Tags()
    for tag in islice(dynamic.iter_tags(), _TAGS):
        kind = str(tag.entry.d_tag)
        if kind == "DT_NEEDED":
            found.needed.append(getattr(tag, "needed"))  # noqa: B009 - the library sets it so
        elif kind in ("DT_SONAME", "DT_RPATH", "DT_RUNPATH"):
            setattr(found, kind[3:].lower(), getattr(tag, kind[3:].lower()))
        else:
            found.numbers.setdefault(kind, tag.entry.d_val)
    return found


def _table(elf: ELFFile, tags: _Tags, form: Callable[..., Any], where: str, count: str) -> Iterator[tuple[Any, Any]]:
    """The entries of a table of versions, whose section nobody needs: the loader finds it by its address."""
    address, names = tags.numbers.get(where), tags.numbers.get("DT_STRTAB")
    if address is None or names is None:
        return
    offset, strings = (next(iter(elf.address_offsets(each)), None) for each in (address, names))
    if offset is None or strings is None:
        raise ImageError("damaged ELF file: tables outside of it")
    header = {
        "sh_offset": offset,
        "sh_info": min(tags.numbers.get(count, 0), _VERSIONS),
        "sh_flags": 0,
        "sh_size": 0,
        "sh_addralign": 1,
    }
    yield from form(header, "", elf, _Strings(elf.stream, strings)).iter_versions()


def _needs(elf: ELFFile, tags: _Tags) -> Iterator[Need]:
    for version, parts in _table(elf, tags, GNUVerNeedSection, "DT_VERNEED", "DT_VERNEEDNUM"):
        for part in islice(parts, _VERSIONS):
            yield Need(library=version.name, version=part.name, weak=bool(part["vna_flags"] & _WEAK))


def _defined(elf: ELFFile, tags: _Tags) -> Iterator[str]:
    for _, parts in _table(elf, tags, GNUVerDefSection, "DT_VERDEF", "DT_VERDEFNUM"):
        yield from (part.name for part in islice(parts, 1))  # those that follow are what it is derived from


def _notes(segments: Sequence[Any]) -> tuple[Version, int]:
    kernel: Version = ()
    isa = 0
    for note in (
        note for each in segments if isinstance(each, NoteSegment) for note in islice(each.iter_notes(), _NOTES)
    ):
        if note["n_name"] != "GNU":
            continue
        if note["n_type"] == "NT_GNU_ABI_TAG" and note["n_desc"]["abi_os"] == "ELF_NOTE_OS_LINUX":
            text = note["n_desc"]
            kernel = (text["abi_major"], text["abi_minor"], text["abi_tiny"])
        if note["n_type"] == "NT_GNU_PROPERTY_TYPE_0":
            isa |= _isa(note["n_descdata"])
    return kernel, isa


def _isa(data: bytes) -> int:
    """The processor that is needed, out of a list of properties: little-endian, as all processors of this kind are."""
    at, found = 0, 0
    while at + 8 <= len(data):
        kind, size = (int.from_bytes(data[place : place + 4], "little") for place in (at, at + 4))
        if kind == _ISA_NEEDED and size == 4:
            found |= int.from_bytes(data[at + 8 : at + 12], "little")
        at += 8 + (size + 7) // 8 * 8
    return found
