"""Small files from the network or this machine: a program, a key, a configuration file."""

from pathlib import Path
from typing import TYPE_CHECKING

from singularity.build import gate
from singularity.errors import BuildError, FileError, NetworkError, RegistryError

if TYPE_CHECKING:
    from singularity.web.http import Patience

_SCHEMES = ("http://", "https://")


def fetch(place: str, *, limit: int, patience: "Patience | None" = None) -> bytes:
    """The content at an `http:`, `https:` or `file:` URL or an absolute path; of at most `limit` bytes.

    Servers of https URLs must prove who they are. It comes by the way that all of the build's downloads do. Raises
    BuildError, and FileError for a local file.
    """
    if not place.startswith(_SCHEMES):
        return _read(Path("/" + place.removeprefix("file:").lstrip("/")), limit)
    try:
        with gate.opened(place, patience=patience) as stream:
            data = b""
            while len(data) <= limit and (piece := stream.read(limit + 1 - len(data))):
                data += piece
            return _within(data, limit, place)
    except (NetworkError, RegistryError) as error:
        raise BuildError(str(error)) from error


def _read(path: Path, limit: int) -> bytes:
    with FileError.about(path), path.open("rb") as file:
        return _within(file.read(limit + 1), limit, path)


def _within(data: bytes, limit: int, place: object) -> bytes:
    if len(data) > limit:
        raise BuildError(f"{place}: larger than {limit >> 20} MiB")
    return data
