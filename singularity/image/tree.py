"""A root file system as a stream: what every reader of a format yields, and every writer takes.

A tree is an iterator of entries. A directory comes before what is in it, though an archive may leave directories out: a
missing one is root's, of mode 0755. A hard link comes after the member that it is another name of. In an archive, a
later entry replaces an earlier one of the same path. Readers check what they read: whoever has a `Member` need not look
at its path again.
"""

import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import BinaryIO, TypeAlias

from singularity.errors import FileError, ImageError


class Kind(Enum):
    """What a member is; the value is the type of file in `st_mode`, which a hard link has none of its own of."""

    DIRECTORY = stat.S_IFDIR
    FILE = stat.S_IFREG
    LINK = stat.S_IFLNK  # symbolic
    HARD_LINK = 0
    CHARACTER_DEVICE = stat.S_IFCHR
    BLOCK_DEVICE = stat.S_IFBLK
    FIFO = stat.S_IFIFO
    SOCKET = stat.S_IFSOCK

    @property
    def is_device(self) -> bool:
        """Whether it has a device number."""
        return self in (Kind.CHARACTER_DEVICE, Kind.BLOCK_DEVICE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a sparse file that is no hole; in bytes."""

    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of a root file system, without its data."""

    path: bytes  # from the root, without leading "/"; no component is empty, "." or ".."; empty: the root itself
    kind: Kind
    mode: int  # permission bits, with setuid, setgid and sticky: at most 0o7777
    uid: int = 0
    gid: int = 0
    mtime: int = 0  # nanoseconds since 1970; negative before
    size: int = 0  # of a FILE, holes included
    segments: tuple[Segment, ...] | None = None  # of a FILE with holes: in order, apart; None: it has none
    target: bytes = b""  # of a LINK, its text; of a HARD_LINK, the path of the member it is another name of
    device: int = 0  # as os.makedev makes it
    xattrs: Mapping[bytes, bytes] = field(default_factory=dict)  # ACLs among them, as system.posix_acl_access


@dataclass(frozen=True, slots=True)
class Entry:
    """A member and its data."""

    member: Member
    data: Iterable[bytes] = ()  # of a FILE: its segments one after another, or all of it; gone when the next entry is


Tree: TypeAlias = Iterator[Entry]


@contextmanager
def reading(file: BinaryIO, what: str) -> Iterator[None]:
    """What a damaged file system makes its reader raise, as ImageError; FileError where `file` cannot be read."""
    try:
        yield
    except OSError as error:
        raise FileError.because(getattr(file, "name", "image"), error) from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise ImageError(f"damaged {what} ({error})") from error
