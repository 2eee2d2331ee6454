"""An image of a registry as one squashfs that nobody has made: its tables say where each file would be.

The tables come from the tables of contents of the layers, laid over each other like the layers themselves. Where the
data of a file would be, its compressed parts are fetched and checked.
"""

import logging
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

from singularity.image.squashfs import tables as squashfs_tables
from singularity.image.squashfs.tables import DATA_OFFSET
from singularity.image.tree import Entry, Kind, Tree
from singularity.lazy.toc import Chunk, Stored, Table
from singularity.oci import index, merge
from singularity.oci.image import Image, Layer
from singularity.oci.index import LayerIndex

logger = logging.getLogger(__name__)

_GAP = 1 << 16  # bytes between two parts of a layer that are rather fetched than asked for by themselves
_REQUEST = 8 << 20  # bytes that one request fetches, but for one part that is larger
_LARGE = 1 << 18  # bytes of a part from which on it is wanted more than once
_REMEMBERED = 4  # of those


def merged(image: Image, tables: Mapping[str, Table]) -> Tree:
    """The root file system of an image whose layers have tables, by the layers' names; the data are `Stored`."""

    def indexed(layer: Layer) -> LayerIndex:
        return index.index_tree(tables[layer.name].tree())

    @contextmanager
    def read(layer: Layer) -> Iterator[Tree]:
        yield tables[layer.name].tree()

    return merge.merged(image, indexed, read)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes of the squashfs: known, or a part of a file in a layer."""

    start: int
    size: int
    data: bytes = b""
    table: Table | None = None
    chunk: Chunk | None = None


@dataclass(slots=True)
class _Request:
    """Bytes of one layer that are fetched together, and the pieces that are in them."""

    offset: int
    end: int
    pieces: list[_Piece] = field(default_factory=list)


class LayeredSource:
    """The bytes of the squashfs that a tree would become. Raises ImageError for a tree that cannot."""

    def __init__(self, tree: Tree, identity: str) -> None:
        members = []
        data: dict[bytes, Stored | bytes] = {}
        for entry in tree:
            members.append(entry.member)
            if entry.member.kind is Kind.FILE and entry.member.size:
                data[entry.member.path] = _data(entry)
        laid = squashfs_tables.lay_out(members)
        self.size = laid.size
        self.identity = identity
        self._pieces = list(_pieces(laid, data))
        self._starts = [each.start for each in self._pieces]
        self._remembered: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def fetch(self, offset: int, size: int) -> bytes:
        """Bytes of the squashfs; what is between its pieces is zeros. Raises SingularityError."""
        found = bytearray(size)
        end = offset + size
        waiting: dict[int, list[_Piece]] = {}
        for piece in self._between(offset, end):
            known = piece.data or self._known(piece)
            if known:
                _put(found, offset, piece, known)
            elif piece.table is not None and piece.chunk is not None and piece.chunk.digest is not None:
                waiting.setdefault(id(piece.table), []).append(piece)
        for pieces in waiting.values():
            table = pieces[0].table
            if table is not None:
                for request in _requests(pieces):
                    self._bring(table, request, found, offset)
        return bytes(found)

    def _between(self, offset: int, end: int) -> Iterator[_Piece]:
        number = max(bisect_right(self._starts, offset) - 1, 0)
        while number < len(self._pieces) and self._pieces[number].start < end:
            if self._pieces[number].start + self._pieces[number].size > offset:
                yield self._pieces[number]
            number += 1

    def _bring(self, table: Table, request: _Request, found: bytearray, offset: int) -> None:
        data = table.blob.fetch(request.offset, request.end - request.offset)
        for piece in request.pieces:
            if piece.chunk is not None:
                compressed = data[piece.chunk.offset - request.offset : piece.chunk.end - request.offset]
                expanded = table.expanded(piece.chunk, compressed)
                _put(found, offset, piece, expanded)
                self._remember(piece, expanded)

    def _known(self, piece: _Piece) -> bytes:
        with self._lock:
            return self._remembered.get(piece.start, b"")

    def _remember(self, piece: _Piece, data: bytes) -> None:
        """A large part is asked for again at once, for what comes behind."""
        if piece.size >= _LARGE:
            with self._lock:
                self._remembered[piece.start] = data
                while len(self._remembered) > _REMEMBERED:
                    self._remembered.popitem(last=False)


def _data(entry: Entry) -> Stored | bytes:
    return entry.data if isinstance(entry.data, Stored) else b"".join(entry.data)


def _pieces(laid: squashfs_tables.Laid, data: Mapping[bytes, Stored | bytes]) -> Iterator[_Piece]:
    """All bytes that are not zeros, in their order."""
    yield _Piece(0, len(laid.head), laid.head)
    at = DATA_OFFSET
    for path, start in sorted(laid.places.items(), key=lambda item: item[1]):
        if start < at:
            raise ValueError("two files in one place")
        content = data[path]
        if isinstance(content, bytes):
            yield _Piece(start, len(content), content)
            at = start + len(content)
            continue
        for chunk in content.chunks:
            at = start + chunk.start + chunk.size
            yield _Piece(start + chunk.start, chunk.size, table=content.layer, chunk=chunk)
    yield _Piece(laid.tables_offset, len(laid.tables), laid.tables)


def _requests(pieces: Sequence[_Piece]) -> list[_Request]:
    """What is fetched together of one layer."""
    requests: list[_Request] = []
    chunks = [(each.chunk, each) for each in pieces if each.chunk is not None]
    for chunk, piece in sorted(chunks, key=lambda pair: pair[0].offset):
        last = requests[-1] if requests else None
        if last is None or chunk.offset > last.end + _GAP or chunk.end - last.offset > _REQUEST:
            requests.append(last := _Request(chunk.offset, chunk.end))
        last.end = max(last.end, chunk.end)
        last.pieces.append(piece)
    return requests


def _put(found: bytearray, offset: int, piece: _Piece, data: bytes) -> None:
    """Puts what a piece has in the bytes from `offset` on there."""
    first = max(piece.start, offset)
    end = min(piece.start + len(data), offset + len(found))
    found[first - offset : end - offset] = data[first - piece.start : end - piece.start]
