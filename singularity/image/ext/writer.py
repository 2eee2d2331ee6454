"""Adds files to an ext2 or ext3 file system in a file: no mount, no privilege, every owner, mode, time and attribute.

What is written is what the kernel writes: pointers to blocks in up to three levels, attributes in the inode or in one
block, directories without an index. File systems with features of ext4 are refused.
"""

import stat
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image.ext.block_map import DIRECT, POINTERS, BlockMap, shown, write_data, write_link
from singularity.image.ext.directories import Directories, Directory, length_field
from singularity.image.ext.filesystem import Filesystem
from singularity.image.ext.inodes import InodeTable
from singularity.image.ext.room import Room
from singularity.image.tree import Entry, Kind, Member

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


class Writer:
    """Adds to a file system that nobody else uses. `finish` makes it whole; before that it is marked as unfinished.

    `now`, in nanoseconds since 1970, is when files are made. `grow` is called when it is full, makes it larger, and
    returns False when it cannot. `name`, of the image, is for messages; empty where whoever calls says it. Raises
    ImageError (FullError), and OSError when the file cannot be written.
    """

    def __init__(
        self, fd: int, offset: int, size: int, *, now: int, grow: Callable[[], bool] | None = None, name: str = ""
    ) -> None:
        self.system = Filesystem(fd, offset, size, limited=False)
        self.room = Room(self.system, grow)
        self.allocator = self.room.allocator
        self.inodes = InodeTable(self.room, now, name)
        self.losses = self.inodes.losses
        self.now = now
        self.block_size = self.room.block_size
        self._directories = Directories(self.room)
        self.allocator.flush(clean=False)

    def add(self, entry: Entry) -> None:
        """One member with its data; it replaces what has its path, except that a directory keeps what is in it."""
        member = entry.member
        if not member.path:
            self._describe(self._root(), member)
            return
        above, _, name = member.path.rpartition(b"/")
        parent = self._directories.load(self.directory(above))
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
        self._directories.name(self._directories.load(parent), name, number, kind)

    def directory(self, path: bytes) -> Directory:
        """The directory at a path, made with its parents where it is missing. Raises ImageError for another file."""
        found = self._directories.by_path.get(path)
        if found is not None:
            return found
        found, done = self._root(), b""
        for name in path.split(b"/") if path else ():
            done = done + b"/" + name if done else name
            found = self._directories.by_path.get(done) or self._implied(done, found, name)
        return found

    def _implied(self, path: bytes, parent: Directory, name: bytes) -> Directory:
        """A directory that a member lies in: a link gives way to it, as when root unpacks, and nothing else does."""
        there = self._directories.load(parent).names.get(name)
        if there is not None and stat.S_IFMT(self.inodes.mode(there)) not in (stat.S_IFDIR, stat.S_IFLNK):
            raise ImageError(
                f"{self.inodes.named(path)}: no directory, though another member of the archive lies in it"
            )
        return self._make_directory(path, parent, name)

    def _root(self) -> Directory:
        return self._directories.by_path.get(b"") or self._existing(b"", layout.ROOT_INODE)

    def _existing(self, path: bytes, number: int) -> Directory:
        raw = self.inodes.raw(number)
        inode = layout.inode(number, raw, self.system.super)
        made = Directory(number, bytearray(raw))
        for run in self.system.runs(inode):
            made.blocks.extend(range(run.physical, run.physical + run.length))
        made.indirect = list(self._pointer_blocks(inode))
        self._directories.by_path[path] = made
        return made

    def _pointer_blocks(self, inode: layout.Inode) -> Iterator[int]:
        limit, per_block, logical = -(-inode.size // self.block_size), self.block_size // 4, DIRECT
        for level, pointer in enumerate(array("I", inode.pointers)[DIRECT:], 1):
            if pointer:
                yield from (each for each, _, _ in self.system.indirect_blocks(pointer, level, logical, limit))
            logical += per_block**level

    def _make_directory(self, path: bytes, parent: Directory, name: bytes) -> Directory:
        there = self._directories.load(parent).names.get(name)
        if there is not None:
            if path in self._directories.by_path:
                return self._directories.by_path[path]
            if stat.S_ISDIR(self.inodes.mode(there)):
                return self._existing(path, there)
            self._discard(path, there)
        number = self.room.inode(directory=True)
        template = Member(path=path, kind=Kind.DIRECTORY, mode=0o755, mtime=self.now)
        made = Directory(number, self.inodes.make(template, links=2))
        block = self.room.blocks(1).first
        made.blocks.append(block)
        size = self.block_size
        made.tail = bytearray(size)
        struct.pack_into("<IHBB4s", made.tail, 0, number, 12, 1, 2, b".")
        struct.pack_into("<IHBB4s", made.tail, 12, parent.number, length_field(size - 12), 2, 2, b"..")
        made.last, made.used, made.loaded, made.changed = 12, 24, True, True
        self._directories.by_path[path] = made
        self._directories.keep(made)
        self.allocator.write(self.allocator.inode_at(number), made.inode)  # says what it is
        parent.links += 1
        self._directories.name(self._directories.load(parent), name, number, _TYPES[Kind.DIRECTORY])
        return made

    def _describe(self, directory: Directory, member: Member) -> None:
        """Gives a directory the owner, mode, time and attributes of a member."""
        old = layout.inode(directory.number, bytes(directory.inode), self.system.super)
        if old.attributes:
            self.inodes.give_up_attributes(old)
        directory.inode = self.inodes.make(member, links=directory.links)
        directory.changed = True

    def _target(self, member: Member) -> int:
        """The inode of the file that a hard link is another name of."""
        above, _, name = member.target.rpartition(b"/")
        number = self._directories.load(self.directory(above)).names.get(name)
        if number is None or stat.S_ISDIR(self.inodes.mode(number)):
            raise ImageError(
                f"{self.inodes.named(member.path)}: a hard link to {shown(member.target)}, which is no file"
            )
        return number

    def _count_name(self, member: Member, number: int) -> int:
        """Counts one more name of a file; returns its type."""
        if self.inodes.count_link(number, 1) > layout.LINKS_LIMIT:
            raise ImageError(f"{self.inodes.named(member.path)}: a file with more than {layout.LINKS_LIMIT} names")
        return _TYPE_OF[stat.S_IFMT(self.inodes.mode(number))]

    def _make(self, member: Member, data: Iterable[bytes]) -> int:
        """A new file that no directory names yet; its inode."""
        number = self.room.inode(directory=False)
        mapped = BlockMap(self.room)
        if member.kind is Kind.FILE:
            write_data(member, data, mapped, self.inodes.named)
        elif member.kind is Kind.LINK:
            write_link(member, mapped, self.inodes.named)
        elif member.kind.is_device:
            mapped.pointers = array("I", layout.pack_device(member.device) + bytes(4 * POINTERS - 8))
        mapped.close()
        inode = self.inodes.make(member, links=1, mapped=mapped)
        self.allocator.write(self.allocator.inode_at(number), inode)
        return number

    # ---- what is replaced ----

    def _discard(self, path: bytes, number: int) -> None:
        """Takes one name from an inode, and with the last all that it has; a directory goes with what is in it."""
        if stat.S_ISDIR(self.inodes.mode(number)):
            parent = self.directory(path.rpartition(b"/")[0])
            parent.links -= 1
            parent.changed = True
        pending = [(path, number)]
        while pending:
            path, number = pending.pop()
            if stat.S_ISDIR(self.inodes.mode(number)):
                pending += self._discard_directory(path, number)
            elif self.inodes.count_link(number, -1) <= 0:
                inode = layout.inode(number, self.inodes.raw(number), self.system.super)
                self._free_data(inode)
                self.inodes.clear(inode)

    def _discard_directory(self, path: bytes, number: int) -> list[tuple[bytes, int]]:
        """Frees what a directory has; returns what it held, by path and inode."""
        directory = self._directories.load(self._directories.by_path.get(path) or self._existing(path, number))
        held = [(path + b"/" + name, below) for name, below in directory.names.items()]
        for block in (*directory.blocks, *directory.indirect):
            self.allocator.free_block(block)
        self.inodes.clear(layout.inode(number, bytes(directory.inode), self.system.super))
        self._directories.forget(path)
        return held

    def _free_data(self, inode: layout.Inode) -> None:
        on_disk = self.block_size // layout.SECTOR if inode.attributes else 0
        if inode.type not in (stat.S_IFREG, stat.S_IFLNK) or inode.sectors <= on_disk:
            return
        for run in list(self.system.runs(inode)):
            self.allocator.free_blocks(run.physical, run.length)
        for block in list(self._pointer_blocks(inode)):
            self.allocator.free_block(block)

    # ---- the end ----

    def finish(self) -> None:
        """Writes what is kept, and marks the file system as whole."""
        self._directories.finish()
        self.allocator.flush(clean=True, copies=True)
