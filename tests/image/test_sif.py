"""SIF files: what is written reads back, what other programs wrote is understood, and what is damaged is refused."""

from __future__ import annotations

import io
import struct
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from singularity.errors import ImageError
from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType, Filesystem, PartitionType
from singularity.image.sif.write import NewObject

FIXTURES = Path(__file__).resolve().parents[3] / "shared" / "fixtures"
ID = UUID("12345678-1234-5678-1234-567812345678")
OBJECTS = [
    NewObject(type=DataType.DEFINITION, data=b"Bootstrap: scratch\n"),
    NewObject(type=DataType.GENERIC_JSON, data=b'{"a":1}', name=b"inspect-metadata.json"),
]


def written(objects: list[NewObject] = OBJECTS, partition: bytes = b"P" * 8192) -> bytes:
    head = sif_write.encode_head(
        objects,
        partition_size=len(partition),
        filesystem=Filesystem.SQUASHFS,
        architecture="amd64",
        id=ID,
        time=1_700_000_000,
    )
    return head + partition


def test_a_written_file_reads_back_object_by_object() -> None:
    data = written()
    content = sif.read(io.BytesIO(data))
    assert [(each.id, each.type, each.group, each.name) for each in content.descriptors] == [
        (1, DataType.DEFINITION, 1, b""),
        (2, DataType.GENERIC_JSON, 1, b"inspect-metadata.json"),
        (3, DataType.PARTITION, 1, b""),
    ]
    assert [sif.read_object(io.BytesIO(data), each) for each in content.descriptors[:2]] == [
        each.data for each in OBJECTS
    ]
    primary = content.primary()
    assert primary is not None
    assert primary.partition == sif.Partition(
        filesystem=Filesystem.SQUASHFS, type=PartitionType.PRIMARY, architecture=b"02\0"
    )
    assert data[primary.offset : primary.end] == b"P" * 8192


def test_the_layout_is_the_one_of_the_format() -> None:
    """The offsets and sizes of the format's tables, looked at as bytes."""
    data = written()
    assert data[:32] == b"#!/usr/bin/env run-singularity\n\0"
    assert data[32:48] == b"SIF_MAGIC\x0001\x0002\0"
    assert data[48:64] == ID.bytes
    created, modified, free, total, table, table_size, start, size = struct.unpack_from("<8q", data, 64)
    assert (created, modified, free, total) == (1_700_000_000, 1_700_000_000, 45, 48)
    assert (table, table_size, start, size) == (4096, 48 * 585, 32176, len(data) - 32176)
    third = data[4096 + 2 * 585 :]
    kind, used, number, group, link, offset, length, padded = struct.unpack_from("<iBIIIqqq", third)
    assert (kind, used, number, group, link) == (0x4004, 1, 3, 0xF0000001, 0)
    assert (offset, length) == (32768, 8192)
    assert padded == 8192 + 32768 - (32176 + len(OBJECTS[0].data) + len(OBJECTS[1].data))
    assert struct.unpack_from("<ii3s", third, 201) == (1, 2, b"02\0")
    assert not any(data[4096 + 3 * 585 : 32176])


def test_the_partition_is_aligned_whatever_comes_before_it() -> None:
    for size in (0, 1, 4687, 4688, 4689, 100_000):
        objects = [NewObject(type=DataType.DEFINITION, data=b"x" * size)]
        assert sif_write.partition_offset(objects) % 4096 == 0
        assert sif.read(io.BytesIO(written(objects))).descriptors[1].offset == sif_write.partition_offset(objects)


def test_a_name_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ImageError, match="128"):
        written([NewObject(type=DataType.GENERIC, data=b"", name=b"n" * 129)])


@pytest.mark.needs("fixtures")
@pytest.mark.parametrize("name", ["busybox-apptainer-1.4.sif", "busybox-signed.sif"])
def test_header_and_descriptors_of_another_program_encode_to_the_same_bytes(name: str) -> None:
    data = (FIXTURES / name).read_bytes()
    content = sif.read(io.BytesIO(data))
    assert sif.encode_header(content.header) == data[:128]
    for each in content.descriptors:
        start = content.header.table_offset + (each.id - 1) * 585
        assert sif.encode_descriptor(each) == data[start : start + 585]


@pytest.mark.needs("fixtures")
def test_a_signature_is_linked_to_its_group() -> None:
    with (FIXTURES / "busybox-signed.sif").open("rb") as file:
        signature = sif.read(file).find(DataType.SIGNATURE)
    assert signature is not None
    assert (signature.group, signature.link, signature.links_group) == (0, 1, True)
    assert signature.extra[4:24].hex().upper() == "6E0B23AC2796A947269B299936EF72906FF159CC"


@given(st.data())
def test_whatever_is_changed_the_reader_answers_or_raises_its_one_exception(data: st.DataObject) -> None:
    """R-P1, R-P5: and every object it speaks of lies inside the file, clear of the header, the table and each other."""
    content = bytearray(written(partition=b"P" * 64))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.one_of(st.integers(32, 127), st.integers(4096, 4096 + 4 * 585)))
        new = data.draw(st.binary(min_size=1, max_size=8))
        content[place : place + len(new)] = new
    del content[data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content)))) :]
    try:
        read = sif.read(io.BytesIO(bytes(content)))
    except ImageError as error:
        assert "\n" not in str(error)
        return
    places = sorted((each.offset, each.end) for each in read.descriptors if each.size)
    assert all(0 <= start < end <= len(content) for start, end in places)
    assert all(end <= start for (_, end), (start, _) in pairwise(places))
    for each in read.descriptors:
        assert sif.decode_descriptor(sif.encode_descriptor(each)) == each


@given(st.binary(max_size=300))
def test_bytes_that_are_no_sif_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        sif.read(io.BytesIO(data))
