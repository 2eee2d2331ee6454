"""`Bootstrap: library`: the root file system of a SIF file in an image library; `Library` is the URL of the server."""

from singularity.build.agents import require
from singularity.build.agents.oras import bootstrap, fetched_digest, source_digest
from singularity.definition.model import Stage

__all__ = ["bootstrap", "check", "fetched_digest", "source_digest"]


def check(stage: Stage, name: str) -> None:
    """`From` names the image."""
    require(stage, "From", name, "From: [ENTITY/[COLLECTION/]]NAME[:TAG]")
