"""A run whose files of the host stay what they are: what it writes in their directories goes elsewhere.

Each directory gets an overlay of its own, in a mount namespace of this process. Mounts below it are where they were.
"""

import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from singularity import kernel
from singularity.errors import FileError, SingularityError
from singularity.namespaces import own

_HINT = "Linux 5.11 and a local file system are needed; without --outputs and --check the run writes where it did"


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


def is_below(path: str, directory: str) -> bool:
    """Whether a path is a directory's, or the directory itself."""
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def place(candidates: Sequence[Path], taken: Sequence[str]) -> Path:
    """The first directory that is below none of those. Raises FileError where there is none."""
    for each in candidates:
        real = os.path.realpath(each)
        if os.access(real, os.W_OK) and not any(is_below(real, directory) for directory in taken):
            return Path(real)
    raise FileError(
        f"no place for what the run writes: {', '.join(taken)} have all of it", hint="--outputs names one elsewhere"
    )


def cover(names: Sequence[str], work: Path) -> None:
    """From here on this process, and all that it starts, writes below `work` what it writes in these directories.

    Raises SingularityError. The process must have one thread; its current directory is to be entered again.
    """
    try:
        own.enter()
    except OSError as error:
        raise SingularityError(f"--outputs: no mount namespace: {error.strerror}", hint=_HINT) from error
    for number, name in enumerate(names):
        try:
            _cover(name, work / str(number))
        except OSError as error:
            raise SingularityError(f"--outputs: no overlay over {name}: {error.strerror}", hint=_HINT) from error


def _cover(name: str, work: Path) -> None:
    below = [(path, os.open(path, os.O_PATH | os.O_CLOEXEC)) for path in kernel.mounts_below(name)]
    parts = [("lowerdir", Path(name)), ("upperdir", work / "upper"), ("workdir", work / "work")]
    for _, path in parts[1:]:
        path.mkdir(parents=True)
    os.chmod(parts[1][1], os.stat(name).st_mode & 0o7777)
    opened = [(option, os.open(path, os.O_PATH | os.O_CLOEXEC)) for option, path in parts]
    options = ",".join(f"{option}=/proc/self/fd/{fd}" for option, fd in opened)
    user = "" if kernel.is_initial_user_namespace() else ",userxattr"
    try:
        kernel.mount("overlay", name, "overlay", kernel.MS_NOSUID | kernel.MS_NODEV, options + user)
        for point, fd in below:
            kernel.mount(f"/proc/self/fd/{fd}", point, None, kernel.MS_BIND | kernel.MS_REC)
    except OSError as error:
        if error.errno == errno.EINVAL and not below:
            error.strerror = "this kernel or file system has none"
        raise
    finally:
        for _, fd in (*opened, *below):
            os.close(fd)
