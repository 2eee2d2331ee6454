"""`Bootstrap: oci-archive`: an image of an OCI layout in a tar archive, as skopeo and podman make it."""

from singularity.build.agents import require
from singularity.build.agents.oci import bootstrap, opened, source_digest
from singularity.definition.model import Stage

__all__ = ["bootstrap", "check", "opened", "source_digest"]


def check(stage: Stage, name: str) -> None:
    """`From` names the archive and, where it has several images, one of them."""
    require(stage, "From", name, "From: FILE, or FILE:TAG")
