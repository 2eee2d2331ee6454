"""tar archives, read and written as streams: v7, ustar, GNU and pax (POSIX.1-2001), with sparse files and attributes.

A member is a header of 512 bytes and its data, padded to 512. Headers of types `x`, `g`, `L` and `K` say more about the
next member, or about all that follow. Formats: POSIX `pax`, sections "ustar Interchange Format" and "pax Extended
Header"; GNU tar's manual, appendix "Tar Internals", for its long names, base-256 numbers and sparse files; star(5) for
`SCHILY.*`; libarchive's tar(5).
"""

import base64
import binascii
import logging
import os
import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple
from urllib.parse import unquote_to_bytes
from zlib import adler32

from singularity.errors import ImageError
from singularity.image import acl
from singularity.image.limits import LIMITS, Limits, link_target, member_path, owner, shown
from singularity.image.archive.stream import Data, Source, device_number
from singularity.image.tree import Entry, Kind, Member, Segment, Tree
from singularity.image.xattrs import is_carried

logger = logging.getLogger(__name__)

BLOCK = 512
_ZEROS = bytes(BLOCK)
_HEADER = struct.Struct("100s8s8s8s12s12s8sc100s8s32s32s8s8s155s12x")
_WRITTEN = struct.Struct("100s48s8sc100s8s64x16s155s12x")  # the same, its numbers and its device's together
_SUM = slice(148, 156)  # of a header: its checksum, counted as blanks
_GNU, _USTAR, _STAR = b"ustar  \0", b"ustar\0", b"tar\0"
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
_TYPES = {
    Kind.FILE: b"0",
    Kind.HARD_LINK: b"1",
    Kind.LINK: b"2",
    Kind.CHARACTER_DEVICE: b"3",
    Kind.BLOCK_DEVICE: b"4",
    Kind.DIRECTORY: b"5",
    Kind.FIFO: b"6",
}
_EXTENDING = b"xXgLK"
_DECIMAL = re.compile(rb"(-?)([0-9]{1,20})(?:\.([0-9]*))?")
_ESCAPES = re.compile(rb"%(25|3D)")
_NANO = 10**9
_XATTR, _XATTR_ENCODED = b"SCHILY.xattr.", b"LIBARCHIVE.xattr."
_ACLS = {b"SCHILY.acl.access": acl.ACCESS, b"SCHILY.acl.default": acl.DEFAULT}
_SPARSE = b"GNU.sparse."
_NAMES = frozenset((b"path", b"linkpath", b"GNU.sparse.name"))  # of records: those that need not be UTF-8


