"""New SIF files: all that comes before the primary partition, as bytes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from singularity.image.sif import format as sif
from singularity.image.sif.format import DATA_OFFSET, TABLE_ENTRIES, DataType, Descriptor, Filesystem, Header


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObject:
    """An object of a file to be written; all of them belong to group 1."""

    type: DataType
    data: bytes
    name: bytes = b""
    link: int = 0  # id of another object; 0: none
    extra: bytes = b""  # by type


def partition_offset(objects: Sequence[NewObject]) -> int:
    """Where the primary partition of a new file begins: behind `objects`, aligned."""
    end = DATA_OFFSET + sum(len(each.data) for each in objects)
    return -(-end // sif.PARTITION_ALIGNMENT) * sif.PARTITION_ALIGNMENT


def encode_head(
    objects: Sequence[NewObject],
    *,
    partition_size: int,
    filesystem: Filesystem,
    architecture: str,
    id: UUID,  # noqa: A002 - the format's own word
    time: int,
    kind: sif.PartitionType = sif.PartitionType.PRIMARY,
    name: bytes = b"",
) -> bytes:
    """All of a new file that comes before its partition, the primary one: header, table, `objects`, padding.

    `partition_size` bytes of `filesystem` are to follow. `architecture` is a key of ARCHITECTURES. `kind` is for a
    partition that holds data, which may have a name.
    """
    start = partition_offset(objects)
    before = list(_place(objects, 1, DATA_OFFSET, time))
    last = before[-1].end if before else DATA_OFFSET
    extra = sif.partition_extra(filesystem, kind, architecture)
    partition = _partition(len(before) + 1, last, start, partition_size, name, extra, time)
    code = sif.ARCHITECTURES[architecture] if kind is sif.PartitionType.PRIMARY else sif.NO_ARCHITECTURE
    head = _head([*before, partition], code, id, time)
    return (head + b"".join(each.data for each in objects)).ljust(start, b"\0")


def encode_around(
    objects: Sequence[NewObject],
    *,
    partition_offset: int,
    partition_size: int,
    filesystem: Filesystem,
    architecture: str,
    id: UUID,  # noqa: A002 - the format's own word
    time: int,
    name: bytes = b"",
) -> tuple[bytes, bytes]:
    """The beginning of a file whose object 1 is the primary partition, and the `objects`, which lie right behind it."""
    extra = sif.partition_extra(filesystem, sif.PartitionType.PRIMARY, architecture)
    partition = _partition(1, DATA_OFFSET, partition_offset, partition_size, name, extra, time)
    descriptors = [partition, *_place(objects, 2, partition.end, time)]
    return _head(descriptors, sif.ARCHITECTURES[architecture], id, time), b"".join(each.data for each in objects)


def encode_empty(*, id: UUID, time: int) -> bytes:  # noqa: A002 - the format's own word
    """All of a new file that holds no object."""
    header = Header(identity=id.bytes, created=time, modified=time, free=TABLE_ENTRIES, data_size=0)
    return sif.encode_header(header).ljust(header.data_offset, b"\0")


def _head(descriptors: Sequence[Descriptor], architecture: bytes, id: UUID, time: int) -> bytes:  # noqa: A002
    """Header and table of a file that ends with the last of these objects."""
    header = Header(
        architecture=architecture,
        identity=id.bytes,
        created=time,
        modified=time,
        free=TABLE_ENTRIES - len(descriptors),
        data_size=descriptors[-1].end - DATA_OFFSET,
    )
    table = b"".join(map(sif.encode_descriptor, descriptors)).ljust(header.table_size, b"\0")
    return sif.encode_header(header).ljust(header.table_offset, b"\0") + table


def _partition(number: int, after: int, offset: int, size: int, name: bytes, extra: bytes, time: int) -> Descriptor:
    """`after` is where the object before it ends."""
    padded = offset - after + size
    return Descriptor(DataType.PARTITION, number, 1, offset, size, padded, time, time, name=name, extra=extra)


def _place(objects: Sequence[NewObject], number: int, offset: int, time: int) -> Iterator[Descriptor]:
    for each in objects:
        size, link = len(each.data), each.link
        made = Descriptor(each.type, number, 1, offset, size, size, time, time, link)
        yield made._replace(name=each.name, extra=each.extra)
        offset, number = offset + size, number + 1
