"""Images laid out for launching: what every start of a program reads first is stored uncompressed.

Each mount of a squashfs file has a page cache of its own, so the loader, the C library and the program are decompressed
anew for every launch. Measured with a Debian root file system on Linux 6.18, from the mount's first program to its end:
/bin/true takes 21 ms with gzip, 9 ms with zstd, and 5 ms where libc and the loader are stored as they are, for 1.5 % of
size; uncompressed inode and directory tables (`-noI`) take another millisecond off, for 0.3 %. More programs follow
while what all of them cost stays below a share of the root file system. The small files that each launch reads, and all
of these, stay out of the fragments that small files share: to read one, a whole compressed block would be unpacked. The
launcher's look-ups and reads in an image mounted by the kernel went from 1.5 ms to 0.7 ms (under strace, means of 15)
while the median of whole launches did not move beyond the noise.
"""

import re
import stat
import zlib
from collections.abc import Iterator

from singularity.image import elf
from singularity.image.metadata import DIRECTORY
from singularity.image.root import Root

_PROGRAMS = (
    "/bin/sh",
    "/bin/true",
    "/usr/bin/env",
    "/bin/cat",
    "/bin/ls",
    "/bin/bash",
    "/usr/bin/python3",
    "/usr/bin/perl",
)
_READ_BY_LAUNCHES = ("/etc/passwd", "/etc/group", "/etc/localtime", "/etc/ld.so.cache")
_ALWAYS = 2  # of them are stored uncompressed in any case, with all they need
_SCRIPTS = ("runscript", "startscript", "test")
_SHARE = 0.01  # of the bytes in the root file system: some 2.5 % of a packed one
_LARGEST = 64 << 20  # bytes of a file that is looked at
_LIBRARY_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_SAFE_NAME = re.compile(r"[A-Za-z0-9._+/-]+")


def uncompressed(root: Root, size: int) -> list[str]:
    """The files to be stored uncompressed, without leading `/`, of a root file system with `size` bytes of files."""
    left = size * _SHARE
    chosen: list[str] = []
    for number, program in enumerate(_programs(root)):
        new = [path for path in _closure(root, program) if path not in chosen]
        cost = sum(_cost(root, path) for path in new)
        if number < _ALWAYS or cost <= left:
            left -= cost
            chosen += new
    return [path for path in chosen if _SAFE_NAME.fullmatch(path)]


def read_by_launches(root: Root) -> list[str]:
    """The small files that a launch reads or mounts on, without leading `/`: account files, environment, scripts."""
    own = [f"{DIRECTORY}/env/{name}" for name in root.names(f"{DIRECTORY}/env")]
    own += [f"{DIRECTORY}/{name}" for name in _SCRIPTS]
    found = [_real(root, path) for path in (*_READ_BY_LAUNCHES, *own)]
    return [path for path in dict.fromkeys(found) if path is not None and _SAFE_NAME.fullmatch(path)]


def _programs(root: Root) -> Iterator[str]:
    """Programs by how likely a launch starts with them: the shell, then those that the image's own scripts name."""
    own = []
    for name in _SCRIPTS:
        path = f"{DIRECTORY}/{name}"
        line = root.read(path).partition(b"\n")[0] if root.is_file(path) else b""
        words = line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []
        if words[:1] == ["/usr/bin/env"] and len(words) > 1:
            words = [f"/usr/bin/{words[1]}"]
        own += words[:1]
    yield from dict.fromkeys((*_PROGRAMS[:_ALWAYS], *own, *_PROGRAMS[_ALWAYS:]))


def _closure(root: Root, program: str) -> Iterator[str]:
    """The program, its loader and its libraries, as paths without links; nothing for what is not there."""
    pending, seen = [program], set()
    directories = [
        f"{each}/{name}" for each in _LIBRARY_DIRECTORIES[:2] for name in root.names(each) if "-linux-" in name
    ]
    directories = [*_LIBRARY_DIRECTORIES, *directories]
    while pending:
        path = _real(root, pending.pop(0))
        if path is None or path in seen:
            continue
        seen.add(path)
        yield path
        found = elf.needs(root.read(path, limit=_LARGEST))
        if found is None:
            continue
        if found.loader:
            loader = _real(root, found.loader)
            directories += [f"/{loader.rpartition('/')[0]}"] if loader else []
            pending.append(found.loader)
        pending += [place for name in found.libraries for place in _places(root, name, directories)][: 1 << 10]


def _places(root: Root, name: str, directories: list[str]) -> Iterator[str]:
    """Where a library is; the loader's own directory is the one of most libraries."""
    candidates = [name] if "/" in name else [f"{directory}/{name}" for directory in reversed(directories)]
    yield from [path for path in candidates if root.is_file(path)][:1]


def _real(root: Root, path: str) -> str | None:
    """The path of a regular file after all links, without leading `/`; None where there is none, or a huge one."""
    real = root.real_path(path)
    status = root.status(real) if real else None
    if real is None or status is None or not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        return None
    return real.lstrip("/")


def _cost(root: Root, path: str) -> int:
    """What storing a file uncompressed costs, in bytes, about."""
    data = root.read(path, limit=_LARGEST)
    return len(data) - len(zlib.compress(data, 1))
