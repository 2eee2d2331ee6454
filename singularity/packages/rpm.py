"""Packages of rpm: the headers that its database holds, whichever of its three forms that has.

Source of the format of headers: rpm's `docs/manual/format_header.md` and `include/rpm/rpmtag.h`.
"""

import os
import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.packages import rpm_database
from singularity.packages.model import Manager, Package, Survey, warn

_DIRECTORIES = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
_Reader = Callable[[BinaryIO, bytes], Iterator[bytes]]
_NAMES: dict[str, _Reader] = {
    "rpmdb.sqlite": rpm_database.sqlite,
    "Packages.db": rpm_database.ndb,
    "Packages": rpm_database.berkeley,
}
_ENTRY, _COUNTS = struct.Struct(">IIII"), struct.Struct(">II")
_ENTRIES_LIMIT, _DATA_LIMIT = 1 << 16, 1 << 28  # as rpm's own
_INT32, _STRING, _STRINGS, _TRANSLATED = 4, 6, 8, 9  # kinds of entries
_NAME, _VERSION, _RELEASE, _EPOCH, _SUMMARY = 1000, 1001, 1002, 1003, 1004
_VENDOR, _LICENSE, _URL, _ARCHITECTURE, _SOURCE = 1011, 1014, 1020, 1022, 1044
_INDEXES, _BASENAMES, _DIRECTORY_NAMES, _MODULE = 1116, 1117, 1118, 5096
_WANTED = {_NAME, _VERSION, _RELEASE, _EPOCH, _SUMMARY, _VENDOR, _LICENSE, _URL, _ARCHITECTURE, _SOURCE, _INDEXES,
           _BASENAMES, _DIRECTORY_NAMES, _MODULE}  # fmt: skip
_Header = dict[int, list[str | int]]


def read(survey: Survey) -> Iterator[Package]:
    """The packages that are installed; keys of those who made them, which rpm counts as packages, are left out."""
    for place in dict.fromkeys(survey.node(each)[0] for each in _DIRECTORIES):
        for name, reader in _NAMES.items():
            path = f"{place}/{name}"
            if not survey.is_file(path):
                continue
            try:
                with survey.open(path) as file:
                    journal = survey.read(f"{path}-wal") if name == "rpmdb.sqlite" else b""
                    for blob in _bounded(reader, file, journal):
                        package = _package(survey, _header(blob), path)
                        if package is not None:
                            yield package
            except (ImageError, struct.error, ValueError, IndexError) as error:
                warn(path, error)
            break


def _bounded(reader: _Reader, file: BinaryIO, journal: bytes) -> Iterator[bytes]:
    """All headers together are no larger than their file: what is computed, or stands in many places, has no end."""
    room = file.seek(0, os.SEEK_END) + len(journal)
    file.seek(0)
    for blob in reader(file, journal):
        room -= len(blob)
        if room < 0:
            raise ImageError("more headers than a file of its size holds")
        yield blob


def _header(blob: bytes) -> _Header:
    """The entries that are wanted, by tag."""
    count, size = _COUNTS.unpack_from(blob)
    start = _COUNTS.size + count * _ENTRY.size
    if count > _ENTRIES_LIMIT or size > _DATA_LIMIT or start + size > len(blob):
        raise ImageError("a header of an impossible size")
    data = blob[start : start + size]
    found: _Header = {}
    for tag, kind, offset, number in _ENTRY.iter_unpack(blob[_COUNTS.size : start]):
        if tag not in _WANTED or tag in found:  # each is there once
            continue
        if kind == _INT32:
            found[tag] = list(struct.unpack_from(f">{number}i", data, offset))
        elif kind == _STRING:
            found[tag] = [_decoded(data[offset : data.index(b"\0", offset)])]
        elif kind in (_STRINGS, _TRANSLATED):
            found[tag] = [_decoded(each) for each in data[offset:].split(b"\0", number)[:number]]
    return found


def _decoded(text: bytes) -> str:
    return text.decode("utf-8", "surrogateescape")


def _package(survey: Survey, header: _Header, place: str) -> Package | None:
    def one(tag: int) -> str:
        found = str(header[tag][0]) if header.get(tag) else ""
        return found.encode("utf-8", "surrogateescape").decode("utf-8", "replace")

    name = one(_NAME)
    if not name or name == "gpg-pubkey":
        return None
    epoch, release = one(_EPOCH), one(_RELEASE)
    qualifiers = {"epoch": epoch, "modularitylabel": one(_MODULE)}
    return Package(
        manager=Manager.RPM,
        name=name,
        version=f"{f'{epoch}:' if epoch else ''}{one(_VERSION)}-{release}",
        architecture=one(_ARCHITECTURE),
        license=one(_LICENSE),
        supplier=one(_VENDOR),
        homepage=one(_URL),
        summary=one(_SUMMARY),
        source=one(_SOURCE),
        qualifiers={key: value for key, value in qualifiers.items() if value},
        place=place,
        files=survey.listed(_files(header)),
    )


def _files(header: _Header) -> Iterator[str]:
    directories = [str(each) for each in header.get(_DIRECTORY_NAMES, [])]
    for index, name in zip(header.get(_INDEXES, []), header.get(_BASENAMES, []), strict=False):
        if isinstance(index, int) and 0 <= index < len(directories):
            yield f"{directories[index]}{name}"
