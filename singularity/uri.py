"""Names of images with a transport before them: `docker://debian`, `oras://HOST/NAME:TAG`, `https://HOST/x.sif`."""

import re
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from singularity.errors import ImageError
from singularity.transports import BY_NAME, Transport, fault

_UNSAFE = re.compile(r"[\x00-\x1f/\x7f]")


class Uri(NamedTuple):
    """An image that is named by its transport and a place in the words of that."""

    transport: Transport
    place: str  # what stands after `docker://`, `oci:`; a whole URL for http and https
    text: str  # as it was typed

    def __str__(self) -> str:
        return self.text

    @property
    def file_name(self) -> str:
        """What `pull` calls the file: the last part of the name, and the tag; on web servers as it is there."""
        last = _UNSAFE.sub("_", self.place.rstrip("/").rpartition("/")[2])
        if self.transport.is_web:
            last = unquote(urlsplit(self.place).path).rstrip("/").rpartition("/")[2]
            return _UNSAFE.sub("_", last) or "image.sif"
        if self.transport is Transport.DOI:
            return (
                last if self.place.strip("/").count("/") > 1 else f"{last}.sif"
            )  # a file of the record, or its only image
        name, at, digest = last.partition("@")
        if ":" in name or not at:
            name, _, tag = name.partition(":")
            return f"{name}_{tag or 'latest'}.sif"
        return f"{name}@{digest.replace(':', '_')}.sif"


def parse(text: str) -> Uri | None:
    """The URI that a text is; None for one that has no transport.

    Raises ImageError for one without a name, and for a transport that nobody knows.
    """
    wrong = fault(text)
    if wrong is not None:
        raise ImageError(wrong[0], hint=wrong[1])
    name, colon, rest = text.partition(":")
    transport = BY_NAME.get(name.lower())
    if not colon or transport is None or (transport.is_web and not rest.startswith("//")):
        return None
    return Uri(transport=transport, place=text if transport.is_web else rest.removeprefix("//"), text=text)
