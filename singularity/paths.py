"""Where files of this program and its users are."""

import os
import stat
import sys
from pathlib import Path

from singularity import files
from singularity.errors import FileError, SingularityError
from singularity.variables import variable


def temporary(option: str = "") -> Path:
    """Where temporary files go: the option, our variable, TMPDIR, else /tmp, or /var/tmp where /tmp is memory."""
    named = option or variable("TMPDIR") or os.environ.get("TMPDIR", "").strip()
    if named:
        return Path(named).absolute()
    return Path("/var/tmp" if _in_memory("/tmp") else "/tmp")  # noqa: S108 - only private directories are made in it


def _in_memory(path: str) -> bool:
    """Whether a path is on tmpfs, as the mount table says; False where there is none."""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as mounts:
            kinds = [line.split()[2] for line in mounts if line.split()[1] == path]
    except OSError:
        return False
    return bool(kinds) and kinds[-1] == "tmpfs"


def user_directory() -> Path:
    """The user's own files, `~/.singularity` unless CONFIGDIR names another; made, and kept for the user alone.

    Raises FileError when it is somebody else's.
    """
    return private(user_place())


def user_place() -> Path:
    """The same, whether it is there or not."""
    return Path(variable("CONFIGDIR") or Path.home() / ".singularity")


def site_directory() -> Path:
    """Where this installation has its configuration, as `make install` or `pip install` laid it out."""
    try:
        return Path((Path(__file__).parent / "data" / "sysconfdir").read_text(encoding="utf-8").strip())
    except OSError:
        return Path(sys.prefix) / "etc" / "singularity"


def beside(name: str) -> Path:
    """What is installed beside the starter, the image server for one: where `make install` or `pip install` put it."""
    environment = Path(sys.prefix)
    installed = environment.parent / name
    return installed if installed.exists() else environment / "libexec" / "singularity" / name


def front_door() -> Path:
    """The program `singularity` of this installation. Raises SingularityError where there is none.

    `make install` puts it above our private environment, `pip install` into the `bin` of an environment, of the
    user's own directory, or of whatever `--target` named.
    """
    modules = Path(__file__).parent.parent
    environment = modules.parent.parent.parent if modules.name in ("site-packages", "dist-packages") else modules
    places = [environment.parent.parent.parent, environment, modules, Path(sys.executable or "/").parent.parent]
    for path in (place / "bin" / "singularity" for place in places):
        if os.access(path, os.X_OK):
            return path
    raise SingularityError(
        f"{environment / 'bin/singularity'} is missing", hint="the installation is incomplete: install again"
    )


def cache_directory() -> Path:
    """Where downloads are kept, `cache` below CACHEDIR or the user's directory; made, and kept for the user alone."""
    parent = variable("CACHEDIR")
    return private(Path(parent) / "cache" if parent else user_directory() / "cache")


def cache_place() -> Path:
    """The same, whether it is there or not."""
    above = variable("CACHEDIR") or variable("CONFIGDIR")
    return Path(above or Path.home() / ".singularity") / "cache"


def private(path: Path) -> Path:
    """The directory, made where it is missing, of mode 0700 and the caller's. Raises FileError when it is another's."""
    with FileError.about(path):
        files.make_directories(path, 0o700)
        status = path.stat()
        if status.st_uid != os.geteuid():
            raise FileError(f"{path}: belongs to user {status.st_uid}, not to you", hint="name another with CACHEDIR")
        if stat.S_IMODE(status.st_mode) & 0o077:
            path.chmod(0o700)
    return path
