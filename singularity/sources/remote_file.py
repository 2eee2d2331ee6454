"""Images that are one file somewhere else: fetched into the cache once."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from singularity import console, files
from singularity.cache import image_names, image_store
from singularity.cache.places import Caches, trim
from singularity.content.download import Download
from singularity.errors import ImageError
from singularity.image.identify import Format, identify
from singularity.sources.fetch import Fetch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class InParts:
    """How a file is had in parts, where its server can do that and has an index of its chunks."""

    index: Callable[[int], bytes]  # of so many bytes at most; raises as `part`, and ImageError
    part: Callable[[int, int], bytes]  # offset and size; raises NetworkError, and RegistryError where there are none


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file that was found, and has not been fetched yet."""

    kind: str  # the type of cache entries that it is
    key: str  # in the cache; empty where nobody could tell whether it has changed since: then it is not kept
    download: Download
    parts: InParts | None = None
    check: Callable[[Path], None] | None = None  # raises ImageError for what is not the image
    release: Callable[[], None] | None = None  # closes what was opened to find it


def is_sif(name: str) -> Callable[[Path], None]:
    """A check that raises ImageError for what is no SIF file."""

    def check(path: Path) -> None:
        try:
            is_sif_file = identify(path).format is Format.SIF
        except ImageError as error:
            raise ImageError(f"{name}: no SIF file: {str(error).removeprefix(f'{path}: ')}") from error
        if not is_sif_file:
            raise ImageError(f"{name}: no SIF file")

    return check


@contextmanager
def available(remote: RemoteFile, fetch: Fetch, caches: Caches) -> Iterator[Path]:
    """The file, in the cache or for the time being. Raises ImageError, FileError, NetworkError and RegistryError."""
    place = caches.place(remote.kind) if remote.key else None
    try:
        if remote.key:
            found = image_store.find(place, remote.key, caches.elsewhere(remote.kind), verify=fetch.verify)
            if found is not None:
                yield found
                return
        if place is None:
            with files.temporary_directory(fetch.scratch) as directory:
                _fetch(remote, directory / "image", caches)
                yield directory / "image"
            return
        work = f"fetches {remote.download.name}"

        def make(path: Path) -> None:
            _fetch(remote, path, caches)

        path = image_store.have(place, remote.key, make, work, public=caches.public)
        trim(caches, path)
        yield path
    finally:
        if remote.release:
            remote.release()


def _fetch(remote: RemoteFile, path: Path, caches: Caches) -> None:
    arrived = path.with_name("arrived")
    if remote.parts is None or not _fetch_missing(remote, remote.parts, arrived, caches):
        size = f" ({console.size(remote.download.size)})" if remote.download.size is not None else ""
        logger.info("Fetching %s%s", remote.download.name, size)
        fetch_into(arrived, remote.download)
    try:
        if remote.check:
            remote.check(arrived)
        arrived.chmod(0o777 & ~files.umask())
        arrived.rename(path)
    except ImageError:
        arrived.unlink(missing_ok=True)
        raise


def _fetch_missing(remote: RemoteFile, parts: InParts, arrived: Path, caches: Caches) -> bool:
    from singularity.sources import in_parts

    return in_parts.fetch(remote.download, parts, arrived, caches)


def fetch_into(arrived: Path, download: Download) -> None:
    """Brings a file, or what is missing of it since an earlier time. Raises as `Download.into`."""
    with console.counting("fetching", download.size) as add:
        partial = arrived.with_name(image_names.PARTIAL)
        download.into(arrived, partial, mode=0o700, done=lambda: False, told=add)
