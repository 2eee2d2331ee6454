"""cpio archives, read as streams: newc and crc (070701, 070702), odc (070707) and the old binary form of either order.

Header, name and data follow one another, padded to 4 bytes in newc and crc, to 2 in the binary form; the archive ends
with a member `TRAILER!!!`, and another archive may follow. Names of one file share its device and inode; in newc and
crc, the last of them has the data. Formats: POSIX (1988) `cpio`; cpio(5) of libarchive; the kernel's description of
initramfs buffers.
"""

import re
import stat
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.archive.stream import Data, Source, device_number, told
from singularity.image.limits import LIMITS, Limits, link_target, member_path, owner, shown
from singularity.image.tree import Entry, Kind, Member, Tree

_NEWC, _CRC, _ODC = b"070701", b"070702", b"070707"
_LITTLE, _BIG = b"\xc7\x71", b"\x71\xc7"
_TRAILER = b"TRAILER!!!"
_HEX = re.compile(rb"[0-9A-Fa-f]{104}")
_OCTAL = re.compile(rb"[0-7]{70}")
_ODC_FIELDS = struct.Struct("6s6s6s6s6s6s6s11s6s11s")
_KINDS = {kind.value: kind for kind in Kind if kind is not Kind.HARD_LINK}
_NANO = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    device: int  # with inode: which file of the archive it is
    inode: int
    mode: int
    uid: int
    gid: int
    links: int
    special: int  # number of a device
    mtime: int  # seconds
    name_size: int  # with a zero byte
    size: int
    checksum: int | None = None  # of a regular file's data; crc only
    start: int  # bytes of this header
    alignment: int
    data_last: bool  # names of one file: only the last has the data


@dataclass(slots=True)
class _File:
    """A file with several names, of which some have been met."""

    left: int  # names still to come
    written: Member | None = None  # its first name, once it has gone out
    waiting: list[Member] = field(default_factory=list)  # names before the data


def recognise(head: bytes) -> bool:
    """Whether an archive begins so."""
    return head[:6] in (_NEWC, _CRC, _ODC) or head[:2] in (_LITTLE, _BIG)


def read(file: BinaryIO, name: str, *, limits: Limits = LIMITS) -> Tree:
    """The members of a cpio archive and of those behind it; `name` stands in messages.

    Raises ImageError for bad input, FileError when `file` cannot be read.
    """
    reader = _Reader(Source(file, name, limits))
    return told(reader.source, reader.entries(), reader.left_out)


