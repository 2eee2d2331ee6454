"""`Bootstrap: scratch`: an empty root file system; everything in it comes from the sections."""

from pathlib import Path

from singularity.build.workspace import Workspace
from singularity.definition.model import Stage


def check(stage: Stage, name: str) -> None:
    """There is nothing that the header must say."""
    del stage, name


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Leaves the directory empty."""
    del stage, root, workspace


def source_digest(stage: Stage) -> str | None:
    """There is no source."""
    del stage
    return ""
