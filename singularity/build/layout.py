"""Images laid out for launching: what a start reads first is stored uncompressed, and near each other.

Each mount of a squashfs file has a page cache of its own, so the loader, the C library and the program are decompressed
anew for every launch. Measured with a Debian root file system on Linux 6.18, from the mount's first program to its end:
/bin/true takes 21 ms with gzip, 9 ms with zstd, and 5 ms where libc and the loader are stored as they are, for 1.5 % of
size; uncompressed inode and directory tables (`-noI`) take another millisecond off, for 0.3 %. More programs follow
while what all of them cost stays below a share of the root file system. The small files that each launch reads, and all
of these, stay out of the fragments that small files share: to read one, a whole compressed block would be unpacked. The
launcher's look-ups and reads in an image mounted by the kernel went from 1.5 ms to 0.7 ms (under strace, means of 15)
while the median of whole launches did not move beyond the noise.

Where a start was watched (`startup_trace`), the files that it opened come right after the shell, in the order of their
first time: an interpreter's own modules, which no header of a program names.
"""

import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from singularity.image import elf
from singularity.image.metadata import DIRECTORY
from singularity.image.root import Root
from singularity.image.squashfs import packer

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
_LIBRARY_NAMES = ("libm.so.6", "libtinfo.so.6*", "libselinux.so.1*", "libpcre2-8.so.*", "libpython3.*.so*", "libz.so.*")
_SCRIPTS = ("runscript", "startscript", "test")
# Of the bytes in the root file system, which are packed to a third or so: what all that is uncompressed may cost.
# Small files cost more than their samples say: packed, they would share their blocks, and compress together.
_SHARE = 0.015  # programs and libraries: some 4 % of a packed root file system
_MEASURED_SHARE = 0.012  # with the files that a start was seen to open: some 4 % too
_MEASURED_FILES = 4096
_SAMPLE, _SAMPLES = 8 << 10, 8  # bytes, and how many of them tell how well a file compresses
_LARGEST = 64 << 20  # bytes of a file that is looked at
_LIBRARY_DIRECTORIES = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
# The same for layers that become part of images while nobody knows their other layers: by names (fnmatch(3), of files
# and of what is below directories), on top of which come programs while the layer grows by less than this share.
_LIBRARIES = tuple(f"{above}{place}" for above in ("", "usr/") for place in ("lib", "lib64", "lib/*-linux-*"))
LAYERS = packer.Choice(
    hot=(
        *(f"{place}/{name}" for place in _LIBRARIES for name in ("ld-*.so*", "libc.so.6", "libc-2.*.so")),
        *(f"{place}/{name}" for place in ("bin", "usr/bin") for name in ("dash", "busybox", "sh", "true")),
    ),
    warm=(
        *(f"{place}/{name}" for place in ("bin", "usr/bin") for name in ("bash", "env", "cat", "ls", "python3.*")),
        *(f"{place}/{name}" for place in ("usr/local/bin", "opt/*/bin") for name in ("python3.*",)),
        *(f"{place}/{name}" for place in (*_LIBRARIES, "usr/local/lib") for name in _LIBRARY_NAMES),
    ),
    alone=tuple(name.lstrip("/") for name in _READ_BY_LAUNCHES),
)
LAYER_SHARE = 0.03  # of the bytes that are stored of it
_SAFE_NAME = re.compile(r"[A-Za-z0-9._+/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How mksquashfs is to place files: paths without leading `/`, and none of them a link."""

    uncompressed: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()  # in no block that small files share; those uncompressed among them

    @property
    def sorted(self) -> tuple[str, ...]:
        """The files that come first, in this order."""
        return tuple(dict.fromkeys((*self.alone, *self.uncompressed)))


def choose(root: Root, size: int, read_first: Sequence[str] = ()) -> Layout:
    """The layout of a finished root file system with `size` bytes of files.

    `read_first` is what a start was seen to open, in order.
    """
    kept = tuple(_affordable(list(_groups(root, read_first)), size))
    return Layout(uncompressed=kept, alone=tuple(dict.fromkeys((*kept, *read_by_launches(root)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Files that are of use together, and what storing them uncompressed costs, in bytes, about."""

    paths: tuple[str, ...]
    cost: int
    share: float  # of the bytes in the root file system that all groups so far may cost


def _groups(root: Root, read_first: Sequence[str]) -> Iterator[_Group]:
    seen: set[str] = set()

    def group(paths: Iterable[str], share: float) -> _Group:
        new = tuple(path for path in paths if path not in seen and _SAFE_NAME.fullmatch(path))
        seen.update(new)
        return _Group(paths=new, cost=sum(_cost(root, path) for path in new), share=share)

    programs = list(_programs(root))
    for program in programs[:_ALWAYS]:
        yield group(_closure(root, program), math.inf)
    for path in read_first[:_MEASURED_FILES]:
        real = _real(root, path)
        yield group([real] if real else [], _MEASURED_SHARE)
    for program in programs[_ALWAYS:]:
        yield group(_closure(root, program), _MEASURED_SHARE if read_first else _SHARE)


def _affordable(groups: Sequence[_Group], size: int) -> Iterator[str]:
    spent = 0
    for group in groups:
        if group.share == math.inf or spent + group.cost <= size * group.share:
            spent += group.cost
            yield from group.paths


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
        fd = root.open(path, os.O_RDONLY)
        try:
            found = elf.needs(partial(os.pread, fd))
        finally:
            os.close(fd)
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
    """What storing a file uncompressed costs, in bytes, about: by samples, since this must stay cheap."""
    fd = root.open(path, os.O_RDONLY)
    try:
        size = os.fstat(fd).st_size
        step = max(size // _SAMPLES, _SAMPLE)
        data = b"".join(os.pread(fd, _SAMPLE, place) for place in range(0, size, step))
    finally:
        os.close(fd)
    return int(size * (1 - len(zlib.compress(data, 1)) / len(data))) if data else 0
