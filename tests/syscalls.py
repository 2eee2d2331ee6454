"""Kernels of another time: seccomp filters that refuse system calls to one command.

A filter installed by root without no_new_privs stays in force across a setuid execution, so the setuid starter can be
shown an older kernel too. `Refusal` names a call, the error it gets and, for calls such as ioctl, the argument that
makes the difference.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {
        "ioctl": 16, "setsockopt": 54, "getsockopt": 55, "clone": 56,
        "pivot_root": 155, "mount": 165, "umount2": 166, "unshare": 272, "setns": 308,
        "memfd_create": 319, "execveat": 322, "statx": 332,
    },
    "aarch64": {
        "ioctl": 29, "setsockopt": 208, "getsockopt": 209, "clone": 220,
        "pivot_root": 41, "mount": 40, "umount2": 39, "unshare": 97, "setns": 268,
        "memfd_create": 279, "execveat": 281, "statx": 291,
    },
}  # fmt: skip
COMMON = {
    "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437, "faccessat2": 439, "mount_setattr": 442,
    "listmount": 458, "statmount": 457, "landlock_create_ruleset": 444,
}  # fmt: skip
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

NEW_MOUNT_API = ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr")
CLONE_NEWUSER = 0x10000000
LOOP_CONFIGURE = 0x4C0A
SO_PEERPIDFD, SO_PASSRIGHTS = 77, 83

LOAD_WORD, JUMP_EQUAL, JUMP_ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF operations
ALLOW, REFUSE = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, SECCOMP_SET_MODE_FILTER = 38, 1
SECCOMP_NUMBER = {"x86_64": 317, "aarch64": 277}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One system call refused with an error; where `argument` is set, only when that argument matches."""

    name: str
    error: int = errno.ENOSYS
    argument: int | None = None
    equals: int | None = None
    any_bit: int | None = None


def before_the_new_mount_api() -> tuple[Refusal, ...]:
    """Linux 5.1: open_tree and its family do not exist."""
    return tuple(Refusal(name) for name in NEW_MOUNT_API)


def before_5_6() -> tuple[Refusal, ...]:
    """Linux 4.18, as far as system calls tell: no mount API, openat2, close_range, clone3 nor LOOP_CONFIGURE."""
    names = ("openat2", "close_range", "clone3", "pidfd_open", "faccessat2", "statmount", "listmount")
    return (*before_the_new_mount_api(), *(Refusal(name) for name in names), without_loop_configure())


def before_6_16() -> tuple[Refusal, ...]:
    """No socket keeps descriptors out (SO_PASSRIGHTS)."""
    return (Refusal("setsockopt", errno.ENOPROTOOPT, argument=2, equals=SO_PASSRIGHTS),)


def before_6_5() -> tuple[Refusal, ...]:
    """... nor tells which process is on the other side (SO_PEERPIDFD)."""
    return (*before_6_16(), Refusal("getsockopt", errno.ENOPROTOOPT, argument=2, equals=SO_PEERPIDFD))


def without_loop_configure() -> Refusal:
    return Refusal("ioctl", errno.EINVAL, argument=1, equals=LOOP_CONFIGURE)


def without_user_namespaces(error: int = errno.EPERM) -> tuple[Refusal, ...]:
    """EPERM as some distributions answer, ENOSPC as user.max_user_namespaces = 0 does."""
    return (
        Refusal("unshare", error, argument=0, any_bit=CLONE_NEWUSER),
        Refusal("clone", error, argument=0, any_bit=CLONE_NEWUSER),
        Refusal("clone3"),
    )


def number_of(name: str) -> int:
    machine = platform.machine()
    return NUMBERS[machine].get(name) or COMMON[name]


def assemble(refusals: Iterable[Refusal]) -> bytes:
    """The filter as classic BPF: each refusal is a short block that falls through to the next one."""
    program: list[tuple[int, int, int, int]] = [
        (LOAD_WORD, 0, 0, 4),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[platform.machine()]),
        (RETURN, 0, 0, ALLOW),
    ]
    for refusal in refusals:
        block: list[tuple[int, int, int, int]] = []
        if refusal.argument is not None:
            block.append((LOAD_WORD, 0, 0, 16 + 8 * refusal.argument))
            if refusal.equals is not None:
                block.append((JUMP_EQUAL, 0, 1, refusal.equals))
            else:
                block.append((JUMP_ANY_BIT, 0, 1, refusal.any_bit or 0))
        block.append((RETURN, 0, 0, REFUSE | refusal.error))
        program.append((LOAD_WORD, 0, 0, 0))
        program.append((JUMP_EQUAL, 0, len(block), number_of(refusal.name)))
        program.extend(block)
    program.append((RETURN, 0, 0, ALLOW))
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p)]


def refuse(refusals: Iterable[Refusal]) -> None:
    """Applies the refusals to this process and all it starts. Without CAP_SYS_ADMIN, no_new_privs is set too."""
    load(assemble(refusals))


def load(code: bytes) -> None:
    """Puts this process and all it starts under a filter, as `refuse` does."""
    libc = ctypes.CDLL(None, use_errno=True)
    store = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(store, ctypes.c_void_p))
    if os.geteuid() != 0 and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    number = SECCOMP_NUMBER[platform.machine()]
    if libc.syscall(*map(ctypes.c_long, (number, SECCOMP_SET_MODE_FILTER, 0)), ctypes.byref(program)) != 0:
        raise OSError(ctypes.get_errno(), "seccomp filter")
