"""SIF files in registries: an artifact of one blob, which is the file as it is, signatures and all.

The manifest is an OCI manifest (image specification 1.1) with an empty configuration of a type of its own; the one
layer carries the name of the file. Apptainer and SingularityCE write and read the same (`oras://`).
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from singularity.console import working
from singularity.content import chunks, digest
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.errors import FileError, ImageError
from singularity.image.sif import format as sif
from singularity.push import writer

_CONFIG = "application/vnd.sylabs.sif.config.v1+json"
_LAYER = "application/vnd.sylabs.sif.layer.v1.sif"
_TITLE = "org.opencontainers.image.title"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact(writer.Document):
    """A SIF file, and the index of its chunks where it has one."""

    index: bytes


@contextmanager
def packed(path: Path, annotations: Mapping[str, str], *, in_chunks: bool = False) -> Iterator[Artifact]:
    """The artifact that is the SIF file `path`, whose blobs can be read until the block ends.

    With `in_chunks` the manifest names an index of the file's chunks, which needs a manifest of its own to stay. Raises
    ImageError for what is no SIF file, FileError where it cannot be read.
    """
    try:
        file = path.open("rb")
    except IsADirectoryError as error:
        raise _no_sif(path) from error
    except OSError as error:
        raise FileError.because(path, error) from error
    with file:
        _check(path, file)
        with FileError.about(path), working(f"reading {path}"):
            file.seek(0)
            index = chunks.of(file, str(path)) if in_chunks else None
            found = index.digest if index else Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
            size = file.tell()
        listed = index.encoded() if index else b""
        said = {chunks.ANNOTATION: f"{digest.of(listed)} {len(listed)}"} if index else {}
        descriptor = Descriptor(media_type=_LAYER, digest=found, size=size, annotations={_TITLE: path.name} | said)
        place = f"/proc/self/fd/{file.fileno()}"  # the very file, with a position of its own

        def open_() -> BinaryIO:
            return open(os.open(place, os.O_RDONLY | os.O_CLOEXEC), "rb")

        layer = writer.Blob(descriptor=descriptor, open=open_)
        config = writer.small(_CONFIG, b"{}")
        yield Artifact(
            manifest=writer.manifest(config, [layer], annotations),
            media_type=writer.MANIFEST,
            blobs=(layer, config),
            index=listed,
        )


def _check(path: Path, file: BinaryIO) -> None:
    head = os.pread(file.fileno(), sif.MAGIC_OFFSET + len(sif.MAGIC), 0)
    if head[sif.MAGIC_OFFSET :] != sif.MAGIC:
        raise _no_sif(path)
    with ImageError.named(path):
        sif.read(file)


def _no_sif(path: Path) -> ImageError:
    hint = "docker:// takes images of every format; singularity build makes a SIF file of it"
    return ImageError(f"{path}: no SIF file, and only those are pushed by oras:// and library://", hint=hint)
