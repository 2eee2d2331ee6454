"""tar archives, written as streams: ustar headers, and pax headers where those cannot hold something."""

import logging
import os
import struct
from collections.abc import Mapping
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.archive import pax
from singularity.image.archive.pax import NANO
from singularity.image.archive.sparse import encoded_map
from singularity.image.archive.tar_header import BLOCK, SUM, USTAR, ZEROS, checksum, padded
from singularity.image.limits import shown
from singularity.image.tree import Entry, Kind, Member, Tree

logger = logging.getLogger(__name__)

_WRITTEN = struct.Struct("100s48s8sc100s8s64x16s155s12x")  # a header, its numbers and its device's together
_TYPES = {
    Kind.FILE: b"0",
    Kind.HARD_LINK: b"1",
    Kind.LINK: b"2",
    Kind.CHARACTER_DEVICE: b"3",
    Kind.BLOCK_DEVICE: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_NAMES = frozenset((b"path", b"linkpath", b"GNU.sparse.name"))  # of records: those that need not be UTF-8


def write(tree: Tree, out: BinaryIO) -> None:
    """Writes a tar archive: ustar headers, and pax headers where those cannot hold something.

    The same tree gives the same bytes. Sockets, which tar has no type for, are counted and left out. Raises OSError as
    `out.write` does, and ImageError when the data of a member is not as long as it was said to be.
    """
    written = sockets = 0
    for entry in tree:
        if entry.member.kind is Kind.SOCKET:
            sockets += 1
            continue
        out.write(made := headers(entry.member))
        written += len(made)
        if entry.member.kind is Kind.FILE:
            written += _write_data(entry, out)
    out.write(bytes(2 * BLOCK + -(written + 2 * BLOCK) % (20 * BLOCK)))  # GNU tar's records of 20 blocks
    if sockets:
        logger.warning("%d sockets are left out: a tar archive cannot hold them", sockets)


def _write_data(entry: Entry, out: BinaryIO) -> int:
    expected = stored_size(entry.member)
    size = 0
    for chunk in entry.data:
        size += len(chunk)
        if size > expected:
            break
        out.write(chunk)
    if size != expected:
        raise ImageError(f"{shown(entry.member.path)}: {size} bytes of data where {expected} were announced")
    out.write(ZEROS[: -size % BLOCK])
    return padded(size)


def stored_size(member: Member) -> int:
    """The bytes of a file's data, its holes left out."""
    return member.size if member.segments is None else sum(each.size for each in member.segments)


def headers(member: Member) -> bytes:
    """All that stands before a member's data: a pax header where needed, its own, and the map of a sparse file."""
    records: dict[bytes, bytes] = {}
    path = b"./" + member.path + (b"/" if member.kind is Kind.DIRECTORY and member.path else b"")
    target = b"./" + member.target if member.kind is Kind.HARD_LINK else member.target
    size = stored_size(member) if member.kind is Kind.FILE else 0
    map_ = b""
    if member.segments is not None:
        map_ = encoded_map(member.segments, member.size)
        size += len(map_)
        records |= {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
        # without "./", which mksquashfs 4.5 takes for a component here
        records |= {b"GNU.sparse.name": member.path, b"GNU.sparse.realsize": b"%d" % member.size}
        above, _, last = path.rpartition(b"/")
        path = above + b"/GNUSparseFile.0/" + last
    prefix, name = _split(path)
    if name is None:
        if member.segments is None:
            records[b"path"] = path
        name = path[:100]
    if len(target) > 100:
        records[b"linkpath"] = target
    seconds, fraction = divmod(member.mtime, NANO)
    if fraction or not 0 <= seconds < 8**11:
        records[b"mtime"] = pax.seconds(member.mtime)
    if max(member.uid, member.gid) >= 8**7 or size >= 8**11:
        numbers = ((b"uid", member.uid, 8**7), (b"gid", member.gid, 8**7), (b"size", size, 8**11))
        records |= {key: b"%d" % value for key, value, limit in numbers if value >= limit}
    if member.xattrs:
        records |= pax.attribute_records(member.xattrs)
    if any(not _is_utf8(records[key]) for key in _NAMES.intersection(records)):
        records[b"hdrcharset"] = b"BINARY"
    own = header(
        name,
        prefix,
        type_=_TYPES[member.kind],
        mode=member.mode,
        uid=member.uid if member.uid < 8**7 else 0,
        gid=member.gid if member.gid < 8**7 else 0,
        size=size if size < 8**11 else 0,
        mtime=seconds if 0 <= seconds < 8**11 else 0,
        target=target[:100],
        device=member.device if member.kind.is_device else 0,
    )
    return _pax(records, path) + own + map_ if records else own


def header(
    name: bytes,
    prefix: bytes,
    *,
    type_: bytes,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    device: int = 0,
) -> bytes:
    """One header with its checksum."""
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    of_device = b"%07o\0%07o\0" % (os.major(device), os.minor(device))
    block = _WRITTEN.pack(name, numbers, b" " * 8, type_, target, USTAR + b"00", of_device, prefix)
    return block[: SUM.start] + b"%06o\0 " % checksum(block) + block[SUM.stop :]


def _split(path: bytes) -> tuple[bytes, bytes | None]:
    """A path, which begins with `./`, as ustar's prefix and name; None where it is too long for them.

    The prefix is never `.` alone: mksquashfs would take that for a directory of this name.
    """
    if len(path) <= 100:
        return b"", path
    slash = path.find(b"/", max(2, len(path) - 101), 156)
    if slash < 0 or slash == len(path) - 1:
        return b"", None
    return path[:slash], path[slash + 1 :]


def _pax(records: Mapping[bytes, bytes], path: bytes) -> bytes:
    if not records:
        return b""
    data = b"".join(pax.record(key, records[key]) for key in sorted(records))
    name = b"./PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2][:80]
    return header(name, b"", type_=b"x", size=len(data)) + data + ZEROS[: -len(data) % BLOCK]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
