"""Changes to the content of an image that is there: files copied into it, archives unpacked over it.

An archive is unpacked over a copy of an image file, which takes its place at the end: root's through a mount of the
kernel, an ordinary user's by a writer of our own, every owner kept. What `copy` copies, root has in place.
"""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from singularity import files, kernel
from singularity.build import platform_files, streaming
from singularity.console import VERBOSE
from singularity.edit import links, mounted, staged_copy
from singularity.errors import FileError, ImageError, ToolError
from singularity.image.archive.policy import Policy
from singularity.image.archive.unpack import unpack
from singularity.image.ext import make as make_ext
from singularity.image.ext import reader as ext_reader
from singularity.image.ext import tools as ext
from singularity.image.ext.allocator import is_known
from singularity.image.identify import Format
from singularity.image.opened import Opened
from singularity.image.root import Root
from singularity.image.tree import Entry, Tree
from singularity.variables import handed_on

logger = logging.getLogger(__name__)


def check_writable(image: Opened) -> None:
    """Raises FileError for an image whose content is fixed."""
    if image.image.format not in (Format.DIRECTORY, Format.EXT):
        what = f"{image.path}: a {image.image.format.value} cannot be changed"
        raise FileError(what, hint="make a directory of it, and an image of that in the end: singularity build")


def runs(words: Sequence[str]) -> list[list[str]]:
    """The words of one run of cp, or of two: what is to be `/singularity` goes through the link that images have there,
    as in version 2; links on the way are followed by us, within the image, and never by cp."""
    *sources, target = words
    scripts = [
        word
        for word in sources
        if not word.startswith("-") and PurePosixPath(word).name == "singularity" and not Path(word).is_dir()
    ]
    if not scripts or os.path.normpath(f"/./{target}") != "/":
        return [list(words)]
    others = [word for word in sources if word not in scripts]
    options = [word for word in others if word.startswith("-")]
    return [*([[*others, target]] if others != options else []), [*options, scripts[-1], "/singularity"]]


def copy(image: Opened, words: Sequence[str], temporary: Path) -> int:
    """Runs `cp` with these words, the last of which is a path in the image; returns its exit status.

    However links of the image lead, nothing is written outside it. Raises CannotMountError, FileError and ToolError.
    """
    program = shutil.which("cp", path=os.defpath)
    if program is None:
        raise ToolError("cp not found", hint="install coreutils")
    argv = [program, *words]
    try:
        return _copy_mounted(image, argv, temporary)
    except mounted.CannotMountError as error:
        if image.image.format is Format.DIRECTORY:
            raise
        logger.log(VERBOSE, "A copy of the image is made: %s", error)
    return _copy_staged(image, argv, temporary)


def _copy_mounted(image: Opened, argv: Sequence[str], temporary: Path) -> int:
    with (
        mounted.mounted(image, writable=True, temporary=temporary) as root,
        mounted.without_links(root, temporary) as plain,
    ):
        with Root(root) as inside:
            target = destination(inside, argv[-1])
        return mounted.run([*argv[:-1], f"{plain}{target}"], environment=handed_on())


def _copy_staged(image: Opened, argv: Sequence[str], temporary: Path) -> int:
    _refuse_unknown(image)
    with files.temporary_directory(temporary) as place:
        root = place / "root"
        root.mkdir()
        status, likeness = staged_copy.copy(_content(image.fd, image), _content(image.fd, image), argv, root)
        with rewritten(image) as new:
            _make_whole(new, image)
            part = image.image.root
            make_ext.add(likeness.changes(), new, part.offset, part.size, name=str(image.path))
    return status


def destination(root: Root, path: str) -> str:
    """The path in an image with all links resolved; its last component may be missing. Raises FileError."""
    found = root.real_path(path)
    if found is not None:
        return found
    pure = PurePosixPath("/", path)
    there = root.status(path.rstrip("/"), follow=False)
    if there is not None:
        what = "a link to nothing" if stat.S_ISLNK(there.st_mode) else "not a directory"
        raise FileError(f"{path}: {what} in the image")
    parent = root.real_path(str(pure.parent))
    if parent is None or pure.name == "..":
        raise FileError(f"{pure.parent}: no such directory in the image")
    return f"{parent.rstrip('/')}/{pure.name}" + ("/" if path.endswith("/") else "")


