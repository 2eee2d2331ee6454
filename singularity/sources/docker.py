"""Images in registries: what is missing of them is fetched while it is read, a few layers at the same time."""

import logging
import os
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Self

from singularity import console, files, paths
from singularity.cache.blob_store import Store
from singularity.cache.packed_store import Store as PackedStore
from singularity.console import VERBOSE
from singularity.content import document
from singularity.content.digest import Digest
from singularity.content.document import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES, Descriptor, Manifest
from singularity.content.platform import Platform
from singularity.errors import ImageError, NetworkError, RegistryError
from singularity.image.origin import Origin
from singularity.oci import image
from singularity.oci.image import Image
from singularity.registry.access import Access
from singularity.registry.reference import Reference
from singularity.sources.resolved import resolved

logger = logging.getLogger(__name__)

_AT_ONCE = 3  # layers
_SMALL = 1 << 20  # bytes of a blob that is checked before it is handed out
_DOCUMENTS = INDEX_TYPES | MANIFEST_TYPES


class DamagedError(ImageError):
    """A layer in the cache is not what it is called. It is not used again: another attempt fetches it."""


@contextmanager
def opened(
    reference: Reference,
    wanted: Platform,
    access: Access,
    store: Store | None,
    *,
    temporary: Path | None = None,
    verify: bool = False,
    packed: PackedStore | None = None,
) -> Iterator[Image]:
    """The image that a reference means, for as long as its layers are read.

    What `store` has is not fetched, nor what `packed` has, and what is fetched is there afterwards; without a store it
    is kept below `temporary` for the time being. With `verify` layers in the store are read first, and damaged ones are
    fetched again
    without anything having been made of them; else they are noticed when they are used. Raises ImageError, FileError,
    NetworkError and RegistryError.
    """
    if store is None:
        with files.temporary_directory(temporary or paths.temporary()) as directory:
            with opened(reference, wanted, access, Store(directory / "blob"), packed=packed) as found:
                yield found
            return
    blobs = _Remote(resolved(reference, access, [store.directory]), access, store)
    found = blobs.image(wanted)
    layers = [each for each in blobs.layers(found.digest) if each.is_layer]
    if verify and (count := store.drop_damaged(each.digest for each in layers)):
        logger.warning("%s: damaged layers in the cache: %d, fetched again", reference, count)
    known = () if packed is None or verify else (each for each in found.layers if packed.find(each.content) is not None)
    with _Fetching(blobs, layers, frozenset(each.stored for each in known)) as fetching:
        blobs.fetching = fetching
        try:
            yield found
        except ImageError as error:
            if store.drop_damaged(each.digest for each in layers):
                raise DamagedError(f"{error}; its layer in the cache was damaged") from error
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """An image of which only the documents are here."""

    image: Image
    layers: tuple[Descriptor, ...]  # as many as the image has, the lowest first
    blobs: "_Remote"

    def ranges(self, descriptor: Descriptor) -> "Ranges":
        """The bytes of a layer, in the parts that are asked for."""
        return Ranges(self.blobs, descriptor)


def in_parts(reference: Reference, wanted: Platform, access: Access, store: Store) -> Partial:
    """The image that a reference with a digest means, none of whose layers is fetched.

    Raises ImageError, FileError, NetworkError and RegistryError.
    """
    blobs = _Remote(reference, access, store)
    found = blobs.image(wanted)
    layers = tuple(each for each in blobs.layers(found.digest) if each.is_layer)
    return Partial(image=found, layers=layers, blobs=blobs)


def manifest(reference: Reference, wanted: Platform, access: Access, store: Store | None, temporary: Path) -> Digest:
    """The digest of the manifest that a reference with a digest means for a platform: of it, or of one in its index.

    Raises as `opened`.
    """
    if store is None:
        with files.temporary_directory(temporary) as directory:
            return manifest(reference, wanted, access, Store(directory / "blob"), temporary)
    return _Remote(reference, access, store).image(wanted).digest


