"""Scripts inside the root file system that is being built: as its root, with nothing of the host but the network."""

import errno
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NoReturn

from singularity import files, kernel
from singularity.build.request import Bind, Content, Empty, Mount
from singularity.errors import BuildError
from singularity.image.root import Root
from singularity.namespaces import emulation
from singularity.namespaces.isolation import isolated

logger = logging.getLogger(__name__)

_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
_NOBODY = 65534
_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """How a program is started that is not root's, from `/` and with the host's network."""

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    directory: str = "/"
    network: bool = True


def run(
    root: Path,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    binds: Sequence[Mount] = (),
    on_line: Callable[[str], None] | None = None,
    who: Who = Who(),
) -> int:
    """Runs a program in the root file system `root`, as its root unless `who` says more; returns its exit status.

    Output goes to `on_line`, or where ours goes; input is empty. Where there is one id only, root is emulated, and
    others are root too. Raises BuildError when it cannot be started.
    """

    def start() -> NoReturn:
        if not who.network:
            kernel.unshare(kernel.CLONE_NEWNET)
            kernel.raise_loopback()
        _enter(root, binds)
        os.umask(0o022)
        _become(who)
        try:
            emulation.execute(emulator, argv, environment)
        except OSError as error:
            raise BuildError(f"{argv[0]} in the image: {error.strerror}", hint="scripts need it") from error

    logger.debug("Running %s in %s", list(argv), root)
    with emulation.opened() as emulator:
        return isolated(start, on_line=on_line)


def _become(who: Who) -> None:
    try:
        os.chdir(who.directory)
    except OSError as error:
        raise BuildError(f"{who.directory} in the image: {error.strerror}") from error
    if kernel.maps_one_id():
        with suppress(PermissionError):
            os.setgroups([])
        return
    try:
        os.setgroups(who.groups)
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as error:
        what = f"no user {who.uid} with group {who.gid} here: {error.strerror}"
        raise BuildError(what, hint="an administrator gives more ids: /etc/subuid, /etc/subgid") from error


