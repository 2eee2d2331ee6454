"""Images as directories: mounted where nobody else sees it, and gone when this process or what it started is gone.

This process goes into a mount namespace of its own, and stays there. Root's images are mounted by the kernel; those of
an ordinary user, who becomes root of a user namespace first, by servers of FUSE, as launches mount them
(`launcher/perform/fuse.c`): our own for squashfs, fuse2fs for ext3.
"""

import errno
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from singularity import files, kernel, paths, process
from singularity.console import VERBOSE
from singularity.edit import loop
from singularity.errors import BuildError, FileError, SingularityError, ToolError
from singularity.image.identify import Format
from singularity.image.opened import Opened
from singularity.namespaces import fakeroot
from singularity.namespaces.isolation import isolated

logger = logging.getLogger(__name__)

_NOSYMFOLLOW = 256  # MS_NOSYMFOLLOW, and ST_NOSYMFOLLOW as statvfs tells it: since Linux 5.10
_ST_NOSYMFOLLOW = 0x2000
_KEPT = (  # flags of a mount that a user namespace may not take off: as statvfs tells them, and as mount takes them
    (os.ST_NOSUID, kernel.MS_NOSUID),
    (os.ST_NODEV, kernel.MS_NODEV),
    (os.ST_NOEXEC, kernel.MS_NOEXEC),
    (os.ST_NOATIME, 1024),
    (os.ST_NODIRATIME, 2048),
    (os.ST_RELATIME, 1 << 21),
)
_SAFE = kernel.MS_NOSUID | kernel.MS_NODEV
_NO_DEVICES = (errno.ENOENT, errno.EPERM, errno.EACCES, errno.ENXIO, errno.ENOTTY)  # for loops: in a container
_KERNEL_TYPES = {  # and options
    Format.SQUASHFS: ("squashfs", ""),
    Format.EXT: ("ext4", "errors=remount-ro"),
    Format.EROFS: ("erofs", ""),
}
_START, _END, _PAUSE = 30.0, 2.0, 0.005  # seconds: for a server to mount, for users to leave, between looks
_PRELOADED = "fuse2fs-truncate.so"
_LITTLE = 1 << 20  # bytes: a disk with less room is full
_DAMAGED = (errno.EIO, errno.EUCLEAN)


class CannotMountError(SingularityError):
    """There is no way to mount images here for whoever calls."""


@contextmanager
def mounted(image: Opened, *, writable: bool, temporary: Path, place: Path | None = None) -> Iterator[Path]:
    """The root file system of an image as a directory: `place`, or a private one below `temporary`, until the end.

    Whoever calls is root in it: of the machine, or of a user namespace. Raises CannotMountError, and FileError.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(_mount_point(temporary))
        _enter_namespace()
        stack.enter_context(_mounted(image, directory, writable=writable))
        if place is None:
            yield directory
            return
        kernel.mount(str(directory), str(place), None, kernel.MS_BIND | kernel.MS_REC)
        try:
            yield place
        finally:
            _unmount(place)


def run(
    argv: Sequence[str], *, environment: Mapping[str, str], directory: Path | None = None, job_control: bool = False
) -> int:
    """Runs a program of the host to its end, with our input, output and terminal; returns its exit status.

    It sees what `mounted` mounted, and what it started ends with it. `directory` is where it starts; None: here. A
    shell with `job_control` gets the terminal for itself. Raises BuildError when it cannot be started.
    """
    foreground = job_control and os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()

    def start() -> NoReturn:
        if foreground:  # our own group has no number in there, and shells with job control return to that of the start
            os.setpgid(0, 0)
            _take_terminal()
        with suppress(OSError):  # a user namespace whose host hides parts of its own /proc
            kernel.mount("proc", "/proc", "proc", _SAFE | kernel.MS_NOEXEC)
        if directory is not None:
            os.chdir(directory)
        try:
            os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 - a list of words, without a shell
        except OSError as error:
            raise BuildError(f"{argv[0]}: {error.strerror}") from error

    logger.debug("Running %s", list(argv))
    try:
        return isolated(start, interactive=True)
    finally:
        if foreground:
            _take_terminal()


def _take_terminal() -> None:
    """Makes the group of this process the one that reads from the terminal."""
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    with suppress(OSError):  # it has hung up
        os.tcsetpgrp(0, os.getpgrp())
    signal.signal(signal.SIGTTOU, before)


@contextmanager
def without_links(directory: Path, temporary: Path) -> Iterator[Path]:
    """The same mounted directory, where no symbolic link is followed, whoever tries.

    Raises CannotMountError before Linux 5.10.
    """
    with _mount_point(temporary) as place:
        kernel.mount(str(directory), str(place), None, kernel.MS_BIND)
        try:
            _remount(place, _NOSYMFOLLOW)
            if not os.statvfs(place).f_flag & _ST_NOSYMFOLLOW:
                raise CannotMountError("the kernel cannot keep links from being followed: older than Linux 5.10")
            yield place
        finally:
            _unmount(place)


# ---- where ----


@contextmanager
def _mount_point(temporary: Path) -> Iterator[Path]:
    """An empty directory, which nobody else sees anything in; gone at the end, also when this process is killed."""
    with files.temporary_directory(temporary) as private:
        place = private / "root"
        place.mkdir()
        with _sweeper(private):
            yield place


@contextmanager
def _sweeper(private: Path) -> Iterator[None]:
    """A process that removes a mount point when this one ends without having done so."""
    alive_read, alive_write = os.pipe2(os.O_CLOEXEC)
    pid = process.fork(partial(_sweep, private, alive_read, alive_write))  # signals stay held there: it ends with us
    os.close(alive_read)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(alive_write)


def _sweep(private: Path, alive_read: int, alive_write: int) -> NoReturn:
    try:
        os.close(alive_write)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):  # whoever reads our output waits for its end
            os.dup2(null, standard)
        os.read(alive_read, 1)
        files.remove_tree(private)
    finally:
        os._exit(0)


def _enter_namespace() -> None:
    if os.geteuid() != 0:
        try:
            fakeroot.become_root()
        except BuildError as error:
            what = "ordinary users mount images in a user namespace, and there is none"
            hint = fakeroot.obstacle() or "see sysctl user.max_user_namespaces, or use sudo"
            raise CannotMountError(what, hint=hint) from error
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    except OSError as error:
        what = f"images are mounted in a namespace, and there is none: {error.strerror}"
        raise CannotMountError(what, hint="in a container? run it with more rights") from error


# ---- what ----


@contextmanager
def _mounted(image: Opened, place: Path, *, writable: bool) -> Iterator[None]:
    if image.image.format is Format.DIRECTORY:
        _bind(image, place)
        if not writable:
            _remount(place, kernel.MS_RDONLY)
    elif not (kernel.is_initial_user_namespace() and _mount_by_kernel(image, place, writable=writable)):
        with _served(image, place, writable=writable):
            yield
        return
    try:
        yield
        if writable and image.image.format is Format.EXT:
            _write_back(image, place)
    finally:
        _unmount(place)


def _write_back(image: Opened, place: Path) -> None:
    """What the kernel holds of an image goes into its file. Raises FileError: nothing tells later that it could not."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kernel.sync_file_system(fd)
    except OSError as error:
        if error.errno == errno.EIO and _is_full(image.fd):  # what the kernel says of a loop device whose disk is full
            what = f"{image.path}: {os.strerror(errno.ENOSPC)}"
            raise FileError(what, hint="on the disk that it is on") from error
        what = f"{image.path}: not all could be written: {error.strerror}"
        raise FileError(what, hint="e2fsck looks at the image") from error
    finally:
        os.close(fd)


def _is_full(fd: int) -> bool:
    """Whether the file system that an open file lies on has no room worth mentioning."""
    system = os.fstatvfs(fd)
    return system.f_bavail * system.f_frsize < _LITTLE


