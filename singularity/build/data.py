"""A directory or a file system becomes a SIF file that holds data: for launches to bind, and nothing to start."""

import os
from collections.abc import Sequence
from pathlib import Path

from singularity import files, process
from singularity.build import architecture, convert, pack, reproducible
from singularity.errors import ImageError
from singularity.image.identify import Format, identify
from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import Filesystem, PartitionType

_FILESYSTEMS = {
    Format.DIRECTORY: Filesystem.SQUASHFS,
    Format.SQUASHFS: Filesystem.SQUASHFS,
    Format.EXT: Filesystem.EXT3,
    Format.EROFS: Filesystem.RAW,
}


def make(source: Path, target: Path, *, arguments: Sequence[str], overwrite: bool) -> None:
    """Writes `target`, whole or not at all: a SIF file with one data partition.

    `arguments` are further ones of mksquashfs, which packs a directory; a squashfs, ext3 or EROFS file is copied as it
    is. With SOURCE_DATE_EPOCH the same directory makes the same file. Raises FileError, ImageError and ToolError.
    """
    found = identify(source)
    if found.format not in _FILESYSTEMS:
        what = f"{source}: a {found.format.value}, and no data"
        raise ImageError(what, hint="a directory, a squashfs, ext3 or EROFS file can be; of others: singularity build")
    offset = sif_write.partition_offset(())
    with files.replacing(target, overwrite=overwrite, mode=0o777) as new:
        if found.format is Format.DIRECTORY:
            _pack(source, target, new, offset, arguments)
        else:
            with source.open("rb") as file:
                convert.copy_partition(found, file, new.fd, offset)
        head = sif_write.encode_head(
            (),
            partition_size=os.fstat(new.fd).st_size - offset,
            filesystem=_FILESYSTEMS[found.format],
            architecture=architecture.host().sif,
            id=pack.new_id(),
            time=pack.new_time(),
            kind=PartitionType.DATA,
            name=os.fsencode(source.resolve().name)[: sif.NAME_LIMIT],
        )
        files.write_at(new.fd, head, 0)


def _pack(source: Path, target: Path, new: files.NewFile, offset: int, arguments: Sequence[str]) -> None:
    purpose = f"write {target}"
    argv: list[str | Path] = ["mksquashfs", source, new.path, "-quiet", *pack.common_arguments(offset)]
    argv += [*pack.compression(arguments, purpose), *pack.memory(arguments), *arguments]
    process.run(argv, purpose=purpose, keep=[new.fd], environment=reproducible.environment())