def watched(root: Path, argv: Sequence[str], *, environment: Mapping[str, str], seconds: int) -> int:
    """Runs a program of the image for so many seconds at most that nobody wrote for this build; its exit status.

    It has no rights but those of nobody where ids can be changed, no network, and nothing to write to but an empty
    /tmp: the image stays as it is, and an image from elsewhere learns nothing. Raises BuildError when it cannot be
    started.
    """

    def start() -> NoReturn:
        with suppress(OSError):
            kernel.unshare(kernel.CLONE_NEWNET)
        _enter(root, ())
        with Root("/") as opened:
            if opened.is_directory("/tmp"):  # noqa: S108 - a mount point in the image
                _mount(opened, "/tmp", "tmpfs", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")  # noqa: S108
            _restrict(opened, "/", kernel.MS_RDONLY | kernel.MS_NOSUID)
        with suppress(OSError):  # a user namespace with one id only
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        try:
            os.execvpe(argv[0], list(argv), {**environment, "HOME": "/tmp"})  # noqa: S606, S108
        except OSError as error:
            raise BuildError(f"{argv[0]} in the image: {error.strerror}") from error

    return isolated(start, on_line=lambda _: None, seconds=seconds)


def _enter(path: Path, binds: Sequence[Mount]) -> None:
    """Makes `path` the root of this process, which has a mount namespace of its own, and detaches the host's."""
    kernel.mount(str(path), str(path), None, kernel.MS_BIND | kernel.MS_REC)
    with Root(path) as root:
        mount_kernel_files(root)
        for bind in binds:
            match bind:
                case Bind():
                    _bind(root, bind)
                case Empty():
                    size = f",size={bind.size}" if bind.size else ""
                    _mount(root, bind.target, "tmpfs", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, f"mode=1777{size}")
                case Content():
                    _show(root, bind)
        os.fchdir(root.fd)
    kernel.pivot_root(".", ".")  # the old root comes to lie over the new one, and is then taken off it
    kernel.unmount(".", kernel.MNT_DETACH)
    os.chdir("/")


def _bind(root: Root, bind: Bind) -> None:
    """Shows a file of the host; in /dev, which is ours, also where nothing has its name."""
    if bind.target.startswith("/dev/") and root.status(bind.target) is None:
        if bind.source.is_dir():
            root.make_directory(bind.target)
        else:
            root.make_file(bind.target)
    _mount(root, bind.target, str(bind.source), None, kernel.MS_BIND | kernel.MS_REC)
    if not bind.writable:
        _restrict(root, bind.target, kernel.MS_RDONLY)


def _show(root: Root, content: Content) -> None:
    """A file that is written into /dev, which is memory of this namespace, shown, and without a name there then."""
    place = "/dev/shown"
    root.write(place, content.data, content.mode)
    with root.parent(place) as (fd, name):
        with suppress(OSError):  # a user namespace without that id
            os.chown(name, content.uid, content.gid, dir_fd=fd)
            os.chmod(name, content.mode, dir_fd=fd)
        _mount(root, content.target, f"/proc/self/fd/{fd}/{name}", None, kernel.MS_BIND)
    root.remove(place)


def _restrict(root: Root, target: str, flags: int) -> None:
    """Adds flags to those of a bind mount; what the mount had cannot be taken off in a user namespace."""
    with files.closing(root.open(target, os.O_PATH)) as fd:
        kept = os.fstatvfs(fd).f_flag & (kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC)
        place = f"/proc/self/fd/{fd}"
        kernel.mount("none", place, None, kernel.MS_REMOUNT | kernel.MS_BIND | flags | kept)


def mount_kernel_files(root: Root) -> None:
    """Mounts /proc, /sys and a minimal /dev, whose directories are there, in the mount namespace of this process."""
    _mount_or_show(root, "/proc", "proc", _SAFE)
    _mount_or_show(root, "/sys", "sysfs", _SAFE | kernel.MS_RDONLY)
    _mount_dev(root)


def _mount(root: Root, target: str, source: str, kind: str | None, flags: int, data: str | None = None) -> None:
    try:
        fd = root.open(target, os.O_PATH)
    except OSError as error:
        raise BuildError(f"{target} in the image: {error.strerror}", hint="the build mounts there") from error
    try:
        kernel.mount(source, f"/proc/self/fd/{fd}", kind, flags, data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"mount on {target} of the image") from error
    finally:
        os.close(fd)


def _mount_or_show(root: Root, target: str, kind: str, flags: int) -> None:
    """Mounts a file system of the kernel, or shows the host's.

    EPERM comes in a user namespace whose host hides parts of its own /proc, and for /sys where it shares the network.
    """
    try:
        _mount(root, target, kind, kind, flags)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        _mount(root, target, target, None, kernel.MS_BIND | kernel.MS_REC)


def _mount_dev(root: Root) -> None:
    """A minimal /dev: the host's disks are not for scripts."""
    _mount(root, "/dev", "tmpfs", "tmpfs", kernel.MS_NOSUID | kernel.MS_NOEXEC, "mode=755")
    for name in _DEVICES:
        if os.path.exists(f"/dev/{name}"):
            root.make_file(f"/dev/{name}")
            _mount(root, f"/dev/{name}", f"/dev/{name}", None, kernel.MS_BIND)
    for name, text in _DEVICE_LINKS.items():
        root.link(f"/dev/{name}", text)
    root.make_directory("/dev/shm", 0o1777)  # noqa: S108 - a mount point in the image
    _mount(root, "/dev/shm", "tmpfs", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")  # noqa: S108
    root.make_directory("/dev/pts")
    options = "newinstance,ptmxmode=0666,mode=0620"
    try:
        _mount(root, "/dev/pts", "devpts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, f"{options},gid=5")
    except OSError as error:  # EINVAL where group 5 (tty) is not mapped
        if error.errno != errno.EINVAL:
            raise
        _mount(root, "/dev/pts", "devpts", "devpts", kernel.MS_NOSUID | kernel.MS_NOEXEC, options)


@contextmanager
def mount_points(root: Root, binds: Sequence[Mount], option: str = "--bind") -> Iterator[None]:
    """Makes what is missing of the targets in the image, and removes it at the end. Raises BuildError."""
    made: list[tuple[str, bool]] = []
    try:
        try:
            for bind in binds:
                if not bind.target.startswith("/dev/"):
                    _make_target(root, bind, made)
        except OSError as error:
            raise BuildError(f"{option}: {error.filename or root.path} in the image: {error.strerror}") from error
        yield
    finally:
        for path, is_directory in reversed(made):
            with suppress(OSError), root.parent(path) as (fd, name):
                (os.rmdir if is_directory else os.unlink)(name, dir_fd=fd)


def _make_target(root: Root, bind: Mount, made: list[tuple[str, bool]]) -> None:
    parts = PurePosixPath(bind.target)
    for part in reversed((parts, *parts.parents[:-1])):
        if root.status(str(part)) is None:
            is_directory = part != parts or bind.is_directory
            made.append((str(part), is_directory))
            if is_directory:
                root.make_directory(str(part))
            else:
                root.make_file(str(part))
