"""Room for what is added to an ext2 or ext3 file system: blocks and inodes, and more of them while it can grow."""

from collections.abc import Callable

from singularity.image.ext.allocator import Allocator, Blocks, FullError
from singularity.image.ext.filesystem import Filesystem


class Room:
    """What is free in a file system. `grow` makes it larger, and returns False when it cannot. Raises FullError."""

    def __init__(self, system: Filesystem, grow: Callable[[], bool] | None) -> None:
        self.system = system
        self.allocator = Allocator(system)
        self.block_size = system.super.block_size
        self._grow = grow

    def blocks(self, want: int) -> Blocks:
        """Up to `want` blocks."""
        while True:
            try:
                return self.allocator.blocks(want)
            except FullError:
                self._make()

    def inode(self, *, directory: bool) -> int:
        """An inode."""
        while True:
            try:
                return self.allocator.inode(directory=directory)
            except FullError:
                self._make()

    def _make(self) -> None:
        """Another program lays out what is new, so it must see what is taken."""
        self.allocator.flush(clean=True)
        if self._grow is None or not self._grow():
            raise FullError("no room is left in the ext file system")
        self.allocator.reload()
