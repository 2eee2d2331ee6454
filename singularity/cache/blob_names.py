"""The names in a store of blobs, and what is there by them: all that a listing needs of `blob_store`."""

from collections.abc import Iterator
from pathlib import Path

INDEX, BLOBS, PARTIAL = "index.json", "blobs", "partial"


def listing(directory: Path) -> Iterator[tuple[str, Path]]:
    """The blobs of a store, and parts of such, by name."""
    for place in (*_listed(directory / BLOBS), directory / PARTIAL):
        for path in _listed(place):
            yield path.name if place.name != PARTIAL else f"{path.name.partition('-')[2]} (incomplete)", path


def _listed(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
