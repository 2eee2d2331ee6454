"""One image as far as it must be known to be used: configuration and layers, wherever they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from singularity.content import document
from singularity.content.digest import Checked, Digest
from singularity.content.document import Config, Descriptor, Index, Manifest
from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.image.origin import Origin
from singularity.oci import choose

_NESTING_LIMIT = 4  # indexes in indexes
_NO_LAYERS = "no extractable OCI/Docker tar layers found in this image"


class Blobs(Protocol):
    """Where blobs come from: a layout, an archive, a registry."""

    name: str

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """The bytes of a blob, not checked; the caller closes it. Raises ImageError where it is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer; `open` gives its bytes as they are stored, checked while they are read."""

    name: str  # for messages
    content: Digest  # of the tar archive, uncompressed
    stored: Digest | None = None  # of the blob, where there is one
    size: int | None = None  # bytes that are stored, where somebody has said it
    open: Callable[[], Checked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What is unpacked; the lowest layer first."""

    name: str
    digest: Digest  # of the manifest, or of the configuration where there is no manifest
    config: Config
    layers: tuple[Layer, ...]
    origin: Origin | None = None  # for one of a registry

    @property
    def size(self) -> int | None:
        """The bytes that are stored of all layers; None where that is not known."""
        sizes = [each.size for each in self.layers if each.size is not None]
        return sum(sizes) if len(sizes) == len(self.layers) else None

    def told(self, told: Callable[[int], object]) -> "Image":
        """The same image; `told` hears of each number of stored bytes that are read of its layers."""

        def opener(layer: Layer) -> Callable[[], Checked]:
            def open_() -> Checked:
                checked = layer.open()
                checked.told = told
                return checked

            return open_

        return replace(self, layers=tuple(replace(each, open=opener(each)) for each in self.layers))


def find(blobs: Blobs, start: Descriptor, wanted: Platform) -> Image:
    """The image that a descriptor leads to, through indexes where it must be. Raises ImageError and FileError."""
    current = start
    for _ in range(_NESTING_LIMIT):
        found = document.parse(
            read_blob(blobs, current, document.MANIFEST_LIMIT), current.media_type, _name(blobs, current)
        )
        if isinstance(found, Manifest):
            return _image(blobs, current, found, wanted)
        current = choose.by_platform(found.manifests, wanted, blobs.name)
    raise ImageError(f"{blobs.name}: indexes in indexes without an end")


def read_blob(blobs: Blobs, descriptor: Descriptor, limit: int) -> bytes:
    """A small blob, whole and checked."""
    name = _name(blobs, descriptor)
    if descriptor.size > limit:
        raise ImageError(f"{name}: {descriptor.size} bytes, more than the {limit} that such a document may have")
    checked = Checked(blobs.open(descriptor), descriptor.digest, name, descriptor.size)
    try:
        return checked.read()
    finally:
        checked.close()


def images(index: Index, tag: str, wanted: Digest | None, name: str) -> list[Descriptor]:
    """Those of a layout that a reference may mean. Raises ImageError when there is none."""
    if wanted is None:
        return choose.by_tag(index, tag, name)
    found = [each for each in index.manifests if each.digest == wanted]
    if not found:
        raise ImageError(f"{name}: no image {wanted} in it")
    return found[:1]


def check_platform(config: Config, wanted: Platform, name: str) -> None:
    """Raises ImageError for an image whose programs do not run here."""
    has = config.platform
    if has.os not in ("", wanted.os):
        raise ImageError(f"{name}: an image for {has.os}, not for {wanted.os}")
    if has.architecture not in ("", wanted.architecture):
        raise ImageError(f"{name}: an image for {has.architecture}, not for {wanted.architecture}")


def _image(blobs: Blobs, descriptor: Descriptor, manifest: Manifest, wanted: Platform) -> Image:
    stored = [each for each in manifest.layers if each.is_layer]
    if not stored:
        hint = "a SIF image: it is pulled with oras://" if any("sif" in e.media_type for e in manifest.layers) else ""
        raise ImageError(f"{_name(blobs, descriptor)}: {_NO_LAYERS}", hint=hint)
    unknown = [each.media_type for each in manifest.layers if not each.is_layer]
    if unknown:
        raise ImageError(f'{_name(blobs, descriptor)}: a layer of the unknown type "{unknown[0][:100]}"')
    name = _name(blobs, manifest.config)
    config = document.parse_config(read_blob(blobs, manifest.config, document.CONFIG_LIMIT), name)
    check_platform(config, wanted, _name(blobs, descriptor))
    check_layers(config, len(stored), name)
    layers = tuple(
        Layer(name=_name(blobs, each), content=content, stored=each.digest, size=each.size, open=_opener(blobs, each))
        for each, content in zip(stored, config.diff_ids, strict=True)
    )
    return Image(name=blobs.name, digest=descriptor.digest, config=config, layers=layers)


def check_layers(config: Config, count: int, name: str) -> None:
    """Raises ImageError when the configuration speaks of other layers than there are."""
    if len(config.diff_ids) != count:
        raise ImageError(f"{name}: speaks of {len(config.diff_ids)} layers, but there are {count}")


def _opener(blobs: Blobs, descriptor: Descriptor) -> Callable[[], Checked]:
    def open_() -> Checked:
        return Checked(blobs.open(descriptor), descriptor.digest, _name(blobs, descriptor), descriptor.size)

    return open_


def _name(blobs: Blobs, descriptor: Descriptor) -> str:
    return f"{blobs.name}: {descriptor.digest.short}"
