"""A directory as a stream of entries, in the order of its names' bytes; read by descriptor, links not followed."""

import errno
import logging
import os
import resource
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from singularity import files, kernel
from singularity.errors import FileError, ImageError
from singularity.image import marks
from singularity.image.archive.stream import CHUNK
from singularity.image.limits import LIMITS, shown
from singularity.image.tree import Entry, Kind, Member, Segment, Tree
from singularity.image.xattrs import is_carried

logger = logging.getLogger(__name__)

_AT_ONCE = 1 << 16  # bytes of a file that are read when it is met
_DEEP = 128  # directories in one another
_KINDS = {kind.value: kind for kind in Kind if kind is not Kind.HARD_LINK}
_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY = _OPEN | os.O_RDONLY | os.O_DIRECTORY
_FILE = _OPEN | os.O_RDONLY | os.O_NONBLOCK


def _none(path: bytes, is_directory: bool) -> bool:
    del path, is_directory
    return False


def read(
    path: Path,
    *,
    cross_mounts: bool = False,
    opened: int | None = None,
    skipped: Callable[[bytes, bool], bool] = _none,
) -> Tree:
    """The root file system in a directory; its root is the first member.

    What is mounted inside is left out, unless `cross_mounts`: its mount point is there, and empty. Files and
    directories of the caller's that only their modes keep from being read are made readable for as long as they are
    open. `opened` is a descriptor of the directory, where there is one, and `path` only what messages call it. What is
    `skipped`, by its path and whether it is a directory, is not looked at, nor what is in it. Raises FileError naming
    what cannot be read.
    """
    try:
        root = os.open(path if opened is None else ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=opened)
    except OSError as error:
        raise FileError.because(path, error) from error
    walk = _Walk(path, set() if cross_mounts else _mount_points(root), skipped)
    try:
        yield Entry(walk.member(b"", os.fstat(root), root, Kind.DIRECTORY))
        yield from walk.below(root)
    except OSError as error:
        raise FileError.because(walk.named(), error) from error
    finally:
        os.close(root)
    walk.warn()


@dataclass(frozen=True, slots=True)
class _Level:
    """A directory that is being read."""

    fd: int
    prefix: bytes  # of the paths of what is in it
    names: Iterator[bytes]
    mode: int | None = None  # to be given back at the end

    def close(self) -> None:
        try:
            if self.mode is not None:
                os.fchmod(self.fd, self.mode)
        finally:
            os.close(self.fd)


def read_file(fd: int, path: Path) -> Entry:
    """One file as a tree has it, its path empty; to be used while `fd` is open, which `path` stands for in messages."""
    walk, status = _Walk(path, set(), _none), os.fstat(fd)
    member = walk.member(b"", status, fd, Kind.FILE, segments=_segments(fd, status))
    return Entry(member, walk.data(fd, member) if member.kind is Kind.FILE else ())


