"""`Bootstrap: shub`: the root file system of an image of Singularity Hub, or of a server that speaks as it did."""

from singularity.build.agents import require
from singularity.build.agents.oras import bootstrap, fetched_digest, source_digest
from singularity.definition.model import Stage

__all__ = ["bootstrap", "check", "fetched_digest", "source_digest"]


def check(stage: Stage, name: str) -> None:
    """`From` names the image."""
    require(stage, "From", name, "From: [HOST/]USER/NAME[:TAG]")
