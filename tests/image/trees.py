"""Root file systems with everything in them that one can hold, and what is there when one has arrived."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import stat
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from singularity.image.archive import tar_writer
from singularity.image.tree import Entry, Kind, Member

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

BEFORE_1970 = -1_234_567_890_123_456_789
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # version 2, effective; net_raw permitted
ODD_NAME = b"n\xffon-UTF-8 \xe9\n"
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in (
        (1, 6, 0xFFFFFFFF),
        (2, 4, 4711),
        (4, 4, 0xFFFFFFFF),
        (8, 6, 4712),
        (0x10, 6, 0xFFFFFFFF),
        (0x20, 0, 0xFFFFFFFF),
    )
)


@dataclass(frozen=True)
class Seen:
    """One file as a person would compare it."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    digest: str = ""
    target: bytes = b""
    device: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)
    names: tuple[bytes, ...] = ()  # all of a file with several


def look(root: Path | str) -> dict[bytes, Seen]:
    """All that is below a directory, by path."""
    found: dict[bytes, Seen] = {}
    groups: dict[tuple[int, int], list[bytes]] = {}
    top = os.fsencode(root)
    paths = [b""]
    while paths:
        path = paths.pop()
        full = os.path.join(top, path) if path else top
        status = os.lstat(full)
        if stat.S_ISDIR(status.st_mode):
            paths += [os.path.join(path, name) if path else name for name in os.listdir(full)]
        elif status.st_nlink > 1:
            groups.setdefault((status.st_dev, status.st_ino), []).append(path)
        found[path] = _seen(full, status)
    for names in groups.values():
        for name in names:
            found[name] = Seen(**{**_fields(found[name]), "names": tuple(sorted(names))})
    return found


def _fields(seen: Seen) -> dict[str, object]:
    return {name: getattr(seen, name) for name in seen.__dataclass_fields__}


def _seen(full: bytes, status: os.stat_result) -> Seen:
    kind = Kind(stat.S_IFMT(status.st_mode))
    regular = kind is Kind.FILE
    names = [name for name in os.listxattr(full, follow_symlinks=False) if name != "security.selinux"]
    return Seen(
        kind=kind.name,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns,
        size=status.st_size if regular else 0,
        digest=_digest(full) if regular else "",
        target=os.readlink(full) if kind is Kind.LINK else b"",
        device=status.st_rdev if kind.is_device else 0,
        xattrs={name: os.getxattr(full, name, follow_symlinks=False) for name in sorted(names)},
    )


def _digest(full: bytes) -> str:
    """Of the blocks that are not zeros, with their places."""
    digest = hashlib.sha256()
    with open(full, "rb") as file:
        at = 0
        while at < os.fstat(file.fileno()).st_size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // 4096 * 4096
            except OSError:  # only a hole is left
                break
            block = os.pread(file.fileno(), 4096, at)
            if block.strip(b"\0"):
                digest.update(b"%d %s" % (at, block))
            at += len(block)
    return digest.hexdigest()


