"""Images that are one file somewhere else, by their URIs; those that are made of layers are `oci`'s affair."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from singularity.cache import places as cache_places
from singularity.cache.places import Caches
from singularity.errors import ImageError
from singularity.sources import remote_file
from singularity.sources.fetch import Fetch
from singularity.sources.oci import admit
from singularity.sources.remote_file import RemoteFile
from singularity.transports import Transport
from singularity.uri import Uri


@contextmanager
def available(uri: Uri, fetch: Fetch, caches: Caches | None = None) -> Iterator[Path]:
    """The image file, in the cache or for the time being. Raises ImageError, FileError, NetworkError, RegistryError."""
    places = caches or cache_places.find(fetch.cache)
    with remote_file.available(locate(uri, fetch, places), fetch, places) as path:
        yield path


def locate(uri: Uri, fetch: Fetch, caches: Caches) -> RemoteFile:
    """Where the one file is that a URI means. Raises ImageError, NetworkError and RegistryError."""
    if uri.transport is not Transport.ORAS:
        admit(uri)
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
        case Transport.DOI:
            from singularity.sources import doi

            return doi.locate(uri.place, fetch)
        case Transport.HTTP | Transport.HTTPS:
            from singularity.sources import web

            return web.locate(uri.place, fetch)
        case _:
            raise ImageError(f"{uri}: no file, an image of layers")
