"""From a URI to a file that can be launched before its bytes are there; or the reason why it must be fetched whole."""

import hashlib
import logging
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from singularity import __version__, files, paths
from singularity.cache import image_names, image_store
from singularity.cache import places as cache_places
from singularity.cache.places import Caches
from singularity.console import VERBOSE
from singularity.errors import FileError, ImageError, RegistryError
from singularity.lazy.image import LazyFile, Source
from singularity.sources.fetch import Fetch
from singularity.transports import Transport
from singularity.uri import Uri

if TYPE_CHECKING:
    from singularity.sources.docker import Partial

logger = logging.getLogger(__name__)

KIND, _NET = "lazy", "net"  # types of entries of the cache
_NO_CACHE = "there is no cache for what comes"
_TIME = "time"  # of the first launch: what says when the image was made must be the same each time


def launchable(uri: Uri, fetch: Fetch) -> Path | None:
    """The file to be launched, by which its bytes are fetched as they are read; None when it cannot be had so.

    The reason is told in one line. Raises NetworkError and RegistryError, ImageError and FileError.
    """
    try:
        places = cache_places.find(fetch.cache)
        if uri.transport.is_web:
            return _of_web(uri, fetch, places)
        if uri.transport is Transport.DOCKER:
            return _of_registry(uri, fetch, places)
        raise _WholeError("only images of registries and web servers can be read in parts")
    except _WholeError as error:
        logger.info("%s is fetched whole: %s", uri, error)
    return None


class _WholeError(Exception):
    """Why an image must be fetched whole."""


def _of_web(uri: Uri, fetch: Fetch, places: Caches) -> Path:
    from singularity.lazy.web import WebSource

    source = WebSource(uri.place)
    place = places.place(_NET)
    if place is None:
        raise _WholeError(_NO_CACHE)
    if not source.key:
        raise _WholeError("its server does not say when it changes")
    found = image_store.find(place, source.key, places.elsewhere(_NET), verify=fetch.verify)
    if found is not None:
        return found
    try:
        if not source.is_mountable():
            raise _WholeError("no SIF or squashfs file")
    except RegistryError as error:
        raise _WholeError(str(error)) from error
    return _shown(source, image_store.begin(place, source.key), uri)


def _of_registry(uri: Uri, fetch: Fetch, places: Caches) -> Path:
    from singularity.cache.blob_store import Store
    from singularity.content import digest
    from singularity.lazy import toc
    from singularity.pull import images
    from singularity.registry import reference as references
    from singularity.sources import docker, oci

    blobs, place = places.place("blob"), places.place(KIND)
    if blobs is None or place is None:
        raise _WholeError(_NO_CACHE)
    found = oci.find(uri, fetch, places)
    made = images.converted(found, fetch, places)
    if made is not None:
        return made
    named = references.parse(uri.place)._replace(digest=digest.parse(found.identity))
    store = Store(blobs, places.elsewhere("blob"), public=places.public)
    partial = docker.in_parts(named, fetch.platform, fetch.access, store)
    missing = [each for each in partial.layers if not toc.is_lazy(each)]
    if missing:
        raise _WholeError(f"{len(missing)} of its {len(partial.layers)} layers have no table of contents")
    key = hashlib.sha256(f"{__version__} {partial.image.digest} {fetch.platform}".encode()).hexdigest()
    path = image_store.find(place, key, verify=fetch.verify)
    if path is not None:
        return path
    path = image_store.begin(place, key)
    try:
        source = _layered(partial, uri, fetch, _time(_place(path)))
    except (ImageError, RegistryError) as error:
        raise _WholeError(str(error)) from error
    return _shown(source, path, uri)


def _layered(partial: "Partial", uri: Uri, fetch: Fetch, time_: int) -> Source:
    """The squashfs that the image would be."""
    from singularity.build import platform_files, streaming
    from singularity.build.request import SECTIONS
    from singularity.definition import source
    from singularity.image.root import Root
    from singularity.lazy import layers, toc
    from singularity.oci import container

    config = partial.image.config
    tables = {
        layer.name: toc.read(partial.ranges(descriptor), descriptor, layer.name)
        for layer, descriptor in zip(partial.image.layers, partial.layers, strict=True)
    }
    facts = platform_files.Facts(
        architecture=config.platform.architecture or fetch.platform.architecture,
        time=time_,
        overwrite=False,
        sections=SECTIONS,
    )

    def complete(root: Root) -> None:
        container.write(root, partial.image)
        definition = source.read(str(uri), {}, unused_allowed=True)
        platform_files.write(root, definition, definition.stages[-1], facts)

    with files.temporary_directory(fetch.scratch) as directory:
        held = directory / "held"
        held.mkdir()
        tree = streaming.completed(layers.merged(partial.image, tables), held, complete, zones=False)
        return layers.LayeredSource(tree, f"{__version__} {partial.image.digest} {time_}")


def _time(directory: Path) -> int:
    """When the image was launched first, in seconds since 1970."""
    path = directory / _TIME
    with suppress(OSError, ValueError):
        return int(path.read_text(encoding="ascii"))
    now = int(time.time())
    with FileError.about(path):
        path.write_text(str(now), encoding="ascii")
    return now


def _shown(source: Source, path: Path, uri: Uri) -> Path:
    from singularity.lazy import server

    place = _place(path)
    lazy = LazyFile(source, path, place / "map")
    logger.log(VERBOSE, "%s: %d of %d bytes are there", uri, lazy.fetched_bytes, lazy.size)
    mounted = paths.private(place / "mounted")
    return server.shown(lazy, uri.file_name, mounted)


def _place(path: Path) -> Path:
    """Where what is known of an image stands while it comes."""
    return paths.private(path.parent / image_names.LAZY)
