"""Names of images with a transport before them: `docker://debian`, `oras://HOST/NAME:TAG`, `https://HOST/x.sif`."""

import os
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit

from singularity.errors import ImageError


class Transport(Enum):
    """Ways to an image; the values are what stands before the colon."""

    DOCKER = "docker"
    DOCKER_DAEMON = "docker-daemon"
    DOCKER_ARCHIVE = "docker-archive"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    ORAS = "oras"
    LIBRARY = "library"
    SHUB = "shub"
    HTTP = "http"
    HTTPS = "https"

    @property
    def is_oci(self) -> bool:
        """Whether what is there is made of layers; else it is one file."""
        return self in _OCI

    @property
    def is_local(self) -> bool:
        """Whether what is there is a file or directory of this machine."""
        return self in (Transport.DOCKER_ARCHIVE, Transport.OCI, Transport.OCI_ARCHIVE)

    @property
    def is_web(self) -> bool:
        """Whether it is a plain web server."""
        return self in (Transport.HTTP, Transport.HTTPS)


_OCI = frozenset((
    Transport.DOCKER, Transport.DOCKER_DAEMON, Transport.DOCKER_ARCHIVE, Transport.OCI, Transport.OCI_ARCHIVE
))  # fmt: skip
_BY_NAME = {each.value: each for each in Transport}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_UNSAFE = re.compile(r"[\x00-\x1f/\x7f]")
_SUFFIX = re.compile(r"\.tar(\.(gz|bz2|xz|zst))?$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Uri:
    """An image that is named by its transport and a place in the words of that."""

    transport: Transport
    place: str  # what stands after `docker://`, `oci:`; a whole URL for http and https
    text: str  # as it was typed

    def __str__(self) -> str:
        return self.text

    @property
    def file_name(self) -> str:
        """What `pull` calls the file: the last part of the name, and the tag; on web servers as it is there."""
        last = self.place.rstrip("/").rpartition("/")[2]
        if self.transport.is_web:
            last = unquote(urlsplit(self.place).path).rstrip("/").rpartition("/")[2]
            return _UNSAFE.sub("_", last) or "image.sif"
        if self.transport.is_local:
            return f"{_SUFFIX.sub('', _UNSAFE.sub('_', last).replace(':', '_'))}.sif"
        name, at, digest = last.partition("@")
        if ":" in name or not at:
            name, _, tag = name.partition(":")
            return f"{name}_{tag or 'latest'}.sif"
        return f"{name}@{digest.replace(':', '_')}.sif"


def parse(text: str) -> Uri | None:
    """The URI that a text is; None for one that has no transport.

    Raises ImageError for one without a name, and for a transport that nobody knows.
    """
    name, colon, rest = text.partition(":")
    transport = _BY_NAME.get(name.lower())
    if not colon or transport is None:
        if name.lower() != "file" and _SCHEME.match(text) and not os.path.lexists(text):  # `import` knows file:
            raise _unknown(name, rest)
        return None
    if transport.is_web:
        if not rest.startswith("//"):
            return None
        if not urlsplit(text).hostname:
            raise ImageError(f"{text}: names no server")
        return Uri(transport=transport, place=text, text=text)
    place = rest.removeprefix("//") if not transport.is_local else _local(rest)
    if not place.strip("/"):
        raise ImageError(f"{text}: names no image")
    return Uri(transport=transport, place=place, text=text)


def _unknown(name: str, rest: str) -> ImageError:
    from difflib import get_close_matches

    if name.lower() == "instance":
        hint = "a program runs in the background as any other: singularity run IMAGE &"
        return ImageError(f"{name}:{rest}: not in this version: instances", hint=hint)
    near = get_close_matches(name.lower(), list(_BY_NAME), n=1)
    hint = f"did you mean {near[0]}:{rest}?" if near else f"known are {', '.join(_BY_NAME)}"
    return ImageError(f'{name}:{rest}: unknown transport "{name}"', hint=hint)


def _local(rest: str) -> str:
    """`oci-archive:x.tar`, and `oci-archive://x.tar`; an absolute path has its own slash after the two."""
    return rest[2:] if rest.startswith("//") else rest
