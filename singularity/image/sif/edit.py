"""Changing SIF files in place: objects come and go while the rest of the file stays where it is.

The order of the writes is what makes a kill harmless. A new object's data comes first, behind everything that is there;
then its descriptor, which is what makes it an object; then the counts of the header, which readers do without. An
object that goes loses its descriptor before its data. Between any two writes the file is a valid SIF file.
"""

import errno
import fcntl
import hashlib
import logging
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from singularity import files, kernel
from singularity.errors import FileError, ImageError
from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType, Descriptor, PartitionType, Sif
from singularity.locks import holder_of_image, lock_image

logger = logging.getLogger(__name__)

_LOCK_TRIES, _PAUSE = 40, 0.025  # s; the launcher's patience is the same
_BLOCK = 1 << 20
_PAGE = 4096
_DIGESTED = (DataType.OCI_ROOT_INDEX, DataType.OCI_BLOB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What is to be known of an object that is added, beside its data."""

    type: DataType
    name: bytes = b""
    group: int = 0  # 0: none
    link: int = 0  # id of an object, or of a group when `links_group`; 0: none
    links_group: bool = False
    alignment: int = 1  # of its data, in bytes
    extra: bytes = b""  # of OCI objects: made from the data


@dataclass(frozen=True, slots=True)
class Space:
    """Where the data of a new object goes: all that is written from `offset` to the end of the file is the object."""

    fd: int
    offset: int

    @property
    def path(self) -> str:
        """By which a tool that inherits `fd` opens the file."""
        return f"/proc/self/fd/{self.fd}"


def create(target: Path) -> None:
    """A new SIF file without objects. Raises FileError, also when the target exists."""
    fixed = _is_reproducible()
    data = sif_write.encode_empty(id=UUID(int=0) if fixed else uuid4(), time=_now())
    files.write(target, data, overwrite=False, mode=0o777)


@contextmanager
def editing(path: Path) -> Iterator["Editor"]:
    """Opens a SIF file to be changed, alone.

    Raises FileError when it cannot be written or is in use, ImageError when it is no SIF file or is damaged.
    """
    with FileError.about(path):
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    with files.closing(fd):
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ImageError(f"{path}: not a SIF file")
        _lock(fd, path)
        with FileError.about(path):
            yield Editor(path, fd)


def _lock(fd: int, path: Path) -> None:
    """The lock that launches hold on images which they write, or which writing would harm."""
    try:
        lock_image(fd, writable=True)
    except BlockingIOError as error:
        what = f"{path} is in use{holder_of_image(fd)}"
        raise FileError(what, hint="it can be changed when no container runs from it") from error
    except OSError as error:
        what = f"{path} cannot be locked: {error.strerror}"
        raise FileError(what, hint="is it on a network file system?") from error


class Editor:
    """An open SIF file, which nobody else is writing."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self._file: BinaryIO = open(fd, "rb", buffering=0, closefd=False)  # noqa: SIM115 - the descriptor is not ours
        self.content: Sif
        self._read()

    @property
    def fd(self) -> int:
        """The file, open for reading and writing."""
        return self._fd

    def _read(self) -> None:
        with ImageError.named(self.path):
            self.content = sif.read(self._file)

    def find(self, number: int) -> Descriptor:
        """The object with this id. Raises ImageError where there is none."""
        return find(self.content, number, self.path)

    def warn_if_signed(self, groups: set[int]) -> None:
        """Says that what is going to be changed is signed, where it is."""
        for group in sorted(groups & self.content.signed_groups()):
            logger.warning("%s: group %d is signed: its signatures do not fit any more after this", self.path, group)

    def add(self, new: Addition, source: BinaryIO) -> Descriptor:
        """Appends an object with all that `source` holds. Raises ImageError where it does not fit the rest."""
        with self._appending(new) as space:
            digest = _copy(source, space, digested=new.type in _DIGESTED)
        extra = b"sha256:" + digest.encode() if new.type in _DIGESTED else new.extra
        return self._describe(replace(new, extra=extra), space)

    @contextmanager
    def space_for(self, new: Addition) -> Iterator[Space]:
        """The same, with the data to be written by the caller, or a tool, in place."""
        with self._appending(new) as space:
            yield space
        self._describe(new, space)

    @contextmanager
    def _appending(self, new: Addition) -> Iterator[Space]:
        self._check(new)
        self.warn_if_signed({new.group})
        end = self.content.end
        offset = -(-end // new.alignment) * new.alignment
        try:
            os.ftruncate(self._fd, end)  # what a killed run left behind is not to come back as padding
            os.ftruncate(self._fd, offset)
            yield Space(self._fd, offset)
            os.fsync(self._fd)
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._fd, end)
            raise

    def _check(self, new: Addition) -> None:
        if not any(not row[4] for row in sif.read_rows(self._file, self.content.header)):
            raise ImageError(f"{self.path}: no room for another object: all {self.content.header.total} are used")
        if len(new.name) > sif.NAME_LIMIT:
            raise ImageError(f"object name of {len(new.name)} bytes: at most {sif.NAME_LIMIT} fit into a SIF file")
        ids, groups = {each.id for each in self.content.descriptors}, {each.group for each in self.content.descriptors}
        if new.link and new.link not in (groups if new.links_group else ids):
            raise ImageError(f"{self.path}: no {'group' if new.links_group else 'object'} {new.link} to link to")
        if _use(new) == PartitionType.PRIMARY and self.content.primary() is not None:
            hint = "add it as a system partition, then: singularity sif setprim"
            raise ImageError(f"{self.path}: has a primary system partition already", hint=hint)

    def _describe(self, new: Addition, space: Space) -> Descriptor:
        rows = sif.read_rows(self._file, self.content.header)
        index = self._free_row(rows, new)
        ids = {each.id for each in self.content.descriptors}
        size = os.fstat(self._fd).st_size - space.offset
        now = _now()
        made = Descriptor(
            type=new.type,
            id=next(number for number in count(index + 1) if number not in ids),
            group=new.group,
            link=new.link,
            links_group=new.links_group,
            offset=space.offset,
            size=size,
            padded_size=space.offset - self.content.end + size,
            created=now,
            modified=now,
            name=new.name,
            extra=new.extra,
        )
        self._write_rows({index: sif.encode_descriptor(made)})
        partition = made.partition
        primary = partition is not None and partition.type == PartitionType.PRIMARY
        self._write_header(partition.architecture if partition and primary else None)
        return made

    def _free_row(self, rows: list[bytes], new: Addition) -> int:
        """The first one; of an overlay the first behind those that are there, since the last of them is on top."""
        start = 0
        if _use(new) == PartitionType.OVERLAY:
            start = max((self._index(each) + 1 for each in self.content.overlays()), default=0)
        for number, row in enumerate(rows):
            if number >= start and not row[4]:
                return number
        raise ImageError(f"{self.path}: no room for another overlay behind those that it has")

    def delete(self, number: int) -> None:
        """Removes an object: its descriptor, then its data, which is given back to the file system or overwritten.

        Raises FileError where another program has the file open: it may be running from this object.
        """
        gone = self.find(number)
        self._refuse_users()
        self.warn_if_signed({gone.group})
        for each in self.content.descriptors:
            if each.link == gone.id and not each.links_group:
                logger.warning("%s: object %d is linked to object %d, which goes", self.path, each.id, gone.id)
        partition = gone.partition
        primary = partition is not None and partition.type == PartitionType.PRIMARY
        self._write_rows({self._index(gone): b""})
        self._write_header(sif.NO_ARCHITECTURE if primary else None)
        if gone.size and gone.end > self.content.end:
            os.ftruncate(self._fd, self.content.end)
        elif gone.size:
            _erase(self._fd, gone.offset, gone.size)
        os.fsync(self._fd)

    def set_primary(self, number: int) -> bool:
        """Makes a system partition the one that containers are made from; False where it is that already."""
        new, old = self.find(number), self.content.primary()
        partition = new.partition
        if old is not None and old.id == new.id:
            return False
        if partition is None or partition.type != PartitionType.SYSTEM:
            raise ImageError(f"{self.path}: object {number} is no system partition", hint="only those can be primary")
        self.warn_if_signed({new.group} | ({old.group} if old else set()))
        rows = {self._index(new): sif.encode_descriptor(_used_as(new, PartitionType.PRIMARY))}
        if old is not None:
            rows[self._index(old)] = sif.encode_descriptor(_used_as(old, PartitionType.SYSTEM))
        self._write_rows(dict(reversed(rows.items())))
        self._write_header(partition.architecture)
        return True

    def _index(self, descriptor: Descriptor) -> int:
        """Where in the table an object is described."""
        rows = sif.read_rows(self._file, self.content.header)
        return next(
            number for number, row in enumerate(rows) if row[4] and sif.decode_descriptor(row).id == descriptor.id
        )

    def _write_rows(self, rows: dict[int, bytes]) -> None:
        """Descriptors, in this order; at once where they are in one page, which the kernel writes whole or not."""
        header = self.content.header
        length = sif.row_offset(header, 1) - sif.row_offset(header, 0)
        start, end = sif.row_offset(header, min(rows)), sif.row_offset(header, max(rows) + 1)
        if start // _PAGE == (end - 1) // _PAGE:
            table = b"".join(sif.read_rows(self._file, header)[min(rows) : max(rows) + 1])
            for index, row in rows.items():
                at = (index - min(rows)) * length
                table = table[:at] + row.ljust(length, b"\0") + table[at + length :]
            files.write_at(self._fd, table, start)
        else:
            for index, row in rows.items():
                files.write_at(self._fd, row.ljust(length, b"\0"), sif.row_offset(header, index))
        os.fsync(self._fd)
        self._read()

    def _write_header(self, architecture: bytes | None) -> None:
        before = self.content.header
        changed = before._replace(
            architecture=before.architecture if architecture is None else architecture,
            modified=_now(),
            free=before.total - len(self.content.descriptors),
            data_size=max(0, self.content.end - before.data_offset),
        )
        files.write_at(self._fd, sif.encode_header(changed), 0)
        os.fsync(self._fd)
        self._read()

    def _refuse_users(self) -> None:
        """A file that anybody else has open, a loop device or a file system server too, cannot be leased."""
        with suppress(ValueError):  # not the main thread: whoever opens the file while it is leased could end us
            signal.signal(signal.SIGIO, signal.SIG_IGN)
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            except BlockingIOError:
                time.sleep(_PAUSE)
            except OSError:  # a file system without leases, or somebody else's file
                return
            else:
                fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                return
        raise FileError(f"{self.path} is in use: another program has it open", hint="wait for containers to end")


def find(content: Sif, number: int, path: Path) -> Descriptor:
    """The object with this id. Raises ImageError where there is none; `path` stands in its message."""
    for each in content.descriptors:
        if each.id == number:
            return each
    known = ", ".join(str(each.id) for each in content.descriptors)
    raise ImageError(f"{path}: no object {number}", hint=f"objects: {known}" if known else "it has none")


def _use(new: Addition) -> int:
    return int.from_bytes(new.extra[4:8], "little") if new.type is DataType.PARTITION else 0


def _used_as(descriptor: Descriptor, use: PartitionType) -> Descriptor:
    extra = descriptor.extra.ljust(11, b"\0")
    return descriptor._replace(extra=extra[:4] + use.to_bytes(4, "little") + extra[8:], modified=_now())


def _is_reproducible() -> bool:
    return bool(os.environ.get("SOURCE_DATE_EPOCH", "").strip())


def _now() -> int:
    return sif.NO_TIME if _is_reproducible() else int(time.time())


def _copy(source: BinaryIO, space: Space, *, digested: bool) -> str:
    """All of `source` to where the object begins, holes as holes; returns the SHA-256 of it when `digested`."""
    if not digested and _is_regular(source):
        files.copy_data(source.fileno(), space.fd, space.offset)
        return ""
    digest = hashlib.sha256()
    offset = space.offset
    while data := source.read(_BLOCK):
        digest.update(data)
        files.write_at(space.fd, data, offset)
        offset += len(data)
    return digest.hexdigest()


def _is_regular(source: BinaryIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(source.fileno()).st_mode)
    except OSError:
        return False


def _erase(fd: int, offset: int, size: int) -> None:
    try:
        kernel.punch_hole(fd, offset, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        for start in range(offset, offset + size, _BLOCK):
            files.write_at(fd, bytes(min(_BLOCK, offset + size - start)), start)
