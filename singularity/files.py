"""Files that are whole or absent, and directories that leave nothing behind."""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from singularity.errors import FileError

_CLONE = 0x40049409  # FICLONE
_AT_ONCE = 1 << 20  # bytes that are copied by way of memory
WORKING_PREFIX = "singularity-work-"  # of the names of working directories
_LOCK = ".lock"
_KEPT = ".kept"
_SETTLED = 60.0  # seconds after which a directory without a lock on it can be nobody's that is just being made
_LOST = 86400.0  # the same where the lock is gone: by a kill while it was removed, or by who tidies up temporary files


class NewFile(NamedTuple):
    """A file that has no name yet, or a temporary one where the file system wants names."""

    fd: int
    name: str  # in the target's directory; empty while nameless

    @property
    def path(self) -> str:
        """By which a tool that inherits `fd` opens the file."""
        return f"/proc/self/fd/{self.fd}"


@contextmanager
def closing(fd: int) -> Iterator[int]:
    """An open file by its number, which is closed at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def replacing(
    target: Path, *, overwrite: bool, mode: int = 0o666, like: int | None = None, keep_owner: bool = False
) -> Iterator[NewFile]:
    """A new file beside `target`; at the end fsync, its name, fsync of the directory.

    On any exception `target` is as it was and the new file is gone; on file systems that have nameless files it is gone
    after SIGKILL too. `mode` is cut by the umask. With `like`, an open file, the new one gets its owner, mode and
    attributes, as far as the caller may give them. With `keep_owner`, root's file is root's under sudo, too. Raises
    FileError: the target exists and may not be overwritten, is no regular file, or the system refuses.
    """
    refuse_target(target, overwrite=overwrite)
    with FileError.about(target.parent):
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        new = _create(directory, target)
        try:
            yield new
            if like is None:
                os.fchmod(new.fd, mode & ~umask())
                if not keep_owner:
                    _give_to_sudo_user(new.fd)
            else:
                _take_after(new.fd, like)
            os.fsync(new.fd)
            _give_name(directory, new, target, overwrite=overwrite)
            os.fsync(directory)
        except OSError as error:
            raise FileError.because(error.filename or target, error) from error
        finally:
            os.close(new.fd)
            if new.name:
                with suppress(FileNotFoundError):
                    os.unlink(new.name, dir_fd=directory)
    finally:
        os.close(directory)


def write(target: Path, data: bytes, *, overwrite: bool, mode: int = 0o666) -> None:
    """A file of these bytes, as `replacing` makes it."""
    with replacing(target, overwrite=overwrite, mode=mode) as new:
        write_at(new.fd, data, 0)


def refuse_target(target: Path, *, overwrite: bool, directory: bool = False) -> None:
    """Raises FileError where an image, a `directory` or a file, must not be written.

    That is over something that may not be replaced, or is no file at all but a device, through a link to nothing, and
    where the caller cannot make files.
    """
    parent = Path(os.path.realpath(target)).parent if target.is_symlink() else target.parent
    try:
        status = target.lstat()
    except FileNotFoundError:
        refuse_place(parent)
        return
    except OSError as error:
        raise FileError.because(target, error) from error
    if stat.S_ISLNK(status.st_mode) and not target.exists():
        raise FileError(f"{target}: a link to nothing", hint="remove it, or name another file")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise FileError(f"{target}: neither a file nor a directory", hint="name another file")
    if not overwrite:
        raise FileError(f"{target}: exists", hint="--force replaces it")
    if stat.S_ISDIR(status.st_mode) and not directory:
        raise FileError(f"{target}: a directory", hint="name a file, or use --sandbox")
    refuse_place(parent)


def refuse_place(directory: Path) -> None:
    """Raises FileError for a directory in which the caller can make and remove nothing: before the work."""
    with FileError.about(directory):
        if not stat.S_ISDIR(directory.stat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _create(directory: int, target: Path) -> NewFile:
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return NewFile(os.open(".", flags | os.O_TMPFILE, 0o600, dir_fd=directory), "")
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
            raise FileError.because(target, error) from error
    name = _beside(target)
    with FileError.about(target):
        return NewFile(os.open(name, flags | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory), name)


def _give_name(directory: int, new: NewFile, target: Path, *, overwrite: bool) -> None:
    if not overwrite:
        _link(new.name or new.path, target.name, directory, named=bool(new.name))
        return
    name = new.name or _beside(target)
    if not new.name:
        _link(new.path, name, directory, named=False)
    try:
        os.rename(name, target.name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise


def _link(source: str, name: str, directory: int, *, named: bool) -> None:
    """A link to a file in `directory`, or, through /proc, to one that has no name."""
    try:
        os.link(source, name, src_dir_fd=directory if named else None, dst_dir_fd=directory)
    except FileExistsError as error:
        raise FileError(f"{name}: exists, since a moment ago", hint="--force replaces it") from error


def _beside(target: Path) -> str:
    return f".{target.name[:200]}.{os.urandom(6).hex()}"


def _give_to_sudo_user(fd: int) -> None:
    """What root makes through sudo belongs to the user who asked for it."""
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and uid.isdecimal() and gid.isdecimal():
        os.fchown(fd, int(uid), int(gid))


def _take_after(fd: int, like: int) -> None:
    status = os.fstat(like)
    for owner in ((-1, status.st_gid), (status.st_uid, -1)):
        with suppress(PermissionError):
            os.fchown(fd, *owner)
    os.fchmod(fd, stat.S_IMODE(status.st_mode))
    with suppress(OSError):  # a file system without them
        for name in os.listxattr(like):
            with suppress(OSError):  # those that are the system's
                os.setxattr(fd, name, os.getxattr(like, name))


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Writes all of these bytes at one place of an open file."""
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def copy_data(source: int, target: int, offset: int = 0) -> None:
    """Copies an open file into another one, from `offset` on to its end: holes stay holes.

    What the file system can share, or copy by itself, does not pass through this process. Raises OSError.
    """
    if not offset:
        with suppress(OSError):
            fcntl.ioctl(target, _CLONE, source)
            return
    size, end = os.fstat(source).st_size, 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
            end = os.lseek(source, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole is left
                break
            start, end = end, size
        copy_range(source, start, end, target, offset)
    os.ftruncate(target, offset + size)


def copy_range(source: int, start: int, end: int, target: int, offset: int = 0) -> None:
    """Copies these bytes to `offset` bytes further on. Raises OSError, also where the file ends before."""
    while start < end:
        try:
            done = os.copy_file_range(source, target, min(end - start, 64 * _AT_ONCE), start, offset + start)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
            data = os.pread(source, min(end - start, _AT_ONCE), start)
            write_at(target, data, offset + start)
            done = len(data)
        if not done:
            raise OSError(errno.EIO, "became shorter while it was copied")
        start += done


def give_second_name(path: Path, target: Path) -> bool:
    """A hard link, which takes no room; False where `target` is there. Raises FileError, as for another file system."""
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        return False
    except OSError as error:
        raise FileError.because(target, error) from error
    return True


def umask() -> int:
    """The bits that modes of new files lose."""
    bits = os.umask(0o077)
    os.umask(bits)
    return bits


@contextmanager
def temporary_directory(parent: Path, *, keep: bool = False) -> Iterator[Path]:
    """A private directory below `parent`, removed at the end with all that is in it, unless `keep`.

    Directories that killed runs of this user left there are removed at the start: they are those whose lock is free, or
    gone for a day.
    """
    _reap(parent)
    path = parent / f"{WORKING_PREFIX}{os.urandom(6).hex()}"
    is_ours, lock = True, -1
    try:  # from before it is there: a signal may come at any moment
        try:
            path.mkdir(mode=0o700)
        except OSError as error:
            is_ours = False
            raise FileError.because(parent, error) from error
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield path
    finally:
        if keep and lock >= 0:
            (path / _KEPT).touch()
            (path / _LOCK).unlink(missing_ok=True)
        elif is_ours:
            _remove_working(path)
        if lock >= 0:
            os.close(lock)


def _remove_working(path: Path) -> None:
    """With what a signal has left mounted in it, which came between a mount and whoever was to end it."""
    try:
        remove_tree(path)
    except FileError:
        from singularity import kernel

        with suppress(OSError):
            for place in kernel.mounts_below(os.path.realpath(path)):
                kernel.detach(place)
        remove_tree(path)


def _reap(parent: Path) -> None:
    for path in parent.glob(f"{WORKING_PREFIX}*"):
        with suppress(OSError, FileError):
            status = path.lstat()
            if status.st_uid != os.geteuid() or not stat.S_ISDIR(status.st_mode):
                continue
            if _is_abandoned(path, time.time() - status.st_mtime):
                remove_tree(path)


def _is_abandoned(path: Path, age: float) -> bool:
    if age < _SETTLED:
        return False
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return age > _LOST and not (path / _KEPT).exists()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True


def make_directories(path: Path, mode: int) -> None:
    """The directory, and what is missing above it, each of this mode at most: no umask makes them anybody else's."""
    for each in (*reversed(path.parents), path):
        if not each.is_dir():
            each.mkdir(mode=mode, exist_ok=True)


def remove_tree(path: Path) -> None:
    """Removes a directory with all that is in it: by descriptor, never through a link, never into another mount."""
    try:
        with closing(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as parent:
            remove_at(parent, path.name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError.because(path, error) from error


def remove_at(parent: int, name: str, *, on_removed: Callable[[str], object] | None = None) -> None:
    """Removes what has this name in the directory `parent`; a directory with all that is in it, as `remove_tree` does.

    `on_removed` is told the path, beginning with `name`, of everything before it goes. Raises OSError.
    """
    _remove(parent, name, on_removed or str)


def _remove(parent: int, name: str, on_removed: Callable[[str], object]) -> None:
    """One descriptor is open at a time, however deep the directory is."""
    on_removed(name)
    if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=parent)
        return
    fd = _enter(parent, name)
    mount = _mount_of(fd)
    above: list[tuple[tuple[int, int], list[str]]] = []  # who each parent is, and the names left there
    path = name
    try:
        left = os.listdir(fd)
        while left or above:
            if not left:
                identity, left = above.pop()
                path, _, done = path.rpartition("/")
                fd = _change(fd, _up(fd, identity, done))
                os.rmdir(done, dir_fd=fd)
                continue
            each = left.pop()
            on_removed(f"{path}/{each}")
            if stat.S_ISDIR(os.stat(each, dir_fd=fd, follow_symlinks=False).st_mode):
                above.append((_identity(fd), left))
                fd = _change(fd, _enter(fd, each, mount))
                path = f"{path}/{each}"
                left = os.listdir(fd)
            else:
                os.unlink(each, dir_fd=fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=parent)


def _change(old: int, new: int) -> int:
    os.close(old)
    return new


def _up(fd: int, identity: tuple[int, int], name: str) -> int:
    """The directory that `fd` lies in, when it is still the one that we came from."""
    up = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    if _identity(up) != identity:
        os.close(up)
        raise OSError(errno.EBUSY, "moved while it was removed", name)
    return up


def _identity(fd: int) -> tuple[int, int]:
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def _enter(parent: int, name: str, mount: bytes | None = None) -> int:
    """A directory that is going to be emptied. With `mount`, one that is shown by that one: what is mounted in a
    directory may be of the same file system as the directory, and is somebody's all the same."""
    with closing(os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)) as handle:
        if mount is not None and _mount_of(handle) != mount:
            raise OSError(errno.EXDEV, f"something is mounted on {name} in it", name)
        if os.fstat(handle).st_mode & 0o700 != 0o700 and os.geteuid() != 0:
            os.chmod(f"/proc/self/fd/{handle}", 0o700)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)


def _mount_of(fd: int) -> bytes:
    """The number of the mount that an open file was found in (proc_pid_fdinfo(5)), beside its device."""
    with open(f"/proc/self/fdinfo/{fd}", "rb", buffering=0) as about:
        return b"%d " % os.fstat(fd).st_dev + about.read(1024).partition(b"mnt_id:")[2].partition(b"\n")[0]


def touch(path: Path) -> None:
    """Notes that a file was used now: its access time, whatever the file system is mounted with."""
    with suppress(OSError):
        status = path.stat()
        os.utime(path, ns=(time.time_ns(), status.st_mtime_ns))
