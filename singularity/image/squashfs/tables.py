"""The tables of a squashfs whose data lies elsewhere: a root file system that is read before it is there.

Only names, attributes and sizes are needed. Each file gets a place in the file system, where its data stands
uncompressed; whoever serves the file system looks there up what to fetch. Nothing here is compressed, so that every
kernel reads it. Layout: the kernel's `fs/squashfs/squashfs_fs.h`; all numbers are little-endian.
"""

import os
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from singularity.errors import ImageError
from singularity.image.limits import shown
from singularity.image.tree import Kind, Member

BLOCK_SIZE = 1 << 17  # bytes of a block of data
DATA_OFFSET = 4096  # where the data of the first file begins
_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_BLOCK_LOG, _GZIP = 17, 1
_FLAGS = 0x001 | 0x002 | 0x008 | 0x010 | 0x800  # inodes, data, fragments and ids uncompressed; no fragments
_METADATA, _STORED, _DATA_STORED = 8192, 0x8000, 1 << 24
_NONE, _NONE_WIDE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_COMMON = struct.Struct("<HHHHII")
_DIRECTORY, _LONG_DIRECTORY = struct.Struct("<IIHHI"), struct.Struct("<IIIIHHI")
_FILE, _LONG_FILE = struct.Struct("<IIII"), struct.Struct("<QQQIIII")
_LIST_HEADER, _LIST_ENTRY = struct.Struct("<III"), struct.Struct("<HhHH")
_ATTRIBUTE_ID = struct.Struct("<QII")
_LISTED = 256  # names behind one header
_SECOND = 10**9
_TIMES = range(1 << 32)
_EXTENDED = 7
_TYPES = {
    Kind.DIRECTORY: 1,
    Kind.FILE: 2,
    Kind.LINK: 3,
    Kind.BLOCK_DEVICE: 4,
    Kind.CHARACTER_DEVICE: 5,
    Kind.FIFO: 6,
    Kind.SOCKET: 7,
}
_PREFIXES = {b"user.": 0, b"trusted.": 1, b"security.": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Laid:
    """A file system, but for the data of its files."""

    head: bytes  # at its begin
    tables: bytes  # at `tables_offset`, behind all data
    tables_offset: int
    size: int  # in bytes; a multiple of 4096
    places: Mapping[bytes, int]  # of the data of each FILE that has any, by its path, in bytes from the begin


class _Table:
    """A table of metadata blocks, which grows."""

    def __init__(self) -> None:
        self.data = bytearray()

    def place(self) -> tuple[int, int]:
        """Where the next byte will be: its block, in bytes from the begin of the table, and the byte in it."""
        block, offset = divmod(len(self.data), _METADATA)
        return block * (_METADATA + 2), offset

    def blocks(self) -> Iterator[bytes]:
        """The blocks as they are stored."""
        for start in range(0, len(self.data), _METADATA):
            data = bytes(self.data[start : start + _METADATA])
            yield (len(data) | _STORED).to_bytes(2, "little") + data


@dataclass(slots=True)
class _Node:
    """A file that has at least one name."""

    member: Member
    number: int
    links: int = 1
    reference: tuple[int, int] = (-1, 0)  # of its inode, once that is written
    names: dict[bytes, "_Node"] = field(default_factory=dict)  # of a directory
    subdirectories: int = 0


def lay_out(members: Iterable[Member]) -> Laid:
    """The file system that holds these members, each path once, in any order; directories that are missing are root's.

    Raises ImageError for what contradicts itself, or cannot be said in a squashfs.
    """
    return _Writer(members).laid()


class _Writer:
    def __init__(self, members: Iterable[Member]) -> None:
        self.nodes: dict[bytes, _Node] = {}
        self.count = 0
        self.ids: dict[int, int] = {}
        self.inodes, self.directories, self.attributes = _Table(), _Table(), _Table()
        self.attribute_ids: list[bytes] = []
        self.attribute_numbers: dict[tuple[tuple[bytes, bytes], ...], int] = {}
        self.places: dict[bytes, int] = {}
        self.data_end = DATA_OFFSET
        self.root = self._directory(b"")
        links = []
        for member in members:
            if member.kind is Kind.HARD_LINK:
                links.append(member)
            else:
                self._add(member)
        for member in links:
            self._link(member)

    # ---- the tree ----

    def _new(self, member: Member) -> _Node:
        self.count += 1
        self.nodes[member.path] = node = _Node(member, self.count)
        return node

    def _directory(self, path: bytes) -> _Node:
        """The directory of a path, made where no member has spoken of it."""
        node = self.nodes.get(path)
        if node is None:
            node = self._new(Member(path=path, kind=Kind.DIRECTORY, mode=0o755))
            self._enter(path, node)
        if node.member.kind is not Kind.DIRECTORY:
            raise ImageError(f"{shown(path)}: something lies below it, but it is no directory")
        return node

    def _enter(self, path: bytes, node: _Node) -> None:
        if not path:
            return
        above, _, name = path.rpartition(b"/")
        parent = self._directory(above)
        parent.names[name] = node
        parent.subdirectories += node.member.kind is Kind.DIRECTORY

    def _add(self, member: Member) -> None:
        known = self.nodes.get(member.path)
        if known is None:
            self._enter(member.path, self._new(member))
        elif known.member.kind is Kind.DIRECTORY and member.kind is Kind.DIRECTORY:
            known.member = member
        else:
            raise ImageError(f"{shown(member.path)}: there twice")

    def _link(self, member: Member) -> None:
        target = self.nodes.get(member.target)
        if target is None or target.member.kind is Kind.DIRECTORY or member.path in self.nodes:
            raise ImageError(f"{shown(member.path)}: a hard link to nothing that can have one")
        target.links += 1
        self.nodes[member.path] = target
        self._enter(member.path, target)

    # ---- inodes ----

    def laid(self) -> Laid:
        """Writes everything, what is in a directory before the directory."""
        order: list[_Node] = []
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            order.append(node)
            waiting += [each for each in node.names.values() if each.member.kind is Kind.DIRECTORY]
        parents = {id(child): node.number for node in order for child in node.names.values()}
        for directory in reversed(order):
            for _, node in sorted(directory.names.items()):
                if node.reference[0] < 0:
                    self._write(node)
            self._write_directory(directory, parents.get(id(directory), self.count + 1))
        return self._assembled()

    def _begin(self, node: _Node, *, extended: bool) -> None:
        member = node.member
        seconds = min(max(member.mtime // _SECOND, _TIMES.start), _TIMES.stop - 1)
        node.reference = self.inodes.place()
        kind = _TYPES[member.kind] + (_EXTENDED if extended else 0)
        owners = (self._id(member.uid), self._id(member.gid))
        mode = 0o777 if member.kind is Kind.LINK else member.mode
        self.inodes.data += _COMMON.pack(kind, mode, *owners, seconds, node.number)

    def _id(self, number: int) -> int:
        index = self.ids.setdefault(number, len(self.ids))
        if index > 0xFFFF:
            raise ImageError("more owners than a squashfs can hold")
        return index

    def _write(self, node: _Node) -> None:
        member = node.member
        attributes = self._attributes(member)
        extended = attributes != _NONE
        match member.kind:
            case Kind.FILE:
                self._write_file(node, attributes)
                return
            case Kind.LINK:
                self._begin(node, extended=extended)
                self.inodes.data += struct.pack("<II", node.links, len(member.target)) + member.target
            case Kind.BLOCK_DEVICE | Kind.CHARACTER_DEVICE:
                self._begin(node, extended=extended)
                self.inodes.data += struct.pack("<II", node.links, _device(member.device))
            case _:
                self._begin(node, extended=extended)
                self.inodes.data += struct.pack("<I", node.links)
        if extended:
            self.inodes.data += struct.pack("<I", attributes)

    def _write_file(self, node: _Node, attributes: int) -> None:
        member, start = node.member, self.data_end
        size = member.size
        if size:
            self.places[member.path] = start
            self.data_end += size
        extended = attributes != _NONE or node.links > 1 or max(start, size) > _NONE
        self._begin(node, extended=extended)
        if extended:
            fields = (start, size, 0, node.links, _NONE, 0, attributes)
            self.inodes.data += _LONG_FILE.pack(*fields)
        else:
            self.inodes.data += _FILE.pack(start, _NONE, 0, size)
        whole, rest = divmod(size, BLOCK_SIZE)
        sizes = array("I", [BLOCK_SIZE | _DATA_STORED]) * whole
        if rest:
            sizes.append(rest | _DATA_STORED)
        self.inodes.data += sizes.tobytes()

    def _write_directory(self, node: _Node, parent: int) -> None:
        block, offset = self.directories.place()
        size = self._list(node) + 3
        links = node.subdirectories + 2
        attributes = self._attributes(node.member)
        extended = attributes != _NONE or size > 0xFFFF
        self._begin(node, extended=extended)
        if extended:
            self.inodes.data += _LONG_DIRECTORY.pack(links, size, block, parent, 0, offset, attributes)
        else:
            self.inodes.data += _DIRECTORY.pack(block, links, size, offset, parent)

    def _list(self, directory: _Node) -> int:
        """Writes the names of a directory; in bytes."""
        before = len(self.directories.data)
        names = sorted(directory.names.items())
        start = 0
        while start < len(names):
            first = names[start][1]
            end = start + 1
            while end < len(names) and end - start < _LISTED and _goes_with(first, names[end][1]):
                end += 1
            self.directories.data += _LIST_HEADER.pack(end - start - 1, first.reference[0], first.number)
            for name, node in names[start:end]:
                kind = _TYPES[node.member.kind]
                entry = (node.reference[1], node.number - first.number, kind, len(name) - 1)
                self.directories.data += _LIST_ENTRY.pack(*entry) + name
            start = end
        return len(self.directories.data) - before

    # ---- extended attributes ----

    def _attributes(self, member: Member) -> int:
        """The number of a set of attributes; those that squashfs has no place for are left out."""
        kept = tuple(sorted((name, value) for name, value in member.xattrs.items() if _prefix(name)))
        if not kept:
            return _NONE
        known = self.attribute_numbers.get(kept)
        if known is not None:
            return known
        block, offset = self.attributes.place()
        size = 0
        for name, value in kept:
            prefix = _prefix(name)
            rest = name[len(prefix) :]
            self.attributes.data += struct.pack("<HH", _PREFIXES[prefix], len(rest)) + rest
            self.attributes.data += struct.pack("<I", len(value)) + value
            size += len(name) + 1 + len(value)
        self.attribute_ids.append(_ATTRIBUTE_ID.pack(block << 16 | offset, len(kept), size))
        self.attribute_numbers[kept] = len(self.attribute_numbers)
        return self.attribute_numbers[kept]

    # ---- the whole ----

    def _assembled(self) -> Laid:
        start = -(-self.data_end // 4096) * 4096
        tables = bytearray()
        inode_table = start
        tables += b"".join(self.inodes.blocks())
        directory_table = start + len(tables)
        tables += b"".join(self.directories.blocks())
        fragment_table = start + len(tables)
        id_table = _indirect(tables, start, struct.pack(f"<{len(self.ids)}I", *self.ids))
        attribute_table = self._attribute_table(tables, start) if self.attribute_ids else _NONE_WIDE
        used = start + len(tables)
        root = self.root.reference
        flags = _FLAGS if self.attribute_ids else _FLAGS | 0x200
        head = _SUPERBLOCK.pack(
            b"hsqs", self.count, 0, BLOCK_SIZE, 0, _GZIP, _BLOCK_LOG, flags,
            len(self.ids), 4, 0, root[0] << 16 | root[1], used, id_table, attribute_table, inode_table,
            directory_table, fragment_table, _NONE_WIDE,
        )  # fmt: skip
        size = -(-used // 4096) * 4096
        return Laid(head=head, tables=bytes(tables), tables_offset=start, size=size, places=self.places)

    def _attribute_table(self, tables: bytearray, start: int) -> int:
        values = start + len(tables)
        tables += b"".join(self.attributes.blocks())
        places = _blocks(tables, start, b"".join(self.attribute_ids))
        found = start + len(tables)
        tables += _ATTRIBUTE_ID.pack(values, len(self.attribute_ids), 0) + places
        return found


def _goes_with(first: _Node, other: _Node) -> bool:
    """Whether two names can stand behind one header."""
    near = -0x8000 <= other.number - first.number < 0x8000
    return near and first.reference[0] == other.reference[0]


def _prefix(name: bytes) -> bytes:
    return next((each for each in _PREFIXES if name.startswith(each) and len(name) > len(each)), b"")


def _blocks(tables: bytearray, start: int, data: bytes) -> bytes:
    """Appends data as metadata blocks; the places of those."""
    table = _Table()
    table.data += data
    places = array("Q")
    for block in table.blocks():
        places.append(start + len(tables))
        tables += block
    return places.tobytes()


def _indirect(tables: bytearray, start: int, data: bytes) -> int:
    """Appends data as metadata blocks, and the list of their places; the place of that list."""
    places = _blocks(tables, start, data)
    found = start + len(tables)
    tables += places
    return found


def _device(number: int) -> int:
    major, minor = os.major(number), os.minor(number)
    return (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
