"""The same inputs, the same image: one time for everything, and nothing that is different each day.

SOURCE_DATE_EPOCH (reproducible-builds.org) is the time. With it set, no file in an image is younger, what the formats
stamp with a time or a random number gets this time or none, and labels say it as the build's date.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from singularity.build import conda
from singularity.console import VERBOSE
from singularity.errors import BuildError, SingularityError
from singularity.image import metadata
from singularity.image.identify import Image, identify
from singularity.image.root import Root
from singularity.image.sif.format import NO_TIME

logger = logging.getLogger(__name__)

_VARIABLE = "SOURCE_DATE_EPOCH"
_LIMIT = 1 << 32  # what squashfs and ext3 have room for
_LABELS = {
    "org.opencontainers.image.created": "%Y-%m-%dT%H:%M:%S%z",
    "org.label-schema.build-date": "%A_%d_%B_%Y_%H:%M:%S_UTC",
}
_EMPTIED = ("/var/log", "/etc/machine-id")
_SHADOWS = ("/etc/shadow", "/etc/shadow-")
_PACMAN, _INSTALLED = "/var/lib/pacman/local", b"\n%INSTALLDATE%\n"
_DAY = 86400
_REMOVED = (  # made anew when they are missing
    "/var/cache/ldconfig/aux-cache",
    "/var/cache/apt/pkgcache.bin",
    "/var/cache/apt/srcpkgcache.bin",
    "/var/lib/apt/lists",
    "/var/lib/dbus/machine-id",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/catalog/database",
    "/var/cache/dnf",
    "/var/cache/yum",
    "/var/cache/zypp",
    "/var/lib/rpm/__db.001",
    "/var/lib/rpm/__db.002",
    "/var/lib/rpm/__db.003",
    "/var/lib/rpm/rpmdb.sqlite-shm",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite-shm",
    "/var/lib/dnf/history.sqlite",
    "/var/lib/dnf/history.sqlite-shm",
    "/var/lib/dnf/history.sqlite-wal",
    "/usr/lib/sysimage/libdnf5/transaction_history.sqlite",
    "/usr/lib/sysimage/libdnf5/transaction_history.sqlite-shm",
    "/usr/lib/sysimage/libdnf5/transaction_history.sqlite-wal",
    "/var/cache/debconf/templates.dat-old",
    "/var/cache/debconf/config.dat-old",
    "/var/cache/fontconfig",
    "/var/cache/man",
    "/root/.cache/conda/notices",
    "/root/.npm",
)


def source_date_epoch() -> int | None:
    """The time that reproducible builds give everything, in seconds since 1970. Raises BuildError for nonsense."""
    text = os.environ.get(_VARIABLE, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or int(text) >= _LIMIT:
        raise BuildError(f'{_VARIABLE} is "{text}": not seconds since 1970')
    return int(text)


def environment() -> dict[str, str]:
    """What tools that stamp files get told."""
    epoch = source_date_epoch()
    return {} if epoch is None else {_VARIABLE: str(epoch)}


def begin(bases: Iterable[Path]) -> int:
    """Sets SOURCE_DATE_EPOCH for this process where it is not set, and returns it.

    It is the newest of the times at which the images that a build begins with were made, as they say it themselves (the
    labels of OCI and label-schema, the header of a SIF file), else 0, which is 1970: nothing else about a build is the
    same on other days and in other directories.
    """
    given = source_date_epoch()
    if given is not None:
        return given
    time = max((_created(path) for path in bases), default=0)
    os.environ[_VARIABLE] = str(time)
    logger.log(VERBOSE, "%s is %d: --reproducible", _VARIABLE, time)
    return time


def _created(path: Path) -> int:
    """When an image was made, in seconds since 1970; 0 where it does not say, or cannot be read."""
    try:
        image = identify(path)
        if image.format.is_archive:
            return 0
        labels = metadata.read(image).labels
    except SingularityError as error:
        logger.debug("No time of %s: %s", path, error)
        return 0
    return said(labels, image) or 0


def said(labels: Mapping[str, str], image: Image) -> int | None:
    """When an image with these labels was made, in seconds since 1970; None where it does not say."""
    for label, form in _LABELS.items():
        try:
            date = datetime.strptime(labels.get(label, ""), form)
        except ValueError:
            continue
        return _possible(int((date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()))
    return _possible(image.content.header.created) if image.content else None


def _possible(time: int) -> int | None:
    return time if 0 <= time < _LIMIT and time != NO_TIME else None


def clear(root: Root, epoch: int) -> None:
    """Empties and removes what system tools leave in a root file system and what is never the same twice.

    Directories stay, and so do logs, empty: their owners matter to whoever writes them. Passwords were changed, and
    packages installed, at `epoch` at the latest, in seconds since 1970.
    """
    for path in _REMOVED:
        for file in _files(root, path):
            root.remove(file)
    for path in _EMPTIED:
        for file in _files(root, path):
            os.close(root.open(file, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW))
    for path in _SHADOWS:
        if root.is_file(path):
            _date_passwords(root, path, epoch // _DAY)
    for name in root.names(_PACMAN):
        if root.is_file(f"{_PACMAN}/{name}/desc"):
            _date_installation(root, f"{_PACMAN}/{name}/desc", epoch)
    conda.clear(root, epoch)


def _files(root: Root, path: str) -> Iterator[str]:
    """The regular files at or below a path."""
    status = root.status(path, follow=False)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        for name in root.names(path):
            yield from _files(root, f"{path}/{name}")
    elif stat.S_ISREG(status.st_mode):
        yield path


def _date_passwords(root: Root, path: str, day: int) -> None:
    """shadow(5): the third field is the day of the last change."""
    lines = []
    for line in root.read(path).split(b"\n"):
        fields = line.split(b":")
        if len(fields) == 9 and fields[2].isdigit() and int(fields[2]) > day:
            fields[2] = str(max(day, 1)).encode()  # 0 asks for a new password at once
        lines.append(b":".join(fields))
    root.rewrite(path, b"\n".join(lines))


def _date_installation(root: Root, path: str, epoch: int) -> None:
    """pacman notes when it installed each package, in the line below this word."""
    before, word, after = root.read(path).partition(_INSTALLED)
    time, end, rest = after.partition(b"\n")
    if time.isdigit() and int(time) > epoch:
        root.rewrite(path, b"%b%b%d%b%b" % (before, word, epoch, end, rest))
