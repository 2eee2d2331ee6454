"""Owner, mode, times and extended attributes of files that are unpacked, in the order in which none undoes another.

What cannot be kept is counted, by what the policy says of it.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from singularity import kernel
from singularity.image import acl, marks
from singularity.image.archive.policy import Loss, Modes, Policy
from singularity.image.tree import Kind, Member
from singularity.image.xattrs import CAPABILITY, is_carried

_SETID = 0o6000
_SECOND = 10**9
_EASY_TIMES = range(1 << 31)  # seconds since 1970 that every file system keeps
_REFUSED = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.EOVERFLOW, errno.ENOSYS)


class Attributes:
    """Gives files below the directory `root` what their members have, as far as `policy` and the system let it."""

    def __init__(self, root: int, policy: Policy) -> None:
        self._root = root
        self.policy = policy
        self.losses: Counter[Loss] = Counter()
        self.ids = (os.geteuid(), os.getegid())
        self.marks = policy.owners and self.ids[0] == 0 and not kernel.is_initial_user_namespace()

    def set(self, fd: int, member: Member, *, clean: bool) -> None:
        """Owner, attributes, mode and time, in the order in which none undoes another.

        `clean`: attributes that are there already, from before or inherited, go.
        """
        mode = self._mode(member, kept=self._give(fd, member))
        if member.xattrs or clean:
            self._set_xattrs(fd, member, clean=clean)
        os.fchmod(fd, mode)
        os.utime(fd, ns=(member.mtime, member.mtime))
        self._look_at_time(member, lambda: os.fstat(fd))

    def set_by_name(self, at: int, name: bytes, member: Member) -> None:
        """The same for what cannot be opened, by its name in the directory `at`: links, devices, pipes and sockets."""
        kept = self._own(member, lambda: os.chown(name, member.uid, member.gid, dir_fd=at, follow_symlinks=False))
        if member.xattrs:
            self._set_xattrs(b"/proc/self/fd/%d/%s" % (at, name), member, clean=False)
        if member.kind is not Kind.LINK:
            os.chmod(name, self._mode(member, kept=kept), dir_fd=at)
        os.utime(name, ns=(member.mtime, member.mtime), dir_fd=at, follow_symlinks=False)
        self._look_at_time(member, lambda: os.stat(name, dir_fd=at, follow_symlinks=False))

    def _look_at_time(self, member: Member, status: Callable[[], os.stat_result]) -> None:
        """Counts a time that did not arrive: file systems move those that they have no room for, and do not say so."""
        second = member.mtime // _SECOND
        if second not in _EASY_TIMES and status().st_mtime_ns // _SECOND != second:
            self.losses[Loss.TIMES] += 1

    def _give(self, fd: int, member: Member) -> bool:
        """Gives an open file to its owner, or remembers whose it is; whether it is the owner's."""
        if member.kind.is_device and marks.remember(fd, member):  # a file that stands for it
            return True
        return self._own(member, lambda: self._change(fd, member))

    def _change(self, fd: int, member: Member) -> None:
        try:
            os.fchown(fd, member.uid, member.gid)
        except OSError as error:
            if error.errno != errno.EINVAL or not self.marks:
                raise
            os.fchown(fd, 0, 0)  # what is remembered of files of others counts for nothing
            if not marks.remember(fd, member):
                raise
        else:
            if self.marks:
                marks.forget(fd)

    def _own(self, member: Member, change: Callable[[], None]) -> bool:
        """Gives a file to its owner; whether it is the owner's."""
        same = (member.uid, member.gid) == self.ids
        if self.policy.owners:
            try:
                change()
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self.losses[Loss.UNMAPPED_OWNERS if self.ids[0] == 0 else Loss.OWNERS] += 1
                return False
            return True
        if not same:
            self.losses[Loss.OWNERS] += 1
        return False

    def _mode(self, member: Member, *, kept: bool) -> int:
        """The mode for a file whose owner was kept or not: a setuid program must not become another's."""
        directory = member.kind is Kind.DIRECTORY
        mode = member.mode
        if not kept and not directory and mode & _SETID:
            self.losses[Loss.SETID] += 1
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
                full = error.errno == errno.ENOSPC and os.fstatvfs(self._root).f_bavail == 0
                if full or error.errno not in (*_REFUSED, errno.ENOSPC, errno.E2BIG, errno.ERANGE):
                    raise
                self.losses[_loss(attribute)] += 1


def _loss(attribute: bytes) -> Loss:
    if attribute == CAPABILITY:
        return Loss.CAPABILITIES
    return Loss.ACLS if attribute in (acl.ACCESS, acl.DEFAULT) else Loss.XATTRS
