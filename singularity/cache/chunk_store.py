"""Which chunks the images of the caches have: an index beside each image, made when it is first needed.

KEY.kept/chunks      the index of KEY.kept/image.sif (`content.chunks`)

An index is a hint: what it says of an image is checked when bytes of the image are used.
"""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from singularity import files
from singularity.cache import image_names
from singularity.cache.listing import CONTAINERS, TYPES
from singularity.cache.places import Caches
from singularity.content import chunks
from singularity.content.chunks import Index
from singularity.content.patchwork import Place
from singularity.errors import SingularityError

logger = logging.getLogger(__name__)

_KINDS = [each.name for each in TYPES.values() if each.counted == CONTAINERS]
_READ = 8  # times the size of what is wanted: what is read of images whose chunks nobody knows, at most


def is_useful(caches: Caches) -> bool:
    """Whether there is any image that could have chunks of another one."""
    return next(_images(caches), None) is not None


def find(wanted: Index, caches: Caches, opened: ExitStack) -> dict[bytes, Place]:
    """Where chunks of a file are at hand, by their names; the images with them are open as long as `opened` is."""
    missing = {chunk.name for chunk in wanted}
    found: dict[bytes, Place] = {}
    to_read = _READ * wanted.size
    for path in _images(caches):
        if not missing:
            break
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        with ExitStack() as closing:
            closing.callback(os.close, fd)
            status = os.fstat(fd)
            index = _read(path, status.st_size)
            if index is None and stat.S_ISREG(status.st_mode) and status.st_size <= to_read:
                to_read -= status.st_size
                index = keep(path, public=caches.public)
            places = {each.name: Place(fd, each.offset) for each in index or () if each.name in missing}
            if places:
                found |= places
                missing -= places.keys()
                opened.push(closing.pop_all())
    return found


def keep(path: Path, index: Index | None = None, *, public: bool = False) -> Index | None:
    """Puts the index of a kept image beside it, made of the image unless it is there or given.

    None where there can be none; that it cannot be written is no failure.
    """
    target = path.with_name(image_names.CHUNKS)
    try:
        if index is None:
            index = _read(path, path.stat().st_size)
            if index is not None:
                return index
            with path.open("rb") as file:
                index = chunks.of(file, str(path))
        files.write(target, index.encoded(), overwrite=True, mode=0o644 if public else 0o600)
        if public:
            target.chmod(0o644)
    except (SingularityError, OSError) as error:
        logger.debug("%s: %s", target, error)
    return index


def _read(path: Path, size: int) -> Index | None:
    """The index beside an image; None where there is none of it."""
    with suppress(OSError, SingularityError), path.with_name(image_names.CHUNKS).open("rb") as file:
        index = chunks.parse(file.read(chunks.size_limit(size) + 1), str(path))
        return index if index.size == size else None
    return None


def _images(caches: Caches) -> Iterator[Path]:
    """The images of all caches: of each, those that were used last come first."""
    for place in (*((caches.own,) if caches.own else ()), *caches.others):
        found: list[tuple[float, Path]] = []
        for kind in _KINDS:
            with suppress(OSError):
                for each in os.scandir(place / kind):
                    path = image_names.complete(Path(each.path))
                    if path is not None:
                        with suppress(OSError):
                            found.append((path.stat().st_atime, path))
        yield from (path for _, path in sorted(found, reverse=True))