@dataclass(slots=True)
class _Extension:
    """What headers before a member's own say about it."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    pairs: list[bytes] = field(default_factory=list)  # of GNU.sparse 0.0: offsets and sizes in turn
    path: bytes | None = None  # by GNU's long names
    target: bytes | None = None
    size: int = 0  # in bytes, of all these headers


class _Header(NamedTuple):  # made in a fifth of a frozen dataclass's time, and there may be millions
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


def recognise(head: bytes) -> bool:
    """Whether an archive begins so: a header with its checksum, or nothing but zeros, which is an empty one."""
    if len(head) < BLOCK:
        return False
    if head[257:262] == b"ustar":
        return True
    try:
        return head[:BLOCK] == _ZEROS or _is_sum(head[:BLOCK], _number(head[_SUM], "checksum"))
    except ImageError:
        return False


def read(file: BinaryIO, name: str, *, limits: Limits = LIMITS, marked: bool = True) -> Tree:
    """The members of a tar archive; `name` stands in messages.

    Read to its end, with the padding after the two blocks of zeros that mark it; `marked=False` for streams whose
    completeness is known otherwise: they may lack these, and the padding of the last member. Raises ImageError for bad
    input, FileError when `file` cannot be read. What cannot be carried is counted, and told in one warning of each kind
    at the end.
    """
    source = Source(file, name, limits, complete=not marked)
    reader = _Reader(source)
    try:
        yield from reader.entries()
    except ImageError as error:
        text = str(error)
        if text.startswith(f"{name}: "):
            raise
        raise ImageError(f"{name}: {text}") from error
    source.drain()
    reader.warn()


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

    def warn(self) -> None:
        for what, count in sorted(self.left_out.items()):
            logger.warning("%s: %d %s", self.source.name, count, what)

    def _header(self) -> _Header | None:
        """The next header; None at the end of the archive."""
        block = self.source.some(BLOCK)
        if len(block) < BLOCK or block == _ZEROS:
            self._check_end(block)
            return None
        fields = _HEADER.unpack(block)
        expected = _number(fields[6], "checksum")
        if not _is_sum(block, expected):
            what = f"no header at byte {self.source.position - BLOCK}, where one is due: wrong checksum"
            raise ImageError(what, hint="damaged, or no tar archive")
        path, mode, uid, gid, size, mtime, _, kind, target, magic, _, _, major, minor, prefix = fields
        path = _text(path)
        if magic[:6] == _USTAR and prefix[0]:
            if block[508:512] == _STAR:
                prefix = prefix[:131]
            if prefix[0]:
                path = _text(prefix) + b"/" + path
        stored = _number(size, "size")
        if stored < 0:
            raise ImageError(f"{shown(path)}: a negative size")
        return _Header(path, mode, uid, gid, stored, mtime, kind, _text(target), magic, major, minor, block)

    def _check_end(self, block: bytes) -> None:
        """The end of an archive is two blocks of zeros; with one of them GNU's and other programs' end too.

        Of a stream that is complete, any number of zeros is the end.
        """
        if len(block) < BLOCK:
            if block.strip(b"\0") or not self.source.complete:
                raise self.source.cut_off()
            return
        second = self.source.some(BLOCK)
        if second and second != _ZEROS:
            self.left_out["block of zeros stands alone: what follows it is not read"] += 1

    def _extend(self, extension: _Extension, header: _Header) -> None:
        """Takes in a header that speaks of what follows."""
        size = header.stored
        extension.size += size + BLOCK
        if size > self.limits.extension or extension.size > self.limits.extension + 8 * BLOCK:
            raise ImageError(f"an extended header of more than {self.limits.extension >> 10} KiB")
        data = self.source.exactly(_padded(size))[:size]
        if header.type == b"L":
            extension.path = _text(data)
        elif header.type == b"K":
            extension.target = _text(data)
        elif header.type == b"g":
            self.globals.update(_records(data, []))
            if sum(len(key) + len(value) for key, value in self.globals.items()) > self.limits.extension:
                raise ImageError(f"global headers of more than {self.limits.extension >> 10} KiB")
            extension.size = 0
        else:
            extension.records.update(_records(data, extension.pairs))

    def _entry(self, header: _Header, extension: _Extension) -> tuple[Entry | None, Data | None]:
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
            stored = _decimal(records[b"size"], "size")
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

    def _left_out(self, header: _Header, stored: int) -> Data:
        if header.type == b"M":
            raise ImageError("the second part of an archive in several volumes", hint="join them before")
        if header.type != b"V":  # the name of the archive
            letter = shown(header.type)
            self.left_out[f'members of the unknown type "{letter}" are left out'] += 1
        self.source.count(header.path, stored)
        return Data(self.source, stored, -stored % BLOCK)

    def _extent(
        self, header: _Header, extension: _Extension, records: Mapping[bytes, bytes], path: bytes, stored: int
    ) -> tuple[int, tuple[Segment, ...] | None, int]:
        """Size with holes, segments and the bytes of data that still follow, of a file that may be sparse."""
        if header.type == b"S":
            size, numbers = self._old_sparse_map(header)
        elif records and any(key.startswith(_SPARSE) for key in records):
            if records.get(b"GNU.sparse.major") == b"1":
                size = _decimal(records.get(b"GNU.sparse.realsize", b""), "size")
                before = self.source.position
                numbers = self._sparse_map(stored)
                stored -= self.source.position - before
            else:
                size = _decimal(records.get(b"GNU.sparse.size", records.get(b"GNU.sparse.realsize", b"")), "size")
                texts = records[b"GNU.sparse.map"].split(b",") if b"GNU.sparse.map" in records else extension.pairs
                numbers = [_decimal(text, "sparse map") for text in texts]
        else:
            return stored, None, stored
        return size, self._segments(numbers, size, stored, path), stored

    def _segments(self, numbers: list[int], size: int, stored: int, path: bytes) -> tuple[Segment, ...] | None:
        if len(numbers) % 2 or len(numbers) > 2 * self.limits.segments:
            raise ImageError(f"{shown(path)}: a sparse file whose map makes no sense")
        segments = []
        end = 0
        for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
            if offset < end or length < 0 or offset + length > size:
                raise ImageError(f"{shown(path)}: a sparse file whose map makes no sense")
            end = offset + length
            if length:
                segments.append(Segment(offset=offset, size=length))
        if sum(each.size for each in segments) != stored or size > self.limits.file:
            raise ImageError(f"{shown(path)}: a sparse file whose size makes no sense")
        return tuple(segments) if stored < size else None

    def _old_sparse_map(self, header: _Header) -> tuple[int, list[int]]:
        """GNU's first form: four pairs in the header, and blocks of 21 more behind it."""
        if header.magic != _GNU:
            raise ImageError(f"{shown(header.path)}: a sparse file in a form that is not known")
        fields = [header.block[at : at + 12] for at in range(386, 482, 12)]
        more = header.block[482]
        size = _number(header.block[483:495], "size")
        numbers: list[int] = []
        while True:
            for text in fields:
                if not text[0]:
                    more = 0
                    break
                numbers.append(_number(text, "sparse map"))
            if not more:
                return size, numbers
            block = self.source.exactly(BLOCK)
            fields = [block[at : at + 12] for at in range(0, 504, 12)]
            more = block[504]
            if len(numbers) > 2 * self.limits.segments:
                raise ImageError(f"{shown(header.path)}: a sparse file of too many parts")

    def _sparse_map(self, stored: int) -> list[int]:
        """GNU's form 1.0: decimal lines at the beginning of the data, padded to 512: how many pairs, then the pairs."""
        numbers: list[int] = []
        wanted, rest, left = 1, b"", stored
        while len(numbers) < wanted:
            if left < BLOCK:
                raise ImageError("a sparse file whose map does not end")
            *lines, rest = (rest + self.source.exactly(BLOCK)).split(b"\n")
            left -= BLOCK
            numbers += [_decimal(line, "sparse map") for line in lines[: wanted - len(numbers)]]
            if wanted == 1 and numbers:
                wanted += 2 * numbers[0]
                numbers += [_decimal(line, "sparse map") for line in lines[1:wanted]]
            if not 1 <= wanted <= 2 * self.limits.segments + 1 or len(rest) > BLOCK:
                raise ImageError("a sparse file whose map makes no sense")
        return numbers[1:]

    def _member(
        self,
        header: _Header,
        extension: _Extension,
        records: Mapping[bytes, bytes],
        path: bytes,
        kind: Kind,
        size: int,
        segments: tuple[Segment, ...] | None,
    ) -> Member:
        mode = _number(header.mode, "mode") & 0o7777
        xattrs: dict[bytes, bytes] = {}
        seconds = _number(header.mtime, "time")
        uid, gid, mtime = _number(header.uid, "owner"), _number(header.gid, "group"), seconds * _NANO
        target = extension.target or header.target
        if records:
            target = extension.target or records.get(b"linkpath") or target
            uid = _decimal(records[b"uid"], "uid") if b"uid" in records else uid
            gid = _decimal(records[b"gid"], "gid") if b"gid" in records else gid
            mtime = _time(records[b"mtime"]) if b"mtime" in records else mtime
            xattrs, mode = self._xattrs(records, mode)
        if abs(mtime) > self.limits.seconds * _NANO:
            raise ImageError(f"{shown(path)}: a time {mtime // _NANO} seconds from 1970")
        device = 0
        if kind.is_device:
            major, minor = _number(header.major, "device number"), _number(header.minor, "device number")
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

    def _xattrs(self, records: Mapping[bytes, bytes], mode: int) -> tuple[dict[bytes, bytes], int]:
        """Extended attributes, ACLs among them; and the mode, another one where an ACL has to be left out."""
        found: dict[bytes, bytes] = {}
        for key, value in records.items():
            if key.startswith(_XATTR):
                found[_ESCAPES.sub(lambda match: b"%" if match[1] == b"25" else b"=", key[len(_XATTR) :])] = value
            elif key.startswith(_XATTR_ENCODED):
                found.setdefault(unquote_to_bytes(key[len(_XATTR_ENCODED) :]), _base64(value))
            elif key == b"SCHILY.acl.ace":
                self.left_out["access control lists of NFSv4 are left out"] += 1
        for key, attribute in _ACLS.items():
            if key in records and attribute not in found:
                try:
                    value = acl.from_text(records[key])
                except acl.NameOnlyError:
                    self.left_out["access control lists name users without their numbers, and are left out"] += 1
                    mode = acl.mode_without(records[key], mode) if attribute == acl.ACCESS else mode
                    continue
                if value:
                    found[attribute] = value
                    mode = acl.mode_with(value, mode) if attribute == acl.ACCESS else mode
        if any(not key or b"\0" in key or len(key) > 255 or len(found[key]) > 65536 for key in found):
            raise ImageError("an extended attribute with an impossible name or size")
        return {key: found[key] for key in sorted(found) if is_carried(key)}, mode


