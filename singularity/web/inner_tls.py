"""TLS through a tunnel that is TLS itself, for https through a proxy that speaks https; what sockets of `ssl` lack."""

import io
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_RECORD = 1 << 14  # bytes of one of TLS, at most

_Result = TypeVar("_Result")


class InnerTls:
    """As much of a socket as a connection uses."""

    def __init__(self, outer: ssl.SSLSocket, context: ssl.SSLContext, name: str) -> None:
        self._outer = outer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=name)
        self._readers, self._is_closed = 0, False
        self._through(self._tls.do_handshake)

    def sendall(self, data: "ReadableBuffer") -> None:
        """As of a socket."""
        if memoryview(data).nbytes:
            self._through(lambda: self._tls.write(data))

    def read_into(self, buffer: bytearray | memoryview) -> int:
        """Fills a buffer as far as bytes come at once; 0 at the end."""
        try:
            data = self._through(lambda: self._tls.read(len(buffer)))
        except ssl.SSLZeroReturnError:
            return 0
        buffer[: len(data)] = data
        return len(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        """As of a socket, for reading."""
        del mode
        self._readers += 1
        return io.BufferedReader(_Records(self))

    def settimeout(self, seconds: float | None) -> None:
        """As of a socket."""
        self._outer.settimeout(seconds)

    def fileno(self) -> int:
        """As of a socket."""
        return self._outer.fileno()

    def close(self) -> None:
        """As of a socket: when nobody reads any more."""
        self._is_closed = True
        self.leave(0)

    def leave(self, count: int = 1) -> None:
        """A reader is gone."""
        self._readers -= count
        if self._is_closed and not self._readers:
            self._outer.close()

    def _through(self, step: Callable[[], _Result]) -> _Result:
        """Does one thing, and carries what it has to say to the other side, and what it waits for from there."""
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self._flush()
                data = self._outer.recv(_RECORD)
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        if self._out.pending:
            self._outer.sendall(self._out.read())


class _Records(io.RawIOBase):
    """What comes through, as a file; the connection stays when it is closed."""

    def __init__(self, inner: InnerTls) -> None:
        self._inner = inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self._inner.read_into(memoryview(buffer).cast("B"))

    def close(self) -> None:
        if not self.closed:
            self._inner.leave()
        super().close()
