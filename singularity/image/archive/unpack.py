"""A stream of members becomes a directory: by descriptor, never through a link out of it, with all the caller may give.

Every directory on the way to a member is opened below the root without following links; what a member is written to is
made new in its directory, never opened through what is there. Directories get their modes and times at the end, the
deepest first, so that one of mode 0555 or 0000 arrives whole. What cannot be kept is counted, and told in one warning
of each kind.
"""

import errno
import logging
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from singularity import files
from singularity.errors import FileError, ImageError
from singularity.image.archive.attributes import Attributes
from singularity.image.archive.places import Place, Places, found, joined, open_beneath
from singularity.image.archive.policy import Loss, Policy, Report, Special
from singularity.image.limits import shown
from singularity.image.root import Root
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

logger = logging.getLogger(__name__)

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def unpack(tree: Tree, target: Path, policy: Policy | None = None, *, name: Path | None = None) -> Report:
    """Unpacks a tree into the directory `target`, which exists; what is there stays where no member replaces it.

    Without a policy, what the caller may keep is kept. `name` is what warnings call it. Raises ImageError for members
    that lead out of the target, FileError when the system refuses, naming the file.
    """
    with Unpacker(target, policy or Policy.of_caller()) as unpacker:
        for entry in tree:
            unpacker.add(entry)
        report = unpacker.finish()
    warn(report, name or target)
    return report


def complete(tree: Tree, target: Path) -> None:
    """Gives modes and attributes to files and directories that another tool has unpacked without, for want of an owner.

    What is owned as it should be is left alone. Raises as `unpack`.
    """
    with Unpacker(target, Policy.of_caller()) as unpacker:
        for entry in tree:
            unpacker.complete(entry.member)


def warn(report: Report, target: Path) -> None:
    """One warning for each kind of loss."""
    for loss, count in report.left_out.items():
        logger.warning("%s: %d %s", target, count, loss.value)


