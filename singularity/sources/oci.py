"""Images that are made of layers: which one a URI means, and its layers to be read."""

import hashlib
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from singularity.cache.places import Caches, trim
from singularity.policy import places
from singularity.sources.fetch import Fetch
from singularity.transports import Transport
from singularity.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from singularity.oci.image import Image

_BLOBS = "blob"


class Found(NamedTuple):
    """An image that has been found, and not been read yet."""

    identity: str  # changes with what is in it
    opened: "Callable[[], AbstractContextManager[Image]]"


def find(uri: Uri, fetch: Fetch, caches: Caches) -> Found:
    """The image of a URI whose transport `is_oci`. Raises ImageError, FileError, NetworkError and RegistryError."""
    if uri.transport is not Transport.DOCKER:
        admit(uri)
    match uri.transport:
        case Transport.DOCKER:
            return _in_registry(uri, fetch, caches)
        case Transport.DOCKER_DAEMON:
            from singularity.sources import daemon

            name, address = daemon.name(uri.place), daemon.address(fetch.daemon)
            return Found(
                identity=daemon.identity(name, address),
                opened=lambda: daemon.opened(name, address, fetch.platform, fetch.scratch),
            )
        case _:
            from singularity.oci import local

            transport = uri.transport.value
            digest = local.identity(transport, uri.place, fetch.scratch)
            named = uri.place.rpartition("/")[2]
            return Found(
                identity=hashlib.sha256(f"{digest} {named}".encode("utf-8", "surrogateescape")).hexdigest(),
                opened=lambda: local.opened(transport, uri.place, fetch.platform, fetch.scratch),
            )


def admit(uri: Uri) -> None:
    """Returns where policies let in what a URI names, which is in no registry. Raises SignatureError."""
    policies = places.found()
    if policies:
        from singularity.policy import check

        check.admit_other(uri.transport.value, uri.place, policies)


def _in_registry(uri: Uri, fetch: Fetch, caches: Caches) -> Found:
    from singularity.registry import reference as references

    place = caches.place(_BLOBS)
    others = caches.elsewhere(_BLOBS)
    stores = [*([place] if place else []), *others]
    named = references.parse(uri.place)
    found = named
    if named.digest is None:  # else what is in the cache is found without any code that knows of networks
        from singularity.sources.resolved import resolved

        found = resolved(named, fetch.access, stores, offline=fetch.offline)
    if fetch.told is not None:
        fetch.told(str(found.digest))
    policies = places.found()
    if policies:
        from singularity.cache.blob_store import Store as BlobStore
        from singularity.policy import check
        from singularity.sources.docker import manifest

        blobs = BlobStore(place, others, public=caches.public) if place else None
        judged = partial(manifest, found, fetch.platform, fetch.access, blobs, fetch.scratch)
        check.admit(named, judged, fetch.access, policies)

    @contextmanager
    def opened() -> "Iterator[Image]":
        from singularity.cache.blob_store import Store
        from singularity.cache.packed_store import Store as PackedStore
        from singularity.image.squashfs import packer
        from singularity.sources import docker

        store = Store(place, others, public=caches.public) if place else None
        packed = PackedStore(fetch.packed, str(packer.form())) if fetch.packed is not None else None
        with docker.opened(
            found, fetch.platform, fetch.access, store, temporary=fetch.scratch, verify=fetch.verify, packed=packed
        ) as image:
            yield image
        if place:
            trim(caches, place)

    return Found(identity=str(found.digest), opened=opened)
