"""Changes to the content of an image that is there: files copied into it, archives unpacked over it.

Root changes an ext image in place, through a mount of the kernel; nobody else does. For an ordinary user it is written
anew beside the old one, every owner kept, and takes its place at the end.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from singularity.errors import FileError, ToolError
from singularity.image import mounted
from singularity.image.identify import Format
from singularity.image.opened import Opened
from singularity.image.root import Root


def check_writable(image: Opened) -> None:
    """Raises FileError for an image whose content is fixed."""
    if image.image.format not in (Format.DIRECTORY, Format.EXT):
        what = f"{image.path}: a {image.image.format.value} cannot be changed"
        raise FileError(what, hint="make a directory of it, and an image of that in the end: singularity build")


def copy(image: Opened, words: Sequence[str], temporary: Path) -> int:
    """Runs `cp` with these words, the last of which is a path in the image; returns its exit status.

    However links of the image lead, nothing is written outside it. Raises CannotMountError, FileError and ToolError.
    """
    program = shutil.which("cp", path=os.defpath)
    if program is None:
        raise ToolError("cp not found", hint="install coreutils")
    with (
        mounted.mounted(image, writable=True, temporary=temporary) as root,
        mounted.without_links(root, temporary) as plain,
    ):
        with Root(root) as inside:
            target = destination(inside, words[-1])
        return mounted.run([program, *words[:-1], f"{plain}{target}"], environment=os.environ)


def destination(root: Root, path: str) -> str:
    """The path in an image with all links resolved; its last component may be missing. Raises FileError."""
    found = root.real_path(path)
    if found is not None:
        return found
    pure = PurePosixPath("/", path)
    if root.status(path.rstrip("/"), follow=False) is not None:
        raise FileError(f"{path}: a link to nothing in the image")
    parent = root.real_path(str(pure.parent))
    if parent is None or pure.name == "..":
        raise FileError(f"{pure.parent}: no such directory in the image")
    return f"{parent.rstrip('/')}/{pure.name}" + ("/" if path.endswith("/") else "")
