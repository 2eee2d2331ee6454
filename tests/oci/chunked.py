"""Layers with tables of contents, by hand: eStargz as it is specified, zstd:chunked as skopeo 1.22 writes it.

No builder of the distribution makes them: its skopeo knows the second form and hangs when it is asked for it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

ESTARGZ = "containerd.io/snapshot/stargz/toc.digest"
POSITION = "io.github.containers.zstd-chunked.manifest-position"
CHECKSUM = "io.github.containers.zstd-chunked.manifest-checksum"
_KINDS = {
    tarfile.REGTYPE: "reg",
    tarfile.DIRTYPE: "dir",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.FIFOTYPE: "fifo",
}
_SKIPPABLE = b"\x50\x2a\x4d\x18"


@dataclass
class Chunked:
    """A layer: as it is stored, its tar archive, and what the manifest says of it."""

    stored: bytes
    tar: bytes
    annotations: dict[str, str]


@dataclass
class _Parts:
    """What has been compressed so far, a member or a frame for each part."""

    compress: Any
    joined: bool = False  # a part of a file goes on with what is behind it, up to the next one
    stored: bytearray = field(default_factory=bytearray)
    tar: bytearray = field(default_factory=bytearray)
    pending: bytearray = field(default_factory=bytearray)

    def add(self, data: bytes, *, of_file: bool = False) -> tuple[int, int]:
        self.tar += data
        if of_file or not self.joined:
            self.finish()
        offset = len(self.stored)
        self.pending += data
        if not self.joined:
            self.finish()
        return offset, len(self.stored)

    def finish(self) -> None:
        if self.pending:
            self.stored += self.compress(bytes(self.pending))
            self.pending.clear()


def estargz(tar: bytes, *, chunk: int = 1 << 20) -> Chunked:
    """The files of a tar archive as an eStargz layer."""
    parts = _Parts(lambda data: gzip.compress(data, 6, mtime=0))
    table = _table(tar, parts, chunk, with_ends=False)
    text = json.dumps({"version": 1, "entries": table}).encode()
    info = tarfile.TarInfo("stargz.index.json")
    info.size = len(text)
    offset, _ = parts.add(info.tobuf() + text + bytes(-len(text) % 512) + bytes(1024))
    mark = b"%016xSTARGZ" % offset
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + b"\x1a\0SG\x16\0" + mark + b"\x01\0\0\xff\xff" + bytes(8)
    assert len(footer) == 51
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    return Chunked(bytes(parts.stored) + footer, bytes(parts.tar), {ESTARGZ: digest})


def zstd_chunked(tar: bytes, *, chunk: int = 1 << 20, with_ends: bool = True) -> Chunked:
    """The files of a tar archive as a zstd:chunked layer."""
    parts = _Parts(_zstd, joined=not with_ends)
    table = _table(tar, parts, chunk, with_ends=with_ends)
    parts.add(bytes(1024))
    parts.finish()
    text = json.dumps({"version": 1, "entries": table}).encode()
    compressed = _zstd(text)
    offset = len(parts.stored) + 8
    stored = bytes(parts.stored) + _SKIPPABLE + len(compressed).to_bytes(4, "little") + compressed
    said = {
        POSITION: f"{offset}:{len(compressed)}:{len(text)}:1",
        CHECKSUM: "sha256:" + hashlib.sha256(compressed).hexdigest(),
    }
    return Chunked(stored, bytes(parts.tar), said)


def zstd_chunked_by_stargz(tar: bytes, *, chunk: int = 1 << 20) -> Chunked:
    """As the stargz snapshotter writes it: without the ends of parts, which go on with the headers of what follows,
    and with the digest of the table's text, too.
    """
    made = zstd_chunked(tar, chunk=chunk, with_ends=False)
    offset, length, *_ = map(int, made.annotations[POSITION].split(":"))
    compressed = made.stored[offset : offset + length]
    text = subprocess.run(["zstd", "-q", "-d", "-c"], input=compressed, capture_output=True, check=True).stdout
    said = {name.replace("io.github.", "io."): text for name, text in made.annotations.items()}
    return replace(made, annotations={**said, ESTARGZ: "sha256:" + hashlib.sha256(text).hexdigest()})


def _zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q", "-c", "-3"], input=data, capture_output=True, check=True).stdout


def _table(tar: bytes, parts: _Parts, size: int, *, with_ends: bool) -> list[dict[str, Any]]:
    """Compresses the members, headers and data by themselves; the entries of the table."""
    table: list[dict[str, Any]] = []
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for info in archive:
            parts.add(info.tobuf(tarfile.PAX_FORMAT))
            entry = _entry(info)
            table.append(entry)
            if not info.isreg() or not info.size:
                continue
            reader = archive.extractfile(info)
            assert reader is not None
            data = reader.read()
            entry["digest"] = "sha256:" + hashlib.sha256(data).hexdigest()
            for start in range(0, len(data), size):
                piece = data[start : start + size]
                place = entry if not start else {"name": info.name, "type": "chunk", "chunkOffset": start}
                zeros = with_ends and not piece.strip(b"\0")
                if zeros:
                    place["chunkType"] = "zeros"
                offset, end = parts.add(piece, of_file=True)
                place["offset"] = offset
                if with_ends:
                    entry["endOffset"] = end  # of the file, whatever it has of parts
                if len(data) > size:
                    place["chunkSize"] = len(piece)
                place["chunkDigest"] = "sha256:" + hashlib.sha256(piece).hexdigest()
                if start:
                    table.append(place)
            parts.add(bytes(-len(data) % 512))
    return table


def _entry(info: tarfile.TarInfo) -> dict[str, Any]:
    prefix = "SCHILY.xattr."
    found: dict[str, Any] = {
        "name": info.name + ("/" if info.isdir() else ""),
        "type": _KINDS[info.type],
        "mode": info.mode,
        "uid": info.uid,
        "gid": info.gid,
        "modtime": f"{_utc(info.mtime)}Z",
        "size": info.size,
        "linkName": info.linkname,
        "devMajor": info.devmajor,
        "devMinor": info.devminor,
        "xattrs": {
            key.removeprefix(prefix): base64.b64encode(value.encode("utf-8", "surrogateescape")).decode()
            for key, value in info.pax_headers.items()
            if key.startswith(prefix)
        },
    }
    return {key: value for key, value in found.items() if value or key in ("name", "type")}


def _utc(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(int(seconds), UTC).replace(tzinfo=None).isoformat()


def gunzipped(stored: bytes) -> bytes:
    """What any reader of gzip makes of a layer."""
    data, out = stored, bytearray()
    while data:
        work = zlib.decompressobj(31)
        out += work.decompress(data)
        data = work.unused_data
    return bytes(out)
