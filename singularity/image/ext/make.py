"""Makes ext3 images: an empty one by mke2fs, or one with the files of a tree in it. No mount, no privilege.

mke2fs lays the file system out and our own writer fills it, so that an ordinary user's image is equal to root's:
owners, devices and attributes are only bytes in a file. Without a given size the file system begins small, resize2fs
makes it grow while the tree comes, and at the end it is cut to what the content needs and room for more.
"""

import errno
import hashlib
import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from singularity import files, kernel
from singularity.errors import ImageError
from singularity.image.ext.allocator import FullError
from singularity.image.ext.inodes import Losses
from singularity.image.ext.tools import says_full
from singularity.image.ext.writer import Writer
from singularity.image.tree import Kind, Member, Tree
from singularity.process import call

logger = logging.getLogger(__name__)

LINE = b"#!/usr/bin/env run-singularity\n"  # makes an image file a program
MEBIBYTE = 1 << 20
_FEATURES = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
_SMALL = 16 * MEBIBYTE  # up to here, a journal wants blocks of 1 KiB
_MANY = 512 * MEBIBYTE  # up to here, twice as many inodes
_GROWING_RATIO = 8192
_START, _LIMIT = 128 * MEBIBYTE, 1 << 38  # bytes, of a file system that grows
_ROOM_LEAST, _ROOM_PART = 64 * MEBIBYTE, 4  # what is left free at the end: a fourth of the content, at least this
_JOURNAL = 16  # MiB
_OWN_INODES = 11  # reserved ones, and that of lost+found
_SECOND = 10**9
_CONFIGURATION = b"[defaults]\n\tenable_periodic_fsck = 0\n"  # instead of the machine's: every machine makes the same


def make_empty(
    fd: int, size: int, *, line: bool = True, label: str = "", epoch: int | None = None, purpose: str
) -> None:
    """Makes an empty ext3 file system of `size` bytes in an empty file open for writing, behind the interpreter line.

    `epoch`, in seconds since 1970, makes the same image of the same arguments, always. Raises ImageError for a size
    that is too small, ToolError, OSError.
    """
    shape = _Shape(block=1024 if size < _SMALL else 4096, ratio=_ratio(size))
    _format(fd, size, shape, line=line, epoch=epoch, label=label, purpose=purpose)


def make(
    tree: Tree,
    fd: int,
    *,
    size: int | None = None,
    line: bool = True,
    label: str = "",
    epoch: int | None = None,
    purpose: str = "make the ext3 image",
    name: str = "",
) -> None:
    """Makes an ext3 file system with the files of `tree` in an empty file open for reading and writing.

    `size` is that of the file system in bytes; None: what the content needs, and a fourth more. `name` is the image's,
    for messages. The rest is as for `make_empty`. Raises ImageError, among others when `size` is too small: then the
    whole tree is looked at to say how much it needs.
    """
    offset = len(LINE) if line else 0
    now = epoch * _SECOND if epoch is not None else time.time_ns()
    if size is None:
        shape = _Shape(block=4096, ratio=_GROWING_RATIO, journal=_JOURNAL, most=_LIMIT)
        _format(fd, _START, shape, line=line, epoch=epoch, label=label, purpose=purpose)
    else:
        make_empty(fd, size, line=line, label=label, epoch=epoch, purpose=purpose)
    growth = _Growth(fd, offset, epoch, purpose) if size is None else None
    writer = Writer(fd, offset, size or _START, now=now, grow=growth.double if growth else None, name=name)
    _fill(writer, tree, size, name)
    if growth:
        growth.cut(writer)
    if epoch is not None:
        _fix_times(writer, epoch)
    _warn(writer.losses)


def add(tree: Tree, fd: int, offset: int, size: int, *, epoch: int | None = None, name: str = "") -> None:
    """Adds the files of `tree` to the ext2 or ext3 file system at `offset` of an open file, which nobody else uses.

    `name` is the image's, for messages. Raises ImageError, among others when it has no room, which leaves it marked as
    unfinished; OSError.
    """
    writer = Writer(fd, offset, size, now=epoch * _SECOND if epoch is not None else time.time_ns(), name=name)
    _fill(writer, tree, size, name)
    _warn(writer.losses)