class Ranges:
    """The bytes of a layer: of the store where it is there, else of the registry. They are not checked."""

    def __init__(self, blobs: "_Remote", descriptor: Descriptor) -> None:
        self._blobs, self._descriptor = blobs, descriptor
        self._path = blobs.store.find(descriptor.digest, descriptor.size)

    def fetch(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises ImageError for those that are not there, NetworkError and RegistryError."""
        if not 0 <= offset <= offset + size <= self._descriptor.size:
            raise ImageError(f"{self._blobs.name}: {self._descriptor.digest.short}: a part that is not in it")
        if self._path is not None:
            with suppress(OSError), self._path.open("rb") as file:
                data = os.pread(file.fileno(), size, offset)
                if len(data) == size:
                    return data
        return self._blobs.registry.blob_part(self._blobs.reference.repository, self._descriptor, offset, size)


class _Remote:
    """The blobs of a repository, by way of a store."""

    def __init__(self, reference: Reference, access: Access, store: Store) -> None:
        from singularity.registry.client import Registry

        self.name = str(reference)
        self.short_name = str(reference._replace(digest=None)) if reference.tag else self.name
        self.reference = reference
        self.store = store
        self.registry = Registry(reference.host, access)
        self.fetching: _Fetching | None = None

    def image(self, wanted: Platform) -> Image:
        """The image that the reference means, and where it came from."""
        start = self.start()
        found = image.find(self, start, wanted)
        source = self.store.source(start.digest)
        return replace(found, origin=Origin(name=self.short_name, digest=str(start.digest), place=source))

    def start(self) -> Descriptor:
        """The document that the reference names, which is in the store then, under its name too."""
        digest = self.reference.digest
        if digest is None:
            raise ImageError(f"{self.name}: no digest")
        data = self.store.read(digest, MANIFEST_LIMIT)
        media_type = source = ""
        if data is None:
            found = self.registry.manifest(self.reference)
            data, media_type, source = found.data, found.media_type, found.source
            self.keep(digest, data)
        if self.reference.tag or source:
            said = document.parse_object(data, self.name)
            media_type = media_type or document.text(said, "mediaType", self.name)
            self.store.note(self.short_name, digest, media_type, len(data), source or self.store.source(digest))
        return Descriptor(media_type=media_type if media_type in _DOCUMENTS else "", digest=digest, size=len(data))

    def keep(self, digest: Digest, data: bytes) -> None:
        if digest.algorithm == "sha256":
            self.store.put(data)

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """A blob, from the store when it is there or can be brought there."""
        if self.fetching is not None:
            self.fetching.wait_for(descriptor)
        if descriptor.size <= _SMALL:
            data = self.store.read(descriptor.digest, descriptor.size)
            file: BinaryIO | None = BytesIO(data) if data is not None else None
        else:
            file = self.store.open(descriptor.digest, descriptor.size)
        if file is not None:
            return file
        if descriptor.media_type in _DOCUMENTS or descriptor.digest == self.reference.digest:
            found = self.registry.manifest(self.reference._replace(tag="", digest=descriptor.digest))
            self.keep(descriptor.digest, found.data)
            return BytesIO(found.data)
        return self.fetch(descriptor, _nobody).open("rb")

    def fetch(self, descriptor: Descriptor, told: "_Told") -> Path:
        """The file of a blob."""

        def open_(offset: int) -> BinaryIO:
            logger.log(VERBOSE, "Fetching %s from %s, from byte %d on", descriptor.digest, self.name, offset)
            try:
                return told.stoppable(self.registry.open_blob(self.reference.repository, descriptor, offset))
            except RegistryError as error:
                if not descriptor.has_urls:
                    raise
                what = f"{self.name}: {descriptor.digest.short} is to be had from its maker only"
                raise ImageError(what, hint="a foreign layer; nothing is fetched from there") from error

        return self.store.fetch(descriptor, open_, f"{self.name}: {descriptor.digest.short}", told.come)

    def layers(self, digest: Digest) -> Sequence[Descriptor]:
        data = self.store.read(digest, MANIFEST_LIMIT)
        found = document.parse(data, "", self.name) if data is not None else None
        return found.layers if isinstance(found, Manifest) else ()


class _Told:
    """Counts what comes, for all threads, and lets none go on when nobody waits any more."""

    def __init__(self) -> None:
        self.count = 0
        self.stopped = False
        self._lock = threading.Lock()

    def come(self, count: int) -> None:
        with self._lock:
            self.count += count

    def stoppable(self, stream: BinaryIO) -> BinaryIO:
        return _Stoppable(stream, self)  # type: ignore[return-value]  # read and close are all that is used


_nobody = _Told()


class _Stoppable:
    def __init__(self, stream: BinaryIO, told: _Told) -> None:
        self._stream = stream
        self._told = told

    def read(self, size: int = -1) -> bytes:
        if self._told.stopped:
            raise NetworkError("not needed any more")
        return self._stream.read(size)

    def close(self) -> None:
        self._stream.close()


class _Fetching:
    """Layers on their way, the lowest first, a few at a time; who wants one waits for that one only."""

    def __init__(self, blobs: _Remote, layers: Sequence[Descriptor], known: Collection[Digest | None]) -> None:
        self._blobs = blobs
        unknown = [each for each in layers if each.digest not in known]
        missing = [each for each in unknown if blobs.store.find(each.digest, each.size) is None]
        self._waiting = list(dict.fromkeys(each.digest for each in missing))
        self._by_digest = {each.digest: each for each in missing}
        self._ended = {digest: threading.Event() for digest in self._waiting}
        self._failed: dict[Digest, BaseException] = {}
        self._lock = threading.Lock()
        self._told = _Told()
        self._size = sum(each.size for each in self._by_digest.values())
        self._meter = console.Meter(self._size)
        self._threads: list[threading.Thread] = []
        self._count = len(layers)

    def __enter__(self) -> Self:
        if self._waiting:
            text = "Fetching %s: %d of %d layers, %s"
            logger.info(text, self._blobs.name, len(self._waiting), self._count, console.size(self._size))
        for _ in range(min(_AT_ONCE, len(self._waiting))):
            thread = threading.Thread(target=self._work, daemon=True)  # one that hangs must not keep us
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(self, *about: object) -> None:
        self._told.stopped = True
        with self._lock:
            self._waiting.clear()
        for thread in self._threads:
            thread.join(timeout=0.5)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                digest = self._waiting.pop(0)
            try:
                self._blobs.fetch(self._by_digest[digest], self._told)
            except BaseException as error:  # told to whoever waits for this layer
                self._failed[digest] = error
            finally:
                self._ended[digest].set()

    def wait_for(self, descriptor: Descriptor) -> None:
        """Returns when a layer is there. Raises what fetching it has raised."""
        ended = self._ended.get(descriptor.digest)
        if ended is None:
            return
        with nullcontext() if ended.is_set() else console.progress() as show:
            while not ended.wait(timeout=0.2):
                if show is not None:
                    self._meter.shown(show, "fetching", self._told.count)
        error = self._failed.get(descriptor.digest)
        if error is not None:
            raise error
