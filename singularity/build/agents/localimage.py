"""`Bootstrap: localimage`: the root file system of an image file or a directory, with the scripts that it has."""

from pathlib import Path

from singularity import kernel
from singularity.build.agents import require
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import ImageError
from singularity.image import squashfs
from singularity.image.identify import Format, identify
from singularity.process import run


def check(stage: Stage, name: str) -> None:
    """`From` names the image."""
    require(stage, "From", name, "From: PATH of an image file or a directory")


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Fills the root with what `From` names, as `fill` does."""
    del workspace
    fill(Path(stage.value("from")), root)


def source_digest(stage: Stage) -> str | None:
    """What comes of an image is not kept: unpacking it again is as fast as checking it."""
    del stage
    return None


def fill(source: Path, root: Path) -> None:
    """Copies a directory, or unpacks an image file. Raises ImageError, FileError and ToolError."""
    image = identify(source)
    if image.root.format is Format.DIRECTORY:
        run(["cp", *_copying(), "--no-target-directory", "--", image.path, root], purpose=f"copy {image.path}")
    elif image.root.format is Format.SQUASHFS:
        root.rmdir()
        squashfs.unpack(image.path, image.root.offset, root, purpose=f"unpack {image.path}")
    else:
        what = f"{image.path}: a {image.root.format.value} cannot be built on by this version"
        raise ImageError(what, hint="SIF and squashfs files and directories can")


def _copying() -> list[str]:
    """All that cp can keep; where there is one user only, everything becomes root's."""
    if kernel.maps_one_id():
        return ["--recursive", "--no-dereference", "--preserve=mode,timestamps,links,xattr"]
    return ["--archive"]
