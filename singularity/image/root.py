"""A root file system, opened once: every path is resolved inside it, symbolic links included.

An image's link to `/etc` of the host, `../../..` or a loop of links ends inside the root or in an error; no path of a
root file system is ever used by name on the host. With `openat2` the kernel resolves; without it (before Linux 5.6)
the path is walked component by component.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from singularity import files, kernel

_LINKS_LIMIT = 40  # as the kernel's
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
READ_LIMIT = 16 << 20


class Root:
    """The directory `path`, as the root of every path given to the methods; leading `/` or none, the same.

    Methods raise OSError as their counterparts in `os` do, ELOOP for links without end.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        os.close(self.fd)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """A descriptor, close-on-exec, which the caller closes. O_NOFOLLOW concerns the last component."""
        relative = path.lstrip("/") or "."
        try:
            resolve = kernel.RESOLVE_IN_ROOT | kernel.RESOLVE_NO_MAGICLINKS
            return kernel.openat2(self.fd, relative, flags, mode, resolve)
        except OSError as error:
            if error.errno != errno.ENOSYS:
                error.filename = path
                raise
        return _Walk(self.fd, path).open(flags, mode)

    @contextmanager
    def parent(self, path: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the directory that holds `path`, and the last component, which is not resolved."""
        above, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        with files.closing(self.open(above, os.O_PATH | os.O_DIRECTORY)) as fd:
            yield fd, name

    def status(self, path: str, *, follow: bool = True) -> os.stat_result | None:
        """What is there, or None where there is nothing."""
        try:
            fd = self.open(path, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        except (FileNotFoundError, NotADirectoryError):
            return None
        with files.closing(fd):
            return os.fstat(fd)

    def is_file(self, path: str) -> bool:
        """Whether a regular file is there, links followed."""
        status = self.status(path)
        return status is not None and stat.S_ISREG(status.st_mode)

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, links followed."""
        status = self.status(path)
        return status is not None and stat.S_ISDIR(status.st_mode)

    def read(self, path: str, *, limit: int = READ_LIMIT) -> bytes:
        """The content of a regular file. Raises OSError: EFBIG beyond `limit` bytes, EINVAL for anything else."""
        fd = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            data = file.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return data

    @contextmanager
    def create(self, path: str, mode: int = 0o644) -> Iterator[BinaryIO]:
        """A new file to be written: what was at `path`, a link too, is replaced and not written through."""
        self.remove(path)
        with self.parent(path) as (fd, name):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(name, flags, 0o600, dir_fd=fd), "wb") as file:
                yield file
                os.fchmod(file.fileno(), mode)

    def write(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A new file with this content, in place of whatever file or link was there."""
        with self.create(path, mode) as file:
            file.write(data)

    def rewrite(self, path: str, data: bytes) -> None:
        """Replaces the content of a file that is there, where it is another: the file stays the same one."""
        fd = self.open(path, os.O_RDWR)
        with open(fd, "r+b") as file:
            if file.read() != data:
                file.seek(0)
                file.truncate()
                file.write(data)

    def make_directory(self, path: str, mode: int = 0o755) -> None:
        """The directory, of this mode where it is missing; missing parents are of mode 0755."""
        last = PurePosixPath("/", path)
        for part in reversed((last, *last.parents[:-1])):
            if self.status(str(part)) is None:
                with self.parent(str(part)) as (fd, name), suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
                    os.chmod(name, mode if part == last else 0o755, dir_fd=fd)

    def make_file(self, path: str) -> None:
        """An empty file where there is nothing; through a dangling link, its target inside the root."""
        self.make_directory(str(PurePosixPath("/", path).parent))
        os.close(self.open(path, os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK, 0o644))

    def link(self, path: str, text: str) -> None:
        """A symbolic link with this text, in place of whatever file or link was there."""
        self.remove(path)
        with self.parent(path) as (fd, name):
            os.symlink(text, name, dir_fd=fd)

    def remove(self, path: str) -> None:
        """Removes a file or link where there is one."""
        with suppress(FileNotFoundError), self.parent(path) as (fd, name):
            os.unlink(name, dir_fd=fd)

    def real_path(self, path: str) -> str | None:
        """The path of what is there after all links, beginning with `/`; None where there is nothing.

        Only a name: by the time it is used, something else may be there.
        """
        try:
            fd = self.open(path, os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            return None
        with files.closing(fd):
            root, found = (os.readlink(f"/proc/self/fd/{each}") for each in (self.fd, fd))
        return f"/{found.removeprefix(root).lstrip('/')}"

    def link_text(self, path: str) -> str:
        """The text of the symbolic link at `path`."""
        with self.parent(path) as (fd, name):
            return os.readlink(name, dir_fd=fd)

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no directory."""
        try:
            fd = self.open(path, _DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return []
        with files.closing(fd):
            return sorted(os.listdir(fd))


class _Walk:
    """The resolution of one path without openat2: a stack of directories that begins with the root."""

    def __init__(self, root: int, path: str) -> None:
        self.path = path
        self.stack = [os.dup(root)]
        self.pending = _components(path)
        self.links = 0

    def open(self, flags: int, mode: int) -> int:
        try:
            while True:
                while len(self.pending) > 1:
                    self._enter(self.pending.pop(0))
                name = self.pending.pop(0) if self.pending else "."
                if name == "..":
                    self._up()
                    name = "."
                if flags & os.O_NOFOLLOW or not self._is_link(name):
                    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self.stack[-1])
                self._enter(name)
        except OSError as error:
            error.filename = self.path
            raise
        finally:
            for fd in self.stack:
                os.close(fd)

    def _enter(self, name: str) -> None:
        """Steps into a directory, up, or onto the path of a link."""
        if name == "..":
            self._up()
            return
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.stack[-1])
        self.stack.append(fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISLNK(mode):
            self._follow()
        elif not stat.S_ISDIR(mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)

    def _up(self) -> None:
        if len(self.stack) > 1:
            os.close(self.stack.pop())

    def _follow(self) -> None:
        """Puts the text of the link on top of the stack in front of what is left to walk."""
        with files.closing(self.stack.pop()) as link:
            text = os.readlink("", dir_fd=link)
        self.links += 1
        if self.links > _LINKS_LIMIT:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self.path)
        while text.startswith("/") and len(self.stack) > 1:
            os.close(self.stack.pop())
        self.pending = _components(text) + self.pending

    def _is_link(self, name: str) -> bool:
        try:
            return stat.S_ISLNK(os.stat(name, dir_fd=self.stack[-1], follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