def _is_sum(block: bytes, expected: int) -> bool:
    """Whether this is the checksum of a header: of its bytes as they are, or, in very old archives, as signed ones."""
    if _sum(block) - sum(block[_SUM]) + 256 == expected:
        return True
    signed = memoryview(block).cast("b")
    return sum(signed) - sum(signed[_SUM]) + 256 == expected


def _sum(block: bytes) -> int:
    """The sum of a header's bytes: of 256 at a time, Adler-32 has it in its lower half, and one more, soonest."""
    return (adler32(block[:256]) & 0xFFFF) + (adler32(block[256:]) & 0xFFFF) - 2


def _text(data: bytes) -> bytes:
    """A field up to its first zero byte."""
    return data.partition(b"\0")[0]


def _padded(size: int) -> int:
    return size + -size % BLOCK


def _number(data: bytes, what: str) -> int:
    """A field of octal digits, or in base 256 as GNU tar writes what digits cannot hold; 0 for an empty one."""
    text = data.rstrip(b"\0 ")
    if not text.isdigit():
        text = data.partition(b"\0")[0].strip(b" ")
    if text.isdigit():
        try:
            return int(text, 8)
        except ValueError:
            pass
    elif not text:
        return 0
    if data[0] == 0x80:
        return int.from_bytes(data[1:], "big")
    if data[0] == 0xFF:
        return int.from_bytes(data, "big", signed=True)
    raise ImageError(f"a header whose {what} is no number: damaged")


