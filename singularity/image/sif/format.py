"""The SIF format, version 01: a header, a table of descriptors, and the objects they describe.

All numbers are little-endian and packed. Everything here is between bytes and frozen values; `ImageError` is the only
exception that bytes can raise, whatever they hold.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from singularity.errors import ImageError

if TYPE_CHECKING:
    from uuid import UUID

LAUNCH_LINE = b"#!/usr/bin/env run-singularity\n"
MAGIC, MAGIC_OFFSET = b"SIF_MAGIC\0", 32
VERSION = b"01\0"
PARTITION_ALIGNMENT = 4096
NO_TIME = -62135596800  # 0001-01-01 UTC: what reproducible files carry, with a UUID of zeros

_HEADER = struct.Struct("<32s10s3s3s16sqqQQQQQQ")
_NUMBERS = ("created", "modified", "free", "total", "table_offset", "table_size", "data_offset", "data_size")
_DESCRIPTOR = struct.Struct("<iBIIIQQQqqqq128s384s")
_PLACE = ("offset", "size", "padded_size", "created", "modified", "uid", "gid")
_TABLE_OFFSET, TABLE_ENTRIES = 4096, 48
DATA_OFFSET = _TABLE_OFFSET + TABLE_ENTRIES * _DESCRIPTOR.size  # of new files
_ENTRIES_LIMIT, _TABLE_LIMIT, _OVERLAYS_LIMIT = 4096, 1 << 20, 16
_INT64_LIMIT = 1 << 63
_INCOMPLETE = "pull it again"
_GROUP = 0xF0000000
BASE_MARK = (
    b"base:sha256:"  # before a digest, in the name of the primary partition of an image on a base (image/base.py)
)
GROUP_LIMIT = 0x10000000  # a group's number shares its word with the mask above
NAME_LIMIT = 128


class DataType(IntEnum):
    """What an object is."""

    DEFINITION = 0x4001
    ENVIRONMENT = 0x4002
    LABELS = 0x4003
    PARTITION = 0x4004
    SIGNATURE = 0x4005
    GENERIC_JSON = 0x4006
    GENERIC = 0x4007
    CRYPTOGRAPHIC_MESSAGE = 0x4008
    SBOM = 0x4009
    OCI_ROOT_INDEX = 0x400A
    OCI_BLOB = 0x400B


class Filesystem(IntEnum):
    """What a partition holds."""

    SQUASHFS = 1
    EXT3 = 2
    ARCHIVE = 3
    RAW = 4  # and EROFS, which has no number of its own: its superblock says so
    ENCRYPTED_SQUASHFS = 5
    GOCRYPTFS_SQUASHFS = 6


class PartitionType(IntEnum):
    """What a partition is for; a file has at most one PRIMARY."""

    SYSTEM = 1
    PRIMARY = 2
    DATA = 3
    OVERLAY = 4


SBOM_FORMATS = (
    "cyclonedx-json", "cyclonedx-xml", "github-json", "spdx-json", "spdx-rdf", "spdx-tag-value", "spdx-yaml",
    "syft-json",
)  # fmt: skip
"""Formats of a software bill of materials, in the order of their numbers, from 1."""


ARCHITECTURES = {
    "386": b"01\0",
    "amd64": b"02\0",
    "arm": b"03\0",
    "arm64": b"04\0",
    "ppc64": b"05\0",
    "ppc64le": b"06\0",
    "mips": b"07\0",
    "mipsle": b"08\0",
    "mips64": b"09\0",
    "mips64le": b"10\0",
    "s390x": b"11\0",
    "riscv64": b"12\0",
    "loong64": b"13\0",
}
_ARCHITECTURE_NAMES = {code: name for name, code in ARCHITECTURES.items()}
NO_ARCHITECTURE = b"00\0"


def architecture_name(code: bytes) -> str:
    """The architecture that a code stands for; "unknown" for any other."""
    return _ARCHITECTURE_NAMES.get(code, "unknown")


class Header(
    NamedTuple
):  # here and below: what a short command waits for (docs/performance.md), and dataclasses load slowly
    """The global header; offsets and sizes in bytes, times in seconds since 1970, UTC."""

    identity: bytes  # 16: a UUID in the order of RFC 9562
    created: int
    modified: int
    free: int
    data_size: int  # to the end of the last object, padding included
    launch: bytes = LAUNCH_LINE
    version: bytes = VERSION
    architecture: bytes = NO_ARCHITECTURE  # of the primary partition
    total: int = TABLE_ENTRIES
    table_offset: int = _TABLE_OFFSET
    table_size: int = TABLE_ENTRIES * _DESCRIPTOR.size
    data_offset: int = DATA_OFFSET

    @property
    def id(self) -> "UUID":
        """The file's UUID."""
        from uuid import UUID  # slow to import, and seldom looked at

        return UUID(bytes=self.identity)


