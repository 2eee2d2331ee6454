"""The bytes behind a URL as one stream, however often the connection breaks."""

import io
import logging
import time
from collections.abc import Callable
from typing import cast

from singularity.errors import NetworkError, RegistryError
from singularity.web.http import Answer, Patience, number

logger = logging.getLogger(__name__)

_CHUNK = 1 << 20


class Resuming(io.RawIOBase):
    """Reads on where a connection broke. What is read is not checked against a digest, but has `size` bytes.

    `ask` sends a request for the bytes from an offset on; a server that knows no ranges is read from the beginning, and
    what is known already passed over. Reading raises NetworkError when `patience` is at its end without any byte more,
    and RegistryError when there are more or fewer bytes.
    """

    def __init__(
        self, name: str, ask: Callable[[int], Answer], *, size: int | None, offset: int = 0, patience: Patience
    ) -> None:
        self._name = name
        self._ask = ask
        self._size = size  # of all, in bytes; None: until the server ends it
        self._offset = offset
        self._patience = patience
        self._failures = 0  # since the last byte
        self._answer: Answer | None = None
        if size is None or offset < size:
            self._answer = self._asked()

    def readable(self) -> bool:
        """As of any stream."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fills a buffer as far as bytes come at once."""
        view = memoryview(cast("bytearray", buffer)).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; all that are left without one."""
        if size < 0:
            return self.readall()
        while size:
            try:
                data = self._read(size)
            except NetworkError as error:
                self._go_on(error)
                continue
            self._failures = 0 if data else self._failures
            return data
        return b""

    def close(self) -> None:
        """Ends the connection."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        super().close()

    def _read(self, size: int) -> bytes:
        if self._answer is None:
            if self._size is not None and self._offset >= self._size:
                return b""
            self._answer = self._asked()
        data = self._answer.read(size)
        self._offset += len(data)
        if self._size is not None and self._offset > self._size:
            raise RegistryError(f"{self._name}: more than the {self._size} bytes that it is said to have")
        if not data and self._size is not None and self._offset < self._size:
            raise NetworkError(f"{self._name}: ends {self._size - self._offset} bytes too early")
        return data

    def _go_on(self, error: NetworkError) -> None:
        """After a failure. Raises it when there were too many."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None
        if self._failures >= len(self._patience.delays):
            raise error
        delay = self._patience.delays[self._failures]
        self._failures += 1
        logger.info("%s; going on at byte %d in %g s", error, self._offset, delay)
        time.sleep(delay)

    def _asked(self) -> Answer:
        answer = self._ask(self._offset)
        try:
            skip = self._offset - beginning(answer, self._name)
            if skip < 0:
                raise RegistryError(f"{self._name}: another part than was asked for")
            if skip:
                logger.info("%s: the server knows no ranges: %d bytes are fetched again", self._name, skip)
            while skip:
                data = answer.read(min(_CHUNK, skip))
                if not data:
                    raise NetworkError(f"{self._name}: ends before byte {self._offset}")
                skip -= len(data)
        except BaseException:
            answer.close()
            raise
        return answer


def beginning(answer: Answer, name: str) -> int:
    """The offset that an answer to a request for a range begins at. Raises RegistryError where it makes no sense."""
    if answer.status != 206:
        return 0
    unit, _, rest = answer.headers.get("Content-Range", "").strip().partition(" ")
    first = number(rest.partition("-")[0].strip())
    if unit != "bytes" or first is None:
        raise RegistryError(f"{name}: a part of it that does not say which")
    return first


def part(name: str, ask: Callable[[int], Answer], *, offset: int, size: int, patience: Patience) -> bytes:
    """`size` bytes from `offset` on; `ask` sends a request for the range from an offset to their end."""
    data = bytearray()
    with Resuming(name, ask, size=offset + size, offset=offset, patience=patience) as stream:
        while len(data) < size:
            data += stream.read(size - len(data))
    return bytes(data)
