"""From a finished root file system to a file of the format that was asked for."""

import logging
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from singularity import files
from singularity.build import pack, writers
from singularity.build.architecture import Architecture
from singularity.build.request import BuildRequest, Target
from singularity.errors import FileError
from singularity.image import marks

logger = logging.getLogger(__name__)


def write(root: Path, request: BuildRequest, architecture: Architecture, *, read_first: Sequence[str] = ()) -> None:
    """Writes `request.target`, whole or not at all; a directory is none of its formats.

    `read_first` are the files that a start opened (`startup_trace`). Raises FileError, ToolError and BuildError.
    """
    if request.fix_permissions:
        fix_permissions(root)
    if request.on is not None:
        from singularity.build import layered

        layered.write(root, request, request.on, architecture.sif, read_first=read_first)
        return
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


def give_to_caller(root: Path) -> None:
    """Makes everything root's: outside of the user namespace in which this runs, the caller's.

    Whose it was is remembered (`image/marks.py`), for images that are made of it. Every directory becomes one that its
    owner can empty.
    """
    for path, name, fd in _all(root):
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        mode = stat.S_IMODE(status.st_mode)
        with FileError.about(path):
            if _is_of_others(status):
                if not stat.S_ISLNK(status.st_mode):
                    mark = marks.Mark(uid=status.st_uid, gid=status.st_gid)
                    os.setxattr(path, marks.NAME, mark.encode(), follow_symlinks=False)
                os.chown(name, 0, 0, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode) and mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(name, mode | stat.S_IRWXU, dir_fd=fd)


def disarm(root: Path) -> int:
    """Takes the bits from programs by which they would start with the rights of their owner; how many there were.

    Root of a user namespace is the caller outside, and its other ids are his subordinate ones: whoever can reach the
    directory would have them, by a program of a stranger's image. In containers the bits have no effect.
    """
    found = 0
    for path, name, fd in _all(root):
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            found += 1
            with FileError.about(path):
                os.chmod(name, stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID), dir_fd=fd)
    return found


def has_owners(root: Path) -> bool:
    """Whether something belongs to another than root: outside, to another than the caller."""
    return any(_is_of_others(os.stat(name, dir_fd=fd, follow_symlinks=False)) for _, name, fd in _all(root))


def _is_of_others(status: os.stat_result) -> bool:
    return (status.st_uid, status.st_gid) != (0, 0)


def _all(root: Path) -> Iterator[tuple[str, str, int]]:
    """Paths, names and the open directories in which they are; of the root the name is a point."""
    for directory, below, names, fd in os.fwalk(root, follow_symlinks=False, onerror=_raise):
        if directory == str(root):
            yield directory, ".", fd
        for name in [*below, *names]:
            yield f"{directory}/{name}", name, fd


def _add(path: str, name: str, directory: int, wanted: int) -> int:
    """Adds bits to the mode of a file or directory; returns how many were changed: 0 or 1."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    of_interest = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
    if not of_interest or status.st_mode & wanted == wanted:
        return 0
    with FileError.about(path):
        os.chmod(name, stat.S_IMODE(status.st_mode) | wanted, dir_fd=directory)
    return 1


def _raise(error: OSError) -> None:
    raise FileError.because(error.filename, error) from error