class Partition(NamedTuple):
    """The further fields of a PARTITION object; numbers that no enum knows are kept as they are."""

    filesystem: int
    type: int
    architecture: bytes


class Descriptor(NamedTuple):
    """One object: where it is, what it is, and what it belongs to."""

    type: int
    id: int
    group: int  # 0: none
    offset: int
    size: int
    padded_size: int  # with the padding before it
    created: int
    modified: int
    link: int = 0  # id of an object, or of a group when `links_group`; 0: none
    links_group: bool = False
    uid: int = 0
    gid: int = 0
    name: bytes = b""
    extra: bytes = b""  # by type, without trailing NULs

    @property
    def end(self) -> int:
        """The first byte after the object."""
        return self.offset + self.size

    @property
    def partition(self) -> Partition | None:
        """What the object says about itself when it is a partition."""
        if self.type != DataType.PARTITION:
            return None
        filesystem, kind, architecture = struct.unpack_from("<ii3s", self.extra.ljust(11, b"\0"))
        return Partition(filesystem=filesystem, type=kind, architecture=architecture)


class Sif(NamedTuple):
    """What a SIF file says about its content."""

    header: Header
    descriptors: tuple[Descriptor, ...]  # those in use, in the order of the table

    def primary(self) -> Descriptor | None:
        """The partition that containers are made from."""
        return next(
            (each for each in self.descriptors if each.partition and each.partition.type == PartitionType.PRIMARY), None
        )

    def overlays(self) -> list[Descriptor]:
        """The overlay partitions with a file system that overlays are made of, in file order."""
        kinds = (Filesystem.SQUASHFS, Filesystem.EXT3)
        partitions = [(each, each.partition) for each in self.descriptors]
        return [each for each, p in partitions if p and p.type == PartitionType.OVERLAY and p.filesystem in kinds]

    @property
    def end(self) -> int:
        """Where the data ends: the first byte that no object has, behind which new ones are put."""
        table_end = self.header.table_offset + self.header.table_size
        return max(table_end, *(each.end for each in self.descriptors), 0)

    def signed_groups(self) -> set[int]:
        """The groups that signatures speak of, wholly or in part."""
        groups = {each.id: each.group for each in self.descriptors}
        signatures = [each for each in self.descriptors if each.type == DataType.SIGNATURE]
        return {each.link if each.links_group else groups.get(each.link, 0) for each in signatures} - {0}

    def find(self, kind: DataType, name: bytes | None = None) -> Descriptor | None:
        """The first object of a type, and of a name when one is given."""
        return next((each for each in self.descriptors if each.type == kind and name in (None, each.name)), None)


def read(file: BinaryIO) -> Sif:
    """The header and the used descriptors of a SIF file.

    Raises ImageError when this is no SIF file of version 01, when the table or an object reaches past the end of the
    file, when two of them overlap, or when there are more primary or overlay partitions than can be.
    """
    size = file.seek(0, 2)
    header = _read_header(file, size)
    used = [(number, decode_descriptor(row)) for number, row in enumerate(read_rows(file, header), 1) if row[4]]
    _check_places(header, used, size)
    content = Sif(header=header, descriptors=tuple(descriptor for _, descriptor in used))
    uses = [each.partition.type for each in content.descriptors if each.partition]
    if uses.count(PartitionType.PRIMARY) > 1:
        raise ImageError("SIF with two primary system partitions", hint="damaged?")
    if len(content.overlays()) > _OVERLAYS_LIMIT:
        raise ImageError(f"SIF with more than {_OVERLAYS_LIMIT} overlay partitions")
    return content


def read_rows(file: BinaryIO, header: Header) -> list[bytes]:
    """The table of descriptors as it stands in the file, unused ones too; the fifth byte says which are used."""
    file.seek(header.table_offset)
    table = file.read(header.total * _DESCRIPTOR.size)
    if len(table) != header.total * _DESCRIPTOR.size:
        raise ImageError("the table of objects of the SIF cannot be read")
    return [table[start : start + _DESCRIPTOR.size] for start in range(0, len(table), _DESCRIPTOR.size)]


def row_offset(header: Header, index: int) -> int:
    """Where the descriptor with this index, counted from 0, stands in the file."""
    return header.table_offset + index * _DESCRIPTOR.size


def read_object(file: BinaryIO, descriptor: Descriptor, *, limit: int = 16 << 20) -> bytes:
    """The bytes of one object. Raises ImageError when it is larger than `limit` or the file ends within it."""
    if descriptor.size > limit:
        raise ImageError(
            f"object {descriptor.id} has {descriptor.size} bytes, more than the {limit} that are read at once"
        )
    file.seek(descriptor.offset)
    data = file.read(descriptor.size)
    if len(data) != descriptor.size:
        raise ImageError(f"object {descriptor.id} is cut short")
    return data


