"""Which SIF files are encrypted, and how; and what makes one of a file that is not.

The primary partition is a squashfs with two files: `gocryptfs.conf`, and one whose name begins with `squashfs-`, which
is the encrypted root file system. What else a SIF file holds (definition, labels, scripts) is not encrypted.
"""

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from singularity import files
from singularity.errors import ImageError
from singularity.image.identify import open_path
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Filesystem

_PEM, _RSA_OAEP = 2, 0x200  # as descriptors number the form and the kind of messages
MESSAGE_EXTRA = struct.pack("<ii", _PEM, _RSA_OAEP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """An encrypted image; offset and size of its primary partition in bytes."""

    path: Path
    offset: int
    size: int
    message: bytes | None  # the passphrase, as a key of RSA opens it


def find(path: Path) -> Sealed | None:
    """What is to be known of an encrypted image; None for all else, whole or damaged.

    Raises ImageError for one that is encrypted in a way that nobody opens without root, and FileError.
    """
    with files.closing(open_path(path)) as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        if os.pread(fd, len(sif.MAGIC), sif.MAGIC_OFFSET) != sif.MAGIC:
            return None
        with open(fd, "rb", closefd=False) as file:
            try:
                content = sif.read(file)
            except ImageError:  # whoever reads it next says so
                return None
            primary = content.primary()
            kind = primary.partition.filesystem if primary and primary.partition else 0
            if primary is None or kind not in (Filesystem.ENCRYPTED_SQUASHFS, Filesystem.GOCRYPTFS_SQUASHFS):
                return None
            if kind == Filesystem.ENCRYPTED_SQUASHFS:
                hint = "build it again: build --encrypt makes one that everybody with the key can run"
                raise ImageError(f"{path}: encrypted by LUKS, which only the kernel opens, for root", hint=hint)
            message = next((each for each in content.descriptors if _is_message(each, primary.id)), None)
            return Sealed(
                path=path,
                offset=primary.offset,
                size=primary.size,
                message=sif.read_object(file, message, limit=1 << 16) if message else None,
            )


def _is_message(each: sif.Descriptor, partition: int) -> bool:
    linked = each.type == DataType.CRYPTOGRAPHIC_MESSAGE and each.link == partition and not each.links_group
    return linked and each.extra.ljust(len(MESSAGE_EXTRA), b"\0") == MESSAGE_EXTRA
