"""Makes the images, good and bad, on which the C and the Python reader must give the same verdict.

    make.py DIRECTORY          every image that verdicts.json names
    make.py --seeds CORPUS     small ones, below CORPUS/squashfs and its sisters, to start fuzzing from

verdicts.json maps the name of an image to its verdict: "FORMAT FILESYSTEM@OFFSET+SIZE", for a SIF then the
architecture ("-" when unknown) and each overlay partition; or "refused: " and words of the launcher's message.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE = b"#!/usr/bin/env run-singularity\n"
KIB, MIB = 1024, 1024 * 1024
SQUASHFS_SIZE = 8 * KIB  # every small squashfs is padded to this
TOOL_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFINITION, JSON, SIGNATURE, PARTITION, OCI_INDEX = 0x4001, 0x4006, 0x4005, 0x4004, 0x400A
SQUASHFS, EXT, ARCHIVE, RAW, ENCRYPTED, GOCRYPTFS = 1, 2, 3, 4, 5, 6
SYSTEM, PRIMARY, DATA, OVERLAY = 1, 2, 3, 4
GROUP = 0xF0000000
HEADER, DESCRIPTOR = 128, 585


def tool(*argv: str) -> None:
    """Runs one program without an environment of ours; its output is shown only when it fails."""
    result = subprocess.run(argv, capture_output=True, check=False, timeout=120, env={"PATH": TOOL_PATH, "LC_ALL": "C"})
    if result.returncode != 0:
        raise SystemExit(f"{argv[0]} ended with {result.returncode}: {result.stderr.decode(errors='replace')}")


def patched(data: bytes, *patches: tuple[int, bytes]) -> bytes:
    """A copy with bytes replaced: (offset, bytes) each."""
    copy = bytearray(data)
    for offset, new in patches:
        copy[offset : offset + len(new)] = new
    return bytes(copy)


def u16(value: int) -> bytes:
    return struct.pack("<H", value)


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


# ---- file systems ----


def squashfs(*options: str) -> bytes:
    """A squashfs of a few small files, as its packer leaves it but for the padding."""
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        tree.joinpath("bin").mkdir(parents=True)
        tree.joinpath("bin", "sh").write_bytes(b"not a shell\n" * 40)
        image = Path(scratch, "image")
        fixed = ("-noappend", "-no-progress", "-quiet", "-all-root", "-nopad", "-processors", "1")
        tool("mksquashfs", str(tree), str(image), *fixed, "-mkfs-time", "0", "-all-time", "0", *options)
        return image.read_bytes()


def padded(data: bytes, size: int = SQUASHFS_SIZE) -> bytes:
    if len(data) > size:
        raise SystemExit(f"a file system of {len(data)} bytes does not fit into {size}")
    return data.ljust(size, b"\0")


def ext(kind: str, size: int, *options: str) -> bytes:
    """An empty ext file system of `size` bytes."""
    with tempfile.TemporaryDirectory() as scratch:
        image = Path(scratch, "image")
        tool("mke2fs", "-q", "-F", "-t", kind, *options, str(image), f"{size // KIB}k")
        return image.read_bytes()


def erofs(**changes: int) -> bytes:
    """An EROFS as far as it is looked at: a superblock, and two blocks. Fields by name: see the kernel's erofs_fs.h."""
    fields = {"log": 12, "high": 0, "inodes": 3, "blocks": 2, "meta": 0, "features": 1, "devices": 0} | changes
    superblock = struct.pack("<I8xBxHQ12xII36xI2xH40x", 0xE0F5E1E2, *fields.values())
    return padded(bytes(1024) + superblock)