def unpack_over(image: Opened, tree: Tree, temporary: Path) -> None:
    """Unpacks a tree over the content of an image, and sees to it that what every container has is there.

    Raises ImageError for a tree that is no good, FileError, and ToolError; then, and when this process is killed, an
    image file is as it was.
    """
    if image.image.format is Format.DIRECTORY:
        _unpack_into(image.path, tree, image)
        return
    if _has_kernel_mounts():
        try:
            with rewritten(image) as new:
                _unpack_mounted(replace(image, fd=new), tree, temporary)
                return
        except mounted.CannotMountError as error:
            logger.log(VERBOSE, "The image is not mounted: %s", error)
    _refuse_unknown(image)
    with rewritten(image) as new:
        _make_whole(new, image)
        part = image.image.root
        found = links.of(_content(new, image))
        make_ext.add(found.followed(tree), new, part.offset, part.size, name=str(image.path))
        with files.temporary_directory(temporary) as place:
            (place / "root").mkdir()
            standard = list(_completion(_content(new, image), place / "root"))
            make_ext.add(iter(standard), new, part.offset, part.size, name=str(image.path))


def restore(image: Opened, temporary: Path) -> None:
    """Sees to it that what every container has is there. Raises as `unpack_over` does.

    Root has it done in place: these are a few files, and what a killed run did not do, the next does.
    """
    if image.image.format is Format.EXT and _has_kernel_mounts():
        with suppress(mounted.CannotMountError):
            _unpack_mounted(image, iter(()), temporary)
            return
    unpack_over(image, iter(()), temporary)


def _has_kernel_mounts() -> bool:
    return os.geteuid() == 0 and kernel.is_initial_user_namespace()


def _unpack_mounted(image: Opened, tree: Tree, temporary: Path) -> None:
    try:
        with mounted.mounted(image, writable=True, temporary=temporary) as root:
            _unpack_into(root, tree, image)
    except FileError as error:
        raise _explained(error, image) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """How far an image has come on its way to a container."""

    is_empty: bool
    has_shell: bool  # at /bin/sh


def state(image: Opened) -> State:
    """Looks into an image. Raises ImageError and FileError."""
    if image.image.format is Format.DIRECTORY:
        with Root(image.path) as root:
            return State(is_empty=not root.names("/"), has_shell=root.status("/bin/sh", follow=False) is not None)
    found, shells, is_empty = links.Links(), set(), True
    for entry in _content(image.fd, image):
        path = entry.member.path
        found.add(entry.member)
        is_empty = is_empty and path in (b"", b"lost+found")
        if path.endswith(b"/sh"):
            shells.add(path)
    return State(is_empty=is_empty, has_shell=found.leads(b"bin") + b"/sh" in shells)


def _refuse_unknown(image: Opened) -> None:
    """Raises ImageError for an ext file system that only the kernel can write to."""
    if not is_known(ext.superblock(image.fd, image.image.root.offset)):
        hint = "as root it works; or make an ext3 image of it: singularity build --format ext3 NEW OLD"
        raise ImageError(
            f"{image.path}: an ext4 file system: only ext2 and ext3 can be written to without root", hint=hint
        )


def _make_whole(fd: int, image: Opened) -> None:
    """Mends a file system that was in use when its machine or program ended, as mounting it would."""
    found = ext.superblock(fd, image.image.root.offset)
    if found.needs_recovery or not found.clean:
        ext.check(fd, image.image.root.offset, name=str(image.path), purpose=f"mend {image.path}")
        logger.info("The file system of %s was mended", image.path)


def _unpack_into(path: Path, tree: Tree, image: Opened) -> None:
    found = links.of_directory(path)
    unpack(found.followed(tree), path, Policy.of_caller(), name=image.path)
    with Root(path) as root:
        platform_files.restore(root)


def _explained(error: FileError, image: Opened) -> FileError:
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
        return FileError(f"{image.path}: no space left in it", hint="singularity expand makes it larger")
    return error


def _content(fd: int, image: Opened) -> Tree:
    part = image.image.root
    with open(fd, "rb", closefd=False) as file:
        yield from ext_reader.read(file, part.offset, part.size)


def _completion(tree: Tree, place: Path) -> Iterator[Entry]:
    """What `restore` makes of a root file system that is only a stream."""
    passing = True

    def watched() -> Iterator[Entry]:
        nonlocal passing
        yield from tree
        passing = False

    for entry in streaming.completed(watched(), place, platform_files.restore):
        if not passing:
            yield entry if isinstance(entry.data, tuple) else Entry(entry.member, tuple(entry.data))


@contextmanager
def rewritten(image: Opened) -> Iterator[int]:
    """An open copy of an image file; at the end it takes the place of the image, which is as it was until then."""
    with files.replacing(image.path.resolve(), overwrite=True, like=image.fd) as new:
        files.copy_data(image.fd, new.fd)
        yield new.fd