class Unpacker:
    """The work of `unpack`, member by member; `path`s are those of members."""

    def __init__(self, target: Path, policy: Policy, *, on_made: Callable[[bytes], None] | None = None) -> None:
        self.target = target
        self.policy = policy
        self.on_made = on_made
        self._directories: dict[bytes, Member] = {}  # whose attributes are set at the end
        self._skipped: set[bytes] = set()
        self._members = self._size = 0
        try:
            self.root = Root(target)
        except OSError as error:
            raise FileError.because(target, error) from error
        self._places = Places(self.root, policy.parents, self._imply, self._forget)
        self._attributes = Attributes(self.root.fd, policy)
        top, here = os.stat("/"), os.fstat(self.root.fd)
        if (top.st_dev, top.st_ino) == (here.st_dev, here.st_ino):
            self._close()
            raise FileError(f"{target}: the root of this system", hint="name a directory of its own")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._close()

    def _close(self) -> None:
        self._places.forget()
        os.close(self.root.fd)

    def add(self, entry: Entry) -> None:
        """Unpacks one member, in place of what has its path. Its data is read."""
        member = entry.member
        try:
            self._add(entry)
        except OSError as error:
            raise FileError.because(f"{self.target}/{shown(member.path)}", error) from error
        self._members += 1

    def finish(self) -> Report:
        """Gives the directories their attributes."""
        for path in sorted(self._directories, reverse=True):
            try:
                self._finish_directory(path, self._directories[path])
            except OSError as error:
                raise FileError.because(f"{self.target}/{shown(path)}", error) from error
        self._directories.clear()
        return Report(members=self._members, size=self._size, left_out=dict(self._attributes.losses))

    def complete(self, member: Member) -> None:
        """Gives a file or directory that is there all that a member has, unless it is owned as that is."""
        if member.kind not in (Kind.FILE, Kind.DIRECTORY):
            return
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with files.closing(open_beneath(self.root.fd, member.path, flags)) as fd:
                status = os.fstat(fd)
                if (status.st_uid, status.st_gid) != (member.uid, member.gid):
                    self._attributes.set(fd, member, clean=False)
        except OSError as error:
            raise FileError.because(f"{self.target}/{shown(member.path)}", error) from error

    def remove(self, path: bytes) -> None:
        """Removes what has this path, when there is something; links on the way are not followed."""
        above, _, name = path.rpartition(b"/")
        with suppress(FileNotFoundError), found(self._places.open_existing(above), above) as place:
            self._places.remove(place, name)

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory of this path; none where there is no directory, or only through a link."""
        try:
            with found(self._places.open_existing(path), path) as place:
                fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.fd)
        except FileNotFoundError:
            return []
        with files.closing(fd):
            return sorted(os.fsencode(name) for name in os.listdir(fd))

    def _add(self, entry: Entry) -> None:
        member = entry.member
        if not member.path:
            self._directories[b""] = member
            self._note(b"")
            return
        above, _, name = member.path.rpartition(b"/")
        place = self._places.place(above)
        if member.kind is Kind.FILE:
            self._file(place, name, entry)
        elif member.kind is Kind.DIRECTORY:
            self._make_directory(place, name)
            self._directories[joined(place.path, name)] = member
        elif member.kind is Kind.HARD_LINK:
            if not self._link(place, name, member):
                return
        elif not self._other(place, name, member):
            self._skipped.add(member.path)
            return
        self._note(joined(place.path, name))

    def _note(self, path: bytes) -> None:
        if self.on_made is not None:
            self.on_made(path)

    # What is there already

    def _imply(self, path: bytes) -> None:
        """Notes a directory that no member has spoken of."""
        self._directories[path] = Member(path=path, kind=Kind.DIRECTORY, mode=0o755)
        self._note(path)

    def _forget(self, path: bytes) -> None:
        self._directories.pop(path, None)
        self._skipped.discard(path)

    def _replacing(self, place: Place, name: bytes, make: Callable[[], None]) -> None:
        """Calls `make`; when something has the name already, removes it first."""
        try:
            make()
        except FileExistsError:
            self._places.remove(place, name)
            make()

    # Kinds of members

    def _make_directory(self, place: Place, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=place.fd)
            return
        except FileExistsError:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            self._places.remove(place, name)
            os.mkdir(name, 0o700, dir_fd=place.fd)
        elif self._attributes.ids[0] != 0 and status.st_mode & 0o700 != 0o700:
            os.chmod(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=place.fd)

    def _finish_directory(self, path: bytes, member: Member) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with files.closing(open_beneath(self.root.fd, path, flags)) as fd:
            self._attributes.set(fd, member, clean=True)

    def _file(self, place: Place, name: bytes, entry: Entry) -> None:
        try:
            fd = os.open(name, _NEW, 0o600, dir_fd=place.fd)
        except FileExistsError:
            self._places.remove(place, name)
            fd = os.open(name, _NEW, 0o600, dir_fd=place.fd)
        with files.closing(fd):
            self._size += _write(fd, entry)
            self._attributes.set(fd, entry.member, clean=place.inherits)

    def _link(self, place: Place, name: bytes, member: Member) -> bool:
        """A hard link; False where nothing is made: its target was left out, or it is its own target."""
        above, _, last = member.target.rpartition(b"/")
        if member.target in self._skipped:
            self._skipped.add(member.path)
            return False
        try:
            with found(self._places.open(above), above) as source:
                there = os.stat(last, dir_fd=source.fd, follow_symlinks=False)
                if stat.S_ISDIR(there.st_mode):
                    raise ImageError(f"{shown(member.path)}: a hard link to a directory, {shown(member.target)}")
                if _identity(place.fd) == _identity(source.fd) and name == last:
                    return False
                with suppress(FileNotFoundError):
                    self._places.remove(place, name)
                os.link(last, name, src_dir_fd=source.fd, dst_dir_fd=place.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            what = f"{shown(member.path)}: a hard link to {shown(member.target)}, which is not there"
            raise ImageError(what) from error
        return True

    def _other(self, place: Place, name: bytes, member: Member) -> bool:
        """A symbolic link, device, named pipe or socket; False for one that is left out."""
        if member.kind is Kind.LINK:
            self._replacing(place, name, lambda: os.symlink(member.target, name, dir_fd=place.fd))
            self._attributes.set_by_name(place.fd, name, member)
            return True
        loss, wish = (Loss.DEVICES, self.policy.devices) if member.kind.is_device else (Loss.PIPES, self.policy.pipes)
        try:
            if wish is Special.LEAVE_OUT:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            kind = member.kind.value | 0o600
            self._replacing(place, name, lambda: os.mknod(name, kind, member.device, dir_fd=place.fd))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            with suppress(FileNotFoundError):
                self._places.remove(place, name)
            if member.kind.is_device and self._attributes.marks:
                self._stand_in(place, name, member)
                return True
            self._attributes.losses[loss] += 1
            return False
        self._attributes.set_by_name(place.fd, name, member)
        return True

    def _stand_in(self, place: Place, name: bytes, member: Member) -> None:
        """An empty file that is remembered as a device."""
        with files.closing(os.open(name, _NEW, 0o600, dir_fd=place.fd)) as fd:
            self._attributes.set(fd, member, clean=place.inherits)


def _write(fd: int, entry: Entry) -> int:
    """Writes a file's data where it belongs, holes left open; returns its size without them."""
    member = entry.member
    segments = member.segments if member.segments is not None else (Segment(offset=0, size=member.size),)
    expected = sum(each.size for each in segments)
    chunks = iter(entry.data)
    rest = memoryview(b"")
    written = 0
    for segment in segments:
        if segment.offset:
            os.lseek(fd, segment.offset, os.SEEK_SET)
        left = segment.size
        while left:
            if not rest:
                chunk = next(chunks, None)
                if chunk is None:
                    raise ImageError(f"{shown(member.path)}: {written} bytes of data where {expected} were announced")
                rest = memoryview(chunk)
            count = os.write(fd, rest[:left])
            rest, left, written = rest[count:], left - count, written + count
    more = next(chunks, None)
    if rest or more:
        raise ImageError(f"{shown(member.path)}: more data than the {expected} bytes that were announced")
    if member.segments is not None:
        os.ftruncate(fd, member.size)
    return written


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino
