"""Single files of an EROFS, looked up by path and read at any place."""

import os
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from singularity.image.erofs.filesystem import Filesystem, Inode, device
from singularity.image.lookup import Node, Pieces, Read
from singularity.image.tree import Kind

_PIECE = 64 << 10  # bytes read at once


class InErofs(Read[Inode]):
    """The files of the EROFS in `size` bytes at `offset` of an open file."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._system = Filesystem(fd, offset, size)
        super().__init__()

    def _top(self) -> Inode:
        return self._system.top()

    def _list(self, node: Inode) -> Iterator[tuple[bytes, object]]:
        if node.kind is Kind.DIRECTORY:
            yield from self._system.names(node)

    def _load(self, reference: object) -> Inode:
        assert isinstance(reference, int)  # noqa: S101 - as _list gave it
        return self._system.inode(reference)

    def _describe(self, node: Inode) -> Node:
        return Node(
            kind=node.kind,
            mode=node.mode,
            uid=node.uid,
            gid=node.gid,
            size=node.size,
            target=os.fsdecode(self._system.link(node)) if node.kind is Kind.LINK else "",
            device=device(node.start) if node.kind.is_device else 0,
            mtime=node.mtime,
        )

    def _content(self, node: Inode) -> BinaryIO:
        return Pieces(node.size, _PIECE, lambda number: self._system.read(node, number * _PIECE, _PIECE))

    def _attributes(self, node: Inode) -> Mapping[bytes, bytes]:
        return self._system.attributes(node)
