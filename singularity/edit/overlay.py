"""Overlay images: an ext3 file system whose `upper` takes what containers write, by itself or as part of a SIF file."""

import os
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from singularity import files, process
from singularity.errors import FileError, ImageError, UsageError
from singularity.image import base
from singularity.image.ext import make as make_ext
from singularity.image.sif import edit as sif_edit
from singularity.image.sif import format as sif
from singularity.image.sif.edit import Addition
from singularity.image.sif.format import DataType, Descriptor, Filesystem, PartitionType
from singularity.image.tree import Entry, Kind, Member, Tree

SMALLEST = 64  # MiB
_LARGEST = 16 << 20  # MiB: 16 TiB, what ext3 can have
_PURPOSE = "make an overlay image"
_MODE = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """What was asked for."""

    size: int = SMALLEST  # MiB
    sparse: bool = False  # space is taken when it is written to
    directories: tuple[PurePosixPath, ...] = ()  # to be there from the beginning; absolute paths in the container
    fakeroot: bool = False  # owned by root, for containers whose root is the caller; else owned by the caller

    def __post_init__(self) -> None:
        if not SMALLEST <= self.size <= _LARGEST:
            raise UsageError(f"an overlay of {self.size} MiB", hint=f"from {SMALLEST} to {_LARGEST} MiB")


def directory(word: str) -> PurePosixPath:
    """A directory of the container, from a word of the command line. Raises UsageError."""
    path = PurePosixPath("/", word)
    if not path.parts[1:] or ".." in path.parts or "\0" in word:
        raise UsageError(f'"{word}" is no directory that can be made in an overlay')
    return path


def create(target: Path, overlay: Overlay) -> None:
    """Makes a new file, or adds an overlay partition to the SIF file that `target` is.

    Raises FileError, ImageError and ToolError.
    """
    if target.exists():
        _add_to_sif(target, overlay)
        return
    with files.replacing(target, overwrite=False, mode=_MODE) as new:
        _make(overlay, new.path, new.fd, 0)


def _add_to_sif(target: Path, overlay: Overlay) -> None:
    if target.is_dir():
        raise FileError(f"{target}: a directory", hint="name a new file, or a SIF file")
    with FileError.about(target), target.open("rb") as file:
        is_sif = file.read(64)[sif.MAGIC_OFFSET :].startswith(sif.MAGIC)
    if not is_sif:
        raise FileError(f"{target}: exists, and is no SIF file", hint="overlays are added to SIF files only")
    with sif_edit.editing(target) as editor:
        primary = _refuse(editor, target)
        architecture = primary.partition.architecture if primary.partition else sif.NO_ARCHITECTURE
        new = Addition(
            type=DataType.PARTITION,
            group=primary.group,
            alignment=sif.PARTITION_ALIGNMENT,
            extra=sif.partition_extra(Filesystem.EXT3, PartitionType.OVERLAY, sif.architecture_name(architecture)),
        )
        with editor.space_for(new) as space:
            _make(overlay, space.path, space.fd, space.offset)


def _refuse(editor: sif_edit.Editor, target: Path) -> Descriptor:
    """The primary partition of a file that an overlay can be added to."""
    content = editor.content
    primary = content.primary()
    if primary is None:
        raise ImageError(f"{target}: no primary system partition, which an overlay would lie over")
    if primary.name.startswith(base.MARK):
        hint = "--overlay FILE lays one over it, singularity flatten makes a whole image"
        raise ImageError(f"{target}: only what differs from its base, and no place for an overlay", hint=hint)
    refuse_signed(editor)
    if any(each.group == primary.group and is_writable(each) for each in content.overlays()):
        raise ImageError(f"{target}: has an overlay partition already", hint="singularity sif list and sif del")
    return primary


def refuse_signed(editor: sif_edit.Editor) -> None:
    """Raises ImageError for a file whose signatures would not fit any more."""
    if editor.content.find(DataType.SIGNATURE):
        what = f"SIF image {editor.path} is signed: could not add writable overlay"
        raise ImageError(what, hint="its signatures would not fit any more; an overlay of its own does: --overlay FILE")


def is_writable(partition: Descriptor) -> bool:
    """Whether launches can write to an overlay partition; else it is sealed."""
    return partition.partition is not None and partition.partition.filesystem == Filesystem.EXT3


def _make(overlay: Overlay, path: str, fd: int, offset: int) -> None:
    """The file system, `offset` bytes into an open file which ends there."""
    size = overlay.size << 20
    extended = [f"offset={offset}", "lazy_itable_init=0"]
    if not overlay.sparse:
        os.posix_fallocate(fd, offset, size)
        extended.append("nodiscard")  # mke2fs would give the space back
    os.ftruncate(fd, offset + size)
    argv = ["mke2fs", "-q", "-F", "-t", "ext3", "-b", "4096", "-m", "0", "-E", ",".join(extended)]
    process.run([*argv, path, f"{overlay.size}M"], purpose=_PURPOSE, keep=[fd])
    make_ext.add(_tree(overlay), fd, offset, size)


def _tree(overlay: Overlay) -> Tree:
    """The directories of an overlay, each after the one that it is in, as kernels and FUSE programs want them."""
    uid, gid = (0, 0) if overlay.fakeroot else (os.geteuid(), os.getegid())
    wanted = [PurePosixPath("upper", str(each).lstrip("/")) for each in overlay.directories]
    parts = dict.fromkeys(part for path in wanted for part in (*reversed(path.parents), path))
    names = ["", "upper", "work", *(str(each) for each in parts if str(each) not in (".", "upper"))]
    now = time.time_ns()
    for name in names:
        yield Entry(Member(path=os.fsencode(name), kind=Kind.DIRECTORY, mode=0o755, uid=uid, gid=gid, mtime=now))
