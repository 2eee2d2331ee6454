"""Tables of contents of layers: which files a compressed layer holds, and where in it each part of a file can be read.

Two forms of one idea. eStargz is gzip, with the table at its end and the table's digest in the manifest; zstd:chunked
is zstd, with the table's place and digest in the manifest. A table whose digest the manifest does not say proves
nothing, and is not used. Sources: `estargz.md` and `zstdchunked` of the stargz snapshotter; `pkg/chunked` of
containers/storage.
"""

import base64
import os
import posixpath
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from itertools import pairwise
from typing import Any, Protocol

from singularity.content import digest as digests
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.errors import ImageError
from singularity.foreign_json import parse_json
from singularity.image import decompress, limits, xattrs
from singularity.image.archive import tar
from singularity.image.tree import Entry, Kind, Member, Tree

ESTARGZ = "containerd.io/snapshot/stargz/toc.digest"
# As containers/storage says it, and as the stargz snapshotter does, which says the digest of eStargz beside it.
_CHUNKED = ("io.github.containers.zstd-chunked.manifest-", "io.containers.zstd-chunked.manifest-")
_FOOTER, _FOOTER_FIELD, _FOOTER_MARK = 51, slice(16, 38), b"STARGZ"
_TABLE_NAME = b"stargz.index.json"
_TABLE_LIMIT = 16 << 20  # bytes of a table, as of any JSON (security requirement P4)
_CHUNK_LIMIT = 64 << 20  # bytes that must be read at once
_STORED_LIMIT = 2 * _CHUNK_LIMIT  # bytes of a blob that such a part may take, with the headers that follow it
_GZIP = 31  # the windows of zlib
_SECOND = 10**9
_KINDS = {
    "dir": Kind.DIRECTORY,
    "reg": Kind.FILE,
    "symlink": Kind.LINK,
    "hardlink": Kind.HARD_LINK,
    "char": Kind.CHARACTER_DEVICE,
    "block": Kind.BLOCK_DEVICE,
    "fifo": Kind.FIFO,
}


class Ranges(Protocol):
    """Bytes of a blob, from any place."""

    def fetch(self, offset: int, size: int) -> bytes:
        """Exactly these bytes. Raises SingularityError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of a file, and where it is in its layer."""

    start: int  # in the file
    size: int
    offset: int  # in the blob, of the compressed part
    end: int
    digest: Digest | None  # of the part, decompressed; None: it is all zeros


@dataclass(frozen=True, slots=True)
class Stored:
    """The data of a file in a layer; read only when somebody wants it."""

    layer: "Table"
    chunks: tuple[Chunk, ...]

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            data = self.layer.blob.fetch(chunk.offset, chunk.end - chunk.offset) if chunk.digest else b""
            yield self.layer.expanded(chunk, data)


@dataclass(frozen=True, slots=True)
class Table:
    """The files of one layer."""

    name: str
    blob: Ranges
    expand: Callable[[bytes, int], bytes]
    entries: list[Entry] = field(default_factory=list)

    def tree(self) -> Tree:
        """The members in their order; the data of each is a `Stored`."""
        return iter(self.entries)

    def expanded(self, chunk: Chunk, data: bytes) -> bytes:
        """A part of a file from the bytes of the blob. Raises ImageError when it is not what the table says."""
        if chunk.digest is None:
            return bytes(chunk.size)
        found = self.expand(data, chunk.size)[: chunk.size]
        same = len(found) == chunk.size and chunk.digest.names(found)
        if not same:
            raise ImageError(f"{self.name}: a part of it is not what its table of contents says", hint="damaged?")
        return found


def is_lazy(descriptor: Descriptor) -> bool:
    """Whether the manifest says of a layer that it has such a table."""
    return ESTARGZ in descriptor.annotations or _chunked(descriptor.annotations) != ""


