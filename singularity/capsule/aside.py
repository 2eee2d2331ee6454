"""A run whose files of the host stay what they are: what it writes in some directories goes elsewhere, and all else is
read-only.

Each of the directories gets an overlay of its own, in a mount namespace of this process. Mounts below it are where
they were.
"""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from singularity import files, kernel
from singularity.capsule.seen import is_below
from singularity.errors import FileError, SingularityError
from singularity.namespaces import own

_HINT = "Linux 5.12 and a local file system are needed; without --outputs and --check the run writes where it did"
_KERNELS = frozenset({"proc", "cgroup", "cgroup2", "devpts", "mqueue"})  # file systems without files


def directories(paths: Iterable[str]) -> list[str]:
    """Those that are there, in which these files are or would be; below another only where a mount is of its own."""
    found: list[str] = []
    for each in sorted({_existing(os.path.dirname(path)) for path in paths}):
        above = next((known for known in found if is_below(each, known)), None)
        if above is None or os.stat(above).st_dev != os.stat(each).st_dev:
            found.append(each)
    return found


def _existing(path: str) -> str:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return os.path.realpath(path)


@contextmanager
def places(candidates: Sequence[Path], names: Sequence[str]) -> Iterator[list[tuple[str, Path]]]:
    """For each directory the name of one for what is written in it: new, below a candidate that is not below it.

    Removed at the end, also where the candidates are covered by then. Raises FileError where there is no place.
    """
    made: dict[Path, str] = {}
    with ExitStack() as stack:
        found = []
        for number, name in enumerate(names):
            parent = _place(candidates, name)
            if parent not in made:
                held = os.open(parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, held)
                made[parent] = stack.enter_context(files.temporary_directory(Path(f"/proc/self/fd/{held}"))).name
            found.append((name, parent / made[parent] / str(number)))
        yield found


def _place(candidates: Sequence[Path], name: str) -> Path:
    for each in candidates:
        real = os.path.realpath(each)
        if os.access(real, os.W_OK) and not is_below(real, name):
            return Path(real)
    raise FileError(f"no place for what the run writes in {name}", hint="--outputs names one elsewhere")


class _Cover(NamedTuple):
    """What an overlay is made of, all opened before the first of them is there."""

    name: str
    parts: Mapping[str, int]


def cover(found: Sequence[tuple[str, Path]], shared: Sequence[str] = ()) -> None:
    """From here on what this process, and all that it starts, writes in these directories goes to those beside them.

    Besides, nothing but the directories of `shared` can be written. Raises SingularityError. The process must have one
    thread; its current directory is to be entered again.
    """
    try:
        own.enter()
    except OSError as error:
        raise SingularityError(f"--outputs: no mount namespace: {error.strerror}", hint=_HINT) from error
    with ExitStack() as stack:
        for each in [_opened(name, work, stack) for name, work in found]:
            try:
                _cover(each)
            except OSError as error:
                why = f"--outputs: no overlay over {each.name}: {error.strerror}"
                raise SingularityError(why, hint=_HINT) from error
    try:
        _read_only_but([*(name for name, _ in found), *shared])
    except OSError as error:
        raise SingularityError(f"--outputs: {error.filename} is not read-only: {error.strerror}", hint=_HINT) from error


def _opened(name: str, work: Path, stack: ExitStack) -> _Cover:
    parts = [("lowerdir", Path(name)), ("upperdir", work / "upper"), ("workdir", work / "work")]
    opened = {}
    try:
        for option, path in parts:
            if option != "lowerdir":
                path.mkdir(parents=True)
            opened[option] = os.open(path, os.O_PATH | os.O_CLOEXEC)
            stack.callback(os.close, opened[option])
        status = os.stat(name)
        os.chmod(parts[1][1], status.st_mode & 0o7777)
    except OSError as error:
        raise FileError.because(work, error) from error
    return _Cover(name, opened)


def _cover(wanted: _Cover) -> None:
    below = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in kernel.mounts_below(wanted.name)]
    options = ",".join(f"{option}=/proc/self/fd/{fd}" for option, fd in wanted.parts.items())
    user = "" if kernel.is_initial_user_namespace() else ",userxattr"
    try:
        kernel.mount("overlay", wanted.name, "overlay", kernel.MS_NOSUID | kernel.MS_NODEV, options + user)
        for point, fd in below:
            kernel.mount(f"/proc/self/fd/{fd}", point, None, kernel.MS_BIND | kernel.MS_REC)
    except OSError as error:
        if error.errno == errno.EINVAL and not below:
            error.strerror = "this kernel or file system has none"
        raise
    finally:
        for _, fd in below:
            os.close(fd)


def _read_only_but(names: Sequence[str]) -> None:
    """All mounts; these are mounts of their own then, where they can be written. Raises OSError."""
    kept = [name for name in names if os.access(name, os.W_OK)]
    kept += [path for path, kind in kernel.mount_points().items() if kind in _KERNELS and _can_be_written(path)]
    for name in kept:
        if not os.path.ismount(name):
            kernel.mount(name, name, None, kernel.MS_BIND | kernel.MS_REC)
    kernel.set_read_only("/", value=True, below=True)
    for name in kept:
        kernel.set_read_only(name, value=False)


def _can_be_written(path: str) -> bool:
    try:
        return not os.statvfs(path).f_flag & os.ST_RDONLY
    except OSError:  # it is not for this user
        return False
