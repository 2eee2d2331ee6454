"""A file that is put together from chunks: those that are at hand are copied, the others fetched; each one is checked.

What comes is a stream from the beginning to the end, with the next pieces on their way while one is read, so that a
`Download` keeps, resumes and checks it as one that comes as a whole.
"""

import io
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from typing import NamedTuple, cast

from singularity.content import chunks
from singularity.content.chunks import Chunk, Index
from singularity.errors import ImageError

_PIECE = 2 << 20  # bytes that one request asks for at most
_AHEAD = 4  # pieces that are on their way

Part = Callable[[int, int], bytes]
"""Exactly these bytes of a file: offset, size. Called by several threads. Raises SingularityError."""


class Place(NamedTuple):
    """Where a chunk is at hand."""

    fd: int
    offset: int


class Patchwork(io.RawIOBase):
    """The bytes of the file that `index` describes, from `offset` on; `held` has places by names of chunks.

    Reading raises ImageError for chunks that come with another content, and what `part` raises. A chunk at hand that is
    not what it is called is fetched.
    """

    def __init__(self, name: str, index: Index, held: Mapping[bytes, Place], part: Part, offset: int) -> None:
        self._name, self._held, self._part = name, held, part
        self._pieces = _pieces(index, held, offset)
        self._coming: deque[Future[bytes]] = deque()
        self._skip = offset - next((each.offset for each in index if each.offset + each.size > offset), offset)
        self._data = memoryview(b"")
        self._start()

    def readable(self) -> bool:
        """As of any stream."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fills a buffer as far as bytes are there."""
        view = memoryview(cast("bytearray", buffer)).cast("B")
        while not self._data:
            if not self._coming:
                return 0
            self._data = memoryview(self._coming.popleft().result())[self._skip :]
            self._skip = 0
            self._start()
        count = min(len(view), len(self._data))
        view[:count] = self._data[:count]
        self._data = self._data[count:]
        return count

    def _start(self) -> None:
        """Has the next pieces fetched, each by a thread that keeps nobody from ending."""
        while len(self._coming) < _AHEAD and (piece := next(self._pieces, None)):
            future: Future[bytes] = Future()
            self._coming.append(future)
            threading.Thread(target=self._fetch, args=(piece, future), daemon=True).start()

    def _fetch(self, piece: list[Chunk], future: "Future[bytes]") -> None:
        try:
            future.set_result(self._bytes(piece))
        except BaseException as error:  # for whoever waits
            future.set_exception(error)

    def _bytes(self, piece: list[Chunk]) -> bytes:
        if piece[0].name in self._held:
            return b"".join(self._copied(chunk) for chunk in piece)
        offset = piece[0].offset
        data = self._part(offset, piece[-1].offset + piece[-1].size - offset)
        for chunk in piece:
            self._check(chunk, data[chunk.offset - offset :][: chunk.size])
        return data

    def _copied(self, chunk: Chunk) -> bytes:
        place = self._held[chunk.name]
        data = os.pread(place.fd, chunk.size, place.offset)
        if chunks.name_of(data) == chunk.name:
            return data
        return self._check(chunk, self._part(chunk.offset, chunk.size))

    def _check(self, chunk: Chunk, data: bytes) -> bytes:
        if chunks.name_of(data) != chunk.name:
            raise ImageError(f"{self._name}: a part of it is not what its index of chunks says", hint="damaged?")
        return data


def _pieces(index: Index, held: Mapping[bytes, Place], offset: int) -> Iterator[list[Chunk]]:
    """Neighbours that are all at hand, or none of them."""
    piece: list[Chunk] = []
    for chunk in index:
        if chunk.offset + chunk.size <= offset:
            continue
        full = piece and chunk.offset + chunk.size - piece[0].offset > _PIECE
        if piece and (full or (chunk.name in held) != (piece[0].name in held)):
            yield piece
            piece = []
        piece.append(chunk)
    if piece:
        yield piece