def _read_header(file: BinaryIO, size: int) -> Header:
    file.seek(0)
    head = file.read(_HEADER.size)
    if head[MAGIC_OFFSET : MAGIC_OFFSET + len(MAGIC)] != MAGIC:
        raise ImageError("not a SIF file")
    if len(head) < _HEADER.size:
        raise ImageError("the SIF ends within its header: incomplete download?", hint=_INCOMPLETE)
    header = decode_header(head)
    if header.version != VERSION:
        raise ImageError("a SIF of an unknown version", hint="made by a newer program?")
    too_many = header.total > _ENTRIES_LIMIT or header.table_size > _TABLE_LIMIT
    if too_many or header.total * _DESCRIPTOR.size > header.table_size:
        raise ImageError(f"SIF with an impossible table of {header.total} objects")
    end = header.table_offset + header.table_size
    if header.table_offset < _HEADER.size or end >= _INT64_LIMIT:
        raise ImageError("SIF whose table of objects lies in no possible place")
    if end > size:
        what = f"the table of objects ends {end - size} bytes after the file: incomplete download?"
        raise ImageError(what, hint=_INCOMPLETE)
    return header


def _check_places(header: Header, used: Sequence[tuple[int, Descriptor]], size: int) -> None:
    """Every object lies inside the file, clear of the header, of the table and of every other object."""
    table_end = header.table_offset + header.table_size
    for number, each in used:
        if each.end >= _INT64_LIMIT:
            raise ImageError(f"data object {number} lies in no possible place")
        if each.end > size:
            what = f"data object {number} ends {each.end - size} bytes after the file: incomplete download?"
            raise ImageError(what, hint=_INCOMPLETE)
        over_table = each.offset < table_end and each.end > header.table_offset
        if each.size and (each.offset < _HEADER.size or over_table):
            raise ImageError(f"data object {number} lies over the header of the SIF")
    places = sorted((each.offset, each.end, number) for number, each in used if each.size)
    for (_, end, one), (start, _, other) in pairwise(places):
        if start < end:
            raise ImageError(f"data objects {min(one, other)} and {max(one, other)} overlap")


def decode_header(data: bytes) -> Header:
    """A header from its bytes; unchecked."""
    launch, _, version, architecture, identity, *numbers = _HEADER.unpack_from(data)
    fields: dict[str, int] = dict(zip(_NUMBERS, numbers, strict=True))
    return Header(
        launch=launch.rstrip(b"\0"), version=version, architecture=architecture, identity=identity, **fields
    )  # fmt: skip


def encode_header(header: Header) -> bytes:
    """The bytes of a header."""
    numbers = (getattr(header, name) for name in _NUMBERS)
    return _HEADER.pack(header.launch, MAGIC, header.version, header.architecture, header.identity, *numbers)


def decode_descriptor(data: bytes) -> Descriptor:
    """A used descriptor from its bytes; unchecked."""
    kind, _, identity, group, link, *numbers, name, extra = _DESCRIPTOR.unpack(data)
    fields: dict[str, int] = dict(zip(_PLACE, numbers, strict=True))
    return Descriptor(
        type=kind,
        id=identity,
        group=group & ~_GROUP,
        link=link & ~_GROUP,
        links_group=link & _GROUP == _GROUP,
        name=name.rstrip(b"\0"),
        extra=extra.rstrip(b"\0"),
        **fields,
    )


def encode_descriptor(descriptor: Descriptor) -> bytes:
    """The bytes of a used descriptor. Raises ImageError when the name is longer than the 128 bytes there are."""
    if len(descriptor.name) > NAME_LIMIT:
        raise ImageError(f"object name of {len(descriptor.name)} bytes: at most {NAME_LIMIT} fit into a SIF file")
    group, link = descriptor.group | _GROUP, descriptor.link | (_GROUP if descriptor.links_group else 0)
    numbers = (getattr(descriptor, name) for name in _PLACE)
    return _DESCRIPTOR.pack(descriptor.type, 1, descriptor.id, group, link, *numbers, descriptor.name, descriptor.extra)


def partition_extra(filesystem: int, kind: int, architecture: str) -> bytes:
    """The further fields of a partition. `architecture` is a key of ARCHITECTURES, or "unknown"."""
    return struct.pack("<ii3s", filesystem, kind, ARCHITECTURES.get(architecture, NO_ARCHITECTURE))


def signature_extra(hash_type: int, fingerprint: bytes) -> bytes:
    """The further fields of a signature; the fingerprint of an OpenPGP key has 20 bytes, other keys have none."""
    return struct.pack("<i256s", hash_type, fingerprint)
