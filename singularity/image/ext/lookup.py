"""Single files of an ext file system, looked up by path and read at any place."""

import io
import os
import stat
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.ext import layout
from singularity.image.ext.filesystem import Filesystem, Run
from singularity.image.ext.layout import Inode
from singularity.image.lookup import Node, Pieces, Read, Walked
from singularity.image.tree import Kind

_PIECE = 64 << 10  # bytes read at once


class InExt(Read[Inode]):
    """The files of the file system in `size` bytes at `offset` of an open file."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._system = Filesystem(fd, offset, size)
        self._runs: dict[int, list[Run]] = {}  # asked for once a file: the reader counts the blocks of all files
        super().__init__()

    def _top(self) -> Inode:
        return self._system.inode(layout.ROOT_INODE)

    def _list(self, node: Inode) -> Iterator[tuple[bytes, object]]:
        if node.type == stat.S_IFDIR:
            yield from ((each.name, each.inode) for each in self._system.names(node))

    def _load(self, reference: object) -> Inode:
        assert isinstance(reference, int)  # noqa: S101 - as _list gave it
        return self._system.inode(reference)

    def _describe(self, node: Inode) -> Node:
        try:
            kind = Kind(node.type)
        except ValueError as error:
            raise ImageError("damaged ext file system: a file of no known type") from error
        return Node(
            kind=kind,
            mode=stat.S_IMODE(node.mode),
            uid=node.uid,
            gid=node.gid,
            size=node.size,
            target=os.fsdecode(self._system.link(node)) if kind is Kind.LINK else "",
            device=layout.device(node.pointers) if kind.is_device else 0,
            mtime=node.mtime,
        )

    def _content(self, node: Inode) -> BinaryIO:
        system, length = self._system, self._system.super.block_size
        if node.flags & layout.ENCRYPTED_FLAG:
            raise ImageError("an ext file system with encrypted files")
        if node.flags & layout.INLINE_FLAG:
            return io.BytesIO(system.inline(node))
        runs = self._runs.get(node.number)
        if runs is None:
            runs = self._runs[node.number] = list(system.runs(node))
        per_piece = max(1, _PIECE // length)

        def piece(number: int) -> bytes:
            first = number * per_piece
            data = bytearray(per_piece * length)
            for run in runs:
                start, end = max(run.logical, first), min(run.logical + run.length, first + per_piece)
                if start < end:
                    at = (start - first) * length
                    data[at : at + (end - start) * length] = _blocks(system, run, start, end)
            return bytes(data)

        return Pieces(node.size, per_piece * length, piece)

    def walk(self) -> Iterator[Walked]:
        """Without `lost+found` where it is empty: it is the file system's, not the image's."""
        return (each for each in super().walk() if each.path != "/lost+found" or self.names("/lost+found"))

    def _attributes(self, node: Inode) -> Mapping[bytes, bytes]:
        return self._system.attributes(node) if node.attributes or node.tail else {}


def _blocks(system: Filesystem, run: Run, start: int, end: int) -> bytes:
    return system.blocks(run.physical + start - run.logical, end - start)
