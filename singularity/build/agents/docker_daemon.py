"""`Bootstrap: docker-daemon`: an image that a Docker daemon on this machine has."""

import hashlib
from contextlib import AbstractContextManager
from pathlib import Path

from singularity.build.agents import require
from singularity.build.agents.oci import fill
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.oci.image import Image
from singularity.sources import caches, oci
from singularity.sources.fetch import Fetch
from singularity.sources.uri import Transport, Uri


def check(stage: Stage, name: str) -> None:
    """`From` names the image as the daemon does."""
    require(stage, "From", name, "From: NAME:TAG")


def _found(stage: Stage, fetch: Fetch) -> oci.Found:
    place = stage.value("from")
    uri = Uri(transport=Transport.DOCKER_DAEMON, place=place, text=f"docker-daemon:{place}")
    return oci.find(uri, fetch, caches.Caches())


def opened(stage: Stage, fetch: Fetch) -> AbstractContextManager[Image]:
    """The image, for as long as its layers are read. Raises ImageError, FileError, NetworkError and RegistryError."""
    return _found(stage, fetch).opened()


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Unpacks the layers, and writes what the configuration says. Raises as `opened` does."""
    with opened(stage, workspace.images) as found:
        fill(found, root)


def source_digest(stage: Stage) -> str | None:
    """Nobody can tell without asking the daemon."""
    del stage
    return None


def fetched_digest(stage: Stage, fetch: Fetch) -> str | None:
    """The id that the name means now."""
    return hashlib.sha256(_found(stage, fetch).identity.encode()).hexdigest()
