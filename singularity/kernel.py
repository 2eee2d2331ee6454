"""System calls that Python 3.11 has no function for, by their names in section 2 of the manual.

Each raises OSError with the kernel's number. What follows from a failure is decided by the callers.
"""

import ctypes
import errno
import fcntl
import os
import platform
import re
import socket
import struct
import time
from pathlib import Path

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE = 32, 4096, 16384, 1 << 18, 1 << 19
MNT_DETACH = 2
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x08000000, 0x10000000, 0x20000000
CLONE_NEWNET = 0x40000000
_AT_FDCWD = -100
_OCTAL = re.compile(rb"\\([0-7]{3})")
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 2, 4, 8, 16
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
IN_CLOSE_WRITE, IN_OPEN, IN_ONLYDIR, IN_DONT_FOLLOW, IN_ISDIR = 8, 32, 1 << 24, 1 << 25, 1 << 30
_PR_SET_PDEATHSIG = 1
_SYS_OPENAT2, _SYS_MOUNT_SETATTR = 437, 442  # one number on every architecture
_SYS_PIVOT_ROOT = {"x86_64": 155, "i686": 217, "ppc64le": 203, "s390x": 217, "armv7l": 218}  # 41 where it is not here

_PAUSE = 0.005  # seconds between two looks

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _checked(result: int, about: object) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fspath(about) if isinstance(about, Path) else about)
    return result


def unshare(flags: int) -> None:
    """New namespaces for this process, or, for CLONE_NEWPID, for its children."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enters the namespace behind a descriptor, which must be of this kind, a CLONE flag."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2); `target` may be `/proc/self/fd/N`."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    _checked(_libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount on {target}")


def set_read_only(target: str, *, value: bool, below: bool = False) -> None:
    """mount_setattr(2), Linux 5.12: whether a mount, and with `below` all those in it, can be written by nobody."""
    at_cwd, recursive, read_only = -100, 0x8000, 1
    change = struct.pack("=QQQQ", read_only if value else 0, 0 if value else read_only, 0, 0)
    arguments = (ctypes.c_int(at_cwd), os.fsencode(target), ctypes.c_uint(recursive if below else 0), change)
    number = ctypes.c_long(_SYS_MOUNT_SETATTR)
    _checked(_libc.syscall(number, *arguments, ctypes.c_size_t(len(change))), target)


def unmount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _checked(_libc.umount2(os.fsencode(target), flags), target)


def mount_points() -> dict[str, str]:
    """Where something is mounted, paths without links, and the type of file system seen there. Raises OSError."""
    found = {}
    with open("/proc/self/mountinfo", "rb") as lines:  # which has blanks and the like as three octal digits
        for line in lines:
            words = line.split(b" ")
            place = _OCTAL.sub(lambda code: bytes([int(code[1], 8)]), words[4])
            found[os.fsdecode(place)] = os.fsdecode(words[words.index(b"-") + 1])
    return found


def mounts_below(directory: str) -> list[str]:
    """The mount points below a directory, a path without links; of those below each other the topmost."""
    found: list[str] = []
    for place in sorted(mount_points(), key=lambda path: path.split("/")):
        if place.startswith(f"{directory.rstrip('/')}/") and not (found and place.startswith(f"{found[-1]}/")):
            found.append(place)
    return found


def detach(place: str) -> None:
    """Takes away what is mounted here, with what is mounted in it; no symbolic link leads elsewhere."""
    fd = openat2(_AT_FDCWD, place, os.O_PATH, 0, RESOLVE_NO_SYMLINKS)
    try:
        unmount(f"/proc/self/fd/{fd}", MNT_DETACH)
    finally:
        os.close(fd)


def unmount_after_use(target: str, patience: float) -> None:
    """Unmounts as soon as nobody is inside; whoever is there after so many seconds does it by leaving."""
    deadline = time.monotonic() + patience
    while True:
        late = time.monotonic() > deadline
        try:
            return unmount(target, MNT_DETACH if late else 0)
        except OSError as error:
            if late or error.errno != errno.EBUSY:
                raise
        time.sleep(_PAUSE)


def pivot_root(new: str, old: str) -> None:
    """pivot_root(2)."""
    number = _SYS_PIVOT_ROOT.get(platform.machine(), 41)
    _checked(_libc.syscall(ctypes.c_long(number), os.fsencode(new), os.fsencode(old)), "pivot_root")


def openat2(directory: int, path: str | bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2), repeated when a rename elsewhere made the kernel give up."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode if flags & os.O_CREAT else 0, resolve)
    while True:
        try:
            arguments = (ctypes.c_int(directory), os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(24))
            return _checked(_libc.syscall(ctypes.c_long(_SYS_OPENAT2), *arguments), path)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise


def rename(source: Path, target: Path, flags: int) -> None:
    """renameat2(2) of absolute paths: RENAME_NOREPLACE or RENAME_EXCHANGE."""
    at_cwd = ctypes.c_int(-100)
    result = _libc.renameat2(at_cwd, os.fsencode(source), at_cwd, os.fsencode(target), ctypes.c_uint(flags))
    _checked(result, target)


def punch_hole(fd: int, offset: int, size: int) -> None:
    """fallocate(2): these bytes read as zeros, and take no space."""
    keep_size, punch = 1, 2
    fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate  # musl has only the latter, and no other size
    place = (ctypes.c_int64(offset), ctypes.c_int64(size))
    _checked(fallocate(ctypes.c_int(fd), ctypes.c_int(keep_size | punch), *place), "fallocate")


def sync_file_system(fd: int) -> None:
    """syncfs(2): puts on disk what is written to the file system of `fd`; since Linux 5.8 tells what went wrong."""
    _checked(_libc.syncfs(ctypes.c_int(fd)), "syncfs")


def die_with_parent(signal: int, parent: int = 0) -> None:
    """The kernel sends `signal` to this process when its parent ends, however that ends.

    With `parent`, what its id was before the fork, this holds for a parent that has ended already too.
    """
    _checked(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")
    if parent and os.getppid() not in (parent, 0):  # 0: it is outside our pid namespace
        os.kill(os.getpid(), signal)


def give_up_rights() -> None:
    """No capability for what this process executes, whoever's it is, and no way to get one."""
    drop, no_new_privileges = 24, 38
    number = 0
    while _libc.prctl(drop, ctypes.c_ulong(number), 0, 0, 0) == 0:
        number += 1
    _checked(_libc.prctl(no_new_privileges, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def inotify() -> int:
    """A descriptor that tells what happens to watched files; reading it never waits."""
    return _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")


def inotify_watch(fd: int, path: str, mask: int) -> int:
    """Watches what is at a path; returns the number that stands for it in events."""
    return _checked(_libc.inotify_add_watch(fd, os.fsencode(path), ctypes.c_uint32(mask)), path)


def is_initial_user_namespace() -> bool:
    """Whether root here is root of the machine: every id is mapped to itself."""
    return _id_map() in ([], [0, 0, 0xFFFFFFFF])


OVERFLOW = 65534  # what ids without a meaning in a user namespace look like


def maps_one_id() -> bool:
    """Whether there is only one user here: a user namespace made without subordinate ids."""
    return _id_map()[2::3] == [1]


def _id_map() -> list[int]:
    """The words of this process's uid map; none on a kernel without user namespaces."""
    try:
        return [int(word) for word in Path("/proc/self/uid_map").read_text(encoding="ascii").split()]
    except OSError:
        return []


_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # of netdevice(7)


def raise_loopback() -> None:
    """Puts the loopback device of this network namespace up, which a new one has down. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
