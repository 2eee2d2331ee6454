"""From a finished root file system to a file of the format that was asked for."""

import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from singularity import files
from singularity.build import pack, writers
from singularity.build.architecture import Architecture
from singularity.build.request import BuildRequest, Target
from singularity.errors import FileError

logger = logging.getLogger(__name__)


def write(root: Path, request: BuildRequest, architecture: Architecture, *, read_first: Sequence[str] = ()) -> None:
    """Writes `request.target`, whole or not at all; a directory is none of its formats.

    `read_first` are the files that a start opened (`startup_trace`). Raises FileError, ToolError and BuildError.
    """
    if request.fix_permissions:
        fix_permissions(root)
    match request.format:
        case Target.SIF | Target.SQUASHFS | Target.EROFS:
            pack.pack(
                root,
                request.target,
                architecture=architecture.sif if request.format is Target.SIF else "",
                arguments=request.mksquashfs_arguments,
                overwrite=request.overwrite,
                read_first=read_first,
                as_erofs=request.makes_erofs,
            )
        case Target.EXT3 | Target.TAR:
            from singularity.image import directory

            with (
                files.replacing(request.target, overwrite=request.overwrite, mode=0o777) as new,
                writers.counted(directory.read(root), "writing") as tree,
            ):
                if request.format is Target.TAR:
                    writers.write_tar(tree, new, request.target)
                else:
                    writers.write_ext3(tree, new, request)
        case Target.SANDBOX:
            raise FileError(f"{request.target}: a directory is put in place, not written")


def fix_permissions(root: Path) -> None:
    """Makes the owner of everything able to read and write it, and to enter directories, so that it can be removed."""
    fixed = 0
    for directory, _, names, fd in os.fwalk(root, follow_symlinks=False, onerror=_raise):
        fixed += _add(directory, ".", fd, 0o700)
        for name in names:
            fixed += _add(f"{directory}/{name}", name, fd, 0o600)
    logger.info("Permissions changed for the owner: %d files and directories", fixed)


def _add(path: str, name: str, directory: int, wanted: int) -> int:
    """Adds bits to the mode of a file or directory; returns how many were changed: 0 or 1."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    of_interest = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    if not of_interest or status.st_mode & wanted == wanted:
        return 0
    try:
        os.chmod(name, stat.S_IMODE(status.st_mode) | wanted, dir_fd=directory)
    except OSError as error:
        raise FileError.because(path, error) from error
    return 1


def _raise(error: OSError) -> None:
    raise FileError.because(error.filename, error) from error
