"""Hash trees, by which each block of a file system is checked when it is read, and not the whole before.

The format is that of dm-verity, version 1, with its superblock and without salt: SHA-256, blocks of 4096 bytes of data
and of digests (the kernel's Documentation/admin-guide/device-mapper/verity.rst). `veritysetup verify` reads it.
"""

import hashlib
import struct
from collections.abc import Iterable

from singularity.errors import ImageError

BLOCK = 4096
NAME = b"verity"  # of the object in a SIF file
_DIGEST = 32
_SUPERBLOCK = struct.Struct("<8sII16s32sIIQH6x256s168x")
_VERSION, _TYPE = 1, 1


class Growing:
    """A tree of data that comes piece by piece, each but the last a multiple of the block."""

    def __init__(self) -> None:
        self._leaves = bytearray()

    def update(self, piece: bytes) -> None:
        """Takes the next piece."""
        view = memoryview(piece)
        self._leaves += b"".join(
            hashlib.sha256(view[start : start + BLOCK]).digest() for start in range(0, len(piece), BLOCK)
        )

    def finish(self) -> tuple[str, bytes]:
        """The root, `sha256:HEX`, and the bytes that are stored: superblock, levels from the top."""
        count = len(self._leaves) // _DIGEST
        levels: list[bytes] = []
        digests = bytes(self._leaves)
        while len(digests) > _DIGEST:
            level = digests.ljust(-(-len(digests) // BLOCK) * BLOCK, b"\0")
            levels.append(level)
            digests = b"".join(_blocks(level))
        superblock = _SUPERBLOCK.pack(
            b"verity", _VERSION, _TYPE, digests[:16], b"sha256", BLOCK, BLOCK, count, 0, b""
        )  # its UUID is made of the root: the same data gives the same bytes
        return f"sha256:{digests.hex()}", superblock.ljust(BLOCK, b"\0") + b"".join(reversed(levels))


def _blocks(level: bytes) -> Iterable[bytes]:
    return (hashlib.sha256(level[start : start + BLOCK]).digest() for start in range(0, len(level), BLOCK))


def size_for(size: int) -> int:
    """How many bytes the tree of so many bytes has. Raises ImageError where they can have none."""
    if size <= 0 or size % BLOCK:
        raise ImageError(f"its {size} bytes are no multiple of {BLOCK}", hint="build it again")
    count, total = size // BLOCK, BLOCK
    while count > 1:
        count = -(-count // (BLOCK // _DIGEST))
        total += count * BLOCK
    return total
