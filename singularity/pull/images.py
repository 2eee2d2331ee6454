"""A URI becomes an image file that can be launched: made or fetched once, and kept in the cache."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from singularity import files
from singularity.cache import image_store, packed_store
from singularity.cache import places as cache_places
from singularity.cache.places import Caches
from singularity.console import VERBOSE
from singularity.sources import oci
from singularity.sources.fetch import Fetch
from singularity.sources.oci import Found
from singularity.uri import Uri

logger = logging.getLogger(__name__)

_FORMAT = "1"  # of what is made; another number makes everything anew
_CONVERTED = "oci-tmp"


@contextmanager
def available(uri: Uri, fetch: Fetch, caches: Caches | None = None, *, beside: Path | None = None) -> Iterator[Path]:
    """An image file of what a URI names: in the cache, or for the time being, `beside` another one where that is said.

    Raises ImageError, FileError, ToolError, NetworkError and RegistryError.
    """
    places = caches or cache_places.find(fetch.cache)
    if not uri.transport.is_oci:
        from singularity.sources import images

        with images.available(uri, fetch, places) as path:
            yield path
        return
    packed = None if places.public else places.place(packed_store.PLACE)  # of use to their owner only
    found = oci.find(uri, fetch._replace(packed=packed), places)
    place, key = places.place(_CONVERTED), _key(found, fetch)
    kept = converted(found, fetch, places)
    if kept is not None:
        logger.log(VERBOSE, "%s: using the image in the cache, %s", uri, kept)
        yield kept
    elif place is not None:
        work = f"makes an image of {uri}"
        path = image_store.have(
            place, key, lambda path: _convert(found, uri, fetch, path, packed), work, public=places.public
        )  # fmt: skip
        cache_places.trim(places, path)
        yield path
    else:
        with files.temporary_directory(beside or fetch.scratch) as directory:
            path = directory / uri.file_name
            _convert(found, uri, fetch, path, packed)
            yield path


def converted(found: Found, fetch: Fetch, places: Caches) -> Path | None:
    """The image that was made of layers before; None where there is none."""
    return image_store.find(
        places.place(_CONVERTED), _key(found, fetch), places.elsewhere(_CONVERTED), verify=fetch.verify
    )  # fmt: skip


def _key(found: Found, fetch: Fetch) -> str:
    return hashlib.sha256(f"{_FORMAT} {found.identity} {fetch.platform}".encode()).hexdigest()


def _convert(found: Found, uri: Uri, fetch: Fetch, target: Path, packed: Path | None) -> None:
    from singularity.build import convert
    from singularity.build.request import BuildRequest
    from singularity.sources.docker import DamagedError

    logger.info("Making an image of %s", uri)
    request = BuildRequest(
        target=target, source=str(uri), overwrite=True, temporary=fetch.scratch, architecture=fetch.architecture
    )
    try:
        with found.opened() as image:
            convert.convert_oci(image, request, packed=packed)
    except DamagedError as error:
        logger.warning("%s: it is fetched again", error)
        with found.opened() as image:
            convert.convert_oci(image, request, packed=packed)
