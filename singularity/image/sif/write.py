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
    code = sif.ARCHITECTURES[architecture]
    start = partition_offset(objects)
    descriptors = list(_place(objects, time))
    last = descriptors[-1].end if descriptors else DATA_OFFSET
    descriptors.append(
        Descriptor(
            type=DataType.PARTITION,
            id=len(descriptors) + 1,
            group=1,
            offset=start,
            size=partition_size,
            padded_size=start - last + partition_size,
            created=time,
            modified=time,
            name=name,
            extra=sif.partition_extra(filesystem, kind, architecture),
        )
    )
    header = Header(
        architecture=code if kind is sif.PartitionType.PRIMARY else sif.NO_ARCHITECTURE,
        identity=id.bytes,
        created=time,
        modified=time,
        free=TABLE_ENTRIES - len(descriptors),
        data_size=0,
    )
    header = header._replace(data_size=start + partition_size - header.data_offset)
    table = b"".join(map(sif.encode_descriptor, descriptors)).ljust(header.table_size, b"\0")
    head = sif.encode_header(header).ljust(header.table_offset, b"\0") + table
    return (head + b"".join(each.data for each in objects)).ljust(start, b"\0")


def encode_empty(*, id: UUID, time: int) -> bytes:  # noqa: A002 - the format's own word
    """All of a new file that holds no object."""
    header = Header(identity=id.bytes, created=time, modified=time, free=TABLE_ENTRIES, data_size=0)
    return sif.encode_header(header).ljust(header.data_offset, b"\0")


def _place(objects: Sequence[NewObject], time: int) -> Iterator[Descriptor]:
    offset = DATA_OFFSET
    for number, each in enumerate(objects, 1):
        size = len(each.data)
        yield Descriptor(
            type=each.type,
            id=number,
            group=1,
            offset=offset,
            size=size,
            padded_size=size,
            created=time,
            modified=time,
            name=each.name,
            link=each.link,
            extra=each.extra,
        )
        offset += size
