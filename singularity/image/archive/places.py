"""Directories below a root while members are unpacked into them: found, made, and removed, by descriptor alone.

No link leads out of the root. What becomes of a link on the way to a member is the policy's affair (`Parents`).
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from singularity import files, kernel
from singularity.errors import ImageError
from singularity.files import remove_at
from singularity.image import acl
from singularity.image.archive.policy import Parents
from singularity.image.limits import shown
from singularity.image.root import Root

_OPEN_DIRECTORIES = 32  # that are kept open for the members to come
_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Place:
    """An open directory of the target."""

    fd: int
    path: bytes  # from the root, links resolved
    inherits: bool  # what is made in it gets its default ACL


class Places:
    """The directories of a root. `on_made` hears of those that no member speaks of, `on_removed` of all that goes."""

    def __init__(
        self, root: Root, parents: Parents, on_made: Callable[[bytes], None], on_removed: Callable[[bytes], None]
    ) -> None:
        self._root = root
        self._parents = parents
        self._on_made, self._on_removed = on_made, on_removed
        self._places: dict[bytes, Place] = {}
        self._stale: list[int] = []  # descriptors of places that are not to be found again, and may be in use

    def place(self, path: bytes) -> Place:
        """The directory of this path, made where it is missing; open until other directories are needed."""
        place = self._places.get(path)
        if place is None:
            place = self._opened(path)
            while len(self._places) >= _OPEN_DIRECTORIES:
                os.close(self._places.pop(next(iter(self._places))).fd)
            self._places[path] = place
        return place

    def _opened(self, path: bytes) -> Place:
        try:
            fd = self.open(path)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            fd = self._make_way(path)
        try:
            real = self._real(fd) if self._parents is Parents.FOLLOW else path
            return Place(fd, real, _has_default_acl(fd))
        except BaseException:
            os.close(fd)
            raise

    def open(self, path: bytes) -> int:
        """An existing directory. Raises OSError: ELOOP or ENOTDIR for a link on the way that must not be followed."""
        if self._parents is Parents.FOLLOW:
            return self._root.open(os.fsdecode(path), _PLACE)
        return open_beneath(self._root.fd, path, _PLACE)

    def _make_way(self, path: bytes) -> int:
        """Goes down to a directory, making what is missing and, as the policy says, replacing links."""
        fd = os.open(".", _PLACE, dir_fd=self._root.fd)
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
            if self._parents is Parents.REFUSE:
                raise ImageError(f"{shown(path)}: a link, where another member of the archive needs a directory")
            if self._parents is Parents.FOLLOW:
                with suppress(FileNotFoundError, NotADirectoryError):
                    return self._follow(path)
            self.remove(Place(fd, self._real(fd), False), name)
            mode = 0
        if mode and not stat.S_ISDIR(mode):
            raise ImageError(f"{shown(path)}: no directory, though another member of the archive lies in it")
        if not mode:
            os.mkdir(name, 0o700, dir_fd=fd)
            self._on_made(joined(self._real(fd), name) if self._parents is Parents.FOLLOW else path)
        return os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=fd)

    def _follow(self, path: bytes) -> int:
        try:
            return self._root.open(os.fsdecode(path), _PLACE)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ImageError(f"{shown(path)}: links in a circle, where another member needs a directory") from error
            raise

    def _real(self, fd: int) -> bytes:
        """The path of an open directory from the root, links resolved."""
        root, here = (os.fsencode(os.readlink(f"/proc/self/fd/{each}")) for each in (self._root.fd, fd))
        return here.removeprefix(root).lstrip(b"/")

    def open_existing(self, path: bytes) -> int:
        """A directory that is there. Raises FileNotFoundError where there is none, or only through a link."""
        try:
            return open_beneath(self._root.fd, path, _PLACE)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) from error
            raise

    def remove(self, place: Place, name: bytes) -> None:
        """Removes what has this name in a directory; whoever keeps account is told."""
        above = place.path + b"/" if place.path else b""
        mode = os.stat(name, dir_fd=place.fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):  # what was on the way to other places
            self.forget(used=place.fd)
        remove_at(place.fd, os.fsdecode(name), on_removed=lambda path: self._on_removed(above + os.fsencode(path)))

    def forget(self, used: int | None = None) -> None:
        """Closes all places; the one that is in `used` for a member stays open until the next one."""
        stale, self._stale = self._stale, []
        for fd in (*stale, *(place.fd for place in self._places.values())):
            if fd == used:
                self._stale.append(fd)
            else:
                os.close(fd)
        self._places.clear()


@contextmanager
def found(fd: int, path: bytes) -> Iterator[Place]:
    """An open directory that is closed at the end."""
    with files.closing(fd):
        yield Place(fd, path, False)


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


def joined(above: bytes, name: bytes) -> bytes:
    """The path of a name in a directory."""
    return above + b"/" + name if above else name


def _has_default_acl(fd: int) -> bool:
    try:
        os.getxattr(f"/proc/self/fd/{fd}", acl.DEFAULT)
    except OSError:
        return False
    return True
