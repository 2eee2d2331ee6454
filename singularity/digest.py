"""Digests of directories with all that is in them: of their contents, or, faster, of what the file system says."""

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from singularity.errors import FileError

_OWN = (b"trusted.overlay.", b"user.overlay.")  # attributes of the overlay file system
_MEANT = (b"opaque", b"redirect", b"whiteout")  # of these, those that change what is seen
_LARGE = 1 << 20  # bytes
_SETTLED = 1_000_000_000  # nanoseconds after which a change of a file has another time than the one before
_known: dict[tuple[int, ...], str] = {}  # digests, by what the file system says of a file


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a walk through a directory found."""

    digest: str
    size: int  # bytes of regular files, each counted once
    files: int
    owners: frozenset[tuple[int, int]]  # user and group ids


def of_words(*words: object) -> str:
    """The digest of a list of words, numbers, and lists of them."""
    return hashlib.sha256(json.dumps(words, ensure_ascii=True).encode()).hexdigest()


def of_file(path: Path) -> str:
    """The digest of a file's content; a large one that has not changed since is not read again. Raises FileError."""
    with FileError.about(path), path.open("rb") as file:
        status = os.fstat(file.fileno())
        same = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        digest = _known.get(same) or hashlib.file_digest(file, "sha256").hexdigest()
        if status.st_size >= _LARGE and time.time_ns() - status.st_ctime_ns > _SETTLED:
            _known[same] = digest
        return digest


def by_status(top: Path, *, changes: bool) -> Summary:
    """Of names, kinds, sizes and times of modification; with `changes` also of the times of change.

    With the latter, any change that a file has seen since makes another digest, a change of owner too; without it, the
    digest of what was renamed or copied stays the same, and owners are part of it. Raises FileError.
    """
    digest = hashlib.sha256()
    seen: set[tuple[int, int]] = set()
    size = files = 0
    owners = set()
    for path, status in _walk(top):
        here = (status.st_dev, status.st_ino)
        regular = stat.S_ISREG(status.st_mode)
        if regular and (status.st_nlink == 1 or here not in seen):
            size += status.st_size
            if status.st_nlink > 1:
                seen.add(here)
        files += 1
        owners.add((status.st_uid, status.st_gid))
        last = (status.st_ctime_ns,) if changes else (status.st_uid, status.st_gid)
        fields = (status.st_mode, status.st_size if regular else 0, status.st_rdev, status.st_mtime_ns, *last)
        digest.update(b"%b\0%b\n" % (path, repr(fields).encode()))
    return Summary(digest=digest.hexdigest(), size=size, files=files, owners=frozenset(owners))


def by_content(top: Path) -> str:
    """Of names, modes, owners, attributes and contents, without any time. Raises FileError."""
    digest = hashlib.sha256()
    prefix = os.fsencode(top)
    for path, status in _walk(top):
        full = os.path.join(prefix, path) if path else prefix
        with FileError.about(os.fsdecode(full)):
            fields = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev, *_attributes(full))
            digest.update(b"%b\0%b\n" % (path, repr(fields).encode()))
            if stat.S_ISREG(status.st_mode):
                with open(full, "rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
            elif stat.S_ISLNK(status.st_mode):
                digest.update(os.readlink(full) + b"\n")
    return digest.hexdigest()


def _attributes(path: bytes) -> Iterator[tuple[str, bytes]]:
    with suppress(OSError):  # a file system without attributes
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            raw = os.fsencode(name)
            if not raw.startswith(_OWN) or raw.endswith(_MEANT):
                yield name, os.getxattr(path, name, follow_symlinks=False)


def _walk(top: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """The path below `top` and the status of everything, in the order of the names; `top` itself is the empty path."""
    try:
        yield b"", os.lstat(top)
        pending = [b""]
        while pending:
            directory = pending.pop()
            with os.scandir(os.path.join(os.fsencode(top), directory)) as found:
                entries = sorted(found, key=lambda entry: entry.name)
            for entry in entries:
                path = os.path.join(directory, entry.name)
                status = entry.stat(follow_symlinks=False)
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(path)
    except OSError as error:
        raise FileError.because(os.fsdecode(error.filename or top), error) from error
