"""A file system with one file that is read only, spoken to the kernel by its own protocol.

libfuse and its bindings lost: for nine requests they would add a library that must be there, and a program with the
setuid bit that mounts. Protocol: the kernel's `include/uapi/linux/fuse.h`, version 7.31, which Linux 5.4 speaks;
older kernels are answered in their own.
"""

import errno
import logging
import os
import stat
import struct
import threading
from collections.abc import Callable
from enum import IntEnum

from singularity.errors import SingularityError

logger = logging.getLogger(__name__)

THREADS = 8  # that answer: while one waits for the network, others read what is there
_MAJOR, _MINOR = 7, 31
_ROOT, _FILE = 1, 2  # numbers of the two inodes
_ASYNC_READ, _PARALLEL_DIROPS, _MAX_PAGES = 1 << 0, 1 << 18, 1 << 22
_KEEP_CACHE = 2
_PAGES = 256  # of one read: 1 MiB
_BUFFER = 1 << 17
_VALID = 86400  # seconds that names and attributes hold
_IN, _OUT = struct.Struct("<IIQQIIIHH"), struct.Struct("<IiQ")
_READ_IN = struct.Struct("<QQI")
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY, _ATTRIBUTES_OUT, _OPEN_OUT = struct.Struct("<QQQQII"), struct.Struct("<QII"), struct.Struct("<QII")
_INIT_OUT = struct.Struct("<IIIIHHIIHHI28x")
_STATFS_OUT = struct.Struct("<QQQQQIIII24x")
_PAGE = 4096


class Code(IntEnum):
    """The requests that are understood."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    INTERRUPT = 36
    DESTROY = 38
    BATCH_FORGET = 42


_SILENT = frozenset((Code.FORGET, Code.BATCH_FORGET, Code.INTERRUPT))  # want no answer
_EMPTY = frozenset((Code.READDIR, Code.RELEASEDIR, Code.FLUSH, Code.DESTROY))  # want an empty one

Read = Callable[[int, int], bytes]  # offset and size in bytes; fewer at the end only


class Server:
    """Answers the kernel about the file `name` of `size` bytes, whose bytes `read` gives."""

    def __init__(self, device: int, name: bytes, size: int, read: Read) -> None:
        self._device, self._name, self._size, self._read = device, name, size, read
        self._lock = threading.Lock()
        self.opened = 0  # how often the file is open now

    def start(self) -> None:
        """Begins to answer; the threads end with the mount."""
        for number in range(THREADS):
            threading.Thread(target=self._answer, name=f"fuse-{number}", daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                request = os.read(self._device, _BUFFER)
            except OSError as error:
                if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, code, unique, node, *_ = _IN.unpack_from(request)
            if code in _SILENT:
                continue
            try:
                data, number = b"" if code in _EMPTY else self._perform(code, node, request[_IN.size :]), 0
            except OSError as error:
                data, number = b"", error.errno or errno.EIO
            try:
                os.write(self._device, _OUT.pack(_OUT.size + len(data), -number, unique) + data)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                logger.debug("An answer that nobody waits for: %s", error.strerror)
            if code == Code.DESTROY:
                return

    def _perform(self, code: int, node: int, body: bytes) -> bytes:
        """The answer to a request. Raises OSError with the kernel's number."""
        match code:
            case Code.INIT:
                return _begin(body)
            case Code.LOOKUP:
                return self._look_up(node, body.rstrip(b"\0"))
            case Code.GETATTR:
                return _ATTRIBUTES_OUT.pack(_VALID, 0, 0) + self._attributes(node)
            case Code.OPEN:
                return self._open(node, struct.unpack_from("<I", body)[0])
            case Code.READ:
                _, offset, size = _READ_IN.unpack_from(body)
                return self._data(offset, size)
            case Code.RELEASE:
                self._release()
                return b""
            case Code.STATFS:
                blocks = -(-self._size // _PAGE)
                return _STATFS_OUT.pack(blocks, 0, 0, 2, 0, _PAGE, 255, _PAGE, 0)
            case Code.OPENDIR:
                return _OPEN_OUT.pack(0, 0, 0)
        raise OSError(errno.ENOSYS, "not answered")

    def _look_up(self, node: int, name: bytes) -> bytes:
        if node != _ROOT or name != self._name:
            raise OSError(errno.ENOENT, "no such file")
        return _ENTRY.pack(_FILE, 0, _VALID, _VALID, 0, 0) + self._attributes(_FILE)

    def _release(self) -> None:
        with self._lock:
            self.opened -= 1

    def _open(self, node: int, flags: int) -> bytes:
        if node != _FILE:
            raise OSError(errno.EISDIR, "a directory")
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise OSError(errno.EROFS, "read only")
        with self._lock:
            self.opened += 1
        return _OPEN_OUT.pack(0, _KEEP_CACHE, 0)

    def _data(self, offset: int, size: int) -> bytes:
        try:
            return self._read(offset, min(size, max(self._size - offset, 0)))
        except SingularityError as error:
            logger.error("%s", error)
            raise OSError(errno.EIO, str(error)) from error

    def _attributes(self, node: int) -> bytes:
        size, mode, links = (self._size, stat.S_IFREG | 0o555, 1) if node == _FILE else (0, stat.S_IFDIR | 0o555, 2)
        owner = (os.getuid(), os.getgid())
        return _ATTRIBUTES.pack(node, size, -(-size // 512), 0, 0, 0, 0, 0, 0, mode, links, *owner, 0, _PAGE, 0)


def _begin(body: bytes) -> bytes:
    """The answer to the kernel's first request, in the older of the two versions."""
    major, minor, ahead, flags = struct.unpack_from("<IIII", body)
    if major != _MAJOR:
        raise OSError(errno.EPROTO, "a protocol of another kind")
    kept = flags & (_ASYNC_READ | _PARALLEL_DIROPS | _MAX_PAGES)
    return _INIT_OUT.pack(_MAJOR, min(minor, _MINOR), max(ahead, _PAGES * _PAGE), kept, 16, 12, _PAGE, 1, _PAGES, 0, 0)
