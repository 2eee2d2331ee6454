"""What root emulation remembers of a file: its owner, and the device that it stands for.

In a user namespace calls that make a device, or give a file to an id that is none there, are answered as done
(`launcher/emulate/`), and what they said stands in an extended attribute of the file: it goes where the file goes, and
ends with it. Readers and writers here take it for what it says; no image has the attribute itself. Links, pipes and
sockets can have none, and belong to root.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import kernel
from singularity.image.tree import Kind, Member

NAME = "user.singularity.owner"
KEY = NAME.encode()
_TEXT = re.compile(rb"(\d{1,10}) (\d{1,10})(?: ([cb]) (\d{1,8}) (\d{1,8}))?")
_KINDS = {b"c": Kind.CHARACTER_DEVICE, b"b": Kind.BLOCK_DEVICE}
_HIGHEST = (1 << 32) - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What a file is said to be."""

    uid: int
    gid: int
    kind: Kind | None = None  # a device; None: what it is
    device: int = 0  # as os.makedev makes it

    def encode(self) -> bytes:
        """The value of the attribute."""
        text = b"%d %d" % (self.uid, self.gid)
        if self.kind is None:
            return text
        letter = b"c" if self.kind is Kind.CHARACTER_DEVICE else b"b"
        return text + b" %b %d %d" % (letter, os.major(self.device), os.minor(self.device))


def parse(value: bytes) -> Mark | None:
    """What an attribute says; None for nonsense, for every program can write one."""
    found = _TEXT.fullmatch(value)
    if found is None or int(found[1]) > _HIGHEST or int(found[2]) > _HIGHEST:
        return None
    if found[3] is None:
        return Mark(uid=int(found[1]), gid=int(found[2]))
    device = os.makedev(int(found[4]) & 0xFFF, int(found[5]) & 0xFFFFF)
    return Mark(uid=int(found[1]), gid=int(found[2]), kind=_KINDS[found[3]], device=device)


def read(path: str | bytes | Path) -> Mark | None:
    """The mark of a file; None where there is none, or the file is a link."""
    with suppress(OSError):
        return parse(os.getxattr(path, NAME, follow_symlinks=False))
    return None


def counts(status: os.stat_result) -> bool:
    """Whether the mark of a file is the caller's word: others' files have theirs.

    So may a file of the host's root that others can write; what is made as root of a user namespace is nobody else's
    to come to, and what stands for a device there is for all to write.
    """
    mine = status.st_uid == os.geteuid()
    return mine and not (status.st_uid == 0 and status.st_mode & 0o022 and kernel.is_initial_user_namespace())


def remember(fd: int, member: Member) -> bool:
    """Marks an open file as owned by a member's owner, or as the device that it is; whether that could be done."""
    kind = member.kind if member.kind.is_device else None
    mark = Mark(uid=member.uid, gid=member.gid, kind=kind, device=member.device)
    try:
        os.setxattr(fd, NAME, mark.encode())
    except OSError:
        return False
    return True


def forget(fd: int) -> None:
    """Takes off an open file what is remembered of it."""
    with suppress(OSError):
        os.removexattr(fd, NAME)


def definitions(root: Path, paths: Sequence[str]) -> Iterator[bytes]:
    """What mksquashfs is told of the marked files at `paths`, all of them below `root`: lines of a pseudo file.

    Marks are taken off, and files that stand for devices removed, for the image has neither: of a root file system of
    ours, that nobody needs any more. What others say of their files counts for nothing. A name with a newline, which
    such a file cannot hold, gets no line.
    """
    first: dict[tuple[int, int], str] = {}
    for path in paths:
        status = os.lstat(path)
        mark = read(path) if counts(status) else None
        name = os.fsencode(os.path.relpath(path, root))
        known = first.setdefault((status.st_dev, status.st_ino), path)
        with _time_kept(os.path.dirname(path)):
            if mark is not None and mark.kind is not None:
                os.unlink(path)
            else:
                with suppress(OSError):
                    os.removexattr(path, NAME)
                if status.st_nlink > 1 and not os.path.samefile(known, path):  # an overlay copied it from a layer
                    os.unlink(path)
                    os.link(known, path)
        if mark is None or b"\n" in name:
            continue
        quoted = re.sub(rb'([\s\\"])', rb"\\\1", name)
        about = b"%o %d %d" % (stat.S_IMODE(status.st_mode), mark.uid, mark.gid)
        if mark.kind is None:
            yield b"%b m %b\n" % (quoted, about)
        else:
            letter = b"c" if mark.kind is Kind.CHARACTER_DEVICE else b"b"
            yield b"%b %b %b %d %d\n" % (quoted, letter, about, os.major(mark.device), os.minor(mark.device))


@contextmanager
def _time_kept(directory: str) -> Iterator[None]:
    """A directory whose time stays as it was, whatever is removed from it meanwhile."""
    before = os.stat(directory)
    yield
    if os.stat(directory).st_mtime_ns != before.st_mtime_ns:
        os.utime(directory, ns=(before.st_atime_ns, before.st_mtime_ns))
