"""Root emulation for what a build runs in a user namespace: `root-emulator`, a program of the launcher's.

`launcher/emulate/` has how; `image/marks.py` what it leaves. The program is executed in the image's root file system
from a sealed copy in memory: programs in there are the same user, and must not get at the file of the installation.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from singularity import files, kernel, paths

_NAME = "root-emulator"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def is_wanted() -> bool:
    """Whether root is one of a user namespace, and the program there, which no checkout has that was not installed."""
    return not kernel.is_initial_user_namespace() and os.access(paths.beside(_NAME), os.X_OK)


def words() -> Sequence[str | Path]:
    """What stands before the words of a program of the host that unpacks or packs files; none for the host's root."""
    return [paths.beside(_NAME), _ids()] if is_wanted() else []


def _ids() -> str:
    return "one" if kernel.maps_one_id() else "more"


@contextmanager
def opened() -> Iterator[int | None]:
    """A descriptor for `execute`; None where no emulation is wanted."""
    if not is_wanted():
        yield None
        return
    with files.closing(os.memfd_create(_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)) as fd:
        with open(fd, "wb", closefd=False) as copy:
            copy.write(paths.beside(_NAME).read_bytes())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        yield fd


def execute(emulator: int | None, argv: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Becomes a program that is found by PATH, emulated unless `emulator` is None. Raises OSError."""
    if emulator is None:
        os.execvpe(argv[0], list(argv), dict(environment))  # noqa: S606 - a list of words, without a shell
    os.execve(emulator, [_NAME, _ids(), *argv], dict(environment))  # noqa: S606
