"""Which images the blobs and packed layers of a cache belong to, as the documents beside them say.

Nothing is checked, and nothing is touched: who lists a cache does not use it. What cannot be read belongs to nobody.
"""

from collections.abc import Iterator
from pathlib import Path

from singularity.cache.blob_names import BLOBS, INDEX
from singularity.content import document
from singularity.content.document import MANIFEST_LIMIT, REFERENCE_NAME, Descriptor, Index
from singularity.errors import ImageError

_DEPTH = 2  # an index in the store's own is one of platforms, and holds manifests


def of_blobs(store: Path) -> dict[str, set[str]]:
    """References in full, by the hexadecimal digest of a document or layer; of layers by that of their content, too."""
    found: dict[str, set[str]] = {}
    for entry in _manifests(store / INDEX):
        name = entry.annotations.get(REFERENCE_NAME)
        for digest in _parts(store, entry, _DEPTH) if name else ():
            found.setdefault(digest, set()).add(name or "")
    return found


def _parts(store: Path, entry: Descriptor, depth: int) -> Iterator[str]:
    yield entry.digest.digits
    path = _path(store, entry)
    for each in _manifests(path) if depth else ():
        if _path(store, each).exists():
            yield from _parts(store, each, depth - 1)
    try:
        said = document.parse(_whole(path), "", "")
        if not isinstance(said, Index):
            yield from (each.digest.digits for each in (said.config, *said.layers))
            config = document.parse_config(_whole(_path(store, said.config)), "")
            yield from (each.digits for each in config.diff_ids)
    except ImageError:
        return


def _manifests(path: Path) -> tuple[Descriptor, ...]:
    """Those of an index; none of another document."""
    try:
        said = document.parse(_whole(path), "", "")
    except ImageError:
        return ()
    return tuple(said.manifests) if isinstance(said, Index) else ()


def _path(store: Path, entry: Descriptor) -> Path:
    return store / BLOBS / entry.digest.algorithm / entry.digest.digits


def _whole(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MANIFEST_LIMIT)
    except OSError:
        return b""
