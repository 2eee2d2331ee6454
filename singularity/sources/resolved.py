"""What a tag means now: all that is asked about an image that is in the cache, so this imports little."""

import logging
from collections.abc import Sequence
from pathlib import Path

from singularity.errors import NetworkError
from singularity.registry.access import Access
from singularity.registry.reference import Reference

logger = logging.getLogger(__name__)


def resolved(reference: Reference, access: Access, stores: Sequence[Path], *, offline: bool = False) -> Reference:
    """The reference with the digest that it means now, which costs one small request unless it says that itself.

    With `offline`, where the registry cannot be reached, it is what it meant when an image was fetched into one of
    `stores` last, and a warning says so. Raises NetworkError and RegistryError.
    """
    if reference.digest is not None:
        return reference
    from singularity.registry.client import Registry

    try:
        return reference._replace(digest=Registry(reference.host, access).digest(reference))
    except NetworkError as error:
        from singularity.cache.blob_store import known

        digest = known(stores, str(reference))
        if digest is None:
            raise
        if not offline:
            raise NetworkError(str(error), hint="--offline uses the image in the cache") from error
        logger.warning("%s: using the image that %s meant when it was fetched last", error, reference)
        return reference._replace(digest=digest)
