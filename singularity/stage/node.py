"""One node's part: it gets the image, from the file or from another node, and hands on what it has meanwhile.

Said on a connection, a line of JSON each: `{"port": P}` by a member that comes to the root, which answers `{"ask":
[HOST, PORT]}`, once more for each `{"again": true}`; then `{"whole": true}`, and in the end the root closes. To whom
one was sent `{"offset": N}`; the answer is the bytes from there on, as they come, and the SHA-256 of the whole.
"""

import hashlib
import json
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from singularity import files
from singularity.errors import FileError, ImageError, NetworkError
from singularity.stage import meeting as meetings
from singularity.stage.meeting import Meeting
from singularity.stage.tree import Tree

logger = logging.getLogger(__name__)

_BLOCK = 256 << 10  # bytes that are handed on together
_LINE = 4096  # bytes
_STRANGERS = 256  # connections that have not shown who they are
_SHOWING = 10.0  # seconds in which they do
_TRIES = 5


class Part:
    """What has come of an image, in a file that grows; who waits for more is told."""

    def __init__(self, fd: int, path: Path, size: int, told: Callable[[int], object]) -> None:
        self.fd, self.size, self.have = fd, size, 0
        self._path = path
        self.digest = b""  # of the whole, when it is there
        self._hash = hashlib.sha256()
        self._told = told
        self._changed = threading.Condition()

    def resume(self) -> None:
        """Takes what is there already. Raises OSError."""
        end = min(os.fstat(self.fd).st_size, self.size)
        while self.have < end and (data := os.pread(self.fd, min(1 << 20, end - self.have), self.have)):
            self._count(data)

    def restart(self) -> None:
        """Forgets it all."""
        os.ftruncate(self.fd, 0)
        self._told(-self.have)
        self.have, self._hash = 0, hashlib.sha256()

    def add(self, data: bytes) -> None:
        """The next bytes. Raises FileError."""
        with FileError.about(self._path):
            files.write_at(self.fd, data, self.have)
        self._count(data)

    def _count(self, data: bytes) -> None:
        self._hash.update(data)
        with self._changed:
            self.have += len(data)
            self._changed.notify_all()
        self._told(len(data))

    def finish(self, digest: bytes = b"") -> bool:
        """All is there; whether it is what the digest says."""
        found = self._hash.digest()
        if digest not in (b"", found):
            return False
        with self._changed:
            self.digest = found
            self._changed.notify_all()
        return True

    def send(self, connection: socket.socket, offset: int) -> None:
        """All from an offset on, as it comes. Raises OSError."""
        while offset < self.size or not self.digest:
            with self._changed:
                while self.have <= offset and not self.digest:
                    self._changed.wait()
                end = self.have
            while offset < end:
                data = os.pread(self.fd, min(_BLOCK, end - offset), offset)
                if not data:  # it was begun anew
                    break
                connection.sendall(data)
                offset += len(data)
        connection.sendall(self.digest)


