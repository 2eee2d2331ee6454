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


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file that was found, and has not been fetched yet."""

    kind: str  # the type of cache entries that it is
    key: str  # in the cache; empty where nobody could tell whether it has changed since: then it is not kept
    download: Download
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
                _fetch(remote, directory / "image")
                yield directory / "image"
            return
        work = f"fetches {remote.download.name}"
        path = image_store.have(place, remote.key, lambda path: _fetch(remote, path), work, public=caches.public)
        trim(caches, path)
        yield path
    finally:
        if remote.release:
            remote.release()


def _fetch(remote: RemoteFile, path: Path) -> None:
    download = remote.download
    size = f" ({console.size(download.size)})" if download.size is not None else ""
    logger.info("Fetching %s%s", download.name, size)
    arrived = path.with_name("arrived")
    with console.counting("fetching", download.size) as add:
        download.into(arrived, path.with_name(image_names.PARTIAL), mode=0o700, done=lambda: False, told=add)
    try:
        if remote.check:
            remote.check(arrived)
        arrived.chmod(0o777 & ~files.umask())
        arrived.rename(path)
    except ImageError:
        arrived.unlink(missing_ok=True)
        raise
