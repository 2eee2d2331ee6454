"""The names in the directory of a kept image, and whether it is whole: all that a listing needs of `image_store`."""

import os
from pathlib import Path

IMAGE, MADE = "image.sif", "made"
LAZY = "lazy"  # a directory: what is known of an image that comes in parts
CHUNKS = "chunks"  # the index of its chunks
PARTIAL = "partial"  # what an interrupted download has left for the next one
OWN = (IMAGE, MADE, CHUNKS, PARTIAL, LAZY)  # names in the directory of an image that are not the image's


_OURS = ".kept"  # other programs of the family have files under the keys alone


def place(directory: Path, key: str) -> Path:
    """Where the image of a key is kept below the directory of its type."""
    return directory / f"{key}{_OURS}"


def key(path: Path) -> str:
    """The key that a directory is named by."""
    return path.name.removesuffix(_OURS)


def names(directory: Path) -> list[str]:
    """The names that programs in containers have seen of an image; for a listing."""
    try:
        return sorted(name for name in os.listdir(directory) if name not in OWN)
    except OSError:
        return []


def complete(directory: Path) -> Path | None:
    """The image in a directory, unless it is missing or not as it was made."""
    path = directory / IMAGE
    try:
        status = path.stat()
        made = (directory / MADE).read_bytes().decode("ascii").split()
        same = made[:2] == [str(status.st_size), str(status.st_mtime_ns)]
    except (OSError, ValueError):
        return None
    return path if same else None
