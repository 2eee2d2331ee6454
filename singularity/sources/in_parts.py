"""Files of which only that is fetched which no image of the caches has, by an index of their chunks."""

import logging
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from singularity import console
from singularity.cache import chunk_store
from singularity.cache.places import Caches
from singularity.console import VERBOSE
from singularity.content import chunks
from singularity.content.chunks import Index
from singularity.content.download import Download
from singularity.content.patchwork import Patchwork
from singularity.errors import ImageError, NetworkError, RegistryError
from singularity.sources import remote_file
from singularity.sources.remote_file import InParts

logger = logging.getLogger(__name__)

_LEAST = 1 << 20  # bytes of a file of which parts are worth a request more


def fetch(whole: Download, parts: InParts, arrived: Path, caches: Caches) -> bool:
    """Puts a file together at `arrived`; False where that cannot be done, and all of it must be fetched.

    The index goes beside it. Raises NetworkError and FileError.
    """
    if whole.size is None or whole.size < _LEAST or not chunk_store.is_useful(caches):
        return False
    try:
        try:
            index = _index(whole, whole.size, parts)
        except NetworkError as error:  # nothing that the file itself needs
            raise RegistryError(str(error)) from error
        with ExitStack() as opened:
            held = chunk_store.find(index, caches, opened)
            if whole.digest is None:  # the index may be of a file that was here before: the head differs then
                held.pop(next(iter(index)).name, None)
            if not held:
                return False

            def open_(offset: int) -> BinaryIO:
                return cast("BinaryIO", Patchwork(whole.name, index, held, parts.part, offset))

            missing = sum(chunk.size for chunk in index if chunk.name not in held)
            logger.info("Fetching %s (%s of %s)", whole.name, console.size(missing), console.size(index.size))
            remote_file.fetch_into(arrived, replace(whole, open=open_, digest=index.digest))
    except RegistryError as error:  # as a rule there is no index, or the server gives no parts
        logger.log(VERBOSE, "%s is fetched whole: %s", whole.name, error)
        return False
    except ImageError as error:
        logger.warning("%s: it is fetched whole", error)
        return False
    chunk_store.keep(arrived, index, public=caches.public)
    return True


def _index(whole: Download, size: int, parts: InParts) -> Index:
    """The index that the server has. Raises ImageError where it is of another file, and as `parts`."""
    name = f"{whole.name}: its index of chunks"
    index = chunks.parse(parts.index(chunks.size_limit(size)), name)
    if index.size != size or whole.digest not in (None, index.digest):
        raise ImageError(f"{name} is of another file")
    return index
