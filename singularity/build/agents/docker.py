"""`Bootstrap: docker` and `docker-daemon`: an image in a registry, or one that a Docker daemon on this machine has.

`From` names it; `Registry` and `Namespace` are what the name has not. `Registry: http://HOST` is one that speaks plain
http. With `IncludeCmd: no` the image's entry point and command do not become the runscript. `Token`, which said to
version 2 whether a registry wants one, has no effect: registries say it themselves.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from singularity.build.agents.oci import fill
from singularity.build.workspace import Workspace
from singularity.cache import places as caches
from singularity.definition.model import Stage
from singularity.errors import DefinitionError, ImageError
from singularity.oci.image import Image
from singularity.registry import reference
from singularity.sources import oci
from singularity.sources.fetch import Fetch
from singularity.transports import Transport
from singularity.uri import Uri

_SWITCHES = ("IncludeCmd", "Token")
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


def check(stage: Stage, name: str) -> None:
    """`From`, `Registry` and `Namespace` name an image together; names for a daemon are checked by the daemon."""
    if stage.agent == Transport.DOCKER_DAEMON.value:
        return
    for keyword in _SWITCHES:
        field = stage.header.get(keyword.lower())
        if field and field.value.lower() not in (*_YES, *_NO):
            raise DefinitionError(f'{keyword}: "{field.value}"', name=name, line=field.line, hint="yes or no")
    try:
        _uri(stage)
    except ImageError as error:
        raise DefinitionError(str(error), name=name, line=stage.header["from"].line) from error


def _uri(stage: Stage) -> Uri:
    """The image in full: of a registry, or, where that is the agent, of the daemon."""
    if stage.agent == Transport.DOCKER_DAEMON.value:
        place = stage.value("from")
        return Uri(transport=Transport.DOCKER_DAEMON, place=place, text=f"docker-daemon:{place}")
    registry, namespace = stage.value("registry"), stage.value("namespace")
    place = str(reference.parse(stage.value("from"), registry=registry, namespace=namespace))
    return Uri(transport=Transport.DOCKER, place=place, text=f"docker://{place}")


def _found(stage: Stage, fetch: Fetch) -> oci.Found:
    if stage.value("registry").startswith("http://"):
        fetch = fetch._replace(access=fetch.access._replace(no_https=True))
    return oci.find(_uri(stage), fetch, caches.find(fetch.cache))


@contextmanager
def opened(stage: Stage, fetch: Fetch) -> Iterator[Image]:
    """The image, for as long as its layers are read. Raises ImageError, FileError, NetworkError and RegistryError."""
    with _found(stage, fetch).opened() as found:
        without = replace(found.config, entrypoint=(), command=())
        yield replace(found, config=without) if stage.value("includecmd").lower() in _NO else found


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Unpacks the layers, and writes what the configuration says. Raises as `opened` does."""
    with opened(stage, workspace.images) as found:
        fill(found, root)


def name(stage: Stage) -> str:
    """The image in full, with its transport."""
    return str(_uri(stage))


def identity(stage: Stage, fetch: Fetch) -> str:
    """The digest that the name means now. Raises as `opened` does."""
    return _found(stage, fetch).identity


def source_digest(stage: Stage) -> str | None:
    """Nobody can tell without asking."""
    del stage
    return None


def fetched_digest(stage: Stage, fetch: Fetch) -> str | None:
    """The digest that the name means now, and the platform that is wanted."""
    return hashlib.sha256(f"{_found(stage, fetch).identity} {fetch.platform}".encode()).hexdigest()