def _decimal(text: bytes, what: str) -> int:
    """A whole number of a pax record, not negative."""
    if not text.isdigit() or len(text) > 20:
        raise ImageError(f"an extended header whose {what} is no number: damaged")
    return int(text)


def _time(text: bytes) -> int:
    """Decimal seconds of a pax record, in nanoseconds; what is finer is cut off."""
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ImageError("an extended header whose time is no number: damaged")
    nanoseconds = int(match[2]) * _NANO + int((match[3] or b"")[:9].ljust(9, b"0"))
    return -nanoseconds if match[1] else nanoseconds


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ImageError("an extended attribute that is no base64: damaged") from error


def _records(data: bytes, pairs: list[bytes]) -> dict[bytes, bytes]:
    r"""The records `LENGTH KEY=VALUE\n` of a pax header; repeated ones of GNU.sparse 0.0 go to `pairs`."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 21)
        digits = data[at:blank] if blank > 0 else b""
        end = at + int(digits) if digits.isdigit() else 0
        equals = data.find(b"=", blank, end)
        if not blank < equals < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ImageError("an extended header whose records make no sense: damaged")
        key, value = data[blank + 1 : equals], data[equals + 1 : end - 1]
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            pairs.append(value)
        found[key] = value
        at = end
    return found


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
        out.write(headers := _headers(entry.member))
        written += len(headers)
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
    out.write(_ZEROS[: -size % BLOCK])
    return _padded(size)


def stored_size(member: Member) -> int:
    """The bytes of a file's data, its holes left out."""
    return member.size if member.segments is None else sum(each.size for each in member.segments)


