"""Single files of a squashfs, looked up by path and read at any place."""

import os
from array import array
from collections.abc import Iterator
from itertools import accumulate
from typing import BinaryIO

from singularity.image.lookup import Node, Pieces, Read
from singularity.image.squashfs.filesystem import Filesystem, Inode, block_size
from singularity.image.tree import Kind


class InSquashfs(Read[Inode]):
    """The files of the squashfs in `size` bytes at `offset` of an open file."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._system = Filesystem(fd, offset, size)
        self._sizes: dict[int, tuple[array[int], int]] = {}
        super().__init__()

    def _top(self) -> Inode:
        return self._system.top()

    def _list(self, node: Inode) -> Iterator[tuple[bytes, object]]:
        if node.kind is Kind.DIRECTORY:
            yield from ((each.name, (each.block, each.offset)) for each in self._system.names(node))

    def _load(self, reference: object) -> Inode:
        assert isinstance(reference, tuple)  # noqa: S101 - as _list gave it
        return self._system.inode(*reference)

    def _describe(self, node: Inode) -> Node:
        return Node(
            kind=node.kind,
            mode=node.mode,
            uid=node.uid,
            gid=node.gid,
            size=node.size,
            target=os.fsdecode(node.target),
            device=node.device,
        )

    def _content(self, node: Inode) -> BinaryIO:
        if node.number not in self._sizes:
            self._sizes[node.number] = self._system.block_sizes(node)
        sizes, tail = self._sizes[node.number]
        places = array("Q", [node.start, *(node.start + each for each in accumulate(block_size(w)[0] for w in sizes))])
        system, length = self._system, self._system.block_size

        def block(number: int) -> bytes:
            if number >= len(sizes):
                at, word = system.fragment_place(node.fragment)
                return system.block(at, *block_size(word))[node.offset : node.offset + tail]
            size, stored = block_size(sizes[number])
            return system.block(places[number], size, stored) if size else bytes(length)

        return Pieces(node.size, length, block)
