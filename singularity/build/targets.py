"""From a finished root file system to a file of the format that was asked for."""

from pathlib import Path

from singularity.build import pack
from singularity.build.architecture import Architecture
from singularity.build.request import BuildRequest


def write(root: Path, request: BuildRequest, architecture: Architecture) -> None:
    """Writes `request.target`, whole or not at all. Raises FileError and ToolError."""
    pack.pack(
        root,
        request.target,
        architecture=architecture,
        arguments=request.mksquashfs_arguments,
        overwrite=request.overwrite,
    )
