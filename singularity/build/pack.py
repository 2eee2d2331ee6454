"""A root file system becomes a SIF file: mksquashfs writes straight into its place in the new file."""

import gzip
import json
import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from singularity import files, process
from singularity.build import layout
from singularity.build.architecture import Architecture
from singularity.console import VERBOSE
from singularity.errors import BuildError
from singularity.image import metadata, sif, squashfs
from singularity.image.root import Root
from singularity.image.sif import DataType, NewObject

logger = logging.getLogger(__name__)

_ZSTD_SINCE = (4, 14)  # Linux


def pack(root: Path, target: Path, *, architecture: Architecture, arguments: Sequence[str], overwrite: bool) -> None:
    """Writes the SIF file `target` from a finished root file system; whole, or not at all.

    `arguments` are further ones of mksquashfs. With SOURCE_DATE_EPOCH set the same root makes the same file. Raises
    FileError and ToolError.
    """
    with Root(root) as opened:
        about = metadata.from_root(opened)
        kept = [*layout.uncompressed(opened, _size(root)), *layout.read_by_launches(opened)]
    objects = _objects(about)
    with files.replacing(target, overwrite=overwrite, mode=0o777) as new:
        offset = sif.partition_offset(objects)
        _make_squashfs(root, new, offset, kept, arguments, target)
        epoch = source_date_epoch()
        head = sif.encode_head(
            objects,
            partition_size=os.fstat(new.fd).st_size - offset,
            filesystem=sif.Filesystem.SQUASHFS,
            architecture=architecture.sif,
            id=sif.NO_ID if epoch is not None else uuid4(),
            time=sif.NO_TIME if epoch is not None else int(time.time()),
        )
        _write_at_start(new.fd, head)


def source_date_epoch() -> int | None:
    """The time that reproducible builds give everything, in seconds since 1970. Raises BuildError for nonsense."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or int(text) >= 1 << 32:
        raise BuildError(f'SOURCE_DATE_EPOCH is "{text}": not seconds since 1970')
    return int(text)


def _objects(about: metadata.Metadata) -> list[NewObject]:
    document = json.dumps(metadata.to_json(about), ensure_ascii=False, separators=(",", ":"))
    return [
        NewObject(type=DataType.DEFINITION, data=f"{about.deffile}\n".encode("utf-8", "replace")),
        NewObject(type=DataType.GENERIC_JSON, data=document.encode("utf-8", "replace"), name=metadata.OBJECT_NAME),
    ]


def _make_squashfs(
    root: Path, new: files.NewFile, offset: int, kept: Sequence[str], arguments: Sequence[str], target: Path
) -> None:
    purpose = f"write {target}"
    argv: list[str | Path] = ["mksquashfs", root, new.path, "-noappend", "-no-progress", "-no-recovery"]
    argv += ["-offset", str(offset), "-processors", str(len(os.sched_getaffinity(0)))]
    if "-comp" not in arguments:
        argv += ["-comp", *_compression(arguments, purpose)]
    if "-noI" not in arguments:
        argv.append("-noI")
    if kept:
        tests = "||".join(f"pathname({path})" for path in kept)
        argv += ["-action", f"uncompressed@{tests}", "-action", f"no-fragments@{tests}"]
        logger.log(VERBOSE, "Stored uncompressed: %s", ", ".join(kept))
    epoch = source_date_epoch()
    environment = {} if epoch is None else {"SOURCE_DATE_EPOCH": str(epoch)}
    process.run([*argv, *arguments], purpose=purpose, keep=[new.fd], environment=environment)


def _compression(arguments: Sequence[str], purpose: str) -> list[str]:
    """zstd, which starts programs twice as fast as gzip, where mksquashfs writes it and the running kernel reads it.

    Level 9 packs a Debian system in a tenth of the time of mksquashfs's own choice, 15, for 4 % more size; it is
    smaller than gzip all the same.
    """
    if "zstd" not in squashfs.compressors(purpose=purpose) or not kernel_reads_zstd():
        return ["gzip"]
    return ["zstd"] if "-Xcompression-level" in arguments else ["zstd", "-Xcompression-level", "9"]


def kernel_reads_zstd() -> bool:
    """Whether the kernel's squashfs knows zstd: from its configuration where that is to be had, else from its age."""
    release = os.uname().release
    for place in ("/proc/config.gz", f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        try:
            data = Path(place).read_bytes()
        except OSError:
            continue
        text = gzip.decompress(data) if place.endswith(".gz") else data
        return b"\nCONFIG_SQUASHFS_ZSTD=y\n" in text
    numbers = [int(part) for part in release.split("-")[0].split(".")[:2] if part.isdecimal()]
    return tuple(numbers) >= _ZSTD_SINCE


def _size(root: Path) -> int:
    """The bytes in the regular files of a root file system."""
    total = 0
    for directory, _, names in os.walk(root):
        for name in names:
            total += os.lstat(os.path.join(directory, name)).st_size
    return total


def _write_at_start(fd: int, data: bytes) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], done)