def _bind(image: Opened, place: Path) -> None:
    """A descriptor from outside the namespace cannot be mounted: the same directory is opened once more."""
    with files.closing(os.open(os.readlink(image.held), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        if not os.path.sameopenfile(fd, image.fd):
            raise FileError(f"{image.path}: replaced by another directory since a moment ago", hint="try again")
        kernel.mount(f"/proc/self/fd/{fd}", str(place), None, kernel.MS_BIND | kernel.MS_REC)


def _remount(place: Path, flags: int) -> None:
    """Adds flags to a mount; those that it has stay."""
    there = os.statvfs(place).f_flag
    kept = sum(flag for shown, flag in _KEPT if there & shown)
    if there & os.ST_RDONLY:
        kept |= kernel.MS_RDONLY
    kernel.mount("none", str(place), None, kernel.MS_BIND | kernel.MS_REMOUNT | kept | flags)


def _mount_by_kernel(image: Opened, place: Path, *, writable: bool) -> bool:
    """False: there are no loop devices for us."""
    part = image.image.root
    try:
        device = loop.attach(image.fd, offset=part.offset, size=part.size, writable=writable)
    except OSError as error:
        if error.errno not in _NO_DEVICES:
            raise FileError(f"{image.path}: no loop device: {error.strerror}") from error
        logger.log(VERBOSE, "FUSE mounts %s: no loop device (%s)", image.path, error.strerror)
        return False
    try:
        kind, options = _KERNEL_TYPES[part.format]
        if kind == "ext4" and not writable:
            options += ",noload"
        flags = _SAFE | (0 if writable else kernel.MS_RDONLY)
        kernel.mount(os.readlink(f"/proc/self/fd/{device}"), str(place), kind, flags, options or None)
    except OSError as error:
        why = "damaged, or of a kind the kernel does not know" if error.errno == errno.EINVAL else error.strerror
        raise FileError(f"{image.path}: cannot be mounted: {why}", hint="dmesg says more") from error
    finally:
        os.close(device)
    return True


def _unmount(place: Path) -> None:
    """Waits for those who are still inside, for a moment; the last to leave unmounts it then."""
    with FileError.about(place):
        kernel.unmount_after_use(str(place), _END)


# ---- FUSE ----


@dataclass(frozen=True, slots=True)
class _Server:
    process: "subprocess.Popen[bytes]"
    name: str
    said: int  # a file in memory with what it wrote
    truncates: int  # a pipe with a byte when it was greeted as one that writes must be: launcher/preload/fuse2fs.c

    def complaint(self) -> str:
        text = os.pread(self.said, 1 << 16, 0).decode("utf-8", "replace")
        return process.telling_line(text) or f"exit status {self.process.returncode}"


@contextmanager
def _served(image: Opened, place: Path, *, writable: bool) -> Iterator[None]:
    """The image mounted by a server, which has written everything back when the block has ended."""
    server = _start_server(image, place, writable=writable)
    try:
        _wait_for_mount(server, image, place)
        if writable and image.image.root.format is Format.EXT:
            _check_truncates(server, image)
        yield
    finally:
        _end_server(server, place)
        os.close(server.said)
        os.close(server.truncates)
    if server.process.returncode != 0 and writable:
        what = f"{image.path}: {server.name} ended with {server.process.returncode}: not all may have been written"
        raise FileError(what, hint="e2fsck looks at the image")


def _start_server(image: Opened, place: Path, *, writable: bool) -> _Server:
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        what = f"{image.path}: cannot be mounted without root: /dev/fuse: {error.strerror}"
        raise CannotMountError(what, hint="ask for access to /dev/fuse") from error
    with files.closing(device):
        if image.image.root.format is Format.EXT:
            return _start_fuse2fs(image, place, writable=writable)
        if image.image.root.format is Format.EROFS:
            what = f"{image.path}: only root mounts an EROFS"
            raise CannotMountError(what, hint="make a directory of it: singularity build --sandbox")
        return _start_our_own(image, place, device)


def _start_fuse2fs(image: Opened, place: Path, *, writable: bool) -> _Server:
    options = f"offset={image.image.root.offset},allow_other,fakeroot" + ("" if writable else ",norecovery")
    if kernel.maps_one_id():  # else the kernel keeps off what belongs to ids that have no number here
        options += ",uid=0,gid=0"
    try:
        program = process.find("fuse2fs", purpose=f"mount {image.path} without root")
    except ToolError as error:
        raise CannotMountError(str(error)) from error
    words = ["fuse2fs", "-f", "-o", f"{'rw' if writable else 'ro'},{options}", image.held, str(place)]
    truncates, told = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    passed, extra = [image.fd, told], {"FUSE2FS_TRUNCATES": str(told)}
    if writable:
        passed.append(_library(image))
        extra["LD_PRELOAD"] = f"/proc/self/fd/{passed[-1]}"
    try:
        return _execute_server(program, words, passed, extra, truncates)
    finally:
        for fd in passed[1:]:
            os.close(fd)


def _start_our_own(image: Opened, place: Path, device: int) -> _Server:
    """The image server of launches, behind a mount that is made here."""
    part, program = image.image.root, paths.beside("image-server")
    if not program.exists():
        raise CannotMountError(f"{program} is missing", hint="the installation is incomplete: install again")
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other,default_permissions"
    kernel.mount("squashfs", str(place), "fuse", _SAFE | kernel.MS_RDONLY, options)
    words = [program.name, str(device), str(image.fd), str(part.offset), str(part.size)]
    return _execute_server(program, words, [image.fd, device], {}, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))


def _execute_server(
    program: Path | str, words: list[str], passed: list[int], extra: dict[str, str], truncates: int
) -> _Server:
    logger.debug("Running %s", words)
    said = os.memfd_create("said")
    with process.signals_held():
        server = subprocess.Popen(
            words,
            executable=program,
            env=process.clean_environment(extra),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=passed,
            start_new_session=True,
            preexec_fn=partial(_end_with, os.getpid()),
        )
    return _Server(server, words[0], said, truncates)


def _library(image: Opened) -> int:
    """Our library for fuse2fs, open: its path may hold what separates paths in LD_PRELOAD."""
    path = paths.beside(_PRELOADED)
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        what = f"{image.path} cannot be written: {path}: {error.strerror}"
        raise FileError(what, hint="the installation is incomplete: install again") from error


def _end_with(parent: int) -> None:
    """By a signal that lets the server write back what it holds."""
    for number in process.STOPPING:
        signal.signal(number, signal.SIG_DFL)
    kernel.die_with_parent(signal.SIGTERM, parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, process.STOPPING)


def _wait_for_mount(server: _Server, image: Opened, place: Path) -> None:
    outside = place.parent.stat().st_dev
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise FileError(f"{image.path}: {server.name} could not mount it: {server.complaint()}")
        try:
            if place.stat().st_dev != outside:
                return
        except OSError as error:
            if error.errno in _DAMAGED:
                what = f"{image.path}: damaged: {server.name} cannot read its root directory: {error.strerror}"
                raise FileError(what, hint="e2fsck looks at images of ext3") from error
        time.sleep(_PAUSE)
    raise FileError(f"{image.path}: {server.name} did not mount it within {_START:.0f} s")


def _check_truncates(server: _Server, image: Opened) -> None:
    """Raises FileError when it did not load our library. It has answered, so the kernel has greeted it before."""
    try:
        told = os.read(server.truncates, 1)
    except BlockingIOError:
        told = b""
    if not told:
        what = f"{image.path} cannot be written: fuse2fs did not load {_PRELOADED}, without which some versions"
        raise FileError(f"{what} lose data", hint="install the distribution's fuse2fs, linked dynamically")


def _end_server(server: _Server, place: Path) -> None:
    """Unmounting lets the server end; it is told to where there was nothing to unmount."""
    try:
        _unmount(place)
    except FileError:
        server.process.terminate()
    server.process.wait()