class _Walk:
    def __init__(self, root: Path, mounts: set[bytes], skipped: Callable[[bytes, bool], bool]) -> None:
        self.root = root
        self.mounts = mounts
        self.skipped = skipped
        self.here = b""  # the member that is being looked at
        self.links: dict[tuple[int, int], tuple[bytes, int]] = {}  # of a file: its first name, and how many more it has
        self.changed: Counter[str] = Counter()
        self.caller = os.geteuid()
        self.as_root = self.caller == 0

    def named(self) -> str:
        """The path, on the host, of what is being looked at."""
        return f"{self.root}/{shown(self.here)}" if self.here else str(self.root)

    def warn(self) -> None:
        for what, count in sorted(self.changed.items()):
            logger.warning("%s: %d %s", self.root, count, what)

    def below(self, root: int) -> Iterator[Entry]:
        """All that is in the directory `root`; one descriptor is open for each level."""
        stack = [_Level(os.dup(root), b"", iter(_names(root)))]
        try:
            while stack:
                level = stack[-1]
                name = next(level.names, None)
                if name is None:
                    stack.pop().close()
                    continue
                self._go_to(level.prefix + name)
                try:
                    status = os.stat(name, dir_fd=level.fd, follow_symlinks=False)
                except FileNotFoundError:
                    self.changed["files went away while the directory was read"] += 1
                    continue
                if self.skipped(self.here, stat.S_ISDIR(status.st_mode)):
                    continue
                if not stat.S_ISDIR(status.st_mode):
                    yield from self._file(level.fd, name, status)
                elif self.here in self.mounts:
                    yield Entry(self.member(self.here, status, None, Kind.DIRECTORY))
                else:
                    if len(stack) == _DEEP:
                        _allow_descriptors()
                    stack.append(self._enter(level.fd, name, status))
                    yield Entry(self.member(self.here, status, stack[-1].fd, Kind.DIRECTORY))
        finally:
            for level in reversed(stack):
                level.close()

    def _go_to(self, path: bytes) -> None:
        self.here = path
        if len(path) > LIMITS.path:
            raise FileError(f"{self.named()}: a path longer than {LIMITS.path} bytes")

    def _enter(self, directory: int, name: bytes, status: os.stat_result) -> _Level:
        """A directory on the way down; while it is being read its owner may read it."""
        closed = not self.as_root and status.st_uid == os.geteuid() and status.st_mode & 0o500 != 0o500
        mode = stat.S_IMODE(status.st_mode)
        if closed:
            with _handle(directory, name) as (handle, _):
                os.chmod(f"/proc/self/fd/{handle}", mode | 0o500)
        fd = self._open(directory, name, status, _DIRECTORY)
        try:
            return _Level(fd, self.here + b"/", iter(_names(fd)), mode if closed else None)
        except BaseException:
            os.close(fd)
            raise

    def _file(self, directory: int, name: bytes, status: os.stat_result) -> Iterator[Entry]:
        first, place = self._first_name(status), b"/proc/self/fd/%d/%s" % (directory, name)
        if first is not None:
            member = self.member(self.here, status, None, Kind.HARD_LINK, target=first)
            mark = marks.read(place) if marks.counts(status) else None
            yield Entry(replace(member, uid=mark.uid, gid=mark.gid) if mark else member)
            return
        kind = _KINDS[stat.S_IFMT(status.st_mode)]
        if kind is not Kind.FILE:
            target = os.readlink(name, dir_fd=directory) if kind is Kind.LINK else b""
            yield Entry(self.member(self.here, status, place, kind, target=target))
            return
        with files.closing(self._open(directory, name, status, _FILE)) as fd:
            status = os.fstat(fd)
            segments = _segments(fd, status)
            member = self.member(self.here, status, fd, Kind.FILE, segments=segments)
            data: Iterable[bytes]
            if member.kind is not Kind.FILE:  # what stands for a device
                data = ()
            elif segments is None and member.size <= _AT_ONCE:
                data = tuple(self.data(fd, member))
            else:
                data = self.data(fd, member)
            yield Entry(member, data)

    def _first_name(self, status: os.stat_result) -> bytes | None:
        """Where the file has been met before; only those with names still to come are remembered."""
        if status.st_nlink < 2:
            return None
        key = (status.st_dev, status.st_ino)
        known = self.links.get(key)
        if known is None:
            self.links[key] = (self.here, status.st_nlink - 1)
            return None
        first, left = known
        if left > 1:
            self.links[key] = (first, left - 1)
        else:
            del self.links[key]
        return first

    def _open(self, directory: int, name: bytes, status: os.stat_result, flags: int) -> int:
        """Opens what `status` is of, also where only its mode keeps its owner from it."""
        try:
            fd = os.open(name, flags, dir_fd=directory)
        except PermissionError:
            if status.st_uid != os.geteuid() or flags & os.O_DIRECTORY:
                raise
            fd = _open_own(directory, name, flags)
        now = os.fstat(fd)
        if not os.path.samestat(now, status) or stat.S_IFMT(now.st_mode) != stat.S_IFMT(status.st_mode):
            os.close(fd)
            raise OSError(errno.EBUSY, "replaced while it was read", os.fsdecode(name))
        return fd

    def data(self, fd: int, member: Member) -> Iterator[bytes]:
        """The data of a file, as much as was announced, whatever happens to it meanwhile."""
        short = False
        try:
            for segment in member.segments if member.segments is not None else (Segment(offset=0, size=member.size),):
                at, left = segment.offset, segment.size
                while left:
                    chunk = os.pread(fd, min(left, CHUNK), at)
                    if not chunk:
                        short = True
                        chunk = bytes(min(left, CHUNK))
                    at += len(chunk)
                    left -= len(chunk)
                    yield chunk
            status = os.fstat(fd)
        except OSError as error:
            raise FileError.because(f"{self.root}/{shown(member.path)}", error) from error
        if short or status.st_size > member.size:
            logger.warning("%s/%s: changed its size while it was read", self.root, shown(member.path))

    def member(
        self,
        path: bytes,
        status: os.stat_result,
        place: int | bytes | None,
        kind: Kind,
        *,
        target: bytes = b"",
        segments: tuple[Segment, ...] | None = None,
    ) -> Member:
        """A member with the attributes of `status` or of a mark, and the extended ones of what is at `place`."""
        xattrs = self._xattrs(place) if place is not None else {}
        text = xattrs.pop(marks.KEY, b"")
        mark = marks.parse(text) if text and marks.counts(status) else None  # others' are their word, not ours
        kind = mark.kind if mark and mark.kind and kind is Kind.FILE else kind
        return Member(
            path=path,
            kind=kind,
            mode=stat.S_IMODE(status.st_mode),
            uid=mark.uid if mark else status.st_uid,
            gid=mark.gid if mark else status.st_gid,
            mtime=status.st_mtime_ns,
            size=status.st_size if kind is Kind.FILE else 0,
            segments=segments if kind is Kind.FILE else None,
            target=target,
            device=mark.device if mark and mark.kind is kind else status.st_rdev if kind.is_device else 0,
            xattrs=xattrs,
        )

    def _xattrs(self, place: int | bytes) -> dict[bytes, bytes]:
        follow = isinstance(place, int)
        try:
            names = os.listxattr(place, follow_symlinks=follow)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
                return {}
            raise
        found = {}
        for name in sorted(names):
            encoded = os.fsencode(name)
            carried = is_carried(encoded) or encoded == marks.KEY
            if carried and (self.as_root or not encoded.startswith(b"trusted.")):
                with suppress(FileNotFoundError):
                    try:
                        found[encoded] = os.getxattr(place, name, follow_symlinks=follow)
                    except OSError as error:
                        if error.errno != errno.ENODATA:
                            raise
        return found


