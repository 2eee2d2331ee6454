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
from collections import Counter
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from singularity import kernel
from singularity.errors import FileError, ImageError
from singularity.files import remove_at
from singularity.image import acl
from singularity.image.limits import shown
from singularity.image.archive.policy import Loss, Modes, Parents, Policy, Report, Special
from singularity.image.root import Root
from singularity.image.tree import Entry, Kind, Member, Segment, Tree
from singularity.image.xattrs import CAPABILITY, is_carried

__all__ = ["Loss", "Modes", "Parents", "Policy", "Report", "Special", "Unpacker", "open_beneath", "unpack", "warn"]

logger = logging.getLogger(__name__)

_OPEN_DIRECTORIES = 32  # that are kept open for the members to come
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SETID = 0o6000
_SECOND = 10**9
_EASY_TIMES = range(1 << 31)  # seconds since 1970 that every file system keeps
_REFUSED = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ENOSYS)


def unpack(
    tree: Tree,
    target: Path,
    policy: Policy | None = None,
    *,
    record: MutableMapping[bytes, Member] | None = None,
    name: Path | None = None,
) -> Report:
    """Unpacks a tree into the directory `target`, which exists; what is there stays where no member replaces it.

    Without a policy, what the caller may keep is kept. `record` is filled with the member that each path in the end
    has; a hard link has that of the file it is another name of. `name` is what warnings call it. Raises ImageError for
    members that lead out of the target, FileError when the system refuses, naming the file.
    """
    with Unpacker(target, policy or Policy.of_caller(), record=record) as unpacker:
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


@dataclass(frozen=True, slots=True)
class _Place:
    """An open directory of the target."""

    fd: int
    path: bytes  # from the root, links resolved
    inherits: bool  # what is made in it gets its default ACL


