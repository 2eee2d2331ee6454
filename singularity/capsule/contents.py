"""What is in the files that a run read and wrote: digests, and what can be said where there are none.

A file that was read has the digest of what it was then: taken before it changed by the program's own doing, or now,
where it is what it was. Large files are read in pieces, several at a time.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from io import FileIO
from itertools import islice
from typing import NamedTuple, TypeVar

from singularity import files, kernel
from singularity.capsule.model import Content, Kind, Part
from singularity.capsule.seen import Read, Seen, Status, Written

SHA256 = "sha256:"
_BROUGHT_IN = ("/etc/", "/.singularity.d/", "/usr/share/zoneinfo/")  # by the launcher, whatever the user asks for
_HERE = -100  # AT_FDCWD
_AT_ONCE, _TOGETHER = 256, 32  # how many times so many files wait for their turn
_SMALL = 1 << 18  # bytes that are read at once
_TOO_LARGE = "larger than the limit of digests"
_CHANGED = "changed while the program ran"
_Entry = TypeVar("_Entry", Read, Written)


class Now(NamedTuple):
    """What a name stands for now."""

    kind: Kind
    size: int
    digest: str
    note: str = ""


class Limits(NamedTuple):
    """What is not looked at."""

    size: int = 1 << 62  # of files, in bytes, that are read
    names: Collection[str] = ()  # which names of directories do not count: those that the run made itself
    links: bool = False  # directories above may be links; never of a path of a run that has just been


@contextmanager
def opened(path: str, *, links: bool = False) -> Iterator[int]:
    """What has this name, to be looked at (O_PATH). Raises OSError.

    Without `links` ELOOP, where a directory above is a link: the recorder's paths have none, and a program that puts
    one there afterwards would have us read what is not its own.
    """
    resolve = 0 if links else kernel.RESOLVE_NO_SYMLINKS
    with files.closing(kernel.openat2(_HERE, path, os.O_PATH | os.O_NOFOLLOW, 0, resolve)) as fd:
        yield fd


def content(fd: int) -> FileIO:
    """The bytes of a regular file that is opened to be looked at."""
    return open(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY), "rb", buffering=0)


def now(path: str, limits: Limits, expected: Status | None = None) -> Now | None:
    """What is at a path; with `expected`, the digest only where that is still there. None: nothing that we may see."""
    try:
        with opened(path, links=limits.links) as fd:
            return _now(path, fd, limits, expected)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    except OSError as error:
        return None if error.errno == errno.ELOOP else Now(Kind.FILE, 0, "", f"cannot be read: {error.strerror}")


def _now(path: str, fd: int, limits: Limits, expected: Status | None) -> Now:
    found = Status.of(os.fstat(fd))
    if stat.S_ISLNK(found.mode):
        said = os.readlink(b"", dir_fd=fd)
        return Now(Kind.LINK, len(said), SHA256 + hashlib.sha256(said).hexdigest())
    if stat.S_ISDIR(found.mode):
        return _listing(path, fd, limits.names)
    if not stat.S_ISREG(found.mode) or _is_of_kernel(fd):
        return Now(Kind.OTHER, 0, "", "a pipe, a socket or a device")
    if expected is not None and not found.is_same_content(expected):
        return Now(Kind.FILE, expected.size, "", _CHANGED)
    if found.size > limits.size:
        return Now(Kind.FILE, found.size, "", _TOO_LARGE)
    with content(fd) as file:
        small = file.read(found.size + 1) if found.size < _SMALL else None
        hashed = hashlib.file_digest(file, "sha256") if small is None else hashlib.sha256(small)
        same = Status.of(os.fstat(fd)).is_same_content(found)
    return Now(Kind.FILE, found.size, SHA256 + hashed.hexdigest() if same else "", "" if same else _CHANGED)


def _is_of_kernel(fd: int) -> bool:
    """What is made up when it is read has no end, or waits for ever: a record of anybody's may name such a file."""
    return os.readlink(f"/proc/self/fd/{fd}").startswith(("/proc/", "/sys/"))


def _listing(path: str, fd: int, own: Collection[str]) -> Now:
    """The names in a directory, but for those that the run made."""
    digest, count = hashlib.sha256(), 0
    for name in sorted(os.listdir(b"/proc/self/fd/%d" % fd)):
        if f"{path}/{os.fsdecode(name)}" not in own:
            digest.update(name + b"\0")
            count += 1
    return Now(Kind.DIRECTORY, count, SHA256 + digest.hexdigest())


def inputs(seen: Seen, limits: Limits) -> Iterator[Content]:
    """What the run read of the host, in the order of its first looks."""
    limits = limits._replace(names={*limits.names, *seen.writes})
    yield from _each(partial(_input, limits), seen.reads.items())


def _input(limits: Limits, entry: tuple[str, Read]) -> Content | None:
    path, read = entry
    part = Part.HOST if read.inside.startswith(_BROUGHT_IN) else Part.USER if read.inside else Part.STREAM
    is_file = stat.S_ISREG(read.status.mode)
    if read.digest is not None:
        note = "" if read.digest else _TOO_LARGE
        found: Now | None = Now(Kind.FILE, read.status.size, SHA256 + read.digest if read.digest else "", note)
    else:
        found = now(read.now, limits, read.status if is_file else None)
    if found is None:
        if not _is_there(read.now):
            found = Now(Kind.FILE if is_file else Kind.OTHER, read.status.size, "", "gone before the program had ended")
        else:
            return None  # nobody of this user's may read it: the program could not either
    return Content(path=path, inside=read.inside, part=part, **found._asdict())


def _is_there(path: str) -> bool:
    try:
        with opened(path):
            return True
    except OSError:
        return False


def outputs(seen: Seen, limits: Limits) -> Iterator[Content]:
    """What the run has left on the host: what it made, or changed."""
    yield from _each(partial(_output, limits), seen.writes.items())


def _output(limits: Limits, entry: tuple[str, Written]) -> Content | None:
    path, written = entry
    try:
        with opened(path) as fd:
            status = Status.of(os.fstat(fd))
    except OSError:
        return None
    if written.before == status or stat.S_ISDIR(status.mode):
        return None
    found = now(path, limits) or Now(Kind.FILE, status.size, "", "cannot be read")
    part = Part.USER if written.inside else Part.STREAM
    return Content(path=path, inside=written.inside, part=part, **found._asdict())


def removed(seen: Seen) -> Iterator[str]:
    """Files that were there before and are gone, whoever made them."""
    yield from (path for path in sorted(seen.removed) if not os.path.lexists(path) and path not in seen.writes)


def _each(
    look: Callable[[tuple[str, _Entry]], Content | None], entries: Iterable[tuple[str, _Entry]]
) -> Iterator[Content]:
    """Each by a thread, some at a time: the digest of a large file takes a processor for itself."""

    def several(some: Sequence[tuple[str, _Entry]]) -> list[Content]:
        return [found for found in map(look, some) if found is not None]

    left = iter(entries)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        while some := list(islice(left, _AT_ONCE * _TOGETHER)):
            parts = [some[at : at + _TOGETHER] for at in range(0, len(some), _TOGETHER)]
            for found in pool.map(several, parts):
                yield from found
