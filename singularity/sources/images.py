"""A URI becomes an image file that can be launched: made or fetched once, and kept in the cache."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from singularity import files
from singularity.cache import image_store
from singularity.console import VERBOSE
from singularity.errors import ImageError
from singularity.cache import places as cache_places
from singularity.sources import oci
from singularity.cache.places import Caches
from singularity.sources.fetch import Fetch
from singularity.sources.oci import Found
from singularity.uri import Transport, Uri

if TYPE_CHECKING:
    from singularity.sources.remote_file import Whole

logger = logging.getLogger(__name__)

_FORMAT = "1"  # of what is made; another number makes everything anew
_CONVERTED = "oci-tmp"


@contextmanager
def available(uri: Uri, fetch: Fetch, caches: Caches | None = None, *, beside: Path | None = None) -> Iterator[Path]:
    """An image file of what a URI names: in the cache, or for the time being, `beside` another one where that is said.

    Raises ImageError, FileError, ToolError, NetworkError and RegistryError.
    """
    places = caches or cache_places.find(fetch)
    if uri.transport.is_oci:
        found = oci.find(uri, fetch, places)
        place, key = places.place(_CONVERTED), _key(found, fetch)
        path = converted(found, fetch, places)
        if path is not None:
            logger.log(VERBOSE, "%s: using the image in the cache, %s", uri, path)
            yield path
        elif place is not None:
            work = f"makes an image of {uri}"
            path = image_store.have(
                place, key, lambda path: _convert(found, uri, fetch, path), work, public=places.public
            )  # fmt: skip
            cache_places.trim(places, path)
            yield path
        else:
            with files.temporary_directory(beside or fetch.scratch) as directory:
                path = directory / uri.file_name
                _convert(found, uri, fetch, path)
                yield path
        return
    from singularity.sources import remote_file

    with remote_file.available(locate(uri, fetch, places), fetch, places) as path:
        yield path


def converted(found: Found, fetch: Fetch, places: Caches) -> Path | None:
    """The image that was made of layers before; None where there is none."""
    return image_store.find(
        places.place(_CONVERTED), _key(found, fetch), places.elsewhere(_CONVERTED), verify=fetch.verify
    )  # fmt: skip


def is_kept(path: Path) -> bool:
    """Whether an image stays when the command ends."""
    return image_store.whole(path.parent) is not None


def locate(uri: Uri, fetch: Fetch, caches: Caches) -> "Whole":
    """Where the one file is that a URI means. Raises ImageError, NetworkError and RegistryError."""
    match uri.transport:
        case Transport.ORAS:
            from singularity.sources import oras

            return oras.locate(uri.place, fetch, caches)
        case Transport.LIBRARY:
            from singularity.sources import library

            return library.locate(uri.place, fetch)
        case Transport.SHUB:
            from singularity.sources import shub

            return shub.locate(uri.place, fetch)
        case Transport.HTTP | Transport.HTTPS:
            from singularity.sources import web

            return web.locate(uri.place, fetch)
        case _:
            raise ImageError(f"{uri}: no file, an image of layers")


def _key(found: Found, fetch: Fetch) -> str:
    return hashlib.sha256(f"{_FORMAT} {found.identity} {fetch.platform}".encode()).hexdigest()


def _convert(found: Found, uri: Uri, fetch: Fetch, target: Path) -> None:
    from singularity.build import convert
    from singularity.build.request import BuildRequest
    from singularity.sources.docker import DamagedError

    logger.info("Making an image of %s", uri)
    request = BuildRequest(
        target=target, source=str(uri), overwrite=True, temporary=fetch.scratch, architecture=fetch.architecture
    )
    try:
        with found.opened() as image:
            convert.convert_oci(image, request)
    except DamagedError as error:
        logger.warning("%s: it is fetched again", error)
        with found.opened() as image:
            convert.convert_oci(image, request)
