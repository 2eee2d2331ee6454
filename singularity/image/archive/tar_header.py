"""Headers of tar archives: blocks of 512 bytes with text, numbers and a checksum; v7, ustar and GNU."""

import struct
from typing import NamedTuple
from zlib import adler32

from singularity.errors import ImageError
from singularity.image.limits import shown

BLOCK = 512
ZEROS = bytes(BLOCK)
SUM = slice(148, 156)  # of a header: its checksum, counted as blanks
GNU, USTAR, _STAR = b"ustar  \0", b"ustar\0", b"tar\0"
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")


class Header(NamedTuple):  # made in a fifth of a frozen dataclass's time, and there may be millions
    """One header; `stored` bytes of data follow it."""

    path: bytes
    mode: bytes
    uid: bytes
    gid: bytes
    stored: int
    mtime: bytes
    type: bytes
    target: bytes
    magic: bytes
    major: bytes
    minor: bytes
    block: bytes

    @classmethod
    def read(cls, block: bytes, position: int) -> "Header":
        """The header in a block at this place of the archive. Raises ImageError for what is none."""
        path, mode, uid, gid, size, mtime, said, kind, target, magic, _, _, major, minor, prefix = _HEADER.unpack(block)
        if not is_sum(block, number(said, "checksum")):
            what = f"no header at byte {position}, where one is due: wrong checksum"
            raise ImageError(what, hint="damaged, or no tar archive")
        path = text(path)
        if magic[:6] == USTAR and prefix[0]:
            if block[508:512] == _STAR:
                prefix = prefix[:131]
            if prefix[0]:
                path = text(prefix) + b"/" + path
        stored = number(size, "size")
        if stored < 0:
            raise ImageError(f"{shown(path)}: a negative size")
        return cls(path, mode, uid, gid, stored, mtime, kind, text(target), magic, major, minor, block)


def is_sum(block: bytes, expected: int) -> bool:
    """Whether this is the checksum of a header: of its bytes as they are, or, in very old archives, as signed ones."""
    if checksum(block) - sum(block[SUM]) + 256 == expected:
        return True
    signed = memoryview(block).cast("b")
    return sum(signed) - sum(signed[SUM]) + 256 == expected


def checksum(block: bytes) -> int:
    """The sum of a header's bytes: of 256 at a time, Adler-32 has it in its lower half, and one more, soonest."""
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def text(data: bytes) -> bytes:
    """A field up to its first zero byte."""
    return data.partition(b"\0")[0]


def padded(size: int) -> int:
    """The bytes that data takes in an archive."""
    return size + -size % BLOCK


def number(data: bytes, what: str) -> int:
    """A field of octal digits, or in base 256 as GNU tar writes what digits cannot hold; 0 for an empty one."""
    digits = data.rstrip(b"\0 ")
    if not digits.isdigit():
        digits = data.partition(b"\0")[0].strip(b" ")
    if digits.isdigit():
        try:
            return int(digits, 8)
        except ValueError:
            pass
    elif not digits:
        return 0
    if data[0] == 0x80:
        return int.from_bytes(data[1:], "big")
    if data[0] == 0xFF:
        return int.from_bytes(data, "big", signed=True)
    raise ImageError(f"a header whose {what} is no number: damaged")