def _headers(member: Member) -> bytes:
    """All that stands before a member's data: a pax header where needed, its own, and the map of a sparse file."""
    records: dict[bytes, bytes] = {}
    path = b"./" + member.path + (b"/" if member.kind is Kind.DIRECTORY and member.path else b"")
    target = b"./" + member.target if member.kind is Kind.HARD_LINK else member.target
    size = stored_size(member) if member.kind is Kind.FILE else 0
    map_ = b""
    if member.segments is not None:
        map_ = _map(member.segments, member.size)
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
    seconds, fraction = divmod(member.mtime, _NANO)
    if fraction or not 0 <= seconds < 8**11:
        records[b"mtime"] = _seconds(member.mtime)
    if max(member.uid, member.gid) >= 8**7 or size >= 8**11:
        numbers = ((b"uid", member.uid, 8**7), (b"gid", member.gid, 8**7), (b"size", size, 8**11))
        records |= {key: b"%d" % value for key, value, limit in numbers if value >= limit}
    if member.xattrs:
        records |= _xattr_records(member.xattrs)
    if any(not _is_utf8(records[key]) for key in _NAMES.intersection(records)):
        records[b"hdrcharset"] = b"BINARY"
    own = _header(
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


def _header(
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
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode, uid, gid, size, mtime)
    of_device = b"%07o\0%07o\0" % (os.major(device), os.minor(device))
    block = _WRITTEN.pack(name, numbers, b" " * 8, type_, target, _USTAR + b"00", of_device, prefix)
    return block[: _SUM.start] + b"%06o\0 " % _sum(block) + block[_SUM.stop :]


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
    data = b"".join(_record(key, records[key]) for key in sorted(records))
    name = b"./PaxHeaders/" + path.rstrip(b"/").rpartition(b"/")[2][:80]
    return _header(name, b"", type_=b"x", size=len(data)) + data + _ZEROS[: -len(data) % BLOCK]


def _record(key: bytes, value: bytes) -> bytes:
    """One record, whose length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


def _map(segments: Iterable[Segment], size: int) -> bytes:
    """GNU's map of a sparse file. A hole at the end is told by a segment of no bytes, else GNU tar cuts it off."""
    pairs = [b"%d\n%d\n" % (each.offset, each.size) for each in segments]
    pairs.append(b"%d\n0\n" % size)
    text = b"%d\n" % len(pairs) + b"".join(pairs)
    return text + _ZEROS[: -len(text) % BLOCK]


def _seconds(nanoseconds: int) -> bytes:
    whole, fraction = divmod(abs(nanoseconds), _NANO)
    text = b"%d.%09d" % (whole, fraction)
    return (b"-" if nanoseconds < 0 else b"") + text.rstrip(b"0").rstrip(b".")


def _xattr_records(xattrs: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """ACLs as text, which GNU tar and star read; the others under star's name, with `%` and `=` escaped."""
    records = {}
    texts = {attribute: key for key, attribute in _ACLS.items()}
    for name, value in xattrs.items():
        text = acl.to_text(value) if name in texts else None
        if text is not None:
            records[texts[name]] = text
        else:
            records[_XATTR + name.replace(b"%", b"%25").replace(b"=", b"%3D")] = value
    return records


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
