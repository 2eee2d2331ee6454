"""Reads a squashfs out of a file, also out of a SIF: no mount, no tool, no unpacking, no privilege.

Every inode is visited once and every table read to its end at most, so that reading ends, whatever the image says.
Layout: squashfs 4.0, the kernel's `Documentation/filesystems/squashfs.rst` and `fs/squashfs/squashfs_fs.h`; all numbers
are little-endian.
"""

import os
import struct
from array import array
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

from singularity.errors import FileError, ImageError
from singularity.image.decompress import decompressor
from singularity.image.limits import LIMITS
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

_SUPERBLOCK = struct.Struct("<4sIIIIHHHHHHQQQQQQQQ")
_METADATA, _STORED = 8192, 0x8000  # bytes of a metadata block, and the bit of one that is not compressed
_DATA_STORED, _DATA_SIZE = 1 << 24, (1 << 24) - 1
_NONE, _NONE_WIDE = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF
_BLOCKS_KEPT = 256  # metadata blocks of a table
_FRAGMENTS_KEPT = 16
_PIECES = 4096  # sizes of data blocks read at once
_PATH_LIMIT, _LINK_LIMIT, _DIRECTORY_LIMIT, _ATTRIBUTE_LIMIT = 4095, 4096, 1 << 28, 1 << 20
_INODES_LIMIT = 1 << 26
_SECOND = 10**9
_RATIO = 100_000  # bytes for each byte of the squashfs; a block of equal bytes comes near it
_PREFIXES = {0: b"user.", 1: b"trusted.", 2: b"security."}
_OUT_OF_LINE = 0x100
_KINDS = {
    1: Kind.DIRECTORY,
    2: Kind.FILE,
    3: Kind.LINK,
    4: Kind.BLOCK_DEVICE,
    5: Kind.CHARACTER_DEVICE,
    6: Kind.FIFO,
    7: Kind.SOCKET,
}
_EXTENDED = 7  # added to the type of an inode with room for more


def read(file: BinaryIO, offset: int, size: int) -> Tree:
    """The files of the squashfs in `size` bytes at `offset`; the names of a directory in order.

    Raises ImageError for what is damaged, FileError when `file` cannot be read, ToolError without the library that its
    compression needs.
    """
    with _translated(file), ThreadPoolExecutor(max(1, len(os.sched_getaffinity(0)))) as pool:
        yield from Filesystem(file.fileno(), offset, size, pool).entries()


@contextmanager
def _translated(file: BinaryIO) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError.because(getattr(file, "name", "image"), error) from error
    except (struct.error, ValueError, OverflowError, IndexError) as error:
        raise ImageError(f"damaged squashfs ({error})") from error