def _chunked(said: Mapping[str, str]) -> str:
    """How the annotations begin that say place and digest of a table in zstd:chunked; "" where there are none."""
    return next((each for each in _CHUNKED if {f"{each}position", f"{each}checksum"} <= said.keys()), "")


def read(blob: Ranges, descriptor: Descriptor, name: str) -> Table:
    """The table of a layer for which `is_lazy` is true. Raises ImageError, and what `blob` raises."""
    said = descriptor.annotations
    try:
        if prefix := _chunked(said):
            digest = digests.parse(said[f"{prefix}checksum"])
            end, text = _of_zstd(blob, descriptor.size, said[f"{prefix}position"], digest, name)
            table = Table(name, blob, decompress.zstd_beginning)
        else:
            end, text = _of_gzip(blob, descriptor.size, digests.parse(said[ESTARGZ]), name)
            table = Table(name, blob, _gunzip)
        table.entries.extend(_entries(text, table, end))
    except (KeyError, TypeError, ValueError, IndexError, OverflowError, AttributeError) as error:
        raise ImageError(f"{name}: damaged table of contents ({type(error).__name__}: {error})") from error
    return table


def _of_gzip(blob: Ranges, size: int, digest: Digest, name: str) -> tuple[int, bytes]:
    """Where the table begins, and its text."""
    if size <= _FOOTER:
        raise ImageError(f"{name}: too small for a table of contents")
    footer = blob.fetch(size - _FOOTER, _FOOTER)[_FOOTER_FIELD]
    if not footer.endswith(_FOOTER_MARK):
        raise ImageError(f"{name}: no table of contents at its end")
    start = int(footer[: -len(_FOOTER_MARK)], 16)
    if not 0 <= start < size - _FOOTER or size - start > _TABLE_LIMIT:
        raise ImageError(f"{name}: a table of contents of an impossible size")
    archive = _gunzip(blob.fetch(start, size - _FOOTER - start), _TABLE_LIMIT)
    for entry in tar.read(BytesIO(archive), name, marked=False):
        if entry.member.path == _TABLE_NAME:
            text = b"".join(entry.data)
            if not digest.names(text):
                raise ImageError(f"{name}: its table of contents is not what {digest} names", hint="damaged?")
            return start, text
    raise ImageError(f"{name}: no table of contents in its last part")


def _of_zstd(blob: Ranges, size: int, place: str, digest: Digest, name: str) -> tuple[int, bytes]:
    offset, length, whole = (int(word) for word in place.split(":")[:3])
    if min(offset, length) < 0 or offset + length > size or not 0 < whole <= _TABLE_LIMIT:
        raise ImageError(f"{name}: a table of contents of an impossible size")
    data = blob.fetch(offset, length)
    if not digest.names(data):
        raise ImageError(f"{name}: its table of contents is not what {digest} names", hint="damaged?")
    return offset, decompress.zstd_beginning(data, whole)


def _gunzip(data: bytes, size: int) -> bytes:
    try:
        return zlib.decompressobj(_GZIP).decompress(data, size)
    except zlib.error as error:
        raise ImageError("damaged gzip in a layer") from error


def _entries(text: bytes, table: Table, end: int) -> Iterator[Entry]:
    document = parse_json(text)
    if not isinstance(document, dict) or document.get("version") != 1 or not isinstance(document["entries"], list):
        raise ImageError(f"{table.name}: a table of contents of an unknown form")
    listed: list[dict[str, Any]] = document["entries"]
    ends = _ends(listed, end)
    number = 0
    while number < len(listed):
        first = listed[number]
        parts = number + 1
        while parts < len(listed) and listed[parts]["type"] == "chunk":
            parts += 1
        member = _member(first)
        if member.kind is Kind.FILE and member.size:
            chunks = tuple(_chunks(listed[number:parts], member.size, ends))
            if any(each.end > end for each in chunks):
                raise ImageError("a part of a file behind the table of contents")
            yield Entry(member, Stored(table, chunks))
        else:
            yield Entry(member)
        number = parts


