"""`Bootstrap: localimage`: the root file system of an image file or a directory, with the scripts that it has."""

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from singularity import console, kernel
from singularity import digest as digests
from singularity.build.workspace import Workspace
from singularity.definition.model import Stage
from singularity.errors import DefinitionError, FileError, ImageError, UsageError
from singularity.image import base, contents, layered
from singularity.image.archive.unpack import unpack
from singularity.image.identify import Format, Image, identify
from singularity.image.squashfs import tools as squashfs
from singularity.namespaces import emulation
from singularity.process import run
from singularity.trust import fingerprints

logger = logging.getLogger(__name__)


def check(stage: Stage, name: str) -> None:
    """`From` is all that the header needs, and `find` has looked for it. Raises DefinitionError for Fingerprints."""
    if "fingerprints" in stage.header:
        field = stage.header["fingerprints"]
        try:
            fingerprints.parse(field.value)
        except UsageError as error:
            raise DefinitionError(f"Fingerprints: {error.what}", name=name, line=field.line, hint=error.hint) from error


def bootstrap(stage: Stage, root: Path, workspace: Workspace) -> None:
    """Fills the root with what `From` names, as `fill` does."""
    with signed(Path(stage.value("from")), stage, workspace) as source:
        fill(source, root)


@contextmanager
def signed(source: Path, stage: Stage, workspace: Workspace) -> Iterator[Path]:
    """The image, or where Fingerprints wants keys to have signed it a copy that is checked. Raises SignatureError.

    Without Fingerprints a signature that is not good is worth a warning.
    """
    wanted = stage.value("fingerprints")
    if not wanted:
        fingerprints.warn_unless_good(source)
        yield source
        return
    copy = workspace.directory / "signed.sif"
    try:
        fingerprints.checked_copy(source, fingerprints.parse(wanted), copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def source_digest(stage: Stage) -> str | None:
    """The digest of the image file; for a directory, of what the file system says about all that is in it.

    None where signatures count: a key can have been revoked since the last build.
    """
    return None if "fingerprints" in stage.header else digest(Path(stage.value("from")))


def digest(source: Path) -> str | None:
    """What an image is now; None for a directory that cannot be read. Raises FileError."""
    if not source.is_dir():
        return digests.of_file(source)
    try:
        return digests.by_status(source, changes=True).digest
    except FileError:
        return None


def fill(source: Path, root: Path) -> None:
    """Copies a directory, or unpacks an image file, into a directory. Raises ImageError, FileError and ToolError."""
    image = identify(source)
    with console.working(f"unpacking {source}"):
        _fill(image, source, root)


def _fill(image: Image, source: Path, root: Path) -> None:
    if image.root.format is Format.DIRECTORY:
        if root.resolve().is_relative_to(source.resolve()):
            raise ImageError(f"{source}: the working directory lies in it", hint="name another with --tmpdir")
        copy_tree(image.path, root)
        given = 0 if kernel.is_initial_user_namespace() else _give_to_root(image.path, root)
        if given:
            what = "%s: %d files belong to others there, and now to root: you have no ids for others"
            logger.warning(what, source, given)
    elif image.root.format is Format.SQUASHFS and base.of(image) is None:
        purpose = f"unpack {image.path}"
        squashfs.unpack(image.path, image.root.offset, root, purpose=purpose, through=emulation.words())
    else:
        with contents.tree(image) as tree:
            unpack(tree, root, name=source)
        if base.of(image) is not None:
            layered.fill_zeros(base.chain(image), root)


def copy_tree(source: Path, target: Path) -> None:
    """All that cp can keep, and where the file system can, without copying data. Raises ToolError.

    Where there is one user only, everything becomes root's.
    """
    how = "--preserve=mode,timestamps,links,xattr" if kernel.maps_one_id() else "--archive"
    words = ["cp", "--recursive", "--no-dereference", how, "--reflink=auto", "--no-target-directory", "--"]
    run([*words, source, target], purpose=f"copy {source}")


def _give_to_root(source: Path, root: Path) -> int:
    """Gives root the files whose owners have no id in this user namespace; returns how many.

    Left as they are, they would belong to `nobody` in the image too, the id that the kernel shows for them and that may
    have files of its own. Links and the like go with the directory they are in.
    """
    given = 0
    for above, _, names, fd in os.fwalk(root, follow_symlinks=False):
        place = source / Path(above).relative_to(root)
        foreign = os.fstat(fd).st_uid == kernel.OVERFLOW and _is_foreign(place)
        if foreign:
            os.chown(fd, 0, 0)
        given += foreign
        for name in names:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if status.st_uid == kernel.OVERFLOW and (
                _is_foreign(place / name) if stat.S_ISREG(status.st_mode) else foreign
            ):
                os.chown(name, 0, 0, dir_fd=fd, follow_symlinks=False)
                given += 1
    return given


def _is_foreign(path: Path) -> bool:
    """Whether a file's owner has no id in this user namespace: the kernel refuses O_NOATIME for such files."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NOATIME | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return True
    return False
