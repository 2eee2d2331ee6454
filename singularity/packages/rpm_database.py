"""The three forms of rpm's database, as far as the headers of its packages are in them; none of rpm is needed.

SQLite is read by Python's own library, from a copy that is gone afterwards; ndb (SUSE) and Berkeley DB (until RHEL 8)
here. Sources of the formats: rpm's `lib/backend/sqlite.c` and `ndb/rpmpkg.c` there; Berkeley DB's `dbinc/db_page.h`.
"""

import os
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from typing import BinaryIO

from singularity import files, paths
from singularity.errors import ImageError

_FILE_LIMIT = 1 << 30  # bytes of a database that is copied
_BLOB_LIMIT = 1 << 28  # bytes of one header
_STEPS = 200_000_000  # of SQLite's machine, all together: a database of somebody else's making may never end
_SLOT, _NDB_PAGE, _NDB_UNIT = struct.Struct("<4sIII"), 4096, 16
_PAGE = struct.Struct("<8xIIIHHBB")  # number, before, next, entries, where free space ends, level, type
_BIG_PAGE = struct.Struct(">8xIIIHHBB")
_HASH_MAGIC, _HASH_PAGES, _OVERFLOW = 0x061561, (2, 13), 7
_INLINE, _ELSEWHERE = 1, 3
_LEAST = 16  # bytes of a header; what is shorter counts something


def sqlite(file: BinaryIO, journal: bytes) -> Iterator[bytes]:
    """Of `rpmdb.sqlite`; `journal` is what SQLite has written beside it and not into it yet."""
    if file.seek(0, os.SEEK_END) > _FILE_LIMIT:
        raise ImageError(f"larger than {_FILE_LIMIT >> 20} MiB")
    file.seek(0)
    with files.temporary_directory(paths.temporary()) as directory:
        copy = directory / "rpmdb.sqlite"
        with copy.open("wb") as target:
            shutil.copyfileobj(file, target)
        if journal:
            (directory / "rpmdb.sqlite-wal").write_bytes(journal)
        try:
            with closing(sqlite3.connect(copy)) as database:
                database.execute("PRAGMA trusted_schema = OFF")
                database.set_progress_handler(lambda: 1, _STEPS)
                database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _BLOB_LIMIT)
                table = database.execute("SELECT type FROM sqlite_master WHERE name = 'Packages'").fetchone()
                if table != ("table",):
                    raise ImageError("no table of packages")
                for (blob,) in database.execute("SELECT blob FROM Packages ORDER BY hnum"):
                    if isinstance(blob, bytes):
                        yield blob
        except sqlite3.Error as error:
            raise ImageError(str(error)) from error


def ndb(file: BinaryIO, journal: bytes) -> Iterator[bytes]:
    """Of `Packages.db`: pages of slots, each of which says where a header is."""
    del journal
    magic, _, _, pages = struct.unpack("<4sIII", file.read(16))
    if magic != b"RpmP" or pages > 1 << 16:
        raise ImageError("not ndb")
    file.seek(0)
    slots = file.read(pages * _NDB_PAGE)
    for at in range(2 * _SLOT.size, len(slots) - _SLOT.size + 1, _SLOT.size):
        magic, number, place, _ = _SLOT.unpack_from(slots, at)
        if magic == b"Slot" and number and place:
            file.seek(place * _NDB_UNIT)
            magic, again, _, size = _SLOT.unpack(file.read(_SLOT.size))
            if magic != b"BlbS" or again != number or size > _BLOB_LIMIT:
                raise ImageError("a slot without its header")
            yield file.read(size)


def berkeley(file: BinaryIO, journal: bytes) -> Iterator[bytes]:
    """Of `Packages` in Berkeley DB's hash form, in no order: page by page, without the hash."""
    del journal
    head = file.read(72)
    page = _PAGE if struct.unpack_from("<I", head, 12)[0] == _HASH_MAGIC else _BIG_PAGE
    order = page.format[0]
    magic, _, size = struct.unpack_from(f"{order}III", head, 12)
    (last,) = struct.unpack_from(f"{order}I", head, 32)
    if magic != _HASH_MAGIC or not 512 <= size <= 65536:
        raise ImageError("not a hash of Berkeley DB")
    for number in range(1, last + 1):
        data = _page(file, number, size)
        *_, entries, _, _, kind = page.unpack_from(data)
        if kind not in _HASH_PAGES:
            continue
        places = struct.unpack_from(f"{order}{entries}H", data, page.size)
        for at in range(1, entries, 2):  # a key, then what it stands for
            item = data[places[at] : places[at - 1]]
            if item[:1] == bytes([_ELSEWHERE]):
                following, length = struct.unpack_from(f"{order}II", item, 4)
                yield _chained(file, page, size, following, length)
            elif item[:1] == bytes([_INLINE]) and len(item) > _LEAST:
                yield item[1:]


def _page(file: BinaryIO, number: int, size: int) -> bytes:
    file.seek(number * size)
    data = file.read(size)
    if len(data) < size:
        raise ImageError("a page that is not there")
    return data


def _chained(file: BinaryIO, page: struct.Struct, size: int, number: int, length: int) -> bytes:
    """What is too long for one page."""
    if length > _BLOB_LIMIT:
        raise ImageError("a header of an impossible size")
    found = bytearray()
    while number and len(found) < length:
        data = _page(file, number, size)
        _, _, number, _, used, _, kind = page.unpack_from(data)
        if kind != _OVERFLOW or not used:
            raise ImageError("a header that ends early")
        found += data[page.size : page.size + used]
    return bytes(found[:length])
