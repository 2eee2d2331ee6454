"""What an image file is, by its content; names and suffixes mean nothing.

The C half has its own recognisers, in `launcher/image/`; both are given the same images in tests.
"""

import errno
import os
import stat
from enum import Enum
from pathlib import Path
from typing import BinaryIO, NamedTuple

from singularity import files
from singularity.errors import FileError, ImageError
from singularity.image.sif import format as sif
from singularity.image.superblock import is_erofs, is_ext, is_squashfs

_NO_IMAGES = {
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISBLK: "a block device",
    stat.S_ISCHR: "a character device",
}
_DECRYPTED = "launches and build take a key to it; build --sandbox makes a directory of it"
_LINE_LIMIT, _HEAD_SIZE = 128, 512  # bytes of an interpreter line, and of what is looked at first


class EncryptedError(ImageError):
    """An image whose files only a key opens."""


class Format(Enum):
    """The kinds of images."""

    DIRECTORY = "directory"
    SIF = "SIF file"
    SQUASHFS = "squashfs file"
    EXT = "ext file system"
    EROFS = "read-only EROFS file"
    TAR = "tar archive"
    CPIO = "cpio archive"
    COMPRESSED = "compressed file"

    @property
    def is_archive(self) -> bool:
        """Whether it must be unpacked before anything else."""
        return self in (Format.TAR, Format.CPIO, Format.COMPRESSED)


class Partition(NamedTuple):
    """A file system in an image; offset and size in bytes."""

    format: Format
    offset: int = 0
    size: int = 0  # 0 for a directory


class Image(NamedTuple):
    """A recognised image."""

    path: Path
    format: Format
    root: Partition
    overlays: tuple[Partition, ...] = ()  # overlay partitions of a SIF file, in file order
    architecture: str = ""  # as SIF names it, where the image says
    content: sif.Sif | None = None  # of a SIF file


def identify(path: Path) -> Image:
    """Recognises an image. Raises FileError when it cannot be read, ImageError when it is no image or is damaged."""
    with files.closing(open_path(path)) as fd:
        return identify_open(fd, path)


def identify_open(fd: int, path: Path) -> Image:
    """Recognises what `open_path` opened. Raises ImageError."""
    if stat.S_ISDIR(os.fstat(fd).st_mode):
        return Image(path=path, format=Format.DIRECTORY, root=Partition(format=Format.DIRECTORY))
    with open(fd, "rb", closefd=False) as file:
        return recognise(file, path)


def open_path(path: Path, *, writable: bool = False, missing: str = "") -> int:
    """A descriptor of the file or directory that may be an image; `missing` is the hint where there is nothing.

    Waits for nobody, and asks a device for nothing. Raises FileError and ImageError, in the words of the launcher
    (`launcher/image/image.c`).
    """
    refused = "a directory above it is closed to you"
    try:
        mode = path.stat().st_mode
        kind = next((what for is_kind, what in _NO_IMAGES.items() if is_kind(mode)), None)
        if kind:
            raise ImageError(f"{path}: {kind}, not an image")
        if stat.S_ISDIR(mode):
            refused = "you may not enter this directory"
            return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        refused = "you may not write to it" if writable else "you may not read it"
        access = os.O_RDWR if writable else os.O_RDONLY
        return os.open(path, access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise FileError.missing(path, hint=missing) from error
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise FileError(f"{path}: {refused}: {error.strerror}") from error
        raise FileError.because(path, error) from error


def recognise(file: BinaryIO, path: Path) -> Image:
    """Recognises an open image file, which `path` stands for in messages. Raises ImageError."""
    try:
        return _recognise(file, path)
    except ImageError as error:
        raise type(error)(f"{path}: {error.what}", hint=error.hint) from error


def _recognise(file: BinaryIO, path: Path) -> Image:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_SIZE)
    if not head:
        raise ImageError("an empty file, not an image", hint="incomplete download? remove it, pull again")
    if head[sif.MAGIC_OFFSET : sif.MAGIC_OFFSET + len(sif.MAGIC)] == sif.MAGIC:
        return _sif(file, path)
    offset = _interpreter_line(head)
    for kind, there in ((Format.SQUASHFS, is_squashfs), (Format.EXT, is_ext), (Format.EROFS, is_erofs)):
        if there(file, offset, size - offset):
            return Image(path=path, format=kind, root=Partition(format=kind, offset=offset, size=size - offset))
    for at, magic, kind in _ARCHIVES:
        if head[at : at + len(magic)] == magic:
            return Image(path=path, format=kind, root=Partition(format=kind, size=size))
    _refuse_recipe(head, path.name)
    if head.startswith(b"<"):
        raise ImageError("a web page, not an image", hint="the download went wrong: remove the file, pull again")
    raise ImageError("unknown format", hint="known are directories, SIF, squashfs, ext3, EROFS and archive files")


