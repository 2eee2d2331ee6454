"""`Bootstrap: oras`, `library`, `shub` and `doi`: the root file system of an image file that a server has.

That is a registry, a library (`Library` is its URL), Singularity Hub and servers that speak as it did, or an archive.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from singularity import digest
from singularity.build.agents import localimage
from singularity.build.workspace import Workspace
from singularity.cache import places as caches
from singularity.definition.model import Stage
from singularity.errors import FileError
from singularity.image import origin
from singularity.image.origin import Origin
from singularity.image.root import Root
from singularity.sources import images
from singularity.sources.fetch import Fetch
from singularity.transports import Transport
from singularity.uri import Uri


def check(stage: Stage, name: str) -> None:
    """As of images that are here: Fingerprints, if there are any."""
    localimage.check(stage, name)


@contextmanager
def file(stage: Stage, fetch: Fetch) -> Iterator[Path]:
    """The image file. Raises ImageError, FileError, NetworkError and RegistryError."""
    place, transport = stage.value("from"), Transport(stage.agent)
    place = place.removeprefix(f"{transport.value}:").removeprefix("//")
    fetch = fetch._replace(library=stage.value("library") or fetch.library)
    uri = Uri(transport=transport, place=place, text=f"{transport.value}://{place}")
    with images.available(uri, fetch, caches.find(fetch.cache)) as path:
        yield path


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Unpacks the image. Raises as `file` does, and ToolError."""
    with file(stage, workspace.images) as found, localimage.signed(found, stage, workspace) as path:
        localimage.fill(path, root)
        transport = Transport(stage.agent).value
        name = f"{transport}://{stage.value('from').removeprefix(f'{transport}://')}"
        with FileError.about(root, inner=True), Root(root) as opened:
            origin.write(opened, Origin(name=name, digest=f"sha256:{digest.of_file(path)}"))


def source_digest(stage: Stage) -> str | None:
    """Nobody can tell without asking the server."""
    del stage
    return None


def fetched_digest(stage: Stage, fetch: Fetch) -> str | None:
    """The digest of the file, which is fetched for that; it is needed then, unless the cache has what comes of it.

    None where signatures count, as of images that are here.
    """
    if "fingerprints" in stage.header:
        return None
    with file(stage, fetch) as path:
        return digest.of_file(path)