def _names(directory: int) -> list[bytes]:
    return sorted(os.fsencode(name) for name in os.listdir(directory))


def _allow_descriptors() -> None:
    """A tree may be deeper than there are descriptors by default."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _open_own(directory: int, name: bytes, flags: int) -> int:
    """Opens a file of the caller's after making it readable; its mode is as it was afterwards."""
    with _handle(directory, name) as (handle, mode):
        place = f"/proc/self/fd/{handle}"
        os.chmod(place, stat.S_IMODE(mode) | 0o400)
        try:
            return os.open(place, flags & ~os.O_NOFOLLOW)
        finally:
            os.chmod(place, stat.S_IMODE(mode))


@contextmanager
def _handle(directory: int, name: bytes) -> Iterator[tuple[int, int]]:
    """A descriptor that only stands for a file or directory, and its mode with its kind."""
    with files.closing(os.open(name, os.O_PATH | _OPEN, dir_fd=directory)) as fd:
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fsdecode(name))
        yield fd, mode


def _segments(fd: int, status: os.stat_result) -> tuple[Segment, ...] | None:
    """The parts of a file that are no holes, when it may have holes and the file system knows them."""
    size = status.st_size
    if status.st_blocks * 512 >= size:
        return None
    segments = []
    at = 0
    try:
        while at < size:
            try:
                start = os.lseek(fd, at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                raise
            at = min(os.lseek(fd, start, os.SEEK_HOLE), size)
            if start < at:
                segments.append(Segment(offset=start, size=at - start))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
            return None
        raise
    return None if segments == [Segment(offset=0, size=size)] else tuple(segments)


def _mount_points(root: int) -> set[bytes]:
    """The paths below a directory at which something is mounted."""
    above = os.readlink(f"/proc/self/fd/{root}").rstrip("/") + "/"
    try:
        points = kernel.mount_points()
    except OSError as error:
        raise ImageError(f"/proc/self/mountinfo: {error.strerror}", hint="mount /proc") from error
    return {os.fsencode(point.removeprefix(above)) for point in points if point.startswith(above) and point != above}