class Door:
    """Where others come to: for bytes, and at the root to join."""

    def __init__(self, part: Part) -> None:
        self._part = part
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        self._listening = socket.create_server(("", 0), family=family, backlog=1024, dualstack_ipv6=both)
        self.port: int = self._listening.getsockname()[1]
        self._strangers = threading.BoundedSemaphore(_STRANGERS)
        self.join: Callable[[Lines, str, int], None] | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # which lets nobody in
        self._is_open = False

    def open(self, meeting: Meeting) -> None:
        """Lets those in who belong to a meeting."""
        self._context = meeting.server()
        if not self._is_open:
            self._is_open = True
            threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            with suppress(OSError):
                plain, address = self._listening.accept()
                self._strangers.acquire()  # who comes next waits
                threading.Thread(target=self._answer, args=(plain, address[0]), daemon=True).start()

    def _answer(self, plain: socket.socket, host: str) -> None:
        try:
            try:
                meetings.be_patient(plain)
                plain.settimeout(_SHOWING)
                connection = self._context.wrap_socket(plain, server_side=True)
                lines = Lines(connection)
                said = lines.read(_SHOWING)
            finally:
                self._strangers.release()
            connection.settimeout(meetings.PATIENCE)
            with connection:
                if "offset" in said:
                    self._part.send(connection, int(said["offset"]))
                elif self.join is not None:
                    self.join(lines, host, int(said["port"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.debug("%s: %s", host, error)
            plain.close()


class Lines:
    """Lines of JSON over a connection."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self.connection = connection
        self._rest = b""

    def write(self, **said: Any) -> None:
        """Sends one."""
        self.connection.sendall(json.dumps(said).encode() + b"\n")

    def read(self, patience: float | None = meetings.PATIENCE) -> dict[str, Any]:
        """The next one; none at the end. Raises OSError and ValueError."""
        self.connection.settimeout(patience)
        while b"\n" not in self._rest:
            data = self.connection.recv(_LINE)
            if not data or len(self._rest) > _LINE:
                return {}
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        said = json.loads(line)
        return said if isinstance(said, dict) else {}


class Root:
    """The node that reads the file, and says who asks whom."""

    def __init__(self, part: Part, door: Door) -> None:
        self._part = part
        self._tree = Tree(("", door.port))
        self._changed = threading.Condition()
        self._coming = 0  # members that are not whole yet
        self._whole = 1
        self._latest = time.monotonic()
        self._ended = False
        door.join = self._join

    def fill(self, file: BinaryIO) -> None:
        """Reads the file, once, from where the part ends. Raises OSError, FileError; ImageError if it was changed."""
        file.seek(self._part.have)
        while data := file.read(min(_BLOCK, self._part.size - self._part.have)):
            self._part.add(data)
        if self._part.have != self._part.size:
            raise ImageError("it was changed meanwhile", hint="try again")
        self._part.finish()

    def wait(self, nodes: int, patience: float) -> int:
        """Until all members are whole: as many nodes as are expected, or nobody more has come for a while; how many."""
        with self._changed:
            while self._coming or (self._whole < nodes and (left := self._latest + patience - time.monotonic()) > 0):
                self._changed.wait(1.0 if self._coming else left)
            self._ended = True
            self._changed.notify_all()
            return self._whole

    def _join(self, lines: Lines, host: str, port: int) -> None:
        with self._changed:
            number = self._tree.add((host, port))
            self._coming += 1
        whole = False
        try:
            while not whole:
                with self._changed:
                    asked = self._tree.place(number)
                lines.write(ask=asked)
                said = lines.read(None)
                if not said:
                    return
                whole = "whole" in said
        finally:
            with self._changed:
                self._coming -= 1
                self._whole += whole
                self._latest = time.monotonic()
                if not whole:
                    self._tree.remove(number)
                self._changed.notify_all()
        with self._changed:
            while not self._ended:
                self._changed.wait()


def joined(meeting: Meeting, part: Part, door: Door) -> Callable[[], None]:
    """Gets the image as a member of a meeting; what waits for its end, handing on meanwhile.

    Raises NetworkError where the root is gone or nobody has the image, FileError where it cannot be written.
    """
    try:
        root = meeting.connect(meeting.addresses)
    except OSError as error:
        raise NetworkError(f"{meeting.addresses[0][0]}: {error}") from error
    lines = Lines(root)
    host = root.getpeername()[0]
    try:
        lines.write(port=door.port)
        for _ in range(_TRIES):
            asked = lines.read().get("ask")
            if not asked:
                break
            if _got(meeting, part, asked[0] or host, int(asked[1])):
                lines.write(whole=True)
                return lambda: _until_end(lines)
            lines.write(again=True)
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise NetworkError(f"{host}: {error}") from error
    raise NetworkError(f"{host}: nobody hands on the image")


def _until_end(lines: Lines) -> None:
    with suppress(OSError, ValueError):
        lines.read(None)


def _got(meeting: Meeting, part: Part, host: str, port: int) -> bool:
    """Gets what is missing from a node; False where it breaks off. Raises FileError."""
    for _ in range(2):
        try:
            with meeting.connect(((host, port),)) as connection:
                Lines(connection).write(offset=part.have)
                while part.have < part.size:
                    data = connection.recv(min(_BLOCK, part.size - part.have))
                    if not data:
                        return False
                    part.add(data)
                digest = b""
                while len(digest) < 32 and (data := connection.recv(32 - len(digest))):
                    digest += data
        except OSError as error:
            logger.debug("%s: %s", host, error)
            return False
        if len(digest) == 32 and part.finish(digest):
            return True
        if len(digest) < 32:
            return False
        logger.warning("what came from %s is not what the image is: it is fetched again", host)
        part.restart()
    return False