class _Reader:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.limits = source.limits
        self.files: dict[tuple[int, int], _File] = {}
        self.left_out: Counter[str] = Counter()

    def entries(self) -> Iterator[Entry]:
        magic = self.source.exactly(6)
        if not recognise(magic):
            raise ImageError("no cpio archive")
        while True:
            header = self._header(magic)
            name = self._name(header)
            if name == _TRAILER:
                self.source.skip(header.size + -header.size % header.alignment)
                yield from self._without_data()
                following = self._next_archive(header.alignment)
                if following is None:
                    return
                magic = following
                continue
            yield from self._member(header, name)
            magic = self.source.exactly(6)

    def _header(self, magic: bytes) -> _Header:
        if magic in (_NEWC, _CRC):
            text = self.source.exactly(104)
            if not _HEX.fullmatch(text):
                raise ImageError(f"a header at byte {self.source.position - 110} that has no numbers: damaged")
            numbers = [int(text[at : at + 8], 16) for at in range(0, 104, 8)]
            inode, mode, uid, gid, links, mtime, size, major, minor, of_major, of_minor, name_size, check = numbers
            special = _device(mode, of_major, of_minor)
            start, alignment, checksum = 110, 4, check if magic == _CRC else None
            device = major << 32 | minor
        elif magic == _ODC:
            text = self.source.exactly(70)
            if not _OCTAL.fullmatch(text):
                raise ImageError(f"a header at byte {self.source.position - 76} that has no numbers: damaged")
            octal = [int(text, 8) for text in _ODC_FIELDS.unpack(text)]
            device, inode, mode, uid, gid, links, number, mtime, name_size, size = octal
            special = _device(mode, number >> 8, number & 0xFF)
            start, alignment, checksum = 76, 1, None
        elif magic[:2] in (_LITTLE, _BIG):
            words = struct.unpack(("<" if magic[:2] == _LITTLE else ">") + "12H", magic[2:] + self.source.exactly(20))
            device, inode, mode, uid, gid, links, number, high, low, name_size, size_high, size_low = words
            mtime, size = high << 16 | low, size_high << 16 | size_low
            special = _device(mode, number >> 8, number & 0xFF)
            start, alignment, checksum = 26, 2, None
        else:
            raise ImageError(f"no header at byte {self.source.position - 6}, where one is due", hint="damaged?")
        return _Header(
            device=device,
            inode=inode,
            mode=mode,
            uid=uid,
            gid=gid,
            links=links,
            special=special,
            mtime=mtime,
            name_size=name_size,
            size=size,
            checksum=checksum,
            start=start,
            alignment=alignment,
            data_last=alignment == 4,
        )

    def _name(self, header: _Header) -> bytes:
        if not 1 <= header.name_size <= self.limits.path + 1:
            raise ImageError(f"a name of {header.name_size} bytes")
        name = self.source.exactly(header.name_size)
        self.source.skip(-(header.start + header.name_size) % header.alignment)
        if name[-1:] != b"\0":
            raise ImageError(f"{shown(name)}: a name that does not end")
        return name[:-1]

    def _member(self, header: _Header, name: bytes) -> Iterator[Entry]:
        path = member_path(name, self.limits)
        self.source.count(path, header.size)
        kind = _KINDS.get(stat.S_IFMT(header.mode))
        if not path and kind is not Kind.DIRECTORY:
            raise ImageError(f"{shown(name)}: the root of an archive can only be a directory")
        data = _data(self.source, header, path)
        if kind is None:
            self.left_out["members of unknown kinds are left out"] += 1
            data.finish()
            return
        target = b""
        if kind is Kind.LINK:
            if header.size > self.limits.path:
                raise ImageError(f"{shown(path)}: a symbolic link whose target is too long")
            target = link_target(b"".join(data).rstrip(b"\0"), path, self.limits)
        member = Member(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(header.mode),
            uid=owner(header.uid, path, "user"),
            gid=owner(header.gid, path, "group"),
            mtime=header.mtime * _NANO,
            size=header.size if kind is Kind.FILE else 0,
            target=target,
            device=header.special if kind.is_device else 0,
        )
        if header.links > 1 and kind is not Kind.DIRECTORY:
            yield from self._one_of_several(header, member, data)
        else:
            yield Entry(member, data if kind is Kind.FILE else ())
        data.finish()

    def _one_of_several(self, header: _Header, member: Member, data: Iterable[bytes]) -> Iterator[Entry]:
        """A file that has other names: the first with data goes out as the file, the others as links to it."""
        key = (header.device, header.inode)
        known = self.files.get(key)
        if known is None or not _same(known, member):
            known = self.files[key] = _File(left=header.links)
        known.left -= 1
        if known.written is not None:
            yield Entry(_link(member, known.written))
        elif member.kind is Kind.FILE and not member.size and header.data_last and known.left:
            known.waiting.append(member)
        else:
            known.written = member
            yield Entry(member, data if member.kind is Kind.FILE else ())
            yield from (Entry(_link(each, member)) for each in known.waiting)
            known.waiting.clear()
        if not known.left and self.files.get(key) is known:
            del self.files[key]

    def _without_data(self) -> Iterator[Entry]:
        """At the end of an archive, files that really have no data: or not all of whose names are in it."""
        for file in self.files.values():
            if file.waiting:
                first, *others = file.waiting
                yield Entry(first)
                yield from (Entry(_link(each, first)) for each in others)
        self.files.clear()

    def _next_archive(self, alignment: int) -> bytes | None:
        """The first bytes of an archive that follows the end of one, after padding; None where there is none."""
        del alignment
        while True:
            word = self.source.some(2)
            if len(word) < 2:
                return None
            if word == b"\0\0":
                continue
            magic = word + self.source.some(4)
            if len(magic) == 6 and recognise(magic):
                return magic
            self.left_out["end of the archive is followed by something else, which is not read"] += 1
            return None


def _device(mode: int, major: int, minor: int) -> int:
    return device_number(major, minor, b"a device") if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else 0


def _link(member: Member, first: Member) -> Member:
    return replace(member, kind=Kind.HARD_LINK, target=first.path, size=0, device=0)


def _same(file: _File, member: Member) -> bool:
    """Whether a member can be another name of a file: old forms cut inode numbers off, so that strangers share one."""
    first = file.written or (file.waiting[0] if file.waiting else None)
    if first is None:
        return True
    same = (first.kind, first.mode, first.uid, first.gid, first.mtime, first.target, first.device)
    other = (member.kind, member.mode, member.uid, member.gid, member.mtime, member.target, member.device)
    return same == other and (not first.size or not member.size or first.size == member.size)


def _data(source: Source, header: _Header, path: bytes) -> Data:
    padding = -header.size % header.alignment
    if header.checksum is None or not stat.S_ISREG(header.mode):
        return Data(source, header.size, padding)
    return _Summed(source, header.size, padding, header.checksum, path)


class _Summed(Data):
    """Data with a checksum: the sum of its bytes, modulo 2^32."""

    __slots__ = ("_expected", "_path", "_sum")

    def __init__(self, source: Source, size: int, padding: int, expected: int, path: bytes) -> None:
        super().__init__(source, size, padding)
        self._expected = expected
        self._path = path
        self._sum = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in super().__iter__():
            self._sum += sum(chunk)
            if not self._left and self._sum & 0xFFFFFFFF != self._expected:
                raise ImageError(f"{self._source.name}: {shown(self._path)}: wrong checksum: damaged")
            yield chunk

    def finish(self) -> None:
        for _ in self:
            pass
        super().finish()
