"""Images in files and directories of this machine, by the words of a header or a command line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from singularity.errors import ImageError
from singularity.oci import docker_archive, layout, reference
from singularity.oci.document import Platform
from singularity.oci.files import Archive, Directory
from singularity.oci.image import Image

TRANSPORTS = ("oci", "oci-archive", "docker-archive")


@contextmanager
def opened(transport: str, text: str, wanted: Platform, temporary: Path) -> Iterator[Image]:
    """The image that `text` names, for as long as its layers are read; `transport` is one of TRANSPORTS.

    A compressed archive is unpacked below `temporary` first. Raises ImageError and FileError.
    """
    named = reference.parse(text)
    if transport == "oci":
        if not named.path.is_dir():
            raise ImageError(f"{named.path}: no directory, as an OCI layout is", hint="oci-archive is for files")
        yield layout.find(Directory(named.path), named, wanted)
        return
    if named.path.is_dir():
        raise ImageError(f"{named.path}: a directory, not an archive", hint="oci is for directories")
    with Archive(named.path, temporary) as place:
        find = layout.find if transport == "oci-archive" else docker_archive.find
        yield find(place, named, wanted)
