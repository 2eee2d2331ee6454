"""Streams compared with what the kernel shows of the same file system, and images to compare."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

from images import tool
from trees import Seen

from singularity.image.ext import reader as ext_reader
from singularity.image.tree import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from singularity.image.tree import Entry, Member

MEBIBYTE = 1 << 20


def seen(tree: Iterator[Entry]) -> dict[bytes, Seen]:
    """What a stream holds, in the terms of `trees.look`."""
    found: dict[bytes, tuple[Member, str]] = {}
    names: dict[bytes, list[bytes]] = {}
    for entry in tree:
        member = entry.member
        assert member.path not in found
        if member.kind is Kind.HARD_LINK:
            names.setdefault(member.target, [member.target]).append(member.path)
            found[member.path] = found[member.target]
        else:
            found[member.path] = member, _digest(entry) if member.kind is Kind.FILE else ""
    several = {name: tuple(sorted(group)) for group in names.values() for name in group}
    return {
        path: Seen(
            kind=member.kind.name,
            mode=member.mode,
            uid=member.uid,
            gid=member.gid,
            mtime=member.mtime,
            size=member.size,
            digest=digest,
            target=member.target,
            device=member.device,
            xattrs={os.fsdecode(name): member.xattrs[name] for name in sorted(member.xattrs)},
            names=several.get(path, ()),
        )
        for path, (member, digest) in found.items()
    }


def _digest(entry: Entry) -> str:
    """Of the blocks that are not zeros, with their places; as `trees` makes it."""
    member, digest = entry.member, hashlib.sha256()
    blocks: dict[int, bytearray] = {}
    parts = [(0, member.size)] if member.segments is None else [(each.offset, each.size) for each in member.segments]
    data = bytearray(b"".join(entry.data))
    assert len(data) == sum(size for _, size in parts)
    for offset, size in parts:
        done = 0
        while done < size:
            at = (offset + done) // 4096 * 4096
            block = blocks.setdefault(at, bytearray(min(4096, member.size - at)))
            start = offset + done - at
            count = min(len(block) - start, size - done)
            block[start : start + count] = data[:count]
            del data[:count]
            done += count
    for at, block in sorted(blocks.items()):
        if block.strip(b"\0"):
            digest.update(b"%d %s" % (at, block))
    return digest.hexdigest()


def ext(image: Path, offset: int = 0) -> dict[bytes, Seen]:
    """What our reader finds in an ext file system."""
    with image.open("rb") as file:
        return seen(ext_reader.read(file, offset, image.stat().st_size - offset))


@contextmanager
def mounted(image: Path, kind: str, *options: str) -> Iterator[Path]:
    """The image mounted by the kernel."""
    target = image.with_name(f"mount-of-{image.name}")
    target.mkdir(exist_ok=True)
    tool("mount", "-t", kind, "-o", ",".join(("loop", *options)), image, target)
    try:
        yield target
        tool("sync", "-f", target)  # a copy of the mount in somebody's new namespace may outlive this one
    finally:
        tool("umount", target)


def is_clean(image: Path, offset: int = 0) -> bool:
    """Whether e2fsck has nothing to say against it."""
    argv = ["e2fsck", "-fn", f"{image}?offset={offset}"]
    environment = {"PATH": "/usr/sbin:/sbin:/usr/bin:/bin", "LC_ALL": "C"}
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout
    return True
