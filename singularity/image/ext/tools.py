"""ext file systems through e2fsprogs: checked, mended and made larger; never mounted."""

import errno
import logging
import os
import time
from contextlib import suppress

from singularity.errors import ImageError, ToolError
from singularity.image.ext import layout
from singularity.process import call, started

logger = logging.getLogger(__name__)

_CORRECTED, _CORRECTED_MOUNTED, _UNCORRECTED = 1, 2, 4  # bits of the exit status of e2fsck
_PAUSE = 0.0005  # seconds
_INHERITED = 1


def superblock(fd: int, offset: int) -> layout.Superblock:
    """The superblock of the file system at `offset` of an open file. Raises ImageError."""
    room = os.fstat(fd).st_size - offset
    return layout.superblock(os.pread(fd, layout.SUPERBLOCK_SIZE, offset + layout.SUPERBLOCK_AT), room)


def needs_recovery(fd: int, offset: int) -> bool:
    """Whether a program or machine ended while it wrote to the file system at `offset`. Raises ImageError."""
    return superblock(fd, offset).needs_recovery


def says_full(text: str) -> bool:
    """Whether a tool's complaint means that the disk is full: a write that begins within a page ends with it."""
    return "resulted in short write" in text or os.strerror(errno.ENOSPC) in text


def check(fd: int, offset: int, *, name: str, purpose: str, discard: bool = False) -> bool:
    """Checks the file system at `offset` of a file open for writing, and mends it; returns whether it had to be.

    With `discard` blocks that it does not use become holes of the file. Nobody else may use it. Raises ImageError when
    it cannot be mended, ToolError when e2fsck is missing or fails.
    """
    device = f"/proc/self/fd/{fd}?offset={offset}"
    finished = call(["e2fsck", "-f", "-y", *(["-E", "discard"] if discard else []), device], purpose=purpose, keep=[fd])
    if finished.status < 0 or finished.status & ~(_CORRECTED | _CORRECTED_MOUNTED | _UNCORRECTED):
        raise finished.failure(purpose)
    if finished.status & _UNCORRECTED:
        raise ImageError(f"{name}: the file system is damaged, and e2fsck could not mend it")
    return bool(finished.status)


def expand(fd: int, offset: int, more: int, *, purpose: str) -> None:
    """Makes the file system at `offset` of a file open for writing `more` bytes larger, or as large as the file is.

    It must have been checked. Killed, it can leave a file system that e2fsck must mend: the file is a copy that takes
    the image's place when this is done. Raises ToolError, and OSError when there is no room on the disk.
    """
    found = superblock(fd, offset)
    before = os.fstat(fd).st_size
    _refuse_full_disk(fd, found, more)
    blocks = max(found.blocks + more // found.block_size, (before - offset) // found.block_size)
    end = offset + blocks * found.block_size
    # resize2fs cuts a file that is longer than the file system, without the offset in mind: it must find a file that is
    # not longer. It looks once, at its start; the rest is there before it writes the superblock.
    os.ftruncate(fd, max(end - offset, offset + found.blocks * found.block_size))
    device = f"/proc/self/fd/{fd}?offset={offset}"
    argv = ["resize2fs", "-f", device, f"{blocks * found.block_size // 1024}K"]
    try:
        with started(argv, purpose=purpose, keep=[fd]) as resize:
            _wait_until_open(resize.pid, fd)
            os.ftruncate(fd, end)
    except ToolError as error:
        with suppress(ImageError, ToolError):  # what it has begun is undone
            check(fd, offset, name="", purpose=purpose)
        if says_full(str(error)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        os.ftruncate(fd, end)
        reached = superblock(fd, offset).blocks
        os.ftruncate(fd, before if reached == found.blocks else offset + reached * found.block_size)


def _refuse_full_disk(fd: int, found: layout.Superblock, more: int) -> None:
    """Raises OSError where the disk has no room for what a larger file system writes of its own: tables and bitmaps."""
    group = found.inodes_per_group * found.inode_size + 4 * found.block_size
    needed = (more // (found.blocks_per_group * found.block_size) + 1) * group
    disk = os.fstatvfs(fd)
    if disk.f_bavail * disk.f_frsize < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _wait_until_open(process: int, fd: int) -> None:
    """Waits until a process that inherited `fd` has opened the same file twice more, or has ended."""
    name, directory = os.readlink(f"/proc/self/fd/{fd}"), f"/proc/{process}/fd"
    while True:
        try:
            names = [os.readlink(f"{directory}/{each}") for each in os.listdir(directory)]
        except OSError:  # it closed one meanwhile, or has ended, or become another program
            names = [name] if os.path.exists(directory) else []
        if not names or names.count(name) > _INHERITED + 1:
            return
        time.sleep(_PAUSE)
