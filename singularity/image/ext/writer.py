"""Adds files to an ext2 or ext3 file system in a file: no mount, no privilege, every owner, mode, time and attribute.

What is written is what the kernel writes: pointers to blocks in up to three levels, attributes in the inode or in one
block, directories without an index (any kernel reads them, and makes an index when one grows). File systems with
features of ext4 are refused.
"""

import os
import stat
import struct
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image import xattrs
from singularity.image.ext.allocator import Allocator, Blocks, FullError
from singularity.image.ext.reader import Filesystem
from singularity.image.tree import Entry, Kind, Member, Segment

_INODE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHHHH")
_EXTRA = struct.Struct("<HHIIIIIII")
_CHUNK = 1 << 20  # bytes of a file written at once
_LOADED = 512  # directories whose names are in memory
_LARGE = 1 << 31  # bytes of a file, from which on the file system must say that it has such
_LARGEST = (1 << 41) - (1 << 32)  # bytes of a file, whose blocks are counted in 32 bits
_TYPES = {
    Kind.FILE: 1,
    Kind.DIRECTORY: 2,
    Kind.CHARACTER_DEVICE: 3,
    Kind.BLOCK_DEVICE: 4,
    Kind.FIFO: 5,
    Kind.SOCKET: 6,
    Kind.LINK: 7,
}
_TYPE_OF = {kind.value: number for kind, number in _TYPES.items()}
_DIRECT, _POINTERS = 12, 15


class _Directory:
    """A directory that was touched: its inode and blocks, and, while it is loaded, its names and its last block."""

    __slots__ = ("blocks", "changed", "indirect", "inode", "last", "loaded", "names", "number", "tail", "used")

    def __init__(self, number: int, inode: bytearray) -> None:
        self.number = number
        self.inode = inode  # all its bytes; size, blocks and pointers are put in when it is written
        self.blocks = array("I")
        self.indirect: list[int] = []  # blocks of pointers that it has on disk
        self.changed = False
        self.loaded = False
        self.names: dict[bytes, int] = {}
        self.tail = bytearray()
        self.last, self.used = -1, 0  # offset of the last entry of the last block, and of what is free after it

    @property
    def links(self) -> int:
        return int.from_bytes(self.inode[26:28], "little")

    @links.setter
    def links(self, count: int) -> None:
        if count > layout.LINKS_LIMIT:
            raise ImageError(f"a directory with more than {layout.LINKS_LIMIT} directories in it")
        struct.pack_into("<H", self.inode, 26, count)


@dataclass(slots=True, kw_only=True)
class Losses:
    """What an ext3 file system has no room for."""

    times: int = 0  # moved into the range of the inode
    attributes: set[bytes] = field(default_factory=set)


