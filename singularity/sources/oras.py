"""`oras://`: SIF files that are kept in registries as artifacts of one layer."""

import functools
from typing import TYPE_CHECKING, BinaryIO

from singularity.cache.blob_store import Store
from singularity.cache.places import Caches
from singularity.content import chunks, digest, document
from singularity.content.digest import Digest
from singularity.content.document import MANIFEST_LIMIT, Descriptor, Index, Manifest
from singularity.content.download import Download
from singularity.errors import ImageError
from singularity.oci import choose
from singularity.policy import places
from singularity.registry import reference as references
from singularity.registry.reference import Reference
from singularity.sources.fetch import Fetch
from singularity.sources.remote_file import InParts, RemoteFile, is_sif
from singularity.sources.resolved import resolved

if TYPE_CHECKING:
    from collections.abc import Callable

    from singularity.registry.client import Registry

_KIND = "oras"
_LAYERS = frozenset(("application/vnd.sylabs.sif.layer.v1.sif", "appliciation/vnd.sylabs.sif.layer.tar"))
_SINGLE = "ORAS SIF image should have a single layer"


def locate(place: str, fetch: Fetch, caches: Caches) -> RemoteFile:
    """The SIF file of a reference. Raises ImageError, NetworkError and RegistryError."""
    directory = caches.place("blob")
    others = caches.elsewhere("blob")
    store = Store(directory, others, public=caches.public) if directory else None
    stores = [*([directory] if directory else []), *others]
    named = references.parse(place)
    found = resolved(named, fetch.access, stores, offline=fetch.offline)
    manifest, layer = _layer(found, fetch, store)
    if fetch.told is not None:
        fetch.told(str(found.digest or manifest))
    policies = places.found()
    if policies:
        from singularity.policy import check

        check.admit(named, lambda: manifest, fetch.access, policies)

    @functools.cache
    def registry() -> "Registry":
        from singularity.registry.client import Registry

        return Registry(found.host, fetch.access)

    def open_(offset: int) -> BinaryIO:
        return registry().open_blob(found.repository, layer, offset)

    name = f"oras://{found}"
    download = Download(name=name, open=open_, size=layer.size, digest=layer.digest)
    key = f"{layer.digest.algorithm}.{layer.digest.digits}"
    parts = _in_parts(registry, found.repository, layer, name)
    return RemoteFile(kind=_KIND, key=key, download=download, parts=parts, check=is_sif(name))


def _in_parts(registry: "Callable[[], Registry]", repository: str, layer: Descriptor, name: str) -> InParts | None:
    """The manifest names the index of chunks, so that what vouches for the manifest vouches for the index too."""
    said, _, size = layer.annotations.get(chunks.ANNOTATION, "").partition(" ")
    if not said:
        return None

    def index(limit: int) -> bytes:
        named = digest.parse(said)
        count = int(size) if size.isascii() and size.isdecimal() and len(size) < 20 else limit + 1
        if count > limit:
            raise ImageError(f"{name}: an index of chunks of an impossible size")
        blob = Descriptor(media_type=chunks.MEDIA_TYPE, digest=named, size=count)
        with registry().open_blob(repository, blob) as file:
            data = file.read()
        if not named.names(data):
            raise ImageError(f"{name}: its index of chunks is not what {named.short} names", hint="damaged?")
        return data

    def part(offset: int, count: int) -> bytes:
        return registry().blob_part(repository, layer, offset, count)

    return InParts(index, part)


def _layer(found: Reference, fetch: Fetch, store: Store | None) -> tuple[Digest, Descriptor]:
    """The artifact's manifest, and its one layer; in an index, those for the machine that is wanted."""
    name = f"oras://{found}"
    named = found
    for _ in range(2):
        data = _document(named, fetch, store)
        document_ = document.parse(data, "", name)
        if isinstance(document_, Manifest):
            return named.digest or digest.of(data), _only_layer(document_, name)
        named = _of_index(document_, named, fetch, name)
    raise ImageError(f"{name}: an index in an index")


def _of_index(index: Index, found: Reference, fetch: Fetch, name: str) -> Reference:
    chosen = choose.by_platform(index.manifests, fetch.platform, name)
    return found._replace(tag="", digest=chosen.digest)


def _document(found: Reference, fetch: Fetch, store: Store | None) -> bytes:
    digest = found.digest
    data = store.read(digest, MANIFEST_LIMIT) if store and digest else None
    if data is not None:
        return data
    from singularity.registry.client import Registry

    answer = Registry(found.host, fetch.access).manifest(found)
    if store and answer.digest.algorithm == "sha256":
        store.put(answer.data)
        if found.tag:
            name = str(found._replace(digest=None))
            store.note(name, answer.digest, answer.media_type, len(answer.data), answer.source)
    return answer.data


def _only_layer(manifest: Manifest, name: str) -> Descriptor:
    if len(manifest.layers) != 1:
        layers = any(each.is_layer for each in manifest.layers)
        hint = f"docker://{name.removeprefix('oras://')} is for images of layers" if layers else ""
        raise ImageError(f"{name}: {_SINGLE}, and this has {len(manifest.layers)}", hint=hint)
    (layer,) = manifest.layers
    if layer.media_type not in _LAYERS:
        hint = "an image of layers: docker:// is for those" if layer.is_layer else ""
        raise ImageError(f'{name}: no SIF image, but "{layer.media_type[:100]}"', hint=hint)
    return layer
