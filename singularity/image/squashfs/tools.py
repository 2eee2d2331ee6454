"""squashfs through squashfs-tools: out of a file, and into one."""

import gzip
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from singularity import files, kernel
from singularity.errors import FileError
from singularity.image.tree import Tree
from singularity.process import call, run

logger = logging.getLogger(__name__)

_NOT_ALL = 2  # unsquashfs: everything is there, but not with every attribute
_OWNER = re.compile(r"failed to change uid and gids? on ")
_LINK = "failed to create hardlink"
_DEVICE = re.compile(r"failed to create (character|block) device ")
_ZSTD_SINCE = (4, 14)  # Linux


def unpack(
    image: Path,
    offset: int,
    target: Path,
    *,
    purpose: str,
    through: Sequence[str | Path] = (),
) -> None:
    """Unpacks the file system `offset` bytes into `image` to `target`, which must not exist and does afterwards.

    Only root keeps owners, or who has it started by the program `through`, which remembers them. Raises ToolError.
    """
    target.mkdir(exist_ok=True)
    options = ("-no-progress", "-quiet", "-force", "-offset", str(offset), "-dest", target)
    finished = call(["unsquashfs", *options, image], purpose=purpose, through=through)
    if finished.status == 0:
        return
    lines = finished.complaints.splitlines()
    some_ids = not kernel.is_initial_user_namespace()
    if some_ids and _LINK in finished.complaints:
        _unpack_here(image, offset, target)
        return
    owners = [line for line in lines if some_ids and _OWNER.search(line)]
    devices = [line for line in lines if some_ids and _DEVICE.search(line)]
    if finished.status != _NOT_ALL or len(owners) + len(devices) < len(lines):
        raise finished.failure(purpose)
    if owners:
        _complete(image, offset, target)
        logger.warning(
            "%s: %d files belong to others there, and now to root: you have no ids for others", image, len(owners)
        )
    if devices:
        logger.warning("%s: %d device nodes are left out: only root makes them", image, len(devices))


def _unpack_here(image: Path, offset: int, target: Path) -> None:
    """Unpacks without unsquashfs, which ends at a second name of a device that could not be made."""
    from singularity.image.archive.unpack import unpack as unpack_tree

    with files.closing(os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
        for name in os.listdir(directory):
            files.remove_at(directory, name)
    with stream(image, offset) as tree:
        unpack_tree(tree, target, name=image)


def _complete(image: Path, offset: int, target: Path) -> None:
    """What unsquashfs leaves out after an owner that it cannot give: a directory would be of mode 0700."""
    from singularity.image.archive.unpack import complete

    with stream(image, offset) as tree:
        complete(tree, target)


@contextmanager
def stream(image: Path, offset: int) -> Iterator[Tree]:
    """The file system `offset` bytes into `image` as a stream, without unpacking it: all but its size is in it.

    Raises ImageError, FileError, and ToolError without the library that decompresses it.
    """
    from singularity.image.contents import partition  # which needs threads, and those are slow to import
    from singularity.image.identify import Format, Partition

    with FileError.about(image):
        size = image.stat().st_size - offset
    with partition(image, Partition(format=Format.SQUASHFS, offset=offset, size=size)) as tree:
        yield tree


def compressors(*, purpose: str) -> frozenset[str]:
    """What the installed mksquashfs can compress with. Raises ToolError when there is none."""
    text = _help(purpose)
    listed = re.search(r"Compressors available:\n((?:\t+\w+.*\n)+)", text)
    return frozenset(line.split()[0] for line in listed[1].splitlines()) if listed else frozenset({"gzip"})


def reads_tar(*, purpose: str) -> bool:
    """Whether the installed mksquashfs (4.5 and later) takes a tar archive on standard input. Raises ToolError."""
    return "\n-tar\t" in _help(purpose)


@cache
def _help(purpose: str) -> str:
    """What the installed mksquashfs says of itself. Raises ToolError when there is none."""
    return run(["mksquashfs", "-help"], purpose=purpose, accept=range(256))


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