# ---- SIF ----


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One object of a SIF. `offset` and `size` lie in the descriptor only; None: the truth."""

    data: bytes = b""
    kind: int = PARTITION
    content: int = 0
    use: int = 0
    arch: bytes = b"02\0"
    group: int = 1
    link: int = 0
    name: bytes = b""
    align: int = 4096
    offset: int | None = None
    size: int | None = None


def descriptor(part: Part, number: int, offset: int) -> bytes:
    extra = struct.pack("<ii3s", part.content, part.use, part.arch) if part.kind == PARTITION else b""
    fixed = struct.pack(
        "<iBIIIQQQqqqq128s384s",
        part.kind,
        1,
        number,
        GROUP | part.group,
        part.link,
        offset if part.offset is None else part.offset,
        len(part.data) if part.size is None else part.size,
        len(part.data),
        1_500_000_000,
        1_500_000_000,
        0,
        0,
        part.name,
        extra,
    )
    assert len(fixed) == DESCRIPTOR
    return fixed


def sif(*parts: Part, capacity: int = 48, table_at: int = 4096, table_last: bool = False) -> bytes:
    """A SIF as the format has it: header, table of descriptors, data."""
    table_size = capacity * DESCRIPTOR
    begin = 4096 if table_last else table_at + table_size
    body, table = bytearray(begin), bytearray()
    for number, part in enumerate(parts, 1):
        step = part.align if part.kind == PARTITION else 1
        body += bytes(-len(body) % step)
        table += descriptor(part, number, len(body))
        body += part.data
    size = len(body) - begin
    if table_last:
        table_at = len(body)
        body += bytes(table_size)
    body[table_at : table_at + len(table)] = table
    arch = next((part.arch for part in parts if part.use == PRIMARY), b"00\0")
    header = struct.pack(
        "<32s10s3s3s16sqqQQQQQQ",
        LINE,
        b"SIF_MAGIC",
        b"01",
        arch,
        bytes(range(16)),
        1_500_000_000,
        1_500_000_000,
        capacity - len(parts),
        capacity,
        table_at,
        table_size,
        begin,
        size,
    )
    assert len(header) == HEADER
    body[:HEADER] = header
    return bytes(body)


DEFINITION_PART = Part(kind=DEFINITION, data=b"BootStrap: debootstrap\n")
METADATA_PART = Part(kind=JSON, data=b"{}", name=b"inspect-metadata.json")


def root_part(data: bytes, content: int = SQUASHFS, **changes: int | bytes | None) -> Part:
    return Part(data=data, content=content, use=PRIMARY, **changes)  # type: ignore[arg-type]  # names checked by Part


# ---- the images ----


class Images:
    """Every image by name; what several share is made once."""

    def __init__(self) -> None:
        self.raw = squashfs()
        self.used = struct.unpack_from("<Q", self.raw, 40)[0]
        self.squashfs = padded(self.raw)
        self.ext2 = ext("ext2", 256 * KIB, "-b", "1024")
        self.ext3 = ext("ext3", 2 * MIB, "-b", "1024")
        self.sif = sif(DEFINITION_PART, METADATA_PART, root_part(self.squashfs))

    def all(self) -> Iterator[tuple[str, bytes]]:
        yield from self.squashfs_images()
        yield from self.squashfs_damaged()
        yield from self.ext_images()
        yield from self.erofs_images()
        yield from self.sif_images()
        yield from self.sif_tables()
        yield from self.sif_objects()
        yield from self.sif_not_launchable()
        yield from self.others()

    def squashfs_images(self) -> Iterator[tuple[str, bytes]]:
        for compression in ("gzip", "lzma", "lzo", "xz", "lz4", "zstd"):
            yield f"squashfs-{compression}", padded(squashfs("-comp", compression))
        yield "squashfs-blocks-4k", padded(squashfs("-b", "4096"))
        yield "squashfs-blocks-1m", padded(squashfs("-b", "1M"))
        yield "squashfs-no-compression", padded(squashfs("-noI", "-noD", "-noF", "-noX"))
        yield "squashfs-behind-line", LINE + self.squashfs
        yield "squashfs-behind-128-bytes", b"#!/" + b"x" * 124 + b"\n" + self.squashfs
        yield "squashfs-behind-129-bytes", b"#!/" + b"x" * 125 + b"\n" + self.squashfs
        yield "squashfs-with-ext-magic", patched(self.squashfs, (1024 + 56, u16(0xEF53)))

    def squashfs_damaged(self) -> Iterator[tuple[str, bytes]]:
        good, used = self.squashfs, self.used
        inodes, directories = struct.unpack_from("<QQ", good, 64)
        yield "squashfs-cut", good[: used - 1]
        yield "squashfs-cut-in-superblock", good[:95]
        yield "squashfs-cut-behind-line", LINE + good[: used - 1]
        yield "squashfs-version-3.1", patched(good, (28, u16(3) + u16(1)))
        yield "squashfs-compression-0", patched(good, (20, u16(0)))
        yield "squashfs-compression-7", patched(good, (20, u16(7)))
        yield "squashfs-block-log-differs", patched(good, (22, u16(16)))
        yield "squashfs-block-2k", patched(good, (12, u32(2 * KIB)), (22, u16(11)))
        yield "squashfs-block-2m", patched(good, (12, u32(2 * MIB)), (22, u16(21)))
        yield "squashfs-block-log-255", patched(good, (22, u16(255)))
        yield "squashfs-no-inodes", patched(good, (4, u32(0)))
        yield "squashfs-no-ids", patched(good, (26, u16(0)))
        yield "squashfs-inodes-in-superblock", patched(good, (64, u64(95)))
        yield "squashfs-no-inode-table", patched(good, (72, u64(inodes)))
        yield "squashfs-directories-before-inodes", patched(good, (72, u64(inodes - 1)))
        yield "squashfs-ids-before-directories", patched(good, (48, u64(directories - 1)))
        yield "squashfs-ids-after-end", patched(good, (48, u64(used)))
        yield "squashfs-root-behind-inodes", patched(good, (32, u64((directories - inodes) << 16)))
        yield "squashfs-root-behind-block", patched(good, (32, u64(8192)))
        yield "squashfs-endless", patched(good, (40, u64(2**64 - 1)))

    def ext_images(self) -> Iterator[tuple[str, bytes]]:
        ext2, ext3, block = self.ext2, self.ext3, 1024
        yield "ext2", ext2
        yield "ext3", ext3
        yield "ext4", ext("ext4", 2 * MIB)
        yield "ext4-blocks-4k", ext("ext4", MIB, "-b", "4096", "-O", "^has_journal")
        yield "image-2.x", LINE + ext3
        yield "image-2.x-expanded", LINE + ext3 + b"0"
        yield "image-2.x-other-line", b"#!/bin/sh\n" + ext2
        yield "image-2.x-cut", (LINE + ext3)[:-1]
        yield "ext2-cut", ext2[:-1]
        yield "ext2-cut-in-superblock", ext2[:1500]
        yield "ext2-blocks-none", patched(ext2, (block + 4, u32(0)))
        yield "ext2-block-log-7", patched(ext2, (block + 24, u32(7)))
        yield "ext2-block-log-huge", patched(ext2, (block + 24, u32(2**32 - 1)))
        yield "ext2-inodes-none", patched(ext2, (block, u32(0)))
        yield "ext2-inode-size-64", patched(ext2, (block + 88, u16(64)))
        yield "ext2-inode-size-192", patched(ext2, (block + 88, u16(192)))
        yield "ext2-inode-size-4096", patched(ext2, (block + 88, u16(4096)))
        yield "ext2-group-without-blocks", patched(ext2, (block + 32, u32(0)))
        yield "ext2-group-without-inodes", patched(ext2, (block + 40, u32(0)))
        yield "ext2-group-of-8193-inodes", patched(ext2, (block + 40, u32(8193)))
        yield "ext2-first-block-2", patched(ext2, (block + 20, u32(2)))
        yield "ext4-blocks-of-64-bit", patched(ext2, (block + 96, u32(0x80)), (block + 336, u32(1)))
        blocks_64k = patched(ext2, (block + 24, u32(6)), (block + 96, u32(0x80)))
        yield "ext4-blocks-past-64-bit", patched(blocks_64k, (block + 336, u32(2**32 - 1)))
        yield "ext3-journal", patched(ext2, (block + 96, u32(0x8)))

    def erofs_images(self) -> Iterator[tuple[str, bytes]]:
        good = erofs()
        yield "erofs", good
        yield "erofs-behind-line", LINE + good
        yield "erofs-blocks-512", erofs(log=9, blocks=16)
        yield "erofs-blocks-64k", erofs(log=16, blocks=1) + bytes(56 * KIB)
        yield "erofs-cut", good[:-1]
        yield "erofs-cut-in-superblock", good[:1151]
        yield "erofs-block-log-8", erofs(log=8)
        yield "erofs-block-log-17", erofs(log=17)
        yield "erofs-block-log-255", erofs(log=255)
        yield "erofs-blocks-none", erofs(blocks=0)
        yield "erofs-blocks-huge", erofs(blocks=2**32 - 1, log=16)
        yield "erofs-inodes-none", erofs(inodes=0)
        yield "erofs-meta-behind-end", erofs(meta=2)
        yield "erofs-blocks-of-48-bit", erofs(features=0x80, high=1)
        yield "erofs-48-bit", erofs(features=0x81, inodes=0)
        yield "erofs-several-files", erofs(devices=1, features=8)
        yield "sif-erofs", sif(DEFINITION_PART, root_part(good, RAW))
        yield "sif-erofs-damaged", sif(root_part(erofs(log=8), RAW))
        yield "sif-erofs-cut", sif(root_part(good, RAW, size=4096))
        yield "sif-erofs-as-squashfs", sif(root_part(good, SQUASHFS))

    def sif_images(self) -> Iterator[tuple[str, bytes]]:
        root, small = root_part(self.squashfs), self.squashfs
        overlay = Part(data=self.ext2, content=EXT, use=OVERLAY)
        signature = Part(kind=SIGNATURE, data=b"-----BEGIN", group=0, link=GROUP | 1)
        yield "sif", self.sif
        yield "sif-one-object", sif(root)
        yield "sif-unaligned", sif(Part(kind=DEFINITION, data=b"odd"), root_part(small, align=1))
        yield "sif-ext", sif(root_part(self.ext3, EXT))
        yield "sif-overlay", sif(DEFINITION_PART, root, overlay)
        yield "sif-overlay-first", sif(overlay, root)
        yield "sif-overlays-of-groups", sif(root, Part(data=small, content=SQUASHFS, use=OVERLAY, group=2), overlay)
        yield "sif-overlay-raw", sif(root, Part(data=b"raw", content=RAW, use=OVERLAY))
        yield "sif-overlays-16", sif(root, *[Part(data=small, content=SQUASHFS, use=OVERLAY)] * 16)
        yield "sif-signed", sif(DEFINITION_PART, root, signature)
        other, data = Part(data=small, content=SQUASHFS, use=SYSTEM), Part(data=b"x", content=RAW, use=DATA)
        yield "sif-other-partitions", sif(other, root, data)
        yield "sif-table-at-128", sif(root, capacity=4, table_at=HEADER)
        yield "sif-table-last", sif(DEFINITION_PART, root, table_last=True)
        yield "sif-table-of-1792", sif(root, capacity=1792)
        for name, code in (("386", b"01"), ("arm64", b"04"), ("riscv64", b"12"), ("loong64", b"13")):
            yield f"sif-{name}", sif(root_part(small, arch=code + b"\0"))
        for name, code in (("00", b"00\0"), ("14", b"14\0"), ("text", b"\xff;\n")):
            yield f"sif-architecture-{name}", sif(root_part(small, arch=code))
        yield "sif-empty-object", sif(root, Part(kind=JSON))
        yield "sif-deleted-object", patched(sif(Part(kind=JSON, offset=2**64 - 1, size=2**63), root), (4096 + 4, b"\0"))

    def sif_tables(self) -> Iterator[tuple[str, bytes]]:
        good = self.sif
        yield "sif-cut", good[:-4096]
        yield "sif-cut-in-table", good[:8192]
        yield "sif-cut-in-header", good[:100]
        yield "sif-cut-in-magic", good[:41]
        yield "sif-version-02", patched(good, (42, b"02"))
        yield "sif-objects-none", patched(good, (88, u64(0)))
        yield "sif-objects-4097", patched(good, (88, u64(4097)))
        yield "sif-objects-huge", patched(good, (88, u64(2**64 - 1)))
        yield "sif-objects-past-64-bit", patched(good, (88, u64(pow(DESCRIPTOR, -1, 2**64))))
        yield "sif-objects-more-than-table", patched(good, (88, u64(49)))
        yield "sif-table-of-1793", sif(root_part(self.squashfs), capacity=1793)
        yield "sif-table-in-header", patched(good, (96, u64(64)))
        yield "sif-table-past-64-bit", patched(good, (96, u64(2**64 - 4096)))
        yield "sif-table-after-file", patched(good, (96, u64(len(good) - 100)))
        yield "sif-table-size-huge", patched(good, (104, u64(2**63)))

    def sif_objects(self) -> Iterator[tuple[str, bytes]]:
        small, root = self.squashfs, root_part(self.squashfs)
        yield "sif-object-after-file", sif(DEFINITION_PART, root, Part(kind=JSON, data=b"{}", size=4098))
        yield "sif-object-past-64-bit", sif(root, Part(kind=JSON, offset=2**64 - 1, size=2))
        yield "sif-object-negative", sif(root, Part(kind=JSON, offset=2**63, size=1))
        yield "sif-object-over-header", sif(root, Part(kind=JSON, offset=127, size=1))
        yield "sif-object-over-table", sif(root, Part(kind=JSON, offset=4000, size=97))
        yield "sif-object-in-table", sif(root, Part(kind=JSON, offset=8192, size=1))
        yield "sif-objects-overlap", sif(root, Part(kind=JSON, offset=36864, size=1))
        inner, outer = Part(kind=JSON, data=b"x" * 10, offset=32180, size=1), Part(kind=JSON, offset=32176, size=10)
        yield "sif-object-around-object", sif(inner, outer, root)
        yield "sif-empty-object-after-file", sif(root, Part(kind=JSON, offset=10 * MIB))
        yield "sif-root-cut-by-object", sif(root_part(small, size=200))
        yield "sif-root-of-50-bytes", sif(root_part(small, size=50))
        yield "sif-root-of-1500-bytes", sif(root_part(self.ext2, EXT, size=1500))
        yield "sif-root-of-nothing", sif(root_part(b""))

    def sif_not_launchable(self) -> Iterator[tuple[str, bytes]]:
        small, root = self.squashfs, root_part(self.squashfs)
        yield "sif-without-root", sif(DEFINITION_PART, Part(data=small, content=SQUASHFS, use=DATA))
        yield "sif-two-roots", sif(root, root)
        for name, content in (
            ("archive", ARCHIVE),
            ("raw", RAW),
            ("encrypted", ENCRYPTED),
            ("gocryptfs", GOCRYPTFS),
            ("file-system-0", 0),
            ("file-system-9", 9),
        ):
            yield f"sif-{name}", sif(root_part(small, content))
        yield "sif-root-not-squashfs", sif(root_part(self.ext2, SQUASHFS))
        yield "sif-root-not-ext", sif(root_part(small, EXT))
        yield "sif-root-damaged", sif(root_part(patched(small, (20, u16(7)))))
        yield "sif-overlay-damaged", sif(root, Part(data=small, content=EXT, use=OVERLAY))
        yield "sif-overlays-17", sif(root, *[Part(data=small, content=SQUASHFS, use=OVERLAY)] * 17)
        yield "oci-sif", sif(Part(kind=OCI_INDEX, data=b"{}"))

    def others(self) -> Iterator[tuple[str, bytes]]:
        yield "empty", b""
        yield "one-byte", b"#"
        yield "text", b"This is no image.\n" * 100
        yield "script", b"#!/bin/sh\necho hello\n"
        yield "line-alone", LINE
        yield "web-page", b"<!DOCTYPE html>\n<html></html>\n"
        yield "ext2-with-sif-magic", patched(self.ext2, (32, b"SIF_MAGIC\0"))
        yield "archive.tar", tar()
        yield "archive.tar.gz", gzip.compress(tar(), mtime=0)
        yield "archive.tar.bz2", bz2.compress(tar())
        yield "archive.tar.xz", lzma.compress(tar())
        yield "archive.tar.zst", bytes.fromhex("28b52ffd2400010000 99e9d851")
        yield "archive-skippable.tar.zst", bytes.fromhex("5d2a4d1804000000 00000000 28b52ffd2400010000 99e9d851")
        yield "archive.cpio", b"070701" + b"00000000" * 13 + b"TRAILER!!!\0\0\0\0"


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("bin/sh")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"sh\n"))
    return buffer.getvalue()


# ---- seeds ----


def seeds(images: Images) -> Iterator[tuple[str, bytes]]:
    """Whole but tiny: an ext superblock that speaks of no more than itself, a squashfs without padding."""
    tiny_ext = patched(images.ext2[:2048], (1024 + 4, u32(2)))
    raw = images.raw
    yield "squashfs/gzip", raw
    yield "squashfs/xz", squashfs("-comp", "xz")
    yield "squashfs/cut", raw[:-1]
    yield "ext/ext2", tiny_ext
    yield "ext/ext4-64-bit", patched(ext("ext4", 2 * MIB, "-O", "64bit")[:2048], (1024 + 4, u32(2)))
    yield "ext/cut", tiny_ext[:-1]
    tiny_erofs = erofs(log=9, blocks=3)[:1536]
    yield "erofs/erofs", tiny_erofs
    yield "erofs/48-bit", erofs(log=9, blocks=3, features=0x81, inodes=0)[:1536]
    yield "erofs/cut", tiny_erofs[:-1]
    root = root_part(raw, align=1)
    overlay = Part(data=tiny_ext, content=EXT, use=OVERLAY, align=1)
    yield "sif/squashfs", sif(Part(kind=DEFINITION, data=b"x"), root, capacity=3, table_at=HEADER)
    yield "sif/overlay", sif(root, overlay, capacity=2, table_at=HEADER)
    yield "sif/erofs", sif(root_part(tiny_erofs, RAW, align=1), capacity=1, table_at=HEADER)
    yield "sif/ext", sif(root_part(tiny_ext, EXT, align=1), capacity=1, table_at=HEADER)
    second = Part(kind=JSON, offset=HEADER + 2 * DESCRIPTOR + 1, size=1)
    yield "sif/overlap", sif(root, second, capacity=2, table_at=HEADER)
    yield "sif/without-root", sif(METADATA_PART, capacity=1, table_at=HEADER)


def write_all(directory: Path, made: Iterator[tuple[str, bytes]]) -> set[str]:
    names = set()
    for name, data in made:
        assert name not in names, name
        names.add(name)
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return names


def main(arguments: list[str]) -> int:
    if len(arguments) == 2 and arguments[0] == "--seeds":
        write_all(Path(arguments[1]), seeds(Images()))
        return 0
    if len(arguments) != 1 or arguments[0].startswith("-"):
        raise SystemExit(f"usage: make.py DIRECTORY | make.py --seeds CORPUS\n{__doc__}")
    directory = Path(arguments[0])
    names = write_all(directory, Images().all())
    directory.joinpath("directory").mkdir(exist_ok=True)
    verdicts = json.loads(Path(__file__).with_name("verdicts.json").read_text())
    if odd := sorted((names | {"directory"}) ^ set(verdicts)):
        raise SystemExit(f"made, or in verdicts.json, but not both: {', '.join(odd)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