class _Map:
    """The pointers to the blocks of a new file, given in order."""

    def __init__(self, writer: "Writer") -> None:
        self.writer = writer
        self.pointers = array("I", bytes(4 * _POINTERS))
        self.count = 0  # blocks in use, those of pointers too
        self._per_block = writer.block_size // 4
        self._chain: list[tuple[tuple[int, ...], int, array[int]]] = []  # place, block and pointers, from the top

    def write(self, logical: int, data: memoryview) -> None:
        """Puts whole blocks of data at a block of the file."""
        size, done, total = self.writer.block_size, 0, len(data) // self.writer.block_size
        while done < total:
            table, index, room = self._leaf(logical + done)
            found = self.writer.allocate(min(total - done, room))
            self._fill(table, index, found)
            self.writer.allocator.write(found.first * size, data[done * size : (done + found.length) * size])
            done += found.length

    def put(self, blocks: "array[int]") -> None:
        """Makes blocks that have been written the first of the file."""
        for logical, block in enumerate(blocks):
            table, index, _ = self._leaf(logical)
            self._fill(table, index, Blocks(block, 1))

    def _fill(self, table: "array[int]", index: int, found: Blocks) -> None:
        table[index : index + found.length] = array("I", range(found.first, found.first + found.length))
        self.count += found.length

    def _leaf(self, logical: int) -> tuple["array[int]", int, int]:
        """Where the pointer to a block of the file belongs: the table, the index, and how many follow in the table."""
        if logical < _DIRECT:
            return self.pointers, logical, _DIRECT - logical
        rest, per_block, depth = logical - _DIRECT, self._per_block, 1
        while rest >= per_block**depth:
            rest -= per_block**depth
            depth += 1
        indices = [rest // per_block**level % per_block for level in range(depth - 1, -1, -1)]
        table, index = self.pointers, _DIRECT - 1 + depth
        for level in range(depth):
            place = (depth, *indices[:level])
            if level == len(self._chain) or self._chain[level][0] != place:
                self.close(level)
                block = self.writer.allocate(1).first
                table[index] = block
                self.count += 1
                self._chain.append((place, block, array("I", bytes(self.writer.block_size))))
            table, index = self._chain[level][2], indices[level]
        return table, index, per_block - index

    def close(self, level: int = 0) -> None:
        """Writes the blocks of pointers that are complete: those below `level`."""
        for _, block, table in self._chain[level:]:
            self.writer.allocator.write(block * self.writer.block_size, table.tobytes())
        del self._chain[level:]


class Writer:
    """Adds to a file system that nobody else uses. `finish` makes it whole; before that it is marked as unfinished.

    `now`, in nanoseconds since 1970, is when files are made. `grow` is called when it is full, makes it larger, and
    returns False when it cannot. Raises ImageError (FullError), and OSError when the file cannot be written.
    """

    def __init__(
        self, fd: int, offset: int, size: int, *, now: int, grow: Callable[[], bool] | None = None, name: str = ""
    ) -> None:
        self.name = name  # of the image, for messages; empty where whoever calls says it
        self.system = Filesystem(fd, offset, size, limited=False)
        self.allocator = Allocator(self.system)
        self.losses = Losses()
        self.now = now
        self._grow = grow
        self._directories: dict[bytes, _Directory] = {}
        self._loaded: OrderedDict[int, _Directory] = OrderedDict()
        self.block_size = self.system.super.block_size
        self._wide = self.system.super.inode_size >= layout.INODE_CORE + layout.EXTRA_SIZE
        self.allocator.flush(clean=False)

    def _named(self, path: bytes) -> str:
        return f"{self.name}: {_shown(path)}" if self.name else _shown(path)

    # ---- room ----

    def allocate(self, want: int) -> Blocks:
        """Up to `want` blocks."""
        while True:
            try:
                return self.allocator.blocks(want)
            except FullError:
                self._make_room()

    def _inode_number(self, *, directory: bool) -> int:
        while True:
            try:
                return self.allocator.inode(directory=directory)
            except FullError:
                self._make_room()

    def _make_room(self) -> None:
        """Another program lays out what is new, so it must see what is taken."""
        self.allocator.flush(clean=True)
        if self._grow is None or not self._grow():
            raise FullError("no room is left in the ext file system")
        self.allocator.reload()

    # ---- what is added ----

    def add(self, entry: Entry) -> None:
        """One member with its data; it replaces what has its path, except that a directory keeps what is in it."""
        member = entry.member
        if not member.path:
            self._describe(self._root(), member)
            return
        above, _, name = member.path.rpartition(b"/")
        parent = self._load(self.directory(above))
        there = parent.names.get(name)
        if member.kind is Kind.DIRECTORY:
            self._describe(self._make_directory(member.path, parent, name), member)
            return
        if member.kind is Kind.HARD_LINK:
            number = self._target(member)
            if there == number:
                return
            kind = self._count_name(member, number)
        else:
            number, kind = self._make(member, entry.data), _TYPES[member.kind]
        if there is not None:
            self._discard(member.path, there)
        self._name(self._load(parent), name, number, kind)

    def directory(self, path: bytes) -> _Directory:
        """The directory at a path, made with its parents where it is missing. Raises ImageError for another file."""
        found = self._directories.get(path)
        if found is not None:
            return found
        found, done = self._root(), b""
        for name in path.split(b"/") if path else ():
            done = done + b"/" + name if done else name
            found = self._directories.get(done) or self._implied(done, found, name)
        return found

    def _implied(self, path: bytes, parent: _Directory, name: bytes) -> _Directory:
        """A directory that a member lies in: a link gives way to it, as when root unpacks, and nothing else does."""
        there = self._load(parent).names.get(name)
        if there is not None and stat.S_IFMT(self._mode(there)) not in (stat.S_IFDIR, stat.S_IFLNK):
            raise ImageError(f"{self._named(path)}: no directory, though another member of the archive lies in it")
        return self._make_directory(path, parent, name)

    def _root(self) -> _Directory:
        return self._directories.get(b"") or self._existing(b"", layout.ROOT_INODE)

    def _existing(self, path: bytes, number: int) -> _Directory:
        raw = self._raw_inode(number)
        inode = layout.inode(number, raw, self.system.super)
        made = _Directory(number, bytearray(raw))
        for run in self.system.runs(inode):
            made.blocks.extend(range(run.physical, run.physical + run.length))
        made.indirect = list(self._pointer_blocks(inode))
        self._directories[path] = made
        return made

    def _pointer_blocks(self, inode: layout.Inode) -> Iterator[int]:
        limit, per_block, logical = -(-inode.size // self.block_size), self.block_size // 4, _DIRECT
        for level, pointer in enumerate(array("I", inode.pointers)[_DIRECT:], 1):
            if pointer:
                yield from (each for each, _, _ in self.system.indirect_blocks(pointer, level, logical, limit))
            logical += per_block**level

    def _make_directory(self, path: bytes, parent: _Directory, name: bytes) -> _Directory:
        there = self._load(parent).names.get(name)
        if there is not None:
            if path in self._directories:
                return self._directories[path]
            if stat.S_ISDIR(self._mode(there)):
                return self._existing(path, there)
            self._discard(path, there)
        number = self._inode_number(directory=True)
        template = Member(path=path, kind=Kind.DIRECTORY, mode=0o755, mtime=self.now)
        made = _Directory(number, self._inode(template, links=2))
        block = self.allocate(1).first
        made.blocks.append(block)
        size = self.block_size
        made.tail = bytearray(size)
        struct.pack_into("<IHBB4s", made.tail, 0, number, 12, 1, 2, b".")
        struct.pack_into("<IHBB4s", made.tail, 12, parent.number, self._length(size - 12), 2, 2, b"..")
        made.last, made.used, made.loaded, made.changed = 12, 24, True, True
        self._directories[path] = made
        self._keep(made)
        self.allocator.write(self.allocator.inode_at(number), made.inode)  # says what it is
        parent.links += 1
        self._name(self._load(parent), name, number, _TYPES[Kind.DIRECTORY])
        return made

    def _describe(self, directory: _Directory, member: Member) -> None:
        """Gives a directory the owner, mode, time and attributes of a member."""
        old = layout.inode(directory.number, bytes(directory.inode), self.system.super)
        if old.attributes:
            self._give_up_attributes(old)
        directory.inode = self._inode(member, links=directory.links)
        directory.changed = True

    def _target(self, member: Member) -> int:
        """The inode of the file that a hard link is another name of."""
        above, _, name = member.target.rpartition(b"/")
        number = self._load(self.directory(above)).names.get(name)
        if number is None or stat.S_ISDIR(self._mode(number)):
            raise ImageError(f"{self._named(member.path)}: a hard link to {_shown(member.target)}, which is no file")
        return number

    def _count_name(self, member: Member, number: int) -> int:
        """Counts one more name of a file; returns its type."""
        if self._count_link(number, 1) > layout.LINKS_LIMIT:
            raise ImageError(f"{self._named(member.path)}: a file with more than {layout.LINKS_LIMIT} names")
        return _TYPE_OF[stat.S_IFMT(self._mode(number))]

    def _make(self, member: Member, data: Iterable[bytes]) -> int:
        """A new file that no directory names yet; its inode."""
        number = self._inode_number(directory=False)
        mapped = _Map(self)
        if member.kind is Kind.FILE:
            self._write_data(member, data, mapped)
        elif member.kind is Kind.LINK:
            self._write_link(member, mapped)
        elif member.kind.is_device:
            mapped.pointers = array("I", layout.pack_device(member.device) + bytes(4 * _POINTERS - 8))
        mapped.close()
        inode = self._inode(member, links=1, mapped=mapped)
        self.allocator.write(self.allocator.inode_at(number), inode)
        return number

    def _write_link(self, member: Member, mapped: _Map) -> None:
        if len(member.target) < 4 * _POINTERS:
            mapped.pointers = array("I", member.target.ljust(4 * _POINTERS, b"\0"))
        elif len(member.target) >= self.block_size:
            raise ImageError(f"{self._named(member.path)}: a link of {len(member.target)} bytes, too long for ext3")
        else:
            mapped.write(0, memoryview(member.target.ljust(self.block_size, b"\0")))

    def _write_data(self, member: Member, data: Iterable[bytes], mapped: _Map) -> None:
        per_block = self.block_size // 4
        pointed = (_DIRECT + per_block + per_block**2 + per_block**3) * self.block_size
        if member.size > min(_LARGEST, pointed):
            raise ImageError(f"{self._named(member.path)}: {member.size} bytes, too large for ext3")
        if member.size >= _LARGE:
            raw = self.allocator.raw_super
            raw[100] |= layout.LARGE_FILE
        size = self.block_size
        buffer, start = bytearray(), 0  # bytes of the file from `start` on, at the beginning of a block
        for at, piece in _placed(member, data):
            end = start + len(buffer)
            if not buffer and at % size == len(piece) % size == 0:
                mapped.write(at // size, memoryview(piece))
                start = at + len(piece)
                continue
            if at != end and (not buffer or at // size > (end - 1) // size):
                self._write_blocks(mapped, start, buffer)
                buffer, start = bytearray(at % size), at - at % size
            else:
                buffer.extend(bytes(at - end))
            buffer.extend(piece)
            if len(buffer) >= _CHUNK:
                whole = len(buffer) // size * size
                self._write_blocks(mapped, start, buffer[:whole])
                buffer, start = buffer[whole:], start + whole
        self._write_blocks(mapped, start, buffer)

    def _write_blocks(self, mapped: _Map, start: int, buffer: bytearray) -> None:
        if buffer:
            buffer.extend(bytes(-len(buffer) % self.block_size))
            mapped.write(start // self.block_size, memoryview(buffer))

    # ---- inodes ----

    def _inode(self, member: Member, *, links: int, mapped: _Map | None = None) -> bytearray:
        system = self.system.super
        made = bytearray(system.inode_size)
        size = {Kind.FILE: member.size, Kind.LINK: len(member.target)}.get(member.kind, 0)
        mtime, mtime_extra, moved = layout.pack_time(member.mtime, wide=self._wide)
        now, now_extra, _ = layout.pack_time(self.now, wide=self._wide)
        self.losses.times += moved
        room = system.inode_size - layout.INODE_CORE - layout.EXTRA_SIZE if self._wide else 0
        inside, block = self._attributes(member, room)
        count = (mapped.count if mapped else 0) + bool(block)
        _INODE.pack_into(
            made,
            0,
            member.kind.value | (0o777 if member.kind is Kind.LINK else member.mode),  # as the kernel makes links
            member.uid & 0xFFFF,
            size & 0xFFFFFFFF,
            mtime,
            now,
            mtime,
            0,
            member.gid & 0xFFFF,
            links,
            count * (self.block_size // layout.SECTOR),
            0,
            0,
            mapped.pointers.tobytes() if mapped else b"",
            0,
            block,
            size >> 32,
            0,
            0,
            0,
            member.uid >> 16,
            member.gid >> 16,
            0,
            0,
        )
        if self._wide:
            extra = (layout.EXTRA_SIZE, 0, now_extra, mtime_extra, mtime_extra, now, now_extra, 0, 0)
            _EXTRA.pack_into(made, layout.INODE_CORE, *extra)
            made[system.inode_size - room : system.inode_size - room + len(inside)] = inside
        return made

    def _attributes(self, member: Member, room: int) -> tuple[bytes, int]:
        """Extended attributes as what belongs in the inode, or the block that holds them."""
        if not member.xattrs:
            return b"", 0
        values = {}
        for name, value in member.xattrs.items():
            if not xattrs.is_carried(name):
                continue
            if layout.attribute_number(name)[0]:
                values[name] = value
            else:
                self.losses.attributes.add(name)
        if not values:
            return b"", 0
        inside = layout.pack_attributes(values, room, block=False) if room > 4 else None
        if inside is not None:
            return inside, 0
        area = layout.pack_attributes(values, self.block_size, block=True)
        if area is None:
            total = sum(map(len, values.values()))
            what = f"{self._named(member.path)}: {total} bytes of extended attributes, more than ext3 keeps of a file"
            raise ImageError(what)
        block = self.allocate(1).first
        self.allocator.write(block * self.block_size, area)
        return b"", block

    def _raw_inode(self, number: int) -> bytes:
        return self._read(self.allocator.inode_at(number), self.system.super.inode_size)

    def _read(self, at: int, size: int) -> bytes:
        return os.pread(self.system.fd, size, self.system.offset + at)

    def _mode(self, number: int) -> int:
        return int.from_bytes(self._read(self.allocator.inode_at(number), 2), "little")

    def _count_link(self, number: int, change: int) -> int:
        at = self.allocator.inode_at(number) + 26
        links = int.from_bytes(self._read(at, 2), "little") + change
        if 0 <= links <= layout.LINKS_LIMIT:
            self.allocator.write(at, links.to_bytes(2, "little"))
        return links

    # ---- what is replaced ----

    def _discard(self, path: bytes, number: int) -> None:
        """Takes one name from an inode, and with the last all that it has; a directory goes with what is in it."""
        if stat.S_ISDIR(self._mode(number)):
            parent = self.directory(path.rpartition(b"/")[0])
            parent.links -= 1
            parent.changed = True
        pending = [(path, number)]
        while pending:
            path, number = pending.pop()
            if stat.S_ISDIR(self._mode(number)):
                pending += self._discard_directory(path, number)
            elif self._count_link(number, -1) <= 0:
                inode = layout.inode(number, self._raw_inode(number), self.system.super)
                self._free_data(inode)
                self._gone(inode)

    def _discard_directory(self, path: bytes, number: int) -> list[tuple[bytes, int]]:
        """Frees what a directory has; returns what it held, by path and inode."""
        directory = self._load(self._directories.get(path) or self._existing(path, number))
        held = [(path + b"/" + name, below) for name, below in directory.names.items()]
        for block in (*directory.blocks, *directory.indirect):
            self.allocator.free_block(block)
        self._gone(layout.inode(number, bytes(directory.inode), self.system.super))
        del self._loaded[number], self._directories[path]
        return held

    def _free_data(self, inode: layout.Inode) -> None:
        on_disk = self.block_size // layout.SECTOR if inode.attributes else 0
        if inode.type not in (stat.S_IFREG, stat.S_IFLNK) or inode.sectors <= on_disk:
            return
        for run in list(self.system.runs(inode)):
            self.allocator.free_blocks(run.physical, run.length)
        for block in list(self._pointer_blocks(inode)):
            self.allocator.free_block(block)

    def _gone(self, inode: layout.Inode) -> None:
        if inode.attributes:
            self._give_up_attributes(inode)
        at = self.allocator.inode_at(inode.number)
        self.allocator.write(at, bytes(self.system.super.inode_size))
        self.allocator.write(at + 20, struct.pack("<I", self.now // 10**9 & 0xFFFFFFFF or 1))
        self.allocator.free_inode(inode.number, directory=inode.type == stat.S_IFDIR)

    def _give_up_attributes(self, inode: layout.Inode) -> None:
        at = inode.attributes * self.block_size + 4
        users = int.from_bytes(self._read(at, 4), "little")
        if users > 1:  # the kernel shares such blocks
            self.allocator.write(at, (users - 1).to_bytes(4, "little"))
        else:
            self.allocator.free_block(inode.attributes)

    # ---- directories ----

    def _load(self, directory: _Directory) -> _Directory:
        """The directory with its names in memory."""
        if directory.loaded:
            self._loaded.move_to_end(directory.number)
            return directory
        directory.names = {}
        inode = layout.inode(directory.number, bytes(directory.inode), self.system.super)
        if inode.flags & layout.INDEX_FLAG:  # without the flag its blocks are those of a plain directory
            struct.pack_into("<I", directory.inode, 32, inode.flags & ~layout.INDEX_FLAG)
            directory.changed = True
        for block in directory.blocks:
            data = self.system.blocks(block, 1)
            directory.names.update(self.system.entries(data))
        directory.tail = bytearray(data) if directory.blocks else bytearray()
        if not directory.blocks:
            raise ImageError("damaged ext file system: a directory without a block")
        directory.last, directory.used = self._free_room(directory.tail)
        directory.loaded = True
        self._keep(directory)
        return directory

    def _keep(self, directory: _Directory) -> None:
        self._loaded[directory.number] = directory
        while len(self._loaded) > _LOADED:
            _, old = self._loaded.popitem(last=False)
            self._unload(old)

    def _unload(self, directory: _Directory) -> None:
        self.allocator.write(directory.blocks[-1] * self.block_size, directory.tail)
        directory.names, directory.tail, directory.loaded = {}, bytearray(), False

    def _free_room(self, block: bytearray) -> tuple[int, int]:
        """The last entry of a block of a directory, and where what it has too much begins."""
        at, last, used = 0, -1, 0
        while at + 8 <= len(block):
            number, length, name_size = struct.unpack_from("<IHB", block, at)
            if number:
                last, used = at, at + _entry_size(name_size)
            at += length if 0 < length < 0xFFFF else 65536
        return last, used

    def _name(self, directory: _Directory, name: bytes, number: int, kind: int) -> None:
        """Makes an inode known by a name, in place of what had it."""
        if name in directory.names:
            self._patch(directory, name, number, kind)
        else:
            self._append(directory, name, number, kind)
        directory.names[name] = number
        directory.changed = True

    def _append(self, directory: _Directory, name: bytes, number: int, kind: int) -> None:
        need = _entry_size(len(name))
        if self.block_size - directory.used < need:
            self.allocator.write(directory.blocks[-1] * self.block_size, directory.tail)
            directory.blocks.append(self.allocate(1).first)
            directory.tail = bytearray(self.block_size)
            directory.last, directory.used = -1, 0
        if directory.last >= 0:
            struct.pack_into("<H", directory.tail, directory.last + 4, directory.used - directory.last)
        at = directory.used
        length = self._length(self.block_size - at)
        struct.pack_into(f"<IHBB{need - 8}s", directory.tail, at, number, length, len(name), kind, name)
        directory.last, directory.used = at, at + need

    def _length(self, length: int) -> int:
        """A length of up to 64 KiB as 16 bits have it."""
        return length if length < 65536 else 0xFFFF

    def _patch(self, directory: _Directory, name: bytes, number: int, kind: int) -> None:
        """Gives the entry of a name another inode."""
        for block in directory.blocks:
            is_tail = block == directory.blocks[-1]
            data = directory.tail if is_tail else bytearray(self.system.blocks(block, 1))
            at = 0
            while at + 8 <= len(data):
                there, length, size = struct.unpack_from("<IHB", data, at)
                if there and data[at + 8 : at + 8 + size] == name:
                    struct.pack_into("<IHBB", data, at, number, length, size, kind)
                    if not is_tail:
                        self.allocator.write(block * self.block_size, data)
                    return
                at += length if 0 < length < 0xFFFF else 65536
        raise ImageError("damaged ext file system: a name is gone")

    # ---- the end ----

    def finish(self) -> None:
        """Writes what is kept, and marks the file system as whole."""
        for directory in self._directories.values():
            if directory.loaded:
                self.allocator.write(directory.blocks[-1] * self.block_size, directory.tail)
            if directory.changed:
                self._write_directory(directory)
        self.allocator.flush(clean=True, copies=True)

    def _write_directory(self, directory: _Directory) -> None:
        for block in directory.indirect:
            self.allocator.free_block(block)
        mapped = _Map(self)
        mapped.put(directory.blocks)
        mapped.close()
        inode = directory.inode
        block = int.from_bytes(inode[104:108], "little")
        size = len(directory.blocks) * self.block_size
        struct.pack_into("<I", inode, 4, size)
        struct.pack_into("<I", inode, 28, (mapped.count + bool(block)) * (self.block_size // layout.SECTOR))
        inode[40:100] = mapped.pointers.tobytes()
        self.allocator.write(self.allocator.inode_at(directory.number), inode)


def _entry_size(name_size: int) -> int:
    return (8 + name_size + 3) & ~3


def _placed(member: Member, data: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The data of a file with the places where it belongs, in order; checks that it is all that was promised."""
    segments = iter((Segment(offset=0, size=member.size),) if member.segments is None else member.segments)
    at = left = 0
    for whole in data:
        piece = whole
        while piece:
            while not left:
                segment = next(segments, None)
                if segment is None:
                    raise ImageError(f"{_shown(member.path)}: more data than its {member.size} bytes")
                at, left = segment.offset, segment.size
            part = piece[:left] if len(piece) > left else piece
            yield at, part
            at, left, piece = at + len(part), left - len(part), piece[len(part) :]
    if left or any(segment.size for segment in segments):
        raise ImageError(f"{_shown(member.path)}: its data ends early")


def _shown(path: bytes) -> str:
    return f"/{os.fsdecode(path)}"
