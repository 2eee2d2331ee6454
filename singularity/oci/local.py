"""Images in files and directories of this machine, by the words of a header or a command line."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from singularity.content.platform import Platform
from singularity.errors import ImageError
from singularity.oci import docker_archive, layout, reference
from singularity.oci.files import Archive, Directory, Files
from singularity.oci.image import Image
from singularity.oci.reference import Reference


@contextmanager
def opened(transport: str, text: str, wanted: Platform, temporary: Path) -> Iterator[Image]:
    """The image that `text` names, for as long as its layers are read.

    `transport` is `oci`, `oci-archive` or `docker-archive`.
    A compressed archive is unpacked below `temporary` first. Raises ImageError and FileError.
    """
    with _place(transport, text, temporary) as (place, named):
        find = docker_archive.find if transport == "docker-archive" else layout.find
        yield find(place, named, wanted)


def identity(transport: str, text: str, temporary: Path) -> str:
    """What all images are that `text` may name, as a digest: whatever is made from one of them changes with it.

    Raises as `opened` does.
    """
    with _place(transport, text, temporary) as (place, _):
        lists = docker_archive.lists(place) if transport == "docker-archive" else layout.lists(place)
        return hashlib.sha256(b"\0".join(lists)).hexdigest()


@contextmanager
def _place(transport: str, text: str, temporary: Path) -> Iterator[tuple[Files, Reference]]:
    named = reference.parse(text)
    if transport == "oci":
        if not named.path.is_dir():
            raise ImageError(f"{named.path}: no directory, as an OCI layout is", hint="oci-archive is for files")
        yield Directory(named.path), named
        return
    if named.path.is_dir():
        raise ImageError(f"{named.path}: a directory, not an archive", hint="oci is for directories")
    with Archive(named.path, temporary) as archive:
        yield archive, named
