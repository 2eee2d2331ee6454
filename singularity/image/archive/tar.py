"""tar archives, read as streams: v7, ustar, GNU and pax (POSIX.1-2001), with sparse files and attributes.

A member is a header of 512 bytes and its data, padded to 512. Headers of types `x`, `g`, `L` and `K` say more about the
next member, or about all that follow. Formats: POSIX `pax`, section "ustar Interchange Format"; GNU tar's manual,
appendix "Tar Internals", for its long names, base-256 numbers and sparse files.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.archive import pax, sparse
from singularity.image.archive.pax import NANO, decimal
from singularity.image.archive.stream import Data, Source, device_number, told
from singularity.image.archive.tar_header import BLOCK, SUM, ZEROS, Header, is_sum, number, padded, text
from singularity.image.limits import LIMITS, Limits, link_target, member_path, owner, shown
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

_AT_ONCE = 1 << 16  # bytes of data that are read together with their header
_KINDS = {
    b"\0": Kind.FILE,
    b"0": Kind.FILE,
    b"7": Kind.FILE,  # contiguous
    b"S": Kind.FILE,  # sparse, GNU
    b"1": Kind.HARD_LINK,
    b"2": Kind.LINK,
    b"3": Kind.CHARACTER_DEVICE,
    b"4": Kind.BLOCK_DEVICE,
    b"5": Kind.DIRECTORY,
    b"D": Kind.DIRECTORY,  # with a list of names as data, GNU
    b"6": Kind.FIFO,
}
_EXTENDING = b"xXgLK"
_SPARSE = b"GNU.sparse."


@dataclass(slots=True)
class _Extension:
    """What headers before a member's own say about it."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    pairs: list[bytes] = field(default_factory=list)  # of GNU.sparse 0.0: offsets and sizes in turn
    path: bytes | None = None  # by GNU's long names
    target: bytes | None = None
    size: int = 0  # in bytes, of all these headers


def recognise(head: bytes) -> bool:
    """Whether an archive begins so: a header with its checksum, or nothing but zeros, which is an empty one."""
    if len(head) < BLOCK:
        return False
    if head[257:262] == b"ustar":
        return True
    try:
        return head[:BLOCK] == ZEROS or is_sum(head[:BLOCK], number(head[SUM], "checksum"))
    except ImageError:
        return False