def _fill(writer: Writer, tree: Tree, size: int | None, name: str) -> None:
    needs = Needs(writer.block_size)
    try:
        for entry in tree:
            needs.add(entry.member)
            writer.add(entry)
        writer.finish()
    except FullError as error:
        raise _too_small(tree, needs, size, name) from error


class Needs:
    """How large a file system must be for what it is to hold; counts what is added."""

    def __init__(self, block_size: int = 4096) -> None:
        self._block = block_size
        self.blocks = 0
        self.inodes = _OWN_INODES

    def add(self, member: Member) -> None:
        """Counts a member, and its place in its directory."""
        self.inodes += member.kind is not Kind.HARD_LINK
        if member.kind is Kind.DIRECTORY or len(member.target) >= 60:
            self.blocks += 1
        data = member.size if member.segments is None else sum(each.size for each in member.segments)
        blocks = -(-data // self._block)
        per_block = self._block // 4
        self.blocks += blocks + (1 + blocks // per_block if blocks > 12 else 0)
        self.blocks += sum(len(name) + len(value) for name, value in member.xattrs.items()) > 92

    def size(self) -> int:
        """The size of a file system for it in bytes, with what the file system needs itself: a little too much."""
        data = self.blocks * self._block * 17 // 16
        inodes = self.inodes * _ratio(data + _SMALL)
        size = max(data, inodes) * 17 // 16
        return size + (8 if size < 128 * MEBIBYTE else 40 if size < 1 << 30 else 136) * MEBIBYTE


def _too_small(tree: Tree, needs: Needs, size: int | None, name: str) -> ImageError:
    """The one line for a file system that is full, after counting what else would have come."""
    before = f"{name}: " if name else ""
    if size is None:
        return ImageError(f"{before}the content needs more than {_LIMIT >> 30} GiB", hint="name the image's size")
    for entry in tree:
        needs.add(entry.member)
    wanted = max(-(-needs.size() // MEBIBYTE), size // MEBIBYTE + 1)
    return ImageError(
        f"{before}the content needs about {wanted} MiB and the image has {size // MEBIBYTE} MiB",
        hint="make it larger",
    )


class _Growth:
    """Makes a file system larger, by resize2fs, while it is written."""

    def __init__(self, fd: int, offset: int, epoch: int | None, purpose: str) -> None:
        self.fd, self.offset, self.purpose = fd, offset, purpose
        self.environment = _environment(epoch)
        self.size = _START

    def double(self) -> bool:
        """Twice the size; False beyond what can be."""
        if self.size >= _LIMIT:
            return False
        self.size *= 2
        self._resize()
        return True

    def _resize(self) -> None:
        os.ftruncate(self.fd, max(os.fstat(self.fd).st_size, self.offset + self.size))
        device = f"/proc/self/fd/{self.fd}?offset={self.offset}"
        argv = ["resize2fs", "-f", device, f"{self.size // 1024}K"]
        finished = call(argv, purpose=self.purpose, environment=self.environment, keep=[self.fd])
        if says_full(finished.complaints):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if finished.status != 0:
            raise finished.failure(self.purpose)
        os.ftruncate(self.fd, self.offset + self.size)

    def cut(self, writer: Writer) -> None:
        """Leaves the room that a finished image has."""
        used = writer.allocator.used_blocks() * writer.block_size
        inodes = writer.allocator.used_inodes() * _GROWING_RATIO
        least = max(used, inodes)
        wanted = least + max(_ROOM_LEAST, least // _ROOM_PART)
        wanted += wanted // 32  # inode tables and bitmaps of the groups in that room
        wanted = -(-wanted // MEBIBYTE) * MEBIBYTE
        if wanted < self.size:
            self.size = wanted
            self._resize()
            writer.allocator.reload()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What mke2fs must be told of a file system."""

    block: int  # bytes of a block
    ratio: int  # bytes for each inode
    journal: int = 0  # MiB; 0: as it thinks right
    most: int = 0  # bytes that it must be able to grow to; 0: as it thinks right


def _ratio(size: int) -> int:
    """Bytes for each inode, in a file system of `size` bytes."""
    return 4096 if size < _SMALL else 8192 if size < _MANY else 16384


def _format(
    fd: int,
    size: int,
    shape: _Shape,
    *,
    line: bool,
    epoch: int | None,
    label: str,
    purpose: str,
) -> None:
    offset = len(LINE) if line else 0
    if line:
        os.pwrite(fd, LINE, 0)
    os.ftruncate(fd, offset + size)
    options = [f"offset={offset}", "lazy_itable_init=0", "lazy_journal_init=0", "root_owner=0:0"]
    if shape.most:
        options.append(f"resize={shape.most // shape.block}")
    identity = []
    if epoch is not None:
        unique = _uuid(f"{epoch} {size}")
        options.append(f"hash_seed={unique}")
        identity = ["-U", unique]
    with files.closing(os.memfd_create("mke2fs.conf", os.MFD_CLOEXEC)) as configuration:
        os.write(configuration, _CONFIGURATION)
        environment = {**_environment(epoch), "MKE2FS_CONFIG": f"/proc/self/fd/{configuration}"}
        form = ["-b", str(shape.block), "-I", "256", "-i", str(shape.ratio), "-m", "0", "-O", _FEATURES]
        form += ["-J", f"size={shape.journal}"] if shape.journal else []
        named = [*identity, *(["-L", label] if label else [])]
        place = [f"/proc/self/fd/{fd}", f"{size // 1024}K"]
        argv = ["mke2fs", "-q", "-F", *form, *named, "-E", ",".join(options), *place]
        finished = call(argv, purpose=purpose, environment=environment, keep=[fd, configuration])
    if says_full(finished.complaints):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if finished.status != 0:
        raise finished.failure(purpose)
    _make_holes(fd)


def _make_holes(fd: int) -> None:
    """Gives back what the disk keeps ready for zeros, such as those of the journal."""
    at, size = 0, os.fstat(fd).st_size
    with suppress(OSError):  # ENXIO: no data is left; or a file system without holes
        while True:
            data = os.lseek(fd, at, os.SEEK_DATA)
            if data > at:
                kernel.punch_hole(fd, at, data - at)
            at = os.lseek(fd, data, os.SEEK_HOLE)
    if at < size:
        with suppress(OSError):
            kernel.punch_hole(fd, at, size - at)


def _uuid(text: str) -> str:
    """A UUID that depends on `text` alone (version 8 of RFC 9562)."""
    digits = hashlib.sha256(b"singularity ext3 " + text.encode()).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-8{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"


def _environment(epoch: int | None) -> Mapping[str, str]:
    """What makes e2fsprogs stamp files with a time: an old variable of theirs, and the new one of everybody."""
    return {} if epoch is None else {"E2FSPROGS_FAKE_TIME": str(epoch or 1), "SOURCE_DATE_EPOCH": str(epoch)}


def _fix_times(writer: Writer, epoch: int) -> None:
    """Gives the superblock and its copies one time: when it was made, written and checked."""
    for at in (44, 48, 64, 264):  # mounted, written, checked, made
        writer.allocator.raw_super[at : at + 4] = (epoch if at != 44 else 0).to_bytes(4, "little")
    writer.allocator.flush(clean=True, copies=True)


def _warn(losses: Losses) -> None:
    if losses.times:
        logger.warning("%d files have times that ext3 has no room for: the nearest that it has is taken", losses.times)
    if losses.attributes:
        names = ", ".join(sorted(os.fsdecode(name) for name in losses.attributes))
        logger.warning("Extended attributes that ext3 has no room for are left out: %s", names)
