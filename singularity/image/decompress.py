"""Blocks of squashfs and EROFS, decompressed: by Python's own library, or by C libraries that squashfs-tools needs too.

All of these let other threads run while they work.
"""

import ctypes
import lzma
import zlib
from collections.abc import Callable, Mapping

from singularity.errors import ImageError, ToolError

Decompress = Callable[[bytes, int], bytes]  # of a block, and the most bytes it may become; raises ImageError

_DAMAGED = "damaged squashfs: a block that cannot be decompressed"
_XZ_MEMORY = 256 << 20


def decompressor(number: int) -> Decompress:
    """What decompresses blocks of the compression `number` of a squashfs superblock.

    Raises ToolError where its library is missing, ImageError for a number that is none.
    """
    found = _DECOMPRESSORS.get(number)
    if found is None:
        raise ImageError(f"squashfs with the unknown compression {number}")
    return found()


def _gzip() -> Decompress:
    def decompress(data: bytes, limit: int) -> bytes:
        try:
            work = zlib.decompressobj()
            result = work.decompress(data, limit)
        except zlib.error as error:
            raise ImageError(_DAMAGED) from error
        if not work.eof and (work.unconsumed_tail or len(result) < limit):
            raise ImageError(_DAMAGED)
        return result

    return decompress


def _xz() -> Decompress:
    def decompress(data: bytes, limit: int) -> bytes:
        try:
            work = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            return work.decompress(data, limit)
        except lzma.LZMAError as error:
            raise ImageError(_DAMAGED) from error

    return decompress


def _library(name: str, package: str) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(name)
    except OSError as error:
        raise ToolError(f"{name} not found, needed to read the image", hint=f"install {package}") from error


def _zstd_library() -> ctypes.CDLL:
    library = _library("libzstd.so.1", "libzstd1, or zstd")
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_createDStream.restype = ctypes.c_void_p
    library.ZSTD_freeDStream.argtypes = [ctypes.c_void_p]
    library.ZSTD_decompressStream.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Bytes), ctypes.POINTER(_Bytes)]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    return library


class _Bytes(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer."""

    _fields_ = (("at", ctypes.c_void_p), ("size", ctypes.c_size_t), ("position", ctypes.c_size_t))


def _zstd() -> Decompress:
    library = _zstd_library()

    def decompress(data: bytes, limit: int) -> bytes:
        buffer = ctypes.create_string_buffer(limit)
        size = library.ZSTD_decompress(buffer, ctypes.c_size_t(limit), data, ctypes.c_size_t(len(data)))
        if library.ZSTD_isError(size):
            raise ImageError(_DAMAGED)
        return buffer.raw[:size]

    return decompress


def zstd_beginning(data: bytes, size: int) -> bytes:
    """The first `size` bytes of a zstd frame, or all of it where it has fewer; what comes behind it is not looked at.

    Raises ImageError for what is damaged in them, and ToolError.
    """
    library = _zstd_library()
    found = ctypes.create_string_buffer(size)
    output = _Bytes(ctypes.addressof(found), size, 0)
    given = _Bytes(ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p), len(data), 0)
    stream = library.ZSTD_createDStream()
    if not stream:
        raise MemoryError
    try:
        wanted = 1  # 0: the frame has ended
        while wanted and output.position < size:
            before = output.position, given.position
            wanted = library.ZSTD_decompressStream(stream, ctypes.byref(output), ctypes.byref(given))
            if library.ZSTD_isError(wanted) or before == (output.position, given.position):
                raise ImageError("damaged zstd in a layer")
    finally:
        library.ZSTD_freeDStream(stream)
    return found.raw[: output.position]


def _lz4_library() -> ctypes.CDLL:
    return _library("liblz4.so.1", "liblz4-1, or lz4")


def lz4_beginning(data: bytes, size: int) -> bytes:
    """The first `size` bytes of a block of lz4, or all of it where it has fewer. Raises ImageError and ToolError."""
    buffer = ctypes.create_string_buffer(size)
    wanted = ctypes.c_int(size)
    found = _lz4_library().LZ4_decompress_safe_partial(data, buffer, ctypes.c_int(len(data)), wanted, wanted)
    if found < 0:
        raise ImageError("damaged lz4: a block that cannot be decompressed")
    return buffer.raw[:found]


def _lz4() -> Decompress:
    library = _lz4_library()

    def decompress(data: bytes, limit: int) -> bytes:
        buffer = ctypes.create_string_buffer(limit)
        size = library.LZ4_decompress_safe(data, buffer, ctypes.c_int(len(data)), ctypes.c_int(limit))
        if size < 0:
            raise ImageError(_DAMAGED)
        return buffer.raw[:size]

    return decompress


def _lzo() -> Decompress:
    library = _library("liblzo2.so.2", "liblzo2-2, or lzo")

    def decompress(data: bytes, limit: int) -> bytes:
        buffer, size = ctypes.create_string_buffer(limit), ctypes.c_size_t(limit)
        status = library.lzo1x_decompress_safe(data, ctypes.c_size_t(len(data)), buffer, ctypes.byref(size), None)
        if status != 0:
            raise ImageError(_DAMAGED)
        return buffer.raw[: size.value]

    return decompress


_DECOMPRESSORS: Mapping[int, Callable[[], Decompress]] = {1: _gzip, 3: _lzo, 4: _xz, 5: _lz4, 6: _zstd}