class _Table:
    """Metadata blocks that follow each other, between two places of the file system."""

    def __init__(self, system: "Filesystem", start: int, end: int) -> None:
        self.system, self.start, self.end = system, start, end
        self._blocks: OrderedDict[int, tuple[bytes, int]] = OrderedDict()

    @property
    def capacity(self) -> int:
        """More bytes than can be in it."""
        return ((self.end - self.start) // 3 + 1) * _METADATA

    def block(self, at: int) -> tuple[bytes, int]:
        """The content of the block at a place, and where the next one is."""
        found = self._blocks.get(at)
        if found is not None:
            return found
        if not self.start <= at <= self.end - 3:
            raise ImageError("damaged squashfs: a table that ends early")
        header = int.from_bytes(self.system.pread(at, 2), "little")
        size = header & (_STORED - 1)
        if not 0 < size <= _METADATA or at + 2 + size > self.end:
            raise ImageError("damaged squashfs: metadata of an impossible size")
        data = self.system.pread(at + 2, size)
        if not header & _STORED:
            data = self.system.decompress(data, _METADATA)
        if len(self._blocks) >= _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        self._blocks[at] = found = data, at + 2 + size
        return found


class _Cursor:
    """A place in a table, from which on it is read."""

    def __init__(self, table: _Table, block: int, offset: int) -> None:
        self.table, self._offset = table, offset
        self._data, self._next = table.block(block)
        if offset > len(self._data):
            raise ImageError("damaged squashfs: a place behind its block")

    def take(self, size: int) -> bytes:
        """The next bytes."""
        data = self._data[self._offset : self._offset + size]
        self._offset += len(data)
        while len(data) < size:
            self._data, self._next = self.table.block(self._next)
            if not self._data:
                raise ImageError("damaged squashfs: an empty block of metadata")
            more = self._data[: size - len(data)]
            self._offset = len(more)
            data += more
        return data

    def numbers(self, form: struct.Struct) -> tuple[int, ...]:
        """The next fields."""
        return form.unpack(self.take(form.size))


class Inode(NamedTuple):
    """One file as its inode tells."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime: int  # seconds
    number: int
    links: int
    size: int  # of a file or of a directory's list
    attributes: int
    target: bytes
    device: int
    start: int  # of a file's data; of a directory's list, its block
    offset: int  # in the fragment; in the block
    fragment: int
    sizes: _Cursor | None  # at the sizes of a file's blocks


_COMMON = struct.Struct("<HHHHII")
_DIRECTORY, _LONG_DIRECTORY = struct.Struct("<IIHHI"), struct.Struct("<IIIIHHI")
_FILE, _LONG_FILE = struct.Struct("<IIII"), struct.Struct("<QQQIIII")
_TWO, _ONE = struct.Struct("<II"), struct.Struct("<I")
_LIST_HEADER, _LIST_ENTRY = struct.Struct("<III"), struct.Struct("<HhHH")
_FRAGMENT = struct.Struct("<QII")
_ATTRIBUTE_ID, _ATTRIBUTE_KEY = struct.Struct("<QII"), struct.Struct("<HH")


class _Listed(NamedTuple):
    """A name in a directory, and where its inode is."""

    name: bytes
    block: int
    offset: int


class Filesystem:
    """One file system by its parts, and one pass over it. Methods raise ImageError and OSError."""

    def __init__(self, fd: int, offset: int, size: int, pool: ThreadPoolExecutor) -> None:
        self.fd, self.offset, self.pool = fd, offset, pool
        self.end = size
        fields = _SUPERBLOCK.unpack(self.pread(0, _SUPERBLOCK.size))
        magic, inodes, _, block_size, fragments, compression, log, _, ids, major, minor, root, used, *tables = fields
        id_table, attribute_table, inode_table, directory_table, fragment_table, _ = tables
        if magic != b"hsqs" or (major, minor) != (4, 0) or not 12 <= log <= 20 or block_size != 1 << log:
            raise ImageError("damaged squashfs superblock")
        if used > size or not _SUPERBLOCK.size <= inode_table < directory_table <= used or inodes > _INODES_LIMIT:
            raise ImageError("damaged squashfs superblock: its tables lie in no possible place")
        self.end, self.block_size, self.root = used, block_size, root
        self.decompress = decompressor(compression)
        self.inodes = _Table(self, inode_table, directory_table)
        ends = [each for each in (fragment_table, id_table, attribute_table, used) if each >= directory_table]
        self.directories = _Table(self, directory_table, min(ends))
        self._ids = array("I", b"".join(self._indirect(id_table, ids * 4)))
        self._fragment_table = b"".join(self._indirect(fragment_table, fragments * _FRAGMENT.size))
        self._fragments: OrderedDict[int, Future[bytes]] = OrderedDict()
        self._read_attributes(attribute_table)
        self._seen = bytearray(inodes // 8 + 1)
        self._inode_count = inodes
        self._sizes_left, self._lists_left = self.inodes.capacity, self.directories.capacity
        self._total = 0
        self._window = 2 * len(os.sched_getaffinity(0))  # blocks of data that are made ready
        self._first_names: dict[int, bytes] = {}

    def pread(self, at: int, size: int) -> bytes:
        """Bytes of the file system."""
        if at < 0 or at + size > self.end:
            raise ImageError("damaged squashfs: something lies behind its end")
        data = os.pread(self.fd, size, self.offset + at)
        while len(data) < size:
            more = os.pread(self.fd, size - len(data), self.offset + at + len(data))
            if not more:
                raise ImageError("the squashfs ends early: incomplete download?")
            data += more
        return data

    def _indirect(self, at: int, size: int) -> Iterator[bytes]:
        """A table of `size` bytes that is found through a list of its metadata blocks."""
        count = -(-size // _METADATA)
        if not count:
            return
        table = _Table(self, 0, self.end)
        for number, place in enumerate(array("Q", self.pread(at, 8 * count))):
            data = table.block(place)[0]
            if len(data) < min(_METADATA, size - number * _METADATA):
                raise ImageError("damaged squashfs: a table that ends early")
            yield data[: size - number * _METADATA]

    # ---- inodes and directories ----

    def inode(self, block: int, offset: int) -> Inode:
        """The inode at a place of its table."""
        cursor = _Cursor(self.inodes, self.inodes.start + block, offset)
        number_of, mode, uid, gid, mtime, number = cursor.numbers(_COMMON)
        extended = number_of > _EXTENDED
        kind = _KINDS.get(number_of - _EXTENDED if extended else number_of)
        if kind is None or not 0 < number <= self._inode_count or max(uid, gid) >= len(self._ids):
            raise ImageError("damaged squashfs: an impossible inode")
        links, size, attributes, target, device, start, place, fragment = 1, 0, _NONE, b"", 0, 0, 0, _NONE
        sizes = None
        if kind is Kind.DIRECTORY and extended:
            links, size, start, _, _, place, attributes = cursor.numbers(_LONG_DIRECTORY)
        elif kind is Kind.DIRECTORY:
            start, links, size, place, _ = cursor.numbers(_DIRECTORY)
        elif kind is Kind.FILE:
            if extended:
                start, size, _, links, fragment, place, attributes = cursor.numbers(_LONG_FILE)
            else:
                start, fragment, place, size = cursor.numbers(_FILE)
            sizes = cursor
        elif kind is Kind.LINK:
            links, length = cursor.numbers(_TWO)
            if not 0 < length <= _LINK_LIMIT:
                raise ImageError("damaged squashfs: a link of an impossible length")
            target = cursor.take(length)
        else:
            (links,) = cursor.numbers(_ONE)
            device = _device(*cursor.numbers(_ONE)) if kind.is_device else 0
        if extended and kind not in (Kind.DIRECTORY, Kind.FILE):
            (attributes,) = cursor.numbers(_ONE)
        return Inode(kind, mode & 0o7777, self._ids[uid], self._ids[gid], mtime, number, links, size, attributes,
                      target, device, start, place, fragment, sizes)  # fmt: skip

    def top(self) -> Inode:
        """The root directory."""
        root = self.inode(self.root >> 16, self.root & 0xFFFF)
        if root.kind is not Kind.DIRECTORY:
            raise ImageError("damaged squashfs: no root directory")
        return root

    def names(self, inode: Inode) -> Iterator[_Listed]:
        """What is in a directory, in the order of its list."""
        left = inode.size - 3  # which counts "." and ".."
        if left <= 0:
            return
        if left > _DIRECTORY_LIMIT or left > self._lists_left:
            raise ImageError("damaged squashfs: a directory of an impossible size")
        self._lists_left -= left
        cursor = _Cursor(self.directories, self.directories.start + inode.start, inode.offset)
        while left > 0:
            count, block, _ = cursor.numbers(_LIST_HEADER)
            left -= _LIST_HEADER.size
            if count >= 256:
                raise ImageError("damaged squashfs: a directory with a damaged list")
            for _ in range(count + 1):
                offset, _, _, length = cursor.numbers(_LIST_ENTRY)
                name = cursor.take(length + 1) if length < 256 else b""
                left -= _LIST_ENTRY.size + length + 1
                if not name or len(name) > 255 or name in (b".", b"..") or b"/" in name or b"\0" in name or left < 0:
                    raise ImageError("damaged squashfs: a directory with a name that cannot be")
                yield _Listed(name, block, offset)

    # ---- the pass ----

    def entries(self) -> Tree:
        """Everything, a directory before what is in it."""
        root = self.top()
        self._visit(root)
        yield Entry(self._member(root, b""))
        open_directories = [(b"", self._sorted(root))]
        while open_directories:
            above, names = open_directories[-1]
            each = next(names, None)
            if each is None:
                open_directories.pop()
                continue
            path = above + each.name
            if len(path) > _PATH_LIMIT:
                raise ImageError("damaged squashfs: too many directories in each other")
            inode = self.inode(each.block, each.offset)
            first = self._visit(inode, path)
            if first != path:
                yield Entry(_another_name(inode, path, first))
            elif inode.kind is Kind.FILE:
                yield self._file(inode, path)
            else:
                yield Entry(self._member(inode, path))
                if inode.kind is Kind.DIRECTORY:
                    open_directories.append((path + b"/", self._sorted(inode)))

    def _sorted(self, inode: Inode) -> Iterator[_Listed]:
        found = sorted(self.names(inode))
        if len({each.name for each in found}) < len(found):
            raise ImageError("damaged squashfs: a directory with two files of one name")
        return iter(found)

    def _visit(self, inode: Inode, path: bytes = b"") -> bytes:
        """The first path of an inode; only files with several names are met again."""
        byte, bit = divmod(inode.number, 8)
        if self._seen[byte] & 1 << bit:
            first = self._first_names.get(inode.number)
            if first is None:
                raise ImageError("damaged squashfs: a file in two places")
            return first
        self._seen[byte] |= 1 << bit
        if inode.kind is not Kind.DIRECTORY and inode.links > 1:
            self._first_names[inode.number] = path
        return path

    def _member(self, inode: Inode, path: bytes, segments: tuple[Segment, ...] | None = None) -> Member:
        return Member(
            path=path,
            kind=inode.kind,
            mode=inode.mode,
            uid=inode.uid,
            gid=inode.gid,
            mtime=inode.mtime * _SECOND,
            size=inode.size if inode.kind is Kind.FILE else 0,
            segments=segments,
            target=inode.target,
            device=inode.device,
            xattrs=self._attributes(inode.attributes) if inode.attributes != _NONE else {},
        )

    # ---- data ----

    def _file(self, inode: Inode, path: bytes) -> Entry:
        sizes, tail = self.block_sizes(inode)
        segments = self._segments(inode, sizes, tail)
        data = self._data(inode, sizes, tail) if inode.size else ()
        return Entry(self._member(inode, path, segments), data)

    def block_sizes(self, inode: Inode) -> tuple["array[int]", int]:
        """The words for a file's blocks, and the bytes of it that are in a fragment. To be asked once a file."""
        if inode.size > LIMITS.file:
            raise ImageError(f"damaged squashfs: a file of {inode.size} bytes")
        blocks = inode.size // self.block_size
        tail = inode.size % self.block_size
        if inode.fragment == _NONE and tail:
            blocks, tail = blocks + 1, 0
        self._sizes_left -= 4 * blocks
        if self._sizes_left < 0 or inode.sizes is None:
            raise ImageError("damaged squashfs: a file of an impossible size")
        sizes = array("I", inode.sizes.take(4 * blocks)) if blocks <= _PIECES else None
        if sizes is None:
            sizes = array("I")
            for at in range(0, blocks, _PIECES):
                sizes.frombytes(inode.sizes.take(4 * min(_PIECES, blocks - at)))
        return sizes, tail

    def _segments(self, inode: Inode, sizes: "array[int]", tail: int) -> tuple[Segment, ...] | None:
        """The parts of a file that are no holes: blocks of size 0 are."""
        if not sizes.count(0):
            return None
        found: list[Segment] = []
        start, count = 0, len(sizes)
        while start < count:
            end = start
            while end < count and sizes[end]:
                end += 1
            if end > start:
                length = min(end * self.block_size, inode.size) - start * self.block_size
                found.append(Segment(offset=start * self.block_size, size=length))
                if len(found) > LIMITS.segments:
                    raise ImageError(f"a file with more than {LIMITS.segments} holes")
            start = end
            while start < count and not sizes[start]:
                start += 1
        if tail:
            at = count * self.block_size
            if found and found[-1].offset + found[-1].size == at:
                at = found.pop().offset
            found.append(Segment(offset=at, size=inode.size - at))
        return tuple(found)

    def _data(self, inode: Inode, sizes: "array[int]", tail: int) -> Iterator[bytes]:
        """The data of a file, some blocks ahead of who reads it."""
        ahead: deque[tuple[Future[bytes], int]] = deque()
        at, last, window = inode.start, len(sizes) - 1, self._window
        for number, word in enumerate(sizes):
            if not word:
                continue
            size, stored = block_size(word)
            expected = self.block_size if number < last or tail else inode.size - number * self.block_size
            self._count(expected)
            ahead.append((self.pool.submit(self.block, at, size, stored), expected))
            at += size
            if len(ahead) > window:
                yield _whole(ahead.popleft())
        while ahead:
            yield _whole(ahead.popleft())
        if tail:
            self._count(tail)
            data = self._fragment(inode.fragment)[inode.offset : inode.offset + tail]
            if len(data) < tail:
                raise ImageError("damaged squashfs: a fragment that ends early")
            yield data

    def _count(self, size: int) -> None:
        self._total += size
        if self._total > max(LIMITS.ratio_after, min(LIMITS.total, _RATIO * self.end)):
            raise ImageError("the squashfs has more data than can be meant: a decompression bomb?")

    def block(self, at: int, size: int, stored: bool) -> bytes:
        """A block of data, decompressed unless it is stored as it is."""
        if size > self.block_size:
            raise ImageError("damaged squashfs: a block of an impossible size")
        data = self.pread(at, size)
        return data if stored else self.decompress(data, self.block_size)

    def _fragment(self, number: int) -> bytes:
        """A block of the ends of several files; those that follow are got ready."""
        count = len(self._fragment_table) // _FRAGMENT.size
        for each in range(number, max(number + 1, min(number + 3, count))):
            if each not in self._fragments:
                at, word = self.fragment_place(each)
                self._fragments[each] = self.pool.submit(self.block, at, *block_size(word))
        self._fragments.move_to_end(number)
        while len(self._fragments) > _FRAGMENTS_KEPT:
            self._fragments.popitem(last=False)
        return self._fragments[number].result()

    def fragment_place(self, number: int) -> tuple[int, int]:
        """Where a fragment block begins, and the word for its size."""
        if number >= len(self._fragment_table) // _FRAGMENT.size:
            raise ImageError("damaged squashfs: a fragment that is not there")
        at, word, _ = _FRAGMENT.unpack_from(self._fragment_table, number * _FRAGMENT.size)
        return at, word

    # ---- extended attributes ----

    def _read_attributes(self, at: int) -> None:
        self._attribute_ids = b""
        if at == _NONE_WIDE:
            return
        start, count, _ = _ATTRIBUTE_ID.unpack(self.pread(at, _ATTRIBUTE_ID.size))
        self._attribute_values = _Table(self, start, at)
        self._attribute_ids = b"".join(self._indirect(at + _ATTRIBUTE_ID.size, count * _ATTRIBUTE_ID.size))

    def _attributes(self, number: int) -> dict[bytes, bytes]:
        if (number + 1) * _ATTRIBUTE_ID.size > len(self._attribute_ids):
            raise ImageError("damaged squashfs: extended attributes that are not there")
        place, count, _ = _ATTRIBUTE_ID.unpack_from(self._attribute_ids, number * _ATTRIBUTE_ID.size)
        cursor, found, total = self._attribute_cursor(place), {}, 0
        for _ in range(count):
            kind, length = cursor.numbers(_ATTRIBUTE_KEY)
            name = _PREFIXES.get(kind & 0xFF, b"") + cursor.take(min(length, 256))
            (size,) = cursor.numbers(_ONE)
            total += size
            if kind & 0xFF not in _PREFIXES or not 0 < length <= 255 or b"\0" in name or total > _ATTRIBUTE_LIMIT:
                raise ImageError("damaged squashfs: extended attributes that cannot be")
            value = cursor.take(size)
            if kind & _OUT_OF_LINE:
                elsewhere = self._attribute_cursor(int.from_bytes(value, "little"))
                (size,) = elsewhere.numbers(_ONE)
                total += size
                if total > _ATTRIBUTE_LIMIT:
                    raise ImageError("damaged squashfs: extended attributes that cannot be")
                value = elsewhere.take(size)
            found[name] = value
        return found

    def _attribute_cursor(self, place: int) -> _Cursor:
        return _Cursor(self._attribute_values, self._attribute_values.start + (place >> 16), place & 0xFFFF)


def block_size(word: int) -> tuple[int, bool]:
    """The bytes on disk of the block that a word stands for, and whether it is stored as it is."""
    return word & _DATA_SIZE, bool(word & _DATA_STORED)


def _device(number: int) -> int:
    return os.makedev((number & 0xFFF00) >> 8, (number & 0xFF) | (number >> 12 & 0xFFF00))


def _whole(block: tuple["Future[bytes]", int]) -> bytes:
    future, expected = block
    data = future.result()
    if len(data) != expected:
        raise ImageError("damaged squashfs: a block of data that ends early")
    return data


def _another_name(inode: Inode, path: bytes, first: bytes) -> Member:
    """A hard link; programs that unpack archives give it owner, mode and time anew, so it has those of the file."""
    time = inode.mtime * _SECOND
    return Member(
        path=path, kind=Kind.HARD_LINK, mode=inode.mode, uid=inode.uid, gid=inode.gid, mtime=time, target=first
    )
