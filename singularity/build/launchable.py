"""An archive becomes an image that can be launched: a SIF file made once, and kept in the user's cache.

archive/known/KEY          the digest of a file with these numbers: device, inode, size, times; locked while it is read
archive/DIGEST/            the image made from content of this SHA-256 (see `image_store`)
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from singularity import files, locks, paths
from singularity.build import convert
from singularity.build.request import BuildRequest
from singularity.cache import image_store as kept
from singularity.errors import FileError, ToolError
from singularity.image.identify import Image

logger = logging.getLogger(__name__)

_FORMAT = "1"  # of what is made; another number makes everything anew
_SUFFIXES = re.compile(r"(\.(tar|cpio|vnfs))?(\.(gz|bz|bz2|xz|zst)|z)?$|\.(tgz|tbz|tbz2|txz|tzst)$", re.IGNORECASE)


def cached(image: Image, place: Path, *, verify: bool = False) -> Path:
    """The SIF file that `place` of the cache has for an archive, made if need be; its name is like the archive's.

    With `verify` it is read again first, and made anew where it is damaged. Raises FileError, ImageError and ToolError.
    """
    known = paths.private(place / "known") / _key(image.path)
    name = f"{_SUFFIXES.sub('', image.path.name)[:200] or 'image'}.sif"
    with suppress(OSError, ValueError):
        found = kept.find(place, known.read_text(encoding="ascii") or "none", verify=verify)
        if found is not None:
            return kept.named(found, name)
    work = f"unpacks {image.path}"
    with locks.locked(known, work) as file:
        before = _key(image.path)
        digest = _digest(image.path)
        found = kept.have(place, digest, partial(make, image), work)
        if _key(image.path) == before == known.name and file is not None:
            os.ftruncate(file, 0)
            os.pwrite(file, digest.encode("ascii"), 0)
    return kept.named(found, name)


def make(image: Image, target: Path) -> None:
    """Makes a SIF file of an archive, in place of what is at `target`. Raises FileError, ImageError and ToolError."""
    logger.info("Unpacking %s into an image", image.path)
    request = BuildRequest(target=target, source=str(image.path), overwrite=True, temporary=paths.temporary())
    if not convert.can_stream(image, request):
        what = f"mksquashfs is too old to make an image of {image.path}"
        raise ToolError(what, hint="install squashfs-tools 4.5 or newer, or build a directory with --sandbox")
    convert.perform(image, request)


def _key(path: Path) -> str:
    """A digest of what stat(2) says of a file: the same as long as nobody has written to it."""
    with FileError.about(path):
        status = path.stat()
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(f"{_FORMAT} {numbers}".encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    with FileError.about(path), path.open("rb") as file:
        return f"{hashlib.file_digest(file, 'sha256').hexdigest()}-{_FORMAT}"


@contextmanager
def temporary(image: Image) -> Iterator[Path]:
    """The SIF file of an archive, gone at the end."""
    with files.temporary_directory(paths.temporary()) as directory:
        path = directory / f"{_SUFFIXES.sub('', image.path.name)[:200] or 'image'}.sif"
        make(image, path)
        yield path
