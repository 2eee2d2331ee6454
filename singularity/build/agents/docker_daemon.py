"""`Bootstrap: docker-daemon`: an image that a Docker daemon on this machine has."""

from singularity.build.agents import require
from singularity.build.agents.docker import bootstrap, fetched_digest, opened, source_digest
from singularity.definition.model import Stage

__all__ = ["bootstrap", "check", "fetched_digest", "opened", "source_digest"]


def check(stage: Stage, name: str) -> None:
    """`From` names the image as the daemon does."""
    require(stage, "From", name, "From: NAME:TAG")
