"""Layers that builds have made, kept so that the next build goes on where the inputs begin to differ.

Below `build` in the cache directory, each layer is a directory named by its key: `layer` holds the files, as the upper
directory of an overlay, and `about.json` says what they are. The key is a digest of all that the layer comes from, and
of the keys below it. A layer also names the one it was made on: where that one was made anew from the same inputs, from
a mirror for instance, what lies on it is of no use any more.

A layer in use has a shared lock on its directory; it is removed under an exclusive one, by a rename first. What is not
as it was when it was kept (a crash of the machine, a disk that lost something) is removed and never used.
"""

import errno
import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from singularity import digest, files, kernel, locks, paths
from singularity.console import VERBOSE
from singularity.errors import FileError

logger = logging.getLogger(__name__)

FORMAT = 1
UNUSED = 30 * 86400.0  # seconds after which a layer that no build has used is removed
_ABOUT, _LAYER, _REPLACED = "about.json", "layer", "replaced-"
_KEY = re.compile(r"[0-9a-f]{64}")
_ABOUT_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A directory that is part of a root file system; without an id, nothing that is made on it can be kept."""

    path: Path
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What `about.json` says."""

    id: str  # of this layer, no other has the same
    parent: str  # the id of the layer that it was made on, or the key of what is no layer
    what: str  # the step, for people
    definition: str  # the definition's name, for people
    created: int  # in seconds since 1970
    size: int  # bytes of the files
    files: int
    summary: str  # of `layer` when it was kept
    format: int = FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """A layer in the cache, for a listing."""

    key: str
    path: Path
    about: About | None  # None for one that cannot be used
    used: float  # in seconds since 1970


def directory() -> Path:
    """Where layers are; made where it is missing."""
    return paths.private(paths.cache_directory() / "build")


class LayerCache:
    """The layers below `directory`, for one build; `scratch` is a directory of the build's own beside them."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self.directory = directory
        self.scratch = scratch
        self._locks: list[int] = []

    def take(self, key: str, parent: str) -> Layer | None:
        """The layer of this key on the one that is `parent`, locked until `close`; None where there is none."""
        path = self.directory / key
        fd = _open(path)
        if fd is None:
            return None
        about = _read_about(path)
        if about is None or not _is_whole(path, about):
            logger.log(VERBOSE, "A layer in the cache is damaged: %s", key)
            self._drop(path, fd)
            return None
        if about.parent != parent or not _lock(fd, fcntl.LOCK_SH) or not locks.is_at(fd, path):
            os.close(fd)
            return None
        self._locks.append(fd)
        os.utime(path)
        return Layer(path=path / _LAYER, id=about.id)

    def keep(self, layer: Path, key: str, *, parent: str, what: str, definition: str, replace: bool) -> Layer:
        """Moves a finished layer, which lies in `scratch`, into the cache. Raises FileError.

        Where another build was faster its layer is the result, unless `replace`.
        """
        summary = digest.by_status(layer, changes=False)
        about = About(
            id=os.urandom(16).hex(),
            parent=parent,
            what=what,
            definition=definition,
            created=int(time.time()),
            size=summary.size,
            files=summary.files,
            summary=summary.digest,
        )
        path, new = self.directory / key, self.scratch / f"kept-{about.id}"
        with FileError.about(path, inner=True):
            new.mkdir(mode=0o700)
            (new / _ABOUT).write_text(json.dumps(asdict(about), indent=1), encoding="utf-8")
            layer.rename(new / _LAYER)
            lock = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._locks.append(lock)
            fcntl.flock(lock, fcntl.LOCK_SH)
            while not _rename(new, path):
                other = None if replace else self.take(key, parent)
                if other:
                    return other
                self._put_aside(path)
        return Layer(path=path / _LAYER, id=about.id)

    def _put_aside(self, path: Path) -> None:
        """Takes the name from a layer that another build may be using."""
        with suppress(FileNotFoundError):
            path.rename(self.directory / f"{_REPLACED}{os.urandom(6).hex()}")

    def _drop(self, path: Path, fd: int) -> None:
        """Removes a layer unless it is in use; `fd`, which is closed, is the open directory."""
        with files.closing(fd):
            if _lock(fd, fcntl.LOCK_EX) and locks.is_at(fd, path):
                _remove(path, self.scratch)

    def sweep(self) -> None:
        """Removes what no build has used for long, and what none can use."""
        ids = {each.about.id for each in listing(self.directory) if each.about}
        for path in self._places():
            about = _read_about(path) if _KEY.fullmatch(path.name) else None
            with suppress(OSError):
                lost = about is not None and _is_id(about.parent) and about.parent not in ids
                if about is None or lost or time.time() - path.lstat().st_mtime > UNUSED:
                    fd = _open(path)
                    if fd is not None:
                        self._drop(path, fd)

    def _places(self) -> list[Path]:
        return [path for path in self.directory.iterdir() if _is_place(path.name)]

    def close(self) -> None:
        """Lets other builds remove what this one used."""
        while self._locks:
            os.close(self._locks.pop())


def has(directory: Path, key: str, parent: str) -> str | None:
    """The id of the layer of this key on the one that is `parent`, or None; nothing is locked, changed or checked."""
    about = _read_about(directory / key)
    return about.id if about and about.parent == parent else None


def place(directory: Path, key: str) -> Path:
    """Where the files of the layer of this key are, if it is there."""
    return directory / key / _LAYER


def listing(directory: Path) -> Iterator[StoredLayer]:
    """The layers below a directory, in the order of their keys."""
    with suppress(FileNotFoundError):
        for path in sorted(directory.iterdir()):
            if _is_place(path.name):
                with suppress(FileNotFoundError):
                    yield StoredLayer(key=path.name, path=path, about=_read_about(path), used=path.lstat().st_mtime)


def remove(layer: StoredLayer) -> bool:
    """Removes a layer; False when a build uses it. Raises FileError."""
    fd = _open(layer.path)
    if fd is None:
        return True
    with files.closing(fd):
        if not _lock(fd, fcntl.LOCK_EX):
            return False
        with files.temporary_directory(layer.path.parent) as scratch:
            _remove(layer.path, scratch)
        return True


def _remove(path: Path, scratch: Path) -> None:
    gone = scratch / f"gone-{os.urandom(6).hex()}"
    path.rename(gone)
    files.remove_tree(gone)


def _rename(source: Path, target: Path) -> bool:
    """Gives a new name that nothing has; False where something has it."""
    try:
        kernel.rename(source, target, kernel.RENAME_NOREPLACE)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        if os.path.lexists(target):
            return False
        source.rename(target)
    return True


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_place(name: str) -> bool:
    return bool(_KEY.fullmatch(name)) or name.startswith(_REPLACED)


def _is_id(word: str) -> bool:
    """Whether a layer's parent is a layer."""
    return len(word) == 32


def _read_about(path: Path) -> About | None:
    try:
        with (path / _ABOUT).open(encoding="utf-8") as file:
            fields = json.loads(file.read(_ABOUT_LIMIT))
        about = About(**fields)
    except (OSError, ValueError, TypeError):
        return None
    return about if about.format == FORMAT else None


def _is_whole(path: Path, about: About) -> bool:
    try:
        return digest.by_status(path / _LAYER, changes=False).digest == about.summary
    except FileError:
        return False
