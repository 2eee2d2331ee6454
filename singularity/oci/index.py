"""What a layer says about names and directories, without its files: all that must be known before the files are read.

An index is made in one reading of the layer, which may be the one that fetches it, and is small enough to be kept
beside the blob: some 10 bytes for each member. As a file it is a line, a digest of what follows, two numbers and the
blocks. A block is compressed, and has the members in their order, as fields that end with a zero byte: a letter and the
path, and for some letters a second one with a link's target or a directory's attributes.
"""

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from singularity.errors import ImageError
from singularity.image.tree import Kind, Member, Tree
from singularity.oci import members
from singularity.oci.image import Layer

FILE, DIRECTORY, LINK, HARD_LINK = b"f", b"d", b"l", b"h"  # letters
_LETTERS = {Kind.DIRECTORY: DIRECTORY, Kind.LINK: LINK, Kind.HARD_LINK: HARD_LINK}  # FILE: all others
_TWO_FIELDS = frozenset(_LETTERS.values())
_BLOCK = 1 << 16  # bytes of fields that are compressed together
_LIMIT = 1 << 26  # bytes that a block may become: attributes may be long
_MAGIC = b"singularity layer index 1\n"
_HEAD, _SIZE = struct.Struct("<QQ"), struct.Struct("<Q")
_DAMAGED = "damaged index of a layer"


@dataclass(frozen=True, slots=True)
class LayerIndex:
    """The members of a layer, in their order."""

    count: int
    blocks: tuple[bytes, ...]

    def members(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Letter, path, and a link's target or what `directory` makes a member of."""
        for block in self.blocks:
            fields = iter(_expanded(block).split(b"\0"))
            for field in fields:
                letter = field[:1]
                yield letter, field[1:], next(fields, b"") if letter in _TWO_FIELDS else b""

    def encode(self) -> bytes:
        """The index as a file."""
        parts = [_HEAD.pack(self.count, len(self.blocks))]
        for block in self.blocks:
            parts += [_SIZE.pack(len(block)), block]
        data = b"".join(parts)
        return _MAGIC + hashlib.sha256(data).digest() + data


def decode(data: bytes) -> LayerIndex:
    """An index that `encode` made. Raises ImageError for a damaged one, and for one of another version."""
    start = len(_MAGIC) + hashlib.sha256().digest_size
    if not data.startswith(_MAGIC) or hashlib.sha256(data[start:]).digest() != data[len(_MAGIC) : start]:
        raise ImageError(_DAMAGED)
    count, number = _HEAD.unpack_from(data, start)
    at = start + _HEAD.size
    blocks = []
    for _ in range(number):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        blocks.append(data[at : at + size])
        at += size
    return LayerIndex(count, tuple(blocks))


def index_layer(layer: Layer) -> LayerIndex:
    """Reads a layer once, to be read again for its files, when the digest of its content is checked.

    What is stored is what its digest says. Raises ImageError, FileError and ToolError.
    """
    with members.read(layer, content=False) as tree:
        return index_tree(tree)


def index_tree(tree: Tree) -> LayerIndex:
    """The index of the members of an archive."""
    blocks = []
    fields: list[bytes] = []
    size = count = 0
    for entry in tree:
        member = entry.member
        count += 1
        letter = _LETTERS.get(member.kind, FILE)
        field = letter + member.path
        fields.append(field)
        size += len(field)
        if letter != FILE:
            more = _attributes(member) if letter == DIRECTORY else member.target
            fields.append(more)
            size += len(more)
        if size >= _BLOCK:
            blocks.append(_compressed(fields))
            fields, size = [], 0
    if fields:
        blocks.append(_compressed(fields))
    return LayerIndex(count, tuple(blocks))


def _compressed(fields: list[bytes]) -> bytes:
    return zlib.compress(b"\0".join(fields), 1)


def _expanded(block: bytes) -> bytes:
    try:
        work = zlib.decompressobj()
        data = work.decompress(block, _LIMIT)
    except zlib.error as error:
        raise ImageError(_DAMAGED) from error
    if not work.eof:
        raise ImageError(_DAMAGED)
    return data


def _attributes(member: Member) -> bytes:
    words = [b"%o %d %d %d" % (member.mode, member.uid, member.gid, member.mtime)]
    words += [b"%s=%s" % (name.hex().encode(), value.hex().encode()) for name, value in member.xattrs.items()]
    return b" ".join(words)


def directory(path: bytes, attributes: bytes) -> Member:
    """A directory as the index has it."""
    mode, uid, gid, mtime, *rest = attributes.split(b" ")
    pairs = (word.partition(b"=") for word in rest)
    xattrs = {bytes.fromhex(name.decode()): bytes.fromhex(value.decode()) for name, _, value in pairs}
    return Member(
        path=path,
        kind=Kind.DIRECTORY,
        mode=int(mode, 8),
        uid=int(uid),
        gid=int(gid),
        mtime=int(mtime),
        xattrs=xattrs,
    )