def read(file: BinaryIO, name: str, *, limits: Limits = LIMITS, marked: bool = True) -> Tree:
    """The members of a tar archive; `name` stands in messages.

    Read to its end, with the padding after the two blocks of zeros that mark it; `marked=False` for streams whose
    completeness is known otherwise: they may lack these, and the padding of the last member. Raises ImageError for bad
    input, FileError when `file` cannot be read. What cannot be carried is counted, and told in one warning of each kind
    at the end.
    """
    reader = _Reader(Source(file, name, limits, complete=not marked))
    return told(reader.source, reader.entries(), reader.left_out)


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.limits = source.limits
        self.globals: dict[bytes, bytes] = {}
        self.left_out: Counter[str] = Counter()

    def entries(self) -> Iterator[Entry]:
        extension = _Extension()
        extended = False
        while (header := self._header()) is not None:
            if header.type in _EXTENDING:
                self._extend(extension, header)
                extended = extended or header.type != b"g"
                continue
            entry, data = self._entry(header, extension)
            if entry is not None:
                yield entry
            if data is not None:
                data.finish()
            if extended:
                extension, extended = _Extension(), False
        if extended:
            raise ImageError("an extended header without the member it belongs to")

    def _header(self) -> Header | None:
        """The next header; None at the end of the archive."""
        block = self.source.some(BLOCK)
        if len(block) < BLOCK or block == ZEROS:
            self._check_end(block)
            return None
        return Header.read(block, self.source.position - BLOCK)

    def _check_end(self, block: bytes) -> None:
        """The end of an archive is two blocks of zeros; with one of them GNU's and other programs' end too.

        Of a stream that is complete, any number of zeros is the end.
        """
        if len(block) < BLOCK:
            if block.strip(b"\0") or not self.source.complete:
                raise self.source.cut_off()
            return
        second = self.source.some(BLOCK)
        if second and second != ZEROS:
            self.left_out["block of zeros stands alone: what follows it is not read"] += 1

    def _extend(self, extension: _Extension, header: Header) -> None:
        """Takes in a header that speaks of what follows."""
        size = header.stored
        extension.size += size + BLOCK
        if size > self.limits.extension or extension.size > self.limits.extension + 8 * BLOCK:
            raise ImageError(f"an extended header of more than {self.limits.extension >> 10} KiB")
        data = self.source.exactly(padded(size))[:size]
        if header.type == b"L":
            extension.path = text(data)
        elif header.type == b"K":
            extension.target = text(data)
        elif header.type == b"g":
            self.globals.update(pax.records(data, []))
            if sum(len(key) + len(value) for key, value in self.globals.items()) > self.limits.extension:
                raise ImageError(f"global headers of more than {self.limits.extension >> 10} KiB")
            extension.size = 0
        else:
            extension.records.update(pax.records(data, extension.pairs))

    def _entry(self, header: Header, extension: _Extension) -> tuple[Entry | None, Data | None]:
        """A member with its data; None for one that is left out. The data must be finished before the next header."""
        records = extension.records
        if self.globals:
            records = {**self.globals, **records}
        if records:
            records = {key: value for key, value in records.items() if value}
        kind = _KINDS.get(header.type)
        name = extension.path or records.get(b"GNU.sparse.name") or records.get(b"path") or header.path
        stored = header.stored
        if b"size" in records:
            stored = decimal(records[b"size"], "size")
        if kind is None:
            return None, self._left_out(header, stored)
        if kind is not Kind.FILE and header.type != b"D":
            stored = 0
        path = member_path(name, self.limits)
        if kind is Kind.FILE and name.endswith(b"/"):
            kind = Kind.DIRECTORY
        if not path and kind is not Kind.DIRECTORY:
            raise ImageError(f"{shown(name)}: the root of an archive can only be a directory")
        self.source.count(path, stored)
        size, segments, stored = self._extent(header, extension, records, path, stored)
        member = self._member(header, extension, records, path, kind, size, segments)
        padding = -stored % BLOCK
        if kind is not Kind.FILE:
            return Entry(member), Data(self.source, stored, padding) if stored else None
        if stored <= _AT_ONCE:
            content = self.source.exactly(stored)
            self.source.skip_padding(padding)
            return Entry(member, (content,) if stored else ()), None
        data = Data(self.source, stored, padding)
        return Entry(member, data), data

    def _left_out(self, header: Header, stored: int) -> Data:
        if header.type == b"M":
            raise ImageError("the second part of an archive in several volumes", hint="join them before")
        if header.type != b"V":  # the name of the archive
            letter = shown(header.type)
            self.left_out[f'members of the unknown type "{letter}" are left out'] += 1
        self.source.count(header.path, stored)
        return Data(self.source, stored, -stored % BLOCK)

    def _extent(
        self, header: Header, extension: _Extension, records: Mapping[bytes, bytes], path: bytes, stored: int
    ) -> tuple[int, tuple[Segment, ...] | None, int]:
        """Size with holes, segments and the bytes of data that still follow, of a file that may be sparse."""
        if header.type == b"S":
            size, numbers = sparse.old_map(header, self.source)
        elif records and any(key.startswith(_SPARSE) for key in records):
            if records.get(b"GNU.sparse.major") == b"1":
                size = decimal(records.get(b"GNU.sparse.realsize", b""), "size")
                before = self.source.position
                numbers = sparse.map_before_data(stored, self.source)
                stored -= self.source.position - before
            else:
                size = decimal(records.get(b"GNU.sparse.size", records.get(b"GNU.sparse.realsize", b"")), "size")
                texts = records[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in records else extension.pairs
                numbers = [decimal(text, "sparse map") for text in texts]
        else:
            return stored, None, stored
        return size, sparse.segments_of(numbers, size, stored, path, self.limits), stored

    def _member(
        self,
        header: Header,
        extension: _Extension,
        records: Mapping[bytes, bytes],
        path: bytes,
        kind: Kind,
        size: int,
        segments: tuple[Segment, ...] | None,
    ) -> Member:
        mode = number(header.mode, "mode") & 0o7777
        xattrs: dict[bytes, bytes] = {}
        seconds = number(header.mtime, "time")
        uid, gid, mtime = number(header.uid, "owner"), number(header.gid, "group"), seconds * NANO
        target = extension.target or header.target
        if records:
            target = extension.target or records.get(b"linkpath") or target
            uid = decimal(records[b"uid"], "uid") if b"uid" in records else uid
            gid = decimal(records[b"gid"], "gid") if b"gid" in records else gid
            mtime = pax.time(records[b"mtime"]) if b"mtime" in records else mtime
            xattrs, mode = pax.attributes(records, mode, self.left_out)
        if abs(mtime) > self.limits.seconds * NANO:
            raise ImageError(f"{shown(path)}: a time {mtime // NANO} seconds from 1970")
        device = 0
        if kind.is_device:
            major, minor = number(header.major, "device number"), number(header.minor, "device number")
            device = device_number(major, minor, path)
        if kind is Kind.LINK:
            target = link_target(target, path, self.limits)
        elif kind is Kind.HARD_LINK:
            target = member_path(target, self.limits)
            if not target:
                raise ImageError(f"{shown(path)}: a hard link to the root")
        else:
            target = b""
        return Member(
            path=path,
            kind=kind,
            mode=mode,
            uid=owner(uid, path, "user"),
            gid=owner(gid, path, "group"),
            mtime=mtime,
            size=size if kind is Kind.FILE else 0,
            segments=segments if kind is Kind.FILE else None,
            target=target,
            device=device,
            xattrs=xattrs,
        )
