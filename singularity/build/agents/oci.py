"""`Bootstrap: oci`, `oci-archive` and `docker-archive`: an image in a directory or a file.

That is a directory of the OCI layout, as umoci, skopeo and buildah make it, a tar archive with one, as skopeo and
podman make it, or what `docker save` made. `From` names it and, where it has several images, one of them.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from singularity import paths
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import FileError
from singularity.image.root import Root
from singularity.oci import container, layers, local
from singularity.oci.image import Image
from singularity.sources.fetch import Fetch
from singularity.sources.oci import admit
from singularity.transports import Transport
from singularity.uri import Uri


def check(stage: Stage, name: str) -> None:
    """`From` is all that the header needs, and `find` has looked for it. Raises SignatureError by a policy."""
    del name
    place = stage.value("from")
    admit(Uri(transport=Transport(stage.agent), place=place, text=f"{stage.agent}:{place}"))


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Unpacks the layers, and writes what the configuration says. Raises ImageError, FileError and ToolError."""
    with opened(stage, workspace.images) as found:
        fill(found, root)


def opened(stage: Stage, fetch: Fetch) -> AbstractContextManager[Image]:
    """The image that the header names, for as long as its layers are read. Raises ImageError and FileError."""
    return local.opened(stage.agent, stage.value("from"), fetch.platform, fetch.scratch)


def fill(found: Image, root: Path) -> None:
    """Unpacks an image into a directory, and writes what its configuration says."""
    layers.unpack(found, root)
    with FileError.about(root, inner=True), Root(root) as opened:
        container.write(opened, found)


def source_digest(stage: Stage) -> str | None:
    """The digest of what lists the images of the source, which all that is in them depends on."""
    return local.identity(stage.agent, stage.value("from"), paths.temporary())