def _ends(listed: list[dict[str, Any]], end: int) -> dict[int, int]:
    """Where the compressed part ends that begins at an offset: where the next one begins, of this or another file."""
    starts = sorted({int(each["offset"]) for each in listed if each.get("offset")})
    return dict(pairwise([*starts, end]))


def _chunks(listed: list[dict[str, Any]], size: int, ends: Mapping[int, int]) -> Iterator[Chunk]:
    """The parts of a file. `endOffset`, which the first entry has in zstd:chunked, is where the last part ends."""
    last = int(listed[0].get("endOffset") or 0)
    at = 0
    for each, following in zip(listed, [*listed[1:], None], strict=True):
        if int(each.get("chunkOffset") or 0) != at:
            raise ImageError("a file with a gap in it")
        length = int(each.get("chunkSize") or 0) or size - at
        zeros = each.get("chunkType") == "zeros"
        said = each.get("chunkDigest") or (each.get("digest") if len(listed) == 1 else None)
        offset = int(each.get("offset") or 0)
        end = (last or ends.get(offset, 0)) if following is None else int(following.get("offset") or 0)
        possible = zeros or 0 <= offset < end <= offset + _STORED_LIMIT
        if not 0 < length <= min(size - at, _CHUNK_LIMIT) or not possible:
            raise ImageError("a part of a file of an impossible size")
        if each.get("innerOffset"):
            raise ImageError("several files in one compressed part")
        digest = None if zeros else digests.parse(said)
        yield Chunk(start=at, size=length, offset=offset, end=end, digest=digest)
        at += length
    if at != size:
        raise ImageError("a file that is not all there")


def _member(each: Mapping[str, Any]) -> Member:
    path = limits.member_path(_name(each["name"]))
    kind = _KINDS[each["type"]]
    attributes = {os.fsencode(key): base64.b64decode(value, validate=True) for key, value in _pairs(each, "xattrs")}
    member = Member(
        path=path,
        kind=kind,
        mode=int(each.get("mode") or 0) & 0o7777,
        uid=limits.owner(int(each.get("uid") or 0), path, "user"),
        gid=limits.owner(int(each.get("gid") or 0), path, "group"),
        mtime=_time(each.get("modtime")),
        size=int(each.get("size") or 0) if kind is Kind.FILE else 0,
        xattrs={key: value for key, value in attributes.items() if xattrs.is_carried(key)},
    )
    if not 0 <= member.size <= limits.LIMITS.file:
        raise ImageError(f"{limits.shown(path)}: an impossible size")
    link = _name(each.get("linkName") or "")
    if kind is Kind.LINK:
        return replace(member, target=limits.link_target(link, path))
    if kind is Kind.HARD_LINK:
        return replace(member, target=limits.member_path(posixpath.normpath(link)))
    if kind.is_device:
        return replace(member, device=os.makedev(int(each.get("devMajor") or 0), int(each.get("devMinor") or 0)))
    return member


def _name(text: str) -> bytes:
    """A path or a link's target. Go, which writes the tables, puts a mark in place of bytes that are no UTF-8."""
    if "\ufffd" in text:
        raise ImageError(f"{limits.shown(text.encode())}: a name that its table of contents cannot hold")
    return os.fsencode(text)


def _pairs(each: Mapping[str, Any], key: str) -> Iterator[tuple[str, str]]:
    yield from (each.get(key) or {}).items()


def _time(text: object) -> int:
    """Nanoseconds since 1970 of a time in the form of RFC 3339; what is not said is 1970."""
    if not isinstance(text, str) or not text:
        return 0
    found = datetime.fromisoformat(text)
    if found.year < 2:  # Go's word for no time at all
        return 0
    return int(found.replace(microsecond=0).timestamp()) * _SECOND + found.microsecond * 1000
