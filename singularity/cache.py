"""What is below the cache directory: by type, each entry with its size and age; and removing it.

A type is a directory: its entries are the files and directories in it, but for layers of builds, which `build.cache`
knows. Nothing is made by looking.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import files, paths
from singularity.build import cache as layers
from singularity.build.cache import Kept
from singularity.errors import FileError


@dataclass(frozen=True, slots=True, kw_only=True)
class Type:
    """A kind of entries."""

    name: str  # of the directory too
    about: str
    counted: str  # what its entries are counted as


CONTAINERS, BLOBS, LAYERS, PACKAGES = "container file", "oci blob file", "build layer", "package file"
TYPES = {
    each.name: each
    for each in (
        Type(name="library", about="images from libraries", counted=CONTAINERS),
        Type(name="oci-tmp", about="images made from OCI layers", counted=CONTAINERS),
        Type(name="shub", about="images from shub", counted=CONTAINERS),
        Type(name="oras", about="images from OCI registries", counted=CONTAINERS),
        Type(name="net", about="images from web servers", counted=CONTAINERS),
        Type(name="blob", about="OCI layers", counted=BLOBS),
        Type(name="archive", about="images made from archives that were launched", counted=CONTAINERS),
        Type(name="build", about="layers of builds", counted=LAYERS),
        Type(name="debootstrap", about="packages that debootstrap has downloaded", counted=PACKAGES),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheEntry:
    """One thing that can be removed by itself."""

    type: Type
    name: str
    path: Path
    size: int  # bytes
    used: float  # when it was made, or a build used it last, in seconds since 1970
    what: str = ""  # for people, where the name says nothing
    layer: Kept | None = None


def entries(types: list[Type]) -> Iterator[CacheEntry]:
    """The entries of these types, by type and name. Raises FileError."""
    for type_ in types:
        directory = paths.cache_place() / type_.name
        try:
            yield from _layers(type_, directory) if type_.counted == LAYERS else _files(type_, directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError.because(error.filename or directory, error) from error


def _layers(type_: Type, directory: Path) -> Iterator[CacheEntry]:
    for kept in layers.listing(directory):
        about = kept.about
        yield CacheEntry(
            type=type_,
            name=kept.key,
            path=kept.path,
            size=about.size if about else 0,
            used=kept.used,
            what=f"{about.definition}: {about.what}" if about else "cannot be used",
            layer=kept,
        )


def _files(type_: Type, directory: Path) -> Iterator[CacheEntry]:
    for path in sorted(directory.iterdir()):
        with suppress(FileNotFoundError):
            status = path.lstat()
            size = _size(path) if stat.S_ISDIR(status.st_mode) else status.st_size
            yield CacheEntry(type=type_, name=path.name, path=path, size=size, used=status.st_mtime)


def _size(directory: Path) -> int:
    return sum(os.lstat(os.path.join(top, name)).st_size for top, _, names in os.walk(directory) for name in names)


def remove(entry: CacheEntry) -> bool:
    """Removes an entry; False for one that a build uses. Raises FileError."""
    if entry.layer:
        return layers.remove(entry.layer)
    try:
        if stat.S_ISDIR(entry.path.lstat().st_mode):
            files.remove_tree(entry.path)
        else:
            entry.path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        raise FileError.because(entry.path, error) from error
    return True
