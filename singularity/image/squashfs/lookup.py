"""Single files of a squashfs, looked up by path and read at any place."""

import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import BinaryIO

from singularity.image.lookup import Node, Pieces, Read
from singularity.image.squashfs.filesystem import NONE, Filesystem, Inode, block_size
from singularity.image.tree import Kind

_SECOND = 1_000_000_000  # nanoseconds
_FRAGMENTS_KEPT = 8  # blocks with the ends of files: those of neighbours lie in the same


class InSquashfs(Read[Inode]):
    """The files of the squashfs in `size` bytes at `offset` of an open file."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self.system = Filesystem(fd, offset, size)
        self._sizes: dict[int, tuple[array[int], int]] = {}
        self._fragments: OrderedDict[int, bytes] = OrderedDict()
        super().__init__()

    def _top(self) -> Inode:
        return self.system.top()

    def _list(self, node: Inode) -> Iterator[tuple[bytes, object]]:
        if node.kind is Kind.DIRECTORY:
            yield from ((each.name, (each.block, each.offset)) for each in self.system.names(node))

    def _load(self, reference: object) -> Inode:
        assert isinstance(reference, tuple)  # noqa: S101 - as _list gave it
        return self.system.inode(*reference)

    def _describe(self, node: Inode) -> Node:
        return Node(
            kind=node.kind,
            mode=node.mode,
            uid=node.uid,
            gid=node.gid,
            size=node.size,
            target=os.fsdecode(node.target) if node.target else "",
            device=node.device,
            mtime=node.mtime * _SECOND,
        )

    def _content(self, node: Inode) -> BinaryIO:
        if node.number not in self._sizes:
            self._sizes[node.number] = self.system.block_sizes(node)
        sizes, tail = self._sizes[node.number]
        places = array("Q", accumulate((block_size(word)[0] for word in sizes), initial=node.start))
        system, length = self.system, self.system.block_size

        def block(number: int) -> bytes:
            if number >= len(sizes):
                return self._fragment(node.fragment)[node.offset : node.offset + tail]
            size, stored = block_size(sizes[number])
            return system.block(places[number], size, stored) if size else bytes(length)

        return Pieces(node.size, length, block)

    def _fragment(self, number: int) -> bytes:
        data = self._fragments.get(number)
        if data is None:
            at, word = self.system.fragment_place(number)
            data = self.system.block(at, *block_size(word))
            if len(self._fragments) >= _FRAGMENTS_KEPT:
                self._fragments.popitem(last=False)
            self._fragments[number] = data
        return data

    def _attributes(self, node: Inode) -> Mapping[bytes, bytes]:
        return self.system.attributes(node.attributes) if node.attributes != NONE else {}