def fill(root: Path, *, privileged: bool) -> None:
    """Everything a root file system can hold, in a directory; owners, devices, capabilities where `privileged`."""
    (root / "etc").mkdir()
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "etc" / "passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc" / "empty").touch()
    (root / "usr" / "bin" / "tool").write_bytes(os.urandom(300_001))
    os.link(root / "usr" / "bin" / "tool", root / "usr" / "bin" / "tool-2")
    os.link(root / "usr" / "bin" / "tool", root / "etc" / "another")
    (root / "bin").symlink_to("usr/bin")
    (root / "etc" / "long-target").symlink_to("x" * 300)
    deep = root / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    (deep / ("f" * 120)).write_text("a long path")
    (deep / "g").write_text("a path that ustar can split")
    os.close(os.open(os.path.join(os.fsencode(root), ODD_NAME), os.O_CREAT | os.O_WRONLY, 0o644))
    odd = os.path.join(os.fsencode(deep), ODD_NAME * 10)
    os.close(os.open(odd, os.O_CREAT | os.O_WRONLY, 0o644))
    (root / "etc" / "with spaces = and %25 percent").write_text("x")
    os.mkfifo(root / "etc" / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root / "etc", os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
    _sparse(root / "sparse", ((0, b"begin"), (5 << 20, b"middle"), ((9 << 30) - 3, b"end")))
    _sparse(root / "hole-at-the-end", ((0, b"data"),), size=1 << 20)
    _sparse(root / "only-a-hole", (), size=3 << 20)
    os.setxattr(root / "etc" / "passwd", "user.note", b"binary \0\n=% value")
    os.setxattr(root / "etc" / "passwd", "user.odd=name%25", b"x")
    os.setxattr(root / "etc" / "passwd", "system.posix_acl_access", ACL)
    os.setxattr(root / "usr", "system.posix_acl_default", ACL)
    if privileged:
        _privileged(root)
    (root / "etc" / "secret").write_text("mode 0400")
    (root / "etc" / "secret").chmod(0o400)
    (root / "closed").mkdir()
    (root / "closed" / "inside").write_text("in a directory of mode 0555")
    (root / "closed" / "inside").chmod(0o4711)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o3777)
    _times(root)
    (root / "closed").chmod(0o555)


def _sparse(path: Path, parts: Iterable[tuple[int, bytes]], size: int = 0) -> None:
    with path.open("wb") as file:
        for offset, data in parts:
            file.seek(offset)
            file.write(data)
        if size:
            file.truncate(size)


def _privileged(root: Path) -> None:
    os.mknod(root / "etc" / "null", 0o020666, os.makedev(1, 3))
    os.mknod(root / "etc" / "disk", 0o060640, os.makedev(259, 70_000))
    os.setxattr(root / "etc" / "long-target", "trusted.of-a-link", b"v", follow_symlinks=False)
    (root / "ping").write_text("program")
    os.chown(root / "ping", 12, 4_000_000_000)
    os.setxattr(root / "ping", "security.capability", CAPABILITY)
    os.chown(root / "usr" / "bin" / "tool", 3_000_000, 70_000)
    (root / "usr" / "bin" / "tool").chmod(0o6755)
    os.chown(root / "bin", 7, 8, follow_symlinks=False)
    os.chown(root / "etc" / "fifo", 7, 8)
    (root / "etc" / "hidden").mkdir()
    (root / "etc" / "hidden" / "file").write_text("of mode 0")
    (root / "etc" / "hidden" / "file").chmod(0)
    (root / "etc" / "hidden").chmod(0)


def _times(root: Path) -> None:
    """A time of its own for everything, one of them before 1970."""
    paths = sorted(look(root), reverse=True)
    for number, path in enumerate(paths):
        full = os.path.join(os.fsencode(root), path)
        when = BEFORE_1970 if path == b"etc/empty" else 1_500_000_000 * 10**9 + number * 1_000_000_007
        os.utime(full, ns=(when, when), follow_symlinks=False)


def member(path: bytes, kind: Kind = Kind.FILE, mode: int = 0o644, **rest: object) -> Member:
    return Member(path=path, kind=kind, mode=mode, **rest)  # type: ignore[arg-type]


def archive(*entries: Entry) -> bytes:
    """A tar archive of these members; nothing of what they say is checked."""
    out = io.BytesIO()
    tar_writer.write(iter(entries), out)
    return out.getvalue()


def file(path: bytes, data: bytes = b"", **rest: object) -> Entry:
    return Entry(member(path, size=len(data), **rest), (data,) if data else ())


def link(path: bytes, target: bytes) -> Entry:
    return Entry(member(path, Kind.LINK, 0o777, target=target))


def hard_link(path: bytes, target: bytes) -> Entry:
    return Entry(member(path, Kind.HARD_LINK, target=target))


def directory(path: bytes, mode: int = 0o755, **rest: object) -> Entry:
    return Entry(member(path, Kind.DIRECTORY, mode, **rest))


def members(tree: Iterator[Entry]) -> dict[bytes, tuple[Member, bytes]]:
    """All of a tree, by path, with their data."""
    return {entry.member.path: (entry.member, b"".join(entry.data)) for entry in tree}
