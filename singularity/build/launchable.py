"""An archive becomes an image that can be launched: a SIF file made once, and kept in the user's cache.

archive/known/KEY          the digest of a file with these numbers: device, inode, size, times; locked while it is read
archive/DIGEST/image.sif   made from content of this SHA-256, and other names of it: those of the archives
archive/DIGEST/made        its size and time, so that a damaged one is noticed; locked while it is made
"""

import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from singularity import files, paths
from singularity.build import convert
from singularity.build.request import BuildRequest
from singularity.errors import FileError, ToolError
from singularity.image.identify import Image

logger = logging.getLogger(__name__)

_FORMAT = "1"  # of what is made; another number makes everything anew
_SUFFIXES = re.compile(r"(\.(tar|cpio|vnfs))?(\.(gz|bz|bz2|xz|zst)|z)?$|\.(tgz|tbz|tbz2|txz|tzst)$", re.IGNORECASE)
_PAUSE, _PATIENCE, _LIMIT = 0.05, 1.0, 3600.0  # seconds: between looks at a lock, before a word about it, in all


def cached(image: Image, place: Path) -> Path:
    """The SIF file that `place` of the cache has for an archive, made if need be; its name is like the archive's.

    Raises FileError, ImageError and ToolError.
    """
    known = paths.private(place / "known") / _key(image.path)
    name = f"{_SUFFIXES.sub('', image.path.name)[:200] or 'image'}.sif"
    with suppress(OSError):
        found = _whole(place / known.read_text(encoding="ascii"))
        if found is not None:
            return _named(found, name)
    with _locked(known, image.path) as file:
        before = _key(image.path)
        digest = _digest(image.path)
        directory = paths.private(place / digest)
        with _locked(directory / "made", image.path) as made:
            found = _whole(directory)
            if found is None:
                found = directory / "image.sif"
                make(image, found)
                status = found.stat()
                _write(made, f"{status.st_size} {status.st_mtime_ns}")
        if _key(image.path) == before == known.name:
            _write(file, digest)
    return _named(found, name)


def make(image: Image, target: Path) -> None:
    """Makes a SIF file of an archive, in place of what is at `target`. Raises FileError, ImageError and ToolError."""
    logger.info("Unpacking %s into an image", image.path)
    request = BuildRequest(target=target, source=str(image.path), overwrite=True, temporary=paths.temporary())
    if not convert.can_stream(image, request):
        what = f"mksquashfs is too old to make an image of {image.path}"
        raise ToolError(what, hint="install squashfs-tools 4.5 or newer, or build a directory with --sandbox")
    convert.perform(image, request)


def _key(path: Path) -> str:
    """What stands for a file without its content being read."""
    try:
        status = path.stat()
    except OSError as error:
        raise FileError.because(path, error) from error
    numbers = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(f"{_FORMAT} {numbers}".encode()).hexdigest()[:32]


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return f"{hashlib.file_digest(file, 'sha256').hexdigest()}-{_FORMAT}"
    except OSError as error:
        raise FileError.because(path, error) from error


def _whole(directory: Path) -> Path | None:
    """The image in a directory of the cache, unless it is missing or not as it was made."""
    path = directory / "image.sif"
    try:
        status = path.stat()
        same = (directory / "made").read_text(encoding="ascii") == f"{status.st_size} {status.st_mtime_ns}"
    except OSError:
        return None
    return path if same else None


def _named(found: Path, name: str) -> Path:
    """The image by the name that programs in it will see; by its own where the file system has no hard links."""
    path = found.with_name(name)
    try:
        if path.exists() and path.samefile(found):
            return path
        path.unlink(missing_ok=True)
        path.hardlink_to(found)
    except FileExistsError:  # another launch was faster
        return path
    except OSError:
        return found
    return path


@contextmanager
def _locked(path: Path, archive: Path) -> Iterator[int]:
    """A file that this process alone has locked; only a file system without locks does without."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileError.because(path, error) from error
    try:
        start = time.monotonic()
        said = False
        while not _try_lock(fd):
            waited = time.monotonic() - start
            if waited > _LIMIT:
                raise FileError(f"{path}: locked for an hour by another launch of {archive}", hint="end that one")
            if waited > _PATIENCE and not said:
                said = True
                logger.info("Waiting for another launch that unpacks %s", archive)
            time.sleep(_PAUSE)
        yield fd
    finally:
        os.close(fd)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        logger.debug("No lock: %s", error.strerror)
    return True


def _write(fd: int, text: str) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode("ascii"), 0)


@contextmanager
def temporary(image: Image) -> Iterator[Path]:
    """The SIF file of an archive, gone at the end."""
    with files.temporary_directory(paths.temporary()) as directory:
        path = directory / f"{_SUFFIXES.sub('', image.path.name)[:200] or 'image'}.sif"
        make(image, path)
        yield path
