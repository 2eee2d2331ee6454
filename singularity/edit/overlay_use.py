"""Overlay images after use: what their file systems no longer need is given back, and those of SIF files are sealed."""

import logging
import os
import subprocess
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from singularity import files, process
from singularity.build import pack, reproducible, writers
from singularity.edit.overlay import is_writable, refuse_signed
from singularity.errors import FileError, ImageError
from singularity.image import opened
from singularity.image.archive import sparse, tar_writer
from singularity.image.ext import reader as ext_reader
from singularity.image.ext import tools as ext
from singularity.image.identify import Format
from singularity.image.sif import edit as sif_edit
from singularity.image.sif import format as sif
from singularity.image.sif.edit import Addition
from singularity.image.sif.format import DataType, Descriptor, Filesystem, PartitionType
from singularity.image.tree import Entry, Kind, Member, Tree

logger = logging.getLogger(__name__)

_OPAQUE = (b"trusted.overlay.opaque", b"user.overlay.opaque")
"""A directory that hides those below it: for root's overlays, and for those of user namespaces."""
_OPAQUE_FUSE = (b"user.fuseoverlayfs.opaque", b"user.containers.overlay.opaque")
_HIDDEN, _HIDDEN_ALL = b".wh.", b".wh..wh..opq"  # of fuse-overlayfs, where it can make no device


class _Place(NamedTuple):
    fd: int
    offset: int
    size: int


def sync(target: Path) -> None:
    """Mends the file system of an overlay image, or of a SIF file's overlay, and gives the space of what was deleted
    back to the disk. Raises FileError, ImageError and ToolError.
    """
    with _writable(target) as place:
        before = os.fstat(place.fd).st_blocks
        mended = ext.check(place.fd, place.offset, name=str(target), purpose=f"mend {target}", discard=True)
        os.fsync(place.fd)
        freed = (before - os.fstat(place.fd).st_blocks) * 512 >> 20
    logger.info("%s: %s; %d MiB given back to the disk", target, "mended" if mended else "whole", max(0, freed))


@contextmanager
def _writable(target: Path) -> Iterator[_Place]:
    """The ext file system that launches write to, locked."""
    if _is_sif(target):
        with sif_edit.editing(target) as editor:
            found = _overlay(editor)
            yield _Place(editor.fd, found.offset, found.size)
        return
    with opened.opened(target, writable=True) as image:
        if image.image.root.format is not Format.EXT:
            raise ImageError(f"{target}: no overlay image", hint="singularity overlay create makes one")
        yield _Place(image.fd, image.image.root.offset, image.image.root.size)


def _is_sif(target: Path) -> bool:
    with FileError.about(target), target.open("rb") as file:
        return file.read(64)[sif.MAGIC_OFFSET :].startswith(sif.MAGIC)


def _overlay(editor: sif_edit.Editor) -> Descriptor:
    """The overlay that a launch with --writable writes to."""
    overlays = [each for each in editor.content.overlays() if each.partition]
    if not overlays:
        raise ImageError(f"{editor.path}: no overlay partition", hint="singularity overlay create adds one")
    last = overlays[-1]
    if not is_writable(last):
        raise ImageError(f"{editor.path}: its overlay is sealed", hint="singularity overlay create adds another")
    return last


def seal(target: Path, temporary: Path) -> None:
    """Makes the writable overlay of a SIF file a squashfs, which is smaller and read-only.

    The new partition is there before the old one goes. Raises FileError, ImageError and ToolError.
    """
    if not _is_sif(target):
        raise ImageError(f"{target}: no SIF file", hint="an overlay image is used read-only with: --overlay FILE:ro")
    with sif_edit.editing(target) as editor, files.temporary_directory(temporary) as place:
        refuse_signed(editor)
        old = _overlay(editor)
        ext.check(editor.fd, old.offset, name=str(target), purpose=f"mend {target}")
        with open(editor.fd, "rb", closefd=False) as file:
            names = (entry.member.path for entry in ext_reader.read(file, old.offset, old.size))
            opaque = {each.rpartition(b"/")[0] for each in names if each.endswith(b"/" + _HIDDEN_ALL)}
            tree = ext_reader.read(file, old.offset, old.size)
            _pack(_kept(tree, opaque), place / "sealed", f"write {target}")
        new = Addition(
            type=DataType.PARTITION,
            group=old.group,
            alignment=sif.PARTITION_ALIGNMENT,
            extra=_sealed_extra(old),
        )
        with (place / "sealed").open("rb") as packed:
            made = editor.add(new, packed)
        editor.delete(old.id)
    logger.info("Sealed: %s (object %d, %d KiB)", target, made.id, made.size >> 10)


def _sealed_extra(old: Descriptor) -> bytes:
    return sif.partition_extra(Filesystem.SQUASHFS, PartitionType.OVERLAY, "unknown")[:8] + old.extra[8:]


def _kept(tree: Tree, opaque: AbstractSet[bytes]) -> Tree:
    """What of an overlay's file system is the overlay: its upper directory, marks as every kind of overlay reads them.

    `opaque` are the directories in which a file says that they hide those below.
    """
    for entry in tree:
        member = entry.member
        if member.path != b"upper" and not member.path.startswith(b"upper/"):
            continue
        name = member.path.rpartition(b"/")[2]
        if name == _HIDDEN_ALL:
            continue
        if name.startswith(_HIDDEN):
            above = member.path[: -len(name)]
            member = Member(path=above + name[len(_HIDDEN) :], kind=Kind.CHARACTER_DEVICE, mode=0, mtime=member.mtime)
            entry = Entry(member, ())
        hides = member.path in opaque
        yield Entry(_marked(member, hides=hides), entry.data) if hides or member.xattrs else entry


def _marked(member: Member, *, hides: bool) -> Member:
    if not hides and not set(member.xattrs).intersection((*_OPAQUE, *_OPAQUE_FUSE)):
        return member
    kept = {name: value for name, value in member.xattrs.items() if name not in _OPAQUE_FUSE}
    return replace(member, xattrs={**kept, **dict.fromkeys(_OPAQUE, b"y")})


def _pack(tree: Tree, target: Path, purpose: str) -> None:
    argv: list[str | Path] = ["mksquashfs", "-", target, "-tar", "-quiet", *pack.common_arguments(0)]
    argv += [*pack.compression((), purpose), *pack.memory(())]
    environment = reproducible.environment()
    with process.started(argv, purpose=purpose, stdin=subprocess.PIPE, environment=environment) as tool:
        tar_writer.write(_in_blocks(tree), writers.wide(tool))


def _in_blocks(tree: Tree) -> Tree:
    for entry in tree:
        yield entry if entry.member.segments is None else sparse.in_blocks(entry)