def _refuse_recipe(head: bytes, name: str) -> None:
    """Says of what an image is built from that it is no image yet, in the words of the C half."""
    lines = head.split(b"\n")
    if name.endswith(".def") or any(line.startswith((b"Bootstrap:", b"BootStrap:", b"bootstrap:")) for line in lines):
        hint = f"build it first: singularity build IMAGE.sif {name}"
        raise ImageError("a definition file, not an image", hint=hint)
    if name.startswith("Dockerfile") or any(line.startswith(b"FROM ") for line in lines):
        hint = f"build it first: singularity build IMAGE.sif {name}"
        raise ImageError("a Dockerfile, not an image", hint=hint)


def _interpreter_line(head: bytes) -> int:
    """Where a file system begins: behind a first line `#!...`, as in images that run as programs, else at 0."""
    return head.find(b"\n", 0, _LINE_LIMIT) + 1 if head.startswith(b"#!") else 0


def _sif(file: BinaryIO, path: Path) -> Image:
    content = sif.read(file)
    primary = content.primary()
    if primary is None:
        if content.find(sif.DataType.OCI_ROOT_INDEX):
            raise ImageError("an OCI-SIF: cannot be used", hint="it has no root file system of its own")
        raise ImageError("SIF without a primary system partition: data only, nothing to launch")
    overlays = [each for each in content.overlays() if each.group == primary.group]
    partition = primary.partition
    return Image(
        path=path,
        format=Format.SIF,
        root=_confirmed(file, primary),
        overlays=tuple(_confirmed(file, each) for each in overlays),
        architecture=sif.architecture_name(partition.architecture) if partition else "",
        content=content,
    )


def _confirmed(file: BinaryIO, descriptor: sif.Descriptor) -> Partition:
    """The partition that a descriptor speaks of, when a file system of the kind it says is there."""
    kind = descriptor.partition.filesystem if descriptor.partition else 0
    known = {
        sif.Filesystem.SQUASHFS: (Format.SQUASHFS, is_squashfs, "squashfs"),
        sif.Filesystem.EXT3: (Format.EXT, is_ext, "ext3"),
    }
    for number, (found, there, name) in known.items():
        if number == kind:
            if not there(file, descriptor.offset, descriptor.size):
                raise ImageError(f"no {name} at byte {descriptor.offset}, where the SIF says there is one")
            return Partition(format=found, offset=descriptor.offset, size=descriptor.size)
    if kind == sif.Filesystem.RAW and is_erofs(file, descriptor.offset, descriptor.size):
        return Partition(format=Format.EROFS, offset=descriptor.offset, size=descriptor.size)
    what = (
        f"the root file system is of a kind that cannot be used: {_OTHER_FILESYSTEMS.get(kind, 'unknown file system')}"
    )
    if kind in (sif.Filesystem.ENCRYPTED_SQUASHFS, sif.Filesystem.GOCRYPTFS_SQUASHFS):
        raise EncryptedError(what, hint=_DECRYPTED)
    raise ImageError(what)


_OTHER_FILESYSTEMS: dict[int, str] = {
    sif.Filesystem.ARCHIVE: "archive",
    sif.Filesystem.RAW: "raw data",
    sif.Filesystem.ENCRYPTED_SQUASHFS: "encrypted squashfs",
    sif.Filesystem.GOCRYPTFS_SQUASHFS: "encrypted squashfs (gocryptfs)",
}
_ARCHIVES = (
    (0, b"\x1f\x8b", Format.COMPRESSED),
    (0, b"BZh", Format.COMPRESSED),
    (0, b"\xfd7zXZ\0", Format.COMPRESSED),
    (0, b"\x28\xb5\x2f\xfd", Format.COMPRESSED),
    (1, b"\x2a\x4d\x18", Format.COMPRESSED),  # zstd again: a frame to be skipped, with any of 16 numbers before
    (0, b"07070", Format.CPIO),
    (0, b"\xc7\x71", Format.CPIO),
    (0, b"\x71\xc7", Format.CPIO),
    (257, b"ustar", Format.TAR),
)
