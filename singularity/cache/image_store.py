"""Image files that are made or fetched once and kept: each in a directory of the cache with a name of its own.

KEY.kept/image.sif   the image; and other names of it, those that programs in the container see
KEY.kept/made        its size, time and SHA-256: what is not as it was made is noticed; locked while it is made

Caches that others keep have the same directories. They are only read, and only where nobody but their owner can write.
"""

import logging
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from singularity import files, locks, paths
from singularity.cache.image_names import CHUNKS, IMAGE, MADE, OWN, complete
from singularity.cache.image_names import place as kept_at
from singularity.errors import FileError

logger = logging.getLogger(__name__)

_NANOSECONDS = 1_000_000_000


def find(place: Path | None, key: str, others: Sequence[Path] = (), *, verify: bool = False) -> Path | None:
    """The image of a key: the user's own below `place`, else one of those below `others`; None where there is none.

    With `verify` it is read again, and a damaged one is as one that is not there.
    """
    own = complete(kept_at(place, key)) if place else None
    if own is not None and verify and not _is_sound(own):
        logger.warning("%s: damaged; it is not used any more", own)
        (own.parent / MADE).unlink(missing_ok=True)
        own = None
    if own is not None:
        files.touch(own)
        return own
    for other in others:
        found = complete(kept_at(other, key))
        if found is None or not _is_safe(found, other):
            continue
        if verify and not _is_sound(found):
            logger.warning("%s: damaged; it is not used", found)
            continue
        return found
    return None


def have(place: Path, key: str, make: Callable[[Path], None], work: str, *, public: bool = False) -> Path:
    """The image of a key below `place`, which `make` makes where it is missing: by one process, while others wait.

    `work` says what that process does, for those that wait. With `public` everybody may read it. Raises FileError, and
    what `make` raises.
    """
    directory = kept_at(place, key)
    found = complete(directory)
    if found is not None:
        files.touch(found)
        return found
    paths.private(directory)

    def is_there() -> bool:
        return complete(directory) is not None

    with locks.locked(directory / MADE, work, done=is_there) as made:
        path = directory / IMAGE
        if made is None or complete(directory) is not None:
            return path
        for name in os.listdir(directory):
            if name not in OWN or name == CHUNKS:
                (directory / name).unlink(missing_ok=True)
        make(path)
        if public:
            _publish(directory, made, path)
        _note(made, path)
    return path


def begin(place: Path, key: str) -> Path:
    """Where the image of a key will be, for who brings it in parts, and declares it whole in the end."""
    return paths.private(kept_at(place, key)) / IMAGE


def declare_complete(path: Path, fd: int) -> bool:
    """The image at `path`, open as `fd`, is whole: it is found from here on. False where another one has its name."""
    with locks.locked(path.parent / MADE, "makes the same image") as made:
        try:
            same = os.path.samestat(os.fstat(fd), path.stat())
        except FileNotFoundError:
            same = False
        if made is None or not same:
            return False
        _note(made, path)
    return True


def _note(made: int, path: Path) -> None:
    status = path.stat()
    said = f"{status.st_size} {status.st_mtime_ns} {digest_of(path)}"
    os.ftruncate(made, 0)
    os.pwrite(made, said.encode("ascii"), 0)


def digest_of(path: Path) -> str:
    """The digits of a file's SHA-256."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_sound(found: Path) -> bool:
    """Whether an image has the content that it was made with."""
    try:
        return (found.parent / MADE).read_text(encoding="ascii").split()[2:] == [digest_of(found)]
    except OSError:
        return False


def _publish(directory: Path, made: int, path: Path) -> None:
    """Modes for all users, and a time in whole seconds, which is all that some ways of copying keep."""
    directory.chmod(0o755)
    os.fchmod(made, 0o644)
    path.chmod(0o755)
    seconds = path.stat().st_mtime_ns // _NANOSECONDS * _NANOSECONDS
    os.utime(path, ns=(seconds, seconds))


def is_kept(path: Path) -> bool:
    """Whether an image stays when the command ends."""
    return complete(path.parent) is not None


def _is_safe(found: Path, place: Path) -> bool:
    """Whether nobody but the owner of a cache can change an image in it."""
    for path in (found, found.parent, place, place.parent):
        status = path.lstat()
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or status.st_uid != place.parent.lstat().st_uid:
            logger.warning("%s is not used: others than the owner of that cache can change it", path)
            return False
    return True


def named(found: Path, name: str) -> Path:
    """The image by the name that programs in it will see; by its own where there can be no second name."""
    path = found.with_name(name)
    try:
        if path.exists() and path.samefile(found):
            return path
        path.unlink(missing_ok=True)
        path.hardlink_to(found)
    except FileExistsError:  # another launch was faster
        return path
    except OSError:
        return found
    return path


def put(found: Path, target: Path, *, overwrite: bool, shared: bool) -> None:
    """Gives an image of the cache the name `target` too, or makes a copy of it where that cannot be.

    A second name costs nothing, whatever the size. The file is the user's own in both places; when it is changed under
    one name, the cache notices and makes its own anew. Where somebody has it under such a name already it is copied, or
    who writes to one of the two would write to the other; one of a cache that is `shared` is always copied. Raises
    FileError.
    """
    files.refuse_target(target, overwrite=overwrite)
    if shared or not (_is_own(found) and _is_alone(found, target) and _link(found, target, overwrite=overwrite)):
        with files.replacing(target, overwrite=overwrite, mode=0o777) as new, found.open("rb") as file:
            files.copy_data(file.fileno(), new.fd)


def _is_own(found: Path) -> bool:
    """Whether the file is as a new one would be: the caller's, and of the mode that his umask leaves."""
    status = found.stat()
    usual = 0o777 & ~files.umask()
    return status.st_uid == os.geteuid() and not os.environ.get("SUDO_UID") and status.st_mode & 0o777 == usual


def _is_alone(found: Path, target: Path) -> bool:
    """Whether all names of the file are in its directory of the cache, but for the one that is replaced."""
    status = found.stat()
    with os.scandir(found.parent) as entries:
        ours = sum(each.inode() == status.st_ino for each in entries)
    return status.st_nlink == ours + (target.exists() and target.samefile(found))


def _link(found: Path, target: Path, *, overwrite: bool) -> bool:
    name = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}")
    try:
        if not overwrite:
            os.link(found, target)
            return True
        os.link(found, name)
        try:
            os.rename(name, target)
        finally:
            name.unlink(missing_ok=True)  # what the rename of one name of a file to another leaves
    except FileExistsError as error:
        raise FileError(f"{target}: exists, since a moment ago", hint="--force replaces it") from error
    except OSError as error:
        logger.debug("No second name for %s: %s", found, error.strerror)
        return False
    return True
