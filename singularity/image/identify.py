"""What an image file is, by its content; names and suffixes mean nothing.

The C half has its own recognisers, in `launcher/image/`; both are given the same images in tests.
"""

import os
import stat
import struct
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from singularity.errors import FileError, ImageError
from singularity.image import sif

_LINE_LIMIT = 512  # bytes of an interpreter line before a file system


class Format(Enum):
    """The kinds of images."""

    DIRECTORY = "directory"
    SIF = "SIF file"
    SQUASHFS = "squashfs file"
    EXT = "ext file system"
    TAR = "tar archive"
    CPIO = "cpio archive"
    COMPRESSED = "compressed file"

    @property
    def is_archive(self) -> bool:
        """Whether it must be unpacked before anything else."""
        return self in (Format.TAR, Format.CPIO, Format.COMPRESSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A recognised image; `root_*` say where its root file system lies, in bytes from the start of the file."""

    path: Path
    format: Format
    root_format: Format
    root_offset: int = 0
    root_size: int = 0  # 0 for a directory
    architecture: str = ""  # as SIF names it, where the image says
    content: sif.Sif | None = None  # of a SIF file


def identify(path: Path) -> Image:
    """Recognises an image. Raises FileError when it cannot be read, ImageError when it is no image or is damaged."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileError.because(path, error) from error
    try:
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            return Image(path=path, format=Format.DIRECTORY, root_format=Format.DIRECTORY)
        if not stat.S_ISREG(mode):
            raise ImageError(f"{path}: neither a file nor a directory")
        with open(fd, "rb", closefd=False) as file:
            return recognise(file, path)
    finally:
        os.close(fd)


def recognise(file: BinaryIO, path: Path) -> Image:
    """Recognises an open image file, which `path` stands for in messages. Raises ImageError."""
    size = file.seek(0, os.SEEK_END)
    head = _at(file, 0, _LINE_LIMIT)
    if head[sif.MAGIC_OFFSET : sif.MAGIC_OFFSET + len(sif.MAGIC)] == sif.MAGIC:
        return _sif(file, path)
    for offset in (_line_length(head), 0):
        for kind, find in ((Format.SQUASHFS, _squashfs_size), (Format.EXT, _ext_size)):
            found = find(file, offset, size, path)
            if found is not None:
                return Image(path=path, format=kind, root_format=kind, root_offset=offset, root_size=found)
    archive = _archive(head)
    if archive:
        return Image(path=path, format=archive, root_format=archive, root_size=size)
    raise ImageError(f"{path}: not an image", hint="known are SIF, squashfs, ext3 and archive files, and directories")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _line_length(head: bytes) -> int:
    return head.find(b"\n") + 1 if head.startswith(b"#!") else 0


def _sif(file: BinaryIO, path: Path) -> Image:
    content = sif.read(file, str(path))
    primary = content.primary()
    if primary is None or primary.partition is None:
        raise ImageError(f"{path}: a SIF file without a root file system")
    kinds = {sif.Filesystem.SQUASHFS: Format.SQUASHFS, sif.Filesystem.EXT3: Format.EXT}
    for filesystem, kind in kinds.items():
        if primary.partition.filesystem == filesystem:
            return Image(
                path=path,
                format=Format.SIF,
                root_format=kind,
                root_offset=primary.offset,
                root_size=primary.size,
                architecture=sif.architecture_name(primary.partition.architecture),
                content=content,
            )
    raise ImageError(
        f"{path}: root file system of kind {primary.partition.filesystem}", hint="squashfs and ext3 are known"
    )


_SQUASHFS = struct.Struct("<4s24xHH8xQ")  # magic, major, minor, bytes used


def _squashfs_size(file: BinaryIO, offset: int, size: int, path: Path) -> int | None:
    head = _at(file, offset, _SQUASHFS.size)
    if len(head) < _SQUASHFS.size or not head.startswith(b"hsqs"):
        return None
    _, major, minor, used = _SQUASHFS.unpack(head)
    if major != 4:
        raise ImageError(f"{path}: squashfs version {major}.{minor} is not known", hint="only 4 is")
    if used > size - offset:
        raise ImageError(
            f"{path}: the file system ends {used - size + offset} bytes after the file", hint="incomplete?"
        )
    return size - offset


def _ext_size(file: BinaryIO, offset: int, size: int, path: Path) -> int | None:
    del path
    return size - offset if _at(file, offset + 1024 + 56, 2) == b"\x53\xef" else None


_ARCHIVES = (
    (0, b"\x1f\x8b", Format.COMPRESSED),
    (0, b"BZh", Format.COMPRESSED),
    (0, b"\xfd7zXZ\0", Format.COMPRESSED),
    (0, b"\x28\xb5\x2f\xfd", Format.COMPRESSED),
    (0, b"07070", Format.CPIO),
    (0, b"\xc7\x71", Format.CPIO),
    (0, b"\x71\xc7", Format.CPIO),
    (257, b"ustar", Format.TAR),
)


def _archive(head: bytes) -> Format | None:
    return next((kind for offset, magic, kind in _ARCHIVES if head[offset : offset + len(magic)] == magic), None)
