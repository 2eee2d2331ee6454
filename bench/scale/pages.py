"""How much of a file is in the page cache: what a launch has fetched, in whatever way, when none was there before."""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
PROT_READ, MAP_SHARED = 1, 1
FAILED = ctypes.c_void_p(-1).value


def files_of(place: Path) -> Iterator[Path]:
    """A file itself, or every regular file of a directory."""
    if place.is_file():
        yield place
        return
    for directory, _, names in os.walk(place):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def forget(files: Iterable[Path]) -> None:
    """Drops the files from the page cache, but for pages that somebody maps or that are not written yet."""
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def resident(path: Path) -> int:
    """Bytes of a file that are in the page cache, in whole pages."""
    size = path.stat().st_size
    if size == 0:
        return 0
    fd = os.open(path, os.O_RDONLY)
    try:
        address = _libc.mmap(None, ctypes.c_size_t(size), PROT_READ, MAP_SHARED, fd, ctypes.c_long(0))
    finally:
        os.close(fd)
    if address == FAILED:
        raise OSError(ctypes.get_errno(), f"mmap {path}")
    vector = (ctypes.c_ubyte * (-(-size // mmap.PAGESIZE)))()
    try:
        if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), vector) != 0:
            raise OSError(ctypes.get_errno(), f"mincore {path}")
    finally:
        _libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    return sum(page & 1 for page in vector) * mmap.PAGESIZE
