"""Loop devices: a part of an open file as a block device, which only root can have.

The device goes when the last that uses it does, also when this process is killed: it is attached with autoclear.
Numbers and layouts: linux/loop.h.
"""

import errno
import fcntl
import os
import struct
import time

from singularity import files

_SET_FD, _CLEAR_FD, _SET_STATUS, _GET_STATUS, _CONFIGURE = 0x4C00, 0x4C01, 0x4C04, 0x4C05, 0x4C0A
_GET_FREE = 0x4C82
_READ_ONLY, _AUTOCLEAR = 1, 4
_INFO = struct.Struct("=QQQQQIIII64s64s32s16x")
_CONFIG_SIZE = 304  # a descriptor, a block size, what _INFO describes, and room for more
_TRIES = 64


def attach(file: int, *, offset: int, size: int, writable: bool) -> int:
    """A descriptor of a loop device that shows `size` bytes of an open file from `offset` on; the caller closes it.

    Raises OSError.
    """
    with files.closing(os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)) as control:
        for attempt in range(_TRIES):
            number = fcntl.ioctl(control, _GET_FREE)
            device = os.open(f"/dev/loop{number}", (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            try:
                _configure(device, file, _info(offset, size, writable=writable))
                _check(device, file, offset)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:  # taken by another since we asked
                    raise
                time.sleep(0.0005 * (attempt + os.getpid() % 8))
            else:
                return device
    raise OSError(errno.EBUSY, "no loop device is free")


def _info(offset: int, size: int, *, writable: bool) -> bytes:
    flags = _AUTOCLEAR | (0 if writable else _READ_ONLY)
    return _INFO.pack(0, 0, 0, offset, size, 0, 0, 0, flags, b"", b"", b"")


def _configure(device: int, file: int, info: bytes) -> None:
    try:
        fcntl.ioctl(device, _CONFIGURE, (struct.pack("=II", file, 0) + info).ljust(_CONFIG_SIZE, b"\0"))
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTTY):
            raise
        _configure_old(device, file, info)


def _configure_old(device: int, file: int, info: bytes) -> None:
    """Before Linux 5.8."""
    fcntl.ioctl(device, _SET_FD, file)
    try:
        fcntl.ioctl(device, _SET_STATUS, info)
    except OSError:
        fcntl.ioctl(device, _CLEAR_FD, 0)
        raise


def _check(device: int, file: int, offset: int) -> None:
    """The device shows our very file, and not what somebody else put there since."""
    info = _INFO.unpack(fcntl.ioctl(device, _GET_STATUS, bytes(_INFO.size)))
    status = os.fstat(file)
    if (info[0], info[1], info[3]) != (status.st_dev, status.st_ino, offset):
        raise OSError(errno.EBADF, "the loop device shows another file")
