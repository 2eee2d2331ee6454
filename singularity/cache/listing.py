"""What is below the cache directory: by type, each entry with its size and age; and removing it.

A type is a directory: its entries are the files and directories in it, but for layers of builds, which
`layer_store` knows, and for blobs, which `blob_store` does. Nothing is made by looking. What the stores need is
imported where it is used: a listing is asked for often, and waits for its imports most of all.
"""

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from singularity import files, paths
from singularity.cache import blob_names, image_names
from singularity.errors import FileError

if TYPE_CHECKING:
    from singularity.cache.layer_store import StoredLayer


class Type(NamedTuple):
    """A kind of entries."""

    name: str  # of the directory too
    about: str
    counted: str  # what its entries are counted as


_SECTOR = 512  # bytes, of what stat(2) counts in
_RECENT = 60.0  # seconds in which something that was used is still about to be
CONTAINERS, BLOBS, LAYERS, PACKAGES = "container file", "oci blob file", "build layer", "package file"
TYPES = {
    each.name: each
    for each in (
        Type(name="library", about="images from libraries", counted=CONTAINERS),
        Type(name="oci-tmp", about="images made from OCI layers", counted=CONTAINERS),
        Type(name="shub", about="images from shub", counted=CONTAINERS),
        Type(name="oras", about="images from OCI registries", counted=CONTAINERS),
        Type(name="net", about="images from web servers", counted=CONTAINERS),
        Type(name="lazy", about="images of registries that were started before they were there", counted=CONTAINERS),
        Type(name="packed", about="OCI layers as images have them", counted=BLOBS),
        Type(name="blob", about="OCI layers", counted=BLOBS),
        Type(name="archive", about="images made from archives that were launched", counted=CONTAINERS),
        Type(name="build", about="layers of builds", counted=LAYERS),
        Type(name="bases", about="where images are that others lie on", counted="record"),
        Type(name="mounts", about="directories that RUN --mount=type=cache keeps", counted="directory"),
        Type(name="debootstrap", about="packages that debootstrap has downloaded", counted=PACKAGES),
    )
}


class CacheEntry(NamedTuple):
    """One thing that can be removed by itself."""

    type: Type
    name: str
    path: Path
    size: int  # bytes
    used: float  # when it was made, or a build used it last, in seconds since 1970
    touched: float = 0.0  # when it was used last
    what: str = ""  # for people, where the name says nothing
    layer: "StoredLayer | None" = None


def entries(types: list[Type]) -> Iterator[CacheEntry]:
    """The entries of these types, by type and name. Raises FileError."""
    for type_ in types:
        directory = paths.cache_place() / type_.name
        if not directory.exists():
            continue
        try:
            yield from {"build": _layers, "blob": _blobs}.get(type_.name, _files)(type_, directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError.because(error.filename or directory, error) from error


def _layers(type_: Type, directory: Path) -> Iterator[CacheEntry]:
    from singularity.cache import layer_store

    for layer in layer_store.listing(directory):
        about = layer.about
        yield CacheEntry(
            type=type_,
            name=layer.key,
            path=layer.path,
            size=about.size if about else 0,
            used=layer.used,
            what=f"{about.definition}: {about.what}" if about else "cannot be used",
            layer=layer,
        )


def _blobs(type_: Type, directory: Path) -> Iterator[CacheEntry]:
    for name, path in blob_names.listing(directory):
        with suppress(FileNotFoundError):
            status = path.lstat()
            size, used, touched = status.st_size, status.st_mtime, status.st_atime
            yield CacheEntry(type=type_, name=name, path=path, size=size, used=used, touched=touched)


def _files(type_: Type, directory: Path) -> Iterator[CacheEntry]:
    for path in sorted(directory.iterdir()):
        with suppress(FileNotFoundError):
            status = path.lstat()
            size, touched, what = status.st_size, status.st_atime, ""
            if stat.S_ISDIR(status.st_mode):
                size = _size(path)
                image = image_names.complete(path)
                touched = image.stat().st_atime if image else status.st_mtime
                what = ", ".join(image_names.names(path))
            yield CacheEntry(
                type=type_,
                name=image_names.key(path),
                path=path,
                size=size,
                used=status.st_mtime,
                touched=touched,
                what=what,
            )


def _size(directory: Path) -> int:
    """Bytes of all files below a directory; one with several names counts once."""
    sizes = {}
    for top, _, names in os.walk(directory):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(top, name))
                sizes[status.st_dev, status.st_ino] = min(status.st_size, status.st_blocks * _SECTOR)  # without holes
    return sum(sizes.values())


def trim(limit: int, keep: Iterable[Path] = ()) -> None:
    """Removes images and blobs, those that were used longest ago first, until all have `limit` bytes at most.

    What lies at or above one of `keep` stays, and what was used in the last minute: somebody is about to launch it.
    What cannot be removed is passed over.
    """
    import logging

    from singularity.console import VERBOSE

    logger = logging.getLogger(__name__)
    found = list(entries([each for each in TYPES.values() if each.counted in (CONTAINERS, BLOBS)]))
    total = sum(each.size for each in found)
    latest = time.time() - _RECENT
    used = tuple(keep)
    for each in sorted(found, key=lambda entry: entry.touched):
        if total <= limit:
            break
        if each.touched > latest or any(path == each.path or path.is_relative_to(each.path) for path in used):
            continue
        with suppress(FileError):
            if remove(each):
                total -= each.size
                logger.log(VERBOSE, "Removed from the cache, which is full: %s %s", each.type.name, each.name)
    forget_missing_blobs()


def forget_missing_blobs() -> None:
    """Names of images whose documents were removed are not known any more. Raises FileError."""
    place = paths.cache_place() / "blob"
    if (place / blob_names.INDEX).exists():
        from singularity.cache import blob_store

        blob_store.Store(place).forget_missing()


def remove(entry: CacheEntry) -> bool:
    """Removes an entry; False for one that a build uses, or that is just being made. Raises FileError."""
    if entry.layer:
        from singularity.cache import layer_store

        return layer_store.remove(entry.layer)
    try:
        if _is_locked(entry.path):
            return False
        if stat.S_ISDIR(entry.path.lstat().st_mode):
            files.remove_tree(entry.path)
        else:
            entry.path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        raise FileError.because(entry.path, error) from error
    return True


def _is_locked(path: Path) -> bool:
    """Whether a process is just fetching or making what is there."""
    for each in (path / image_names.MADE, path):
        try:
            fd = os.open(each, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            continue
        finally:
            os.close(fd)
    return False
