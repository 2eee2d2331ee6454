"""SIF files in registries: an artifact of one blob, which is the file as it is, signatures and all.

The manifest is an OCI manifest (image specification 1.1) with an empty configuration of a type of its own; the one
layer carries the name of the file. Apptainer and SingularityCE write and read the same (`oras://`).
"""

import hashlib
import os
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from singularity.errors import FileError, ImageError
from singularity.image import sif
from singularity.oci import writer
from singularity.oci.digest import Digest
from singularity.oci.document import Descriptor, Manifest

_CONFIG = "application/vnd.sylabs.sif.config.v1+json"
_LAYER = "application/vnd.sylabs.sif.layer.v1.sif"
_LAYERS = frozenset(
    {_LAYER, "appliciation/vnd.sylabs.sif.layer.tar"}
)  # the second, misspelt, is that of early versions
_TITLE = "org.opencontainers.image.title"


def of(path: Path, file: BufferedReader, annotations: Mapping[str, str]) -> writer.Document:
    """The artifact that is the SIF file `path`, open as `file` for as long as its blobs are read.

    Raises ImageError for what is no SIF file, FileError where it cannot be read.
    """
    check(path, file)
    try:
        file.seek(0)
        found = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
        size = file.tell()
    except OSError as error:
        raise FileError.because(path, error) from error
    descriptor = Descriptor(media_type=_LAYER, digest=found, size=size, annotations={_TITLE: path.name})
    place = f"/proc/self/fd/{file.fileno()}"  # the very file, with a position of its own

    def open_() -> BinaryIO:
        return open(os.open(place, os.O_RDONLY | os.O_CLOEXEC), "rb")

    layer = writer.Blob(descriptor=descriptor, open=open_)
    config = writer.small(_CONFIG, b"{}")
    return writer.Document(
        manifest=writer.manifest(config, [layer], annotations), media_type=writer.MANIFEST, blobs=(layer, config)
    )


def check(path: Path, file: BinaryIO) -> None:
    """Raises ImageError for what is no SIF file, or a damaged one."""
    head = os.pread(file.fileno(), sif.MAGIC_OFFSET + len(sif.MAGIC), 0)
    if not head.endswith(sif.MAGIC) or len(head) != sif.MAGIC_OFFSET + len(sif.MAGIC):
        hint = "docker:// takes images of every format; singularity build makes a SIF file of it"
        raise ImageError(f"{path}: no SIF file, and only those are pushed by oras://", hint=hint)
    try:
        sif.read(file)
    except ImageError as error:
        raise ImageError(f"{path}: {error}") from error


def layer_of(manifest: Manifest, name: str) -> Descriptor:
    """The blob that is the SIF file. Raises ImageError where the manifest is not that of such an artifact."""
    if len(manifest.layers) != 1:
        raise ImageError(f"{name}: ORAS SIF image should have a single layer, and this has {len(manifest.layers)}")
    layer = manifest.layers[0]
    if layer.media_type not in _LAYERS:
        hint = "an image of Docker or OCI: it is pulled with docker://" if layer.is_layer else ""
        raise ImageError(f"{name}: no SIF file, but of the type {layer.media_type[:100]}", hint=hint)
    return layer
