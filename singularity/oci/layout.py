"""OCI image layouts: a directory, or a tar archive of one (OCI image specification 1.1, `image-layout`)."""

from typing import BinaryIO

from singularity.content import document
from singularity.content.document import Descriptor, Index
from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.oci import choose, files, image
from singularity.oci.files import Files
from singularity.oci.image import Image
from singularity.oci.reference import Reference

_MARK, _INDEX = "oci-layout", "index.json"
_VERSION = "1."


class Layout:
    """The blobs of a layout, and the index of its images. Raises ImageError for what is no layout."""

    def __init__(self, place: Files) -> None:
        self.name = place.name
        self._place = place
        if not is_layout(place):
            raise ImageError(f"{self.name}: no OCI layout", hint=f"it lacks {_MARK} or {_INDEX}")
        mark = document.parse_object(files.read(place, _MARK, document.MANIFEST_LIMIT), f"{self.name}: {_MARK}")
        version = document.text(mark, "imageLayoutVersion", self.name)
        if not version.startswith(_VERSION):
            raise ImageError(f'{self.name}: an OCI layout of the unknown version "{version[:40]}"')

    def index(self) -> Index:
        """All images of the layout."""
        name = f"{self.name}: {_INDEX}"
        found = document.parse(files.read(self._place, _INDEX, document.MANIFEST_LIMIT), "", name)
        if not isinstance(found, Index):
            raise ImageError(f"{name}: a manifest, not an index")
        return found

    def open(self, descriptor: Descriptor) -> BinaryIO:
        """A blob of the layout."""
        path = f"blobs/{descriptor.digest.algorithm}/{descriptor.digest.digits}"
        if descriptor.has_urls and not self._place.has(path):
            what = f"{self.name}: {descriptor.digest.short} is to be had from its maker only"
            raise ImageError(what, hint="a foreign layer; nothing is fetched from there")
        return self._place.open(path)


def is_layout(place: Files) -> bool:
    """Whether the files are those of a layout."""
    return place.has(_MARK) and place.has(_INDEX)


def lists(place: Files) -> list[bytes]:
    """What all images of a layout follow from: its index, in which they stand by their digests."""
    Layout(place)
    return [files.read(place, _INDEX, document.MANIFEST_LIMIT)]


def find(place: Files, reference: Reference, wanted: Platform) -> Image:
    """The image that a reference means. Raises ImageError and FileError."""
    layout = Layout(place)
    candidates = image.images(layout.index(), reference.tag, reference.digest, layout.name)
    if reference.digest is not None:
        return image.find(layout, candidates[0], wanted)
    return image.find(layout, choose.by_platform(candidates, wanted, layout.name), wanted)
