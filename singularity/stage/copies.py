"""Copies of images on this node: where they are, how they come to be whole, and how they go.

PLACE/INODE-SIZE-TIME/NAME      the copy of an image of that name, which launches look for (launcher/front/staged.c)
PLACE/INODE-SIZE-TIME/part-BOOT what has come of it, since the machine was started; locked by the process that brings it
PLACE/INODE-SIZE-TIME/.for-job  the job that it was brought for, where it is to go with that

Inode, size and time of change (ctime, which no user sets) are those of the image on the shared file system, which are
the same on all nodes.
"""

import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import config, files, paths
from singularity.errors import FileError, ImageError
from singularity.variables import variable

DAYS = 14  # after which a copy that nobody used goes
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_PART, _JOB = "part-", ".for-job"  # as no image is called
_KEY = re.compile(r"[0-9a-f]+(?:-[0-9a-f]+){2}")  # names of directories: whatever else is there is not ours
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID")


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of an image, there or not."""

    directory: Path
    name: str
    size: int  # bytes

    @property
    def path(self) -> Path:
        """The copy when it is whole."""
        return self.directory / self.name

    @property
    def part(self) -> Path:
        """What has come of it. What an earlier boot has left may not be what was written."""
        return self.directory / f"{_PART}{boot()}"

    def is_whole(self) -> bool:
        """Whether it is there."""
        try:
            status = self.path.lstat()
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == self.size

    def keep_for(self, job: str) -> None:
        """Notes the job that it is for; none: it stays."""
        with suppress(FileNotFoundError):
            (self.directory / _JOB).unlink()
        if job:
            (self.directory / _JOB).write_text(job, encoding="utf-8")


def place() -> Path:
    """The directory of copies, made where it is missing. Raises FileError where it is not this user's alone."""
    named = os.environ.get("SINGULARITY_STAGEDIR", "")
    path = Path(named or f"/tmp/singularity-stage-{os.getuid()}")  # noqa: S108 - checked
    if not path.is_absolute():
        raise FileError(f"SINGULARITY_STAGEDIR={named}: no absolute path")
    try:
        _refuse_link(path)
        paths.private(path)
        _refuse_link(path)  # somebody may have been faster than us; what is there now nobody else takes away
    except FileError as error:
        raise FileError(f"{error.what}", hint="name another in SINGULARITY_STAGEDIR") from error
    return path


def _refuse_link(path: Path) -> None:
    """Raises FileError for a link in place of the directory of copies."""
    if path.is_symlink():
        raise FileError(f"{path}: a link, which anybody could have made")


def of(image: Path, status: os.stat_result) -> Copy:
    """Where the copy of an image is, or would be; its directory is made. Raises FileError."""
    key = f"{status.st_ino:x}-{status.st_size:x}-{status.st_ctime_ns:x}"
    return Copy(paths.private(place() / key), image.name, status.st_size)


def refuse_useless(image: Path, target: Path) -> None:
    """Raises ImageError where the administrator lets nobody launch a copy there."""
    allowed = config.listed("limit container paths")
    if allowed and not any(target.is_relative_to(each) for each in allowed):
        hint = "SINGULARITY_STAGEDIR names a place that is" if len(allowed) > 1 else f"only below {allowed[0]}"
        raise ImageError(f"{image}: copies in {target.parent.parent} are not launched here", hint=hint)
    if config.listed("limit container owners"):
        raise ImageError(f"{image}: images of yours are not launched here", hint='"limit container owners" is set')


def boot() -> str:
    """What is another one after the machine was started again."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def job() -> str:
    """The job that this process is part of; empty outside of one."""
    return next((os.environ[name] for name in _JOBS if os.environ.get(name)), "")


def make_room(copy: Copy) -> None:
    """Removes what nobody used for long, and, where there is a limit, what was used longest ago until there is room."""
    for each in copy.directory.glob(f"{_PART}*"):
        if each != copy.part:
            each.unlink(missing_ok=True)
    limit = int(variable("STAGE_LIMIT") or 0) << 20 if variable("STAGE_LIMIT").isdecimal() else 0
    if limit and copy.size > limit:
        raise FileError(f"{copy.name}: larger than SINGULARITY_STAGE_LIMIT", hint=f"{limit >> 20} MiB")
    others = sorted(each for each in _entries() if each[1] != copy.directory)
    left = sum(size for _, _, size in others)
    for used, directory, size in others:
        if used < time.time() - DAYS * 86400 or (limit and left + copy.size > limit):
            _remove(directory)
            left -= size


def clean(of_job: str = "", days: float = 0) -> int:
    """Removes the copies of this user here: all of them, those of a job, or those not used for some days; how many."""
    count = 0
    for used, directory, _ in list(_entries()):
        with suppress(OSError):
            said = (directory / _JOB).read_text(encoding="utf-8") if (directory / _JOB).exists() else ""
            if used <= time.time() - days * 86400 and of_job in ("", said):
                count += _remove(directory)
    return count


def _entries() -> Iterator[tuple[float, Path, int]]:
    """When each was used last, where it is, and its bytes."""
    for directory in place().iterdir():
        if not _KEY.fullmatch(directory.name) or directory.is_symlink():
            continue
        with suppress(OSError):
            status = [each.lstat() for each in directory.iterdir()]
            used = max((max(each.st_atime, each.st_mtime) for each in status), default=directory.lstat().st_mtime)
            yield used, directory, sum(each.st_size for each in status)


def _remove(directory: Path) -> bool:
    """Removes one that no process is just bringing."""
    import fcntl

    for part in directory.glob(f"{_PART}*"):
        with part.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            except OSError:
                pass
    with suppress(FileNotFoundError):
        files.remove_tree(directory)
    return True