class Unpacker:
    """The work of `unpack`, member by member; `path`s are those of members."""

    def __init__(
        self,
        target: Path,
        policy: Policy,
        *,
        record: MutableMapping[bytes, Member] | None = None,
        on_made: Callable[[bytes], None] | None = None,
    ) -> None:
        self.target = target
        self.policy = policy
        self.record = record
        self.on_made = on_made
        self._places: dict[bytes, _Place] = {}
        self._directories: dict[bytes, Member] = {}  # whose attributes are set at the end
        self._stale: list[int] = []  # descriptors of places that are not to be found again, and may be in use
        self._skipped: set[bytes] = set()
        self._losses: Counter[Loss] = Counter()
        self._members = self._size = 0
        self._ids = (os.geteuid(), os.getegid())
        try:
            self.root = Root(target)
        except OSError as error:
            raise FileError.because(target, error) from error
        top, here = os.stat("/"), os.fstat(self.root.fd)
        if (top.st_dev, top.st_ino) == (here.st_dev, here.st_ino):
            self._close()
            raise FileError(f"{target}: the root of this system", hint="name a directory of its own")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self._forget_places()
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
        return Report(members=self._members, size=self._size, left_out=dict(self._losses))

    def complete(self, member: Member) -> None:
        """Gives a file or directory that is there all that a member has, unless it is owned as that is."""
        if member.kind not in (Kind.FILE, Kind.DIRECTORY):
            return
        try:
            fd = open_beneath(self.root.fd, member.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                status = os.fstat(fd)
                if (status.st_uid, status.st_gid) != (member.uid, member.gid):
                    self._attributes(fd, member, clean=False)
            finally:
                os.close(fd)
        except OSError as error:
            raise FileError.because(f"{self.target}/{shown(member.path)}", error) from error

    def remove(self, path: bytes) -> None:
        """Removes what has this path, when there is something; links on the way are not followed."""
        above, _, name = path.rpartition(b"/")
        with suppress(FileNotFoundError), _Found(self._open_existing(above), above) as place:
            self._remove(place, name)

    def names(self, path: bytes) -> list[bytes]:
        """The names in the directory of this path; none where there is no directory, or only through a link."""
        try:
            with _Found(self._open_existing(path), path) as place:
                fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place.fd)
        except FileNotFoundError:
            return []
        try:
            return sorted(os.fsencode(name) for name in os.listdir(fd))
        finally:
            os.close(fd)

    def _open_existing(self, path: bytes) -> int:
        """A directory that is there. Raises FileNotFoundError where there is none, or only through a link."""
        try:
            return open_beneath(self.root.fd, path, _PLACE)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            raise

    def _add(self, entry: Entry) -> None:
        member = entry.member
        if not member.path:
            self._directories[b""] = member
            self._note(b"", member)
            return
        above, _, name = member.path.rpartition(b"/")
        place = self._place(above)
        if member.kind is Kind.FILE:
            self._file(place, name, entry)
        elif member.kind is Kind.DIRECTORY:
            self._make_directory(place, name)
            self._directories[_below(place, name)] = member
        elif member.kind is Kind.HARD_LINK:
            if not self._link(place, name, member):
                return
        elif not self._other(place, name, member):
            self._skipped.add(member.path)
            return
        self._note(_below(place, name), member)

    def _note(self, path: bytes, member: Member) -> None:
        if self.record is not None:
            same = self.record.get(member.target) if member.kind is Kind.HARD_LINK else None
            self.record[path] = replace(same, path=path) if same is not None else member
        if self.on_made is not None:
            self.on_made(path)

    # Places

    def _place(self, path: bytes) -> _Place:
        """The directory of this path, made where it is missing; open until other directories are needed."""
        place = self._places.get(path)
        if place is None:
            place = self._opened(path)
            while len(self._places) >= _OPEN_DIRECTORIES:
                os.close(self._places.pop(next(iter(self._places))).fd)
            self._places[path] = place
        return place

    def _opened(self, path: bytes) -> _Place:
        try:
            fd = self._open_beneath(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            fd = self._make_way(path)
        try:
            real = self._real(fd) if self.policy.parents is Parents.FOLLOW else path
            return _Place(fd, real, _has_default_acl(fd))
        except BaseException:
            os.close(fd)
            raise

    def _open_beneath(self, path: bytes) -> int:
        """An existing directory. Raises OSError: ELOOP or ENOTDIR for a link on the way that must not be followed."""
        if self.policy.parents is Parents.FOLLOW:
            return self.root.open(os.fsdecode(path), _PLACE)
        return open_beneath(self.root.fd, path, _PLACE)

    def _make_way(self, path: bytes) -> int:
        """Goes down to a directory, making what is missing and, as the policy says, replacing links."""
        fd = os.open(".", _PLACE, dir_fd=self.root.fd)
        done = b""
        try:
            for name in path.split(b"/"):
                done = done + b"/" + name if done else name
                below = self._step(fd, name, done)
                os.close(fd)
                fd = below
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _step(self, fd: int, name: bytes, path: bytes) -> int:
        """From a directory into the one of this name, which has this path."""
        try:
            mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            mode = 0
        if stat.S_ISLNK(mode):
            if self.policy.parents is Parents.REFUSE:
                raise ImageError(f"{shown(path)}: a link, where another member of the archive needs a directory")
            if self.policy.parents is Parents.FOLLOW:
                with suppress(FileNotFoundError, NotADirectoryError):
                    return self._follow(path)
            self._remove(_Place(fd, self._real(fd), False), name)
            mode = 0
        if mode and not stat.S_ISDIR(mode):
            raise ImageError(f"{shown(path)}: no directory, though another member of the archive lies in it")
        if not mode:
            os.mkdir(name, 0o700, dir_fd=fd)
            self._imply(fd, name, path)
        return os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=fd)

    def _follow(self, path: bytes) -> int:
        try:
            return self.root.open(os.fsdecode(path), _PLACE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ImageError(f"{shown(path)}: links in a circle, where another member needs a directory") from error
            raise

    def _imply(self, fd: int, name: bytes, path: bytes) -> None:
        """Notes a directory that no member has spoken of."""
        if self.policy.parents is Parents.FOLLOW:
            real = self._real(fd)
            path = real + b"/" + name if real else name
        member = Member(path=path, kind=Kind.DIRECTORY, mode=0o755)
        self._directories[path] = member
        self._note(path, member)

    def _real(self, fd: int) -> bytes:
        """The path of an open directory from the root, links resolved."""
        root, here = (os.fsencode(os.readlink(f"/proc/self/fd/{each}")) for each in (self.root.fd, fd))
        return here.removeprefix(root).lstrip(b"/")

    def _found(self, path: bytes) -> "_Found":
        """The directory of this path when it exists, for as long as it is looked at."""
        return _Found(self._open_beneath(path), path)

    def _forget_places(self, used: int | None = None) -> None:
        """Closes all places; the one that is in `used` for a member stays open until the next one."""
        stale, self._stale = self._stale, []
        for fd in (*stale, *(place.fd for place in self._places.values())):
            if fd == used:
                self._stale.append(fd)
            else:
                os.close(fd)
        self._places.clear()

    # What is there already

    def _remove(self, place: "_Place | _Found", name: bytes) -> None:
        """Removes what has this name, and forgets what was noted about it."""
        above = place.path + b"/" if place.path else b""
        mode = os.stat(name, dir_fd=place.fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):  # what was on the way to other places
            self._forget_places(used=place.fd)
        remove_at(place.fd, os.fsdecode(name), on_removed=lambda path: self._forget(above + os.fsencode(path)))

    def _forget(self, path: bytes) -> None:
        self._directories.pop(path, None)
        self._skipped.discard(path)
        if self.record is not None:
            self.record.pop(path, None)

    def _replacing(self, place: _Place, name: bytes, make: Callable[[], None]) -> None:
        """Calls `make`; when something has the name already, removes it first."""
        try:
            make()
        except FileExistsError:
            self._remove(place, name)
            make()

    # Kinds of members

    def _make_directory(self, place: _Place, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=place.fd)
            return
        except FileExistsError:
            status = os.stat(name, dir_fd=place.fd, follow_symlinks=False)
        if not stat.S_ISDIR(status.st_mode):
            self._remove(place, name)
            os.mkdir(name, 0o700, dir_fd=place.fd)
        elif self._ids[0] != 0 and status.st_mode & 0o700 != 0o700:
            os.chmod(name, stat.S_IMODE(status.st_mode) | 0o700, dir_fd=place.fd)

    def _finish_directory(self, path: bytes, member: Member) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = open_beneath(self.root.fd, path, flags)
        try:
            self._attributes(fd, member, clean=True)
        finally:
            os.close(fd)

    def _file(self, place: _Place, name: bytes, entry: Entry) -> None:
        try:
            fd = os.open(name, _NEW, 0o600, dir_fd=place.fd)
        except FileExistsError:
            self._remove(place, name)
            fd = os.open(name, _NEW, 0o600, dir_fd=place.fd)
        try:
            self._size += _write(fd, entry)
            self._attributes(fd, entry.member, clean=place.inherits)
        finally:
            os.close(fd)

    def _link(self, place: _Place, name: bytes, member: Member) -> bool:
        """A hard link; False where nothing is made: its target was left out, or it is its own target."""
        above, _, last = member.target.rpartition(b"/")
        if member.target in self._skipped:
            self._skipped.add(member.path)
            return False
        try:
            with self._found(above) as source:
                there = os.stat(last, dir_fd=source.fd, follow_symlinks=False)
                if stat.S_ISDIR(there.st_mode):
                    raise ImageError(f"{shown(member.path)}: a hard link to a directory, {shown(member.target)}")
                if _identity(place.fd) == _identity(source.fd) and name == last:
                    return False
                with suppress(FileNotFoundError):
                    self._remove(place, name)
                os.link(last, name, src_dir_fd=source.fd, dst_dir_fd=place.fd, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            what = f"{shown(member.path)}: a hard link to {shown(member.target)}, which is not there"
            raise ImageError(what) from error
        return True

    def _other(self, place: _Place, name: bytes, member: Member) -> bool:
        """A symbolic link, device, named pipe or socket; False for one that is left out."""
        if member.kind is Kind.LINK:
            self._replacing(place, name, lambda: os.symlink(member.target, name, dir_fd=place.fd))
            self._attributes_by_name(place, name, member)
            return True
        loss, wish = (Loss.DEVICES, self.policy.devices) if member.kind.is_device else (Loss.PIPES, self.policy.pipes)
        if wish is Special.EMPTY_FILE:
            self._file(place, name, Entry(replace(member, kind=Kind.FILE, size=0, segments=None)))
            return True
        try:
            if wish is Special.LEAVE_OUT:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            kind = member.kind.value | 0o600
            self._replacing(place, name, lambda: os.mknod(name, kind, member.device, dir_fd=place.fd))
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL):
                raise
            with suppress(FileNotFoundError):
                self._remove(place, name)
            self._losses[loss] += 1
            return False
        self._attributes_by_name(place, name, member)
        return True

    # Attributes

    def _attributes(self, fd: int, member: Member, *, clean: bool) -> None:
        """Owner, attributes, mode and time, in the order in which none undoes another.

        `clean`: attributes that are there already, from before or inherited, go.
        """
        mode = self._mode(member, kept=self._own(member, lambda: os.fchown(fd, member.uid, member.gid)))
        if self.policy.xattrs and (member.xattrs or clean):
            self._set_xattrs(fd, member, clean=clean)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(member.mtime, member.mtime))
        self._look_at_time(member, lambda: os.fstat(fd))

    def _attributes_by_name(self, place: _Place, name: bytes, member: Member) -> None:
        """The same for what cannot be opened: links, devices, pipes and sockets."""
        at = place.fd
        kept = self._own(member, lambda: os.chown(name, member.uid, member.gid, dir_fd=at, follow_symlinks=False))
        if self.policy.xattrs and member.xattrs:
            self._set_xattrs(b"/proc/self/fd/%d/%s" % (at, name), member, clean=False)
        if member.kind is not Kind.LINK:
            os.chmod(name, self._mode(member, kept=kept), dir_fd=at)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=at, follow_symlinks=False)
        self._look_at_time(member, lambda: os.stat(name, dir_fd=at, follow_symlinks=False))

    def _look_at_time(self, member: Member, status: Callable[[], os.stat_result]) -> None:
        """Counts a time that did not arrive: file systems move those that they have no room for, and do not say so."""
        second = member.mtime // _SECOND
        if second in _EASY_TIMES or self.policy.modes is Modes.PLAIN:
            return
        if status().st_mtime_ns // _SECOND != second:
            self._losses[Loss.TIMES] += 1

    def _own(self, member: Member, change: Callable[[], None]) -> bool:
        """Gives a file to its owner; whether it is the owner's."""
        same = (member.uid, member.gid) == self._ids
        if self.policy.owners:
            try:
                change()
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._losses[Loss.UNMAPPED_OWNERS if self._ids[0] == 0 else Loss.OWNERS] += 1
                return False
            return True
        if not same and self.policy.modes is not Modes.PLAIN:
            self._losses[Loss.OWNERS] += 1
        return False

    def _mode(self, member: Member, *, kept: bool) -> int:
        """The mode for a file whose owner was kept or not: a setuid program must not become another's."""
        directory = member.kind is Kind.DIRECTORY
        if self.policy.modes is Modes.PLAIN:
            return 0o700 if directory else 0o600
        mode = member.mode
        if not kept and not directory and mode & _SETID:
            self._losses[Loss.SETID] += 1
            mode &= ~_SETID
        if self.policy.modes is Modes.REMOVABLE:
            mode |= 0o700 if directory else 0o600
        return mode

    def _set_xattrs(self, place: int | bytes, member: Member, *, clean: bool) -> None:
        follow = isinstance(place, int)
        if clean:
            for name in os.listxattr(place, follow_symlinks=follow):
                if is_carried(os.fsencode(name)) and os.fsencode(name) not in member.xattrs:
                    with suppress(OSError):
                        os.removexattr(place, name, follow_symlinks=follow)
        for attribute, value in member.xattrs.items():
            if not is_carried(attribute):
                continue
            try:
                os.setxattr(place, attribute, value, follow_symlinks=follow)
            except OSError as error:
                full = error.errno == errno.ENOSPC and os.fstatvfs(self.root.fd).f_bavail == 0
                if full or error.errno not in (*_REFUSED, errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                    raise
                self._losses[_loss(attribute)] += 1


class _Found:
    """An existing directory, open for the length of a `with` block."""

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self.fd)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Opens a path below a directory; no component may be a link. Raises OSError: ELOOP or ENOTDIR for one that is."""
    if not path:
        return os.open(".", flags, dir_fd=root)
    try:
        return kernel.openat2(root, path, flags, 0, kernel.RESOLVE_BENEATH | kernel.RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):  # before Linux 5.6; a filter that does not know the call
            raise
    *above, last = path.split(b"/")
    fd = os.open(".", _PLACE, dir_fd=root)
    try:
        for name in above:
            below = os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = below
        return os.open(last, flags | os.O_NOFOLLOW, dir_fd=fd)
    finally:
        os.close(fd)


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


def _below(place: _Place, name: bytes) -> bytes:
    return place.path + b"/" + name if place.path else name


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _has_default_acl(fd: int) -> bool:
    try:
        os.getxattr(f"/proc/self/fd/{fd}", acl.DEFAULT)
    except OSError:
        return False
    return True


def _loss(attribute: bytes) -> Loss:
    if attribute == CAPABILITY:
        return Loss.CAPABILITIES
    return Loss.ACLS if attribute in (acl.ACCESS, acl.DEFAULT) else Loss.XATTRS
