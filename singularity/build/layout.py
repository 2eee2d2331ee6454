"""Images laid out for launching: what a start reads first lies together, and the large of it is stored uncompressed.

Each mount of a squashfs file has a page cache of its own, so the loader, the C library and the program are decompressed
anew for every launch. Measured with a Debian root file system on Linux 6.18, from the mount's first program to its end:
/bin/true takes 21 ms with gzip, 9 ms with zstd, and 5 ms where libc and the loader are stored as they are, for 1.5 % of
size. More programs follow while what all of them cost stays below a share of the root file system. The small files that
each launch reads stay out of the fragments that small files share: to read one, a whole block would be unpacked.

Where a start was watched (`startup_trace`), the files that it opened come right after, in the order of their first
time. Small ones share fragments among themselves: an import of numpy, scipy and pandas opens a thousand small files,
which would else be in 250 blocks, and now are in 120, read one after the other. Large ones, shared libraries mostly,
are stored uncompressed as far as the share goes: all of them make the same import a tenth faster than half of them.

Tables of inodes and directories are compressed as mksquashfs does it: the kernel keeps the compressed bytes that it
has read of a block (see perform/images.c) where they fit into two pages, and reads the middle of a larger one again.
"""

import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from singularity import files
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
_MEASURED_SHARE = 0.045  # with the large files that a start was seen to open: some 14 %
_MEASURED_FILES = 8192
_SMALL = 128 << 10  # bytes of a file that is packed into a block with others
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
FIRST = (*LAYERS.hot, *LAYERS.warm, *LAYERS.alone)  # in the image, before all else
LAYER_SHARE = 0.03  # of the bytes that are stored of it
_SAFE_NAME = re.compile(r"[A-Za-z0-9._+/-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How mksquashfs is to place files: paths without leading `/`, and none of them a link."""

    uncompressed: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()  # in no block that small files share; those uncompressed among them
    together: tuple[str, ...] = ()  # small files that share blocks among themselves, in this order
    sorted: tuple[str, ...] = ()  # the files that come first, in this order


def choose(root: Root, size: int, read_first: Sequence[str] = ()) -> Layout:
    """The layout of a finished root file system with `size` bytes of files.

    `read_first` is what a start was seen to open, in order.
    """
    opened = _found(root, read_first[:_MEASURED_FILES])
    small = {path for path in opened if _size(root, path) < _SMALL}
    programs = [_found(root, _closure(root, program)) for program in _programs(root)]
    always = [path for closure in programs[:_ALWAYS] for path in closure]
    groups = [_Group(always, math.inf)]
    groups += [_Group([path], _MEASURED_SHARE) for path in opened if path not in small]
    groups += [_Group(closure, _MEASURED_SHARE if opened else _SHARE) for closure in programs[_ALWAYS:]]
    kept = _affordable(root, groups, size)
    launches = read_by_launches(root)
    alone = dict.fromkeys((*kept, *launches))
    return Layout(
        uncompressed=tuple(kept),
        alone=tuple(alone),
        together=tuple(path for path in opened if path in small and path not in alone),
        sorted=tuple(dict.fromkeys((*always, *launches, *opened, *kept))),
    )


@dataclass(frozen=True, slots=True)
class _Group:
    """Files that are of use together."""

    paths: Sequence[str]
    share: float  # of the bytes in the root file system that what is stored uncompressed so far may cost


def _affordable(root: Root, groups: Iterable[_Group], size: int) -> list[str]:
    kept: dict[str, None] = {}
    spent = 0
    for group in groups:
        new = [path for path in group.paths if path not in kept]
        cost = sum(_cost(root, path) for path in new)
        if group.share == math.inf or spent + cost <= size * group.share:
            spent += cost
            kept.update(dict.fromkeys(new))
    return list(kept)


def _found(root: Root, paths: Iterable[str]) -> list[str]:
    """The regular files among these that mksquashfs can be told about, after all links, once each."""
    found = dict.fromkeys(_real(root, path) for path in paths)
    return [path for path in found if path and _SAFE_NAME.fullmatch(path)]


def _size(root: Root, path: str) -> int:
    status = root.status(path)
    return status.st_size if status else 0


def read_by_launches(root: Root) -> list[str]:
    """The small files that a launch reads or mounts on, without leading `/`: account files, environment, scripts."""
    own = [f"{DIRECTORY}/env/{name}" for name in root.names(f"{DIRECTORY}/env")]
    own += [f"{DIRECTORY}/{name}" for name in _SCRIPTS]
    return _found(root, (*_READ_BY_LAUNCHES, *own))


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
        with files.closing(root.open(path, os.O_RDONLY)) as fd:
            found = elf.needs(partial(os.pread, fd))
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
    with files.closing(root.open(path, os.O_RDONLY)) as fd:
        size = os.fstat(fd).st_size
        step = max(size // _SAMPLES, _SAMPLE)
        data = b"".join(os.pread(fd, _SAMPLE, place) for place in range(0, size, step))
    return int(size * (1 - len(zlib.compress(data, 1)) / len(data))) if data else 0
