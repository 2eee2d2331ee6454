"""What the words after `oci:`, `oci-archive:` and `docker-archive:` name: a place, and an image in it."""

import os
from dataclasses import dataclass
from pathlib import Path

from singularity.content import digest
from singularity.content.digest import Digest
from singularity.errors import FileError, ImageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An image in a file or directory of this machine."""

    path: Path
    tag: str = ""  # or a whole name; empty: the only one there is
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.path}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """`PATH[:TAG][@DIGEST]`: the path ends with the first colon before which there is a file or directory.

    A name may stand for the tag, as `docker.io/library/debian:stable`. Raises ImageError, and FileError where no path
    is to be found.
    """
    if os.path.lexists(text):
        return Reference(path=Path(text))
    before, at, after = text.rpartition("@")
    wanted = digest.parse(after) if at and after.startswith(("sha256:", "sha512:")) else None
    rest = before if wanted else text
    parts = rest.split(":")
    for count in range(1, len(parts) + 1):
        path, tag = ":".join(parts[:count]), ":".join(parts[count:])
        if os.path.lexists(path) and (count == len(parts) or tag):
            return Reference(path=Path(path), tag=tag, digest=wanted)
    if not parts[0]:
        raise ImageError(f'"{text}" names no file', hint="PATH, or PATH:TAG")
    raise FileError(f"{parts[0]}: No such file or directory")
