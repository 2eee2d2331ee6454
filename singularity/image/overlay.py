"""Overlay images: an ext3 file system whose `upper` takes what containers write, by itself or as part of a SIF file."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from singularity import files, process
from singularity.errors import FileError, ImageError, UsageError
from singularity.image import sif, sif_edit
from singularity.image.sif import DataType, Descriptor, Filesystem, PartitionType
from singularity.image.sif_edit import Addition

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
    if not path.parts[1:] or ".." in path.parts or any(letter in word for letter in '\0\n"'):
        raise UsageError(f'"{word}" is no directory that can be made in an overlay')
    return path


def create(target: Path, overlay: Overlay, temporary: Path) -> None:
    """Makes a new file, or adds an overlay partition to the SIF file that `target` is.

    `temporary` is where a directory is made for a moment. Raises FileError, ImageError and ToolError.
    """
    with files.temporary_directory(temporary) as place:
        tree = place / "overlay"
        _prepare(tree, overlay)
        if target.exists():
            _add_to_sif(target, overlay, tree)
        else:
            with files.replacing(target, overwrite=False, mode=_MODE) as new:
                _make(tree, overlay, new.path, new.fd, 0)


def _prepare(tree: Path, overlay: Overlay) -> None:
    """What mke2fs copies: owners and modes as they are to be."""
    tree.mkdir(mode=0o755)
    tree.chmod(0o755)
    for name in _directories(overlay):
        made = tree / name
        made.mkdir()
        made.chmod(0o755)


def _directories(overlay: Overlay) -> list[str]:
    """Relative paths of all directories in the file system, each after the one that it is in."""
    wanted = [PurePosixPath("upper", str(each).lstrip("/")) for each in overlay.directories]
    made = dict.fromkeys(part for path in wanted for part in (*reversed(path.parents), path))
    return ["upper", "work", *(str(each) for each in made if str(each) not in (".", "upper"))]


def _add_to_sif(target: Path, overlay: Overlay, tree: Path) -> None:
    if target.is_dir():
        raise FileError(f"{target}: a directory", hint="name a new file, or a SIF file")
    try:
        with target.open("rb") as file:
            is_sif = file.read(64)[sif.MAGIC_OFFSET :].startswith(sif.MAGIC)
    except OSError as error:
        raise FileError.because(target, error) from error
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
            _make(tree, overlay, space.path, space.fd, space.offset)


def _refuse(editor: sif_edit.Editor, target: Path) -> Descriptor:
    """The primary partition of a file that an overlay can be added to."""
    content = editor.content
    primary = content.primary()
    if primary is None:
        raise ImageError(f"{target}: no primary system partition, which an overlay would lie over")
    if content.find(DataType.SIGNATURE):
        what = f"SIF image {target} is signed: could not add writable overlay"
        raise ImageError(what, hint="its signatures would not fit any more; an overlay of its own does: --overlay FILE")
    if any(each.group == primary.group for each in content.overlays()):
        raise ImageError(f"{target}: has an overlay partition already", hint="singularity sif list and sif del")
    return primary


def _make(tree: Path, overlay: Overlay, path: str, fd: int, offset: int) -> None:
    """The file system, `offset` bytes into an open file which ends there."""
    size = overlay.size << 20
    extended = [f"offset={offset}", "lazy_itable_init=0"]
    if not overlay.sparse:
        os.posix_fallocate(fd, offset, size)
        extended.append("nodiscard")  # mke2fs would give the space back
    os.ftruncate(fd, offset + size)
    argv: list[str | Path] = ["mke2fs", "-q", "-F", "-t", "ext3", "-b", "4096", "-m", "0", "-d", tree]
    process.run([*argv, "-E", ",".join(extended), path, f"{overlay.size}M"], purpose=_PURPOSE, keep=[fd])
    if overlay.fakeroot:
        _give_to_root(tree, overlay, f"{path}?offset={offset}", fd)


def _give_to_root(tree: Path, overlay: Overlay, device: str, fd: int) -> None:
    """Sets the owner inside the file system: outside, only root could."""
    commands = tree.with_name("commands")
    names = _directories(overlay)
    lines = [f'set_inode_field "/{name}" {key} 0\n' for name in ("", *names) for key in ("uid", "gid")]
    commands.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    process.run(["debugfs", "-w", "-f", commands, device], purpose=_PURPOSE, keep=[fd])
