"""What installing has written: a record for each tool, with the digest of each file, so that all of it can go again.

The record is written before the files, and tells of both what was there and what will be: whenever installing ends, all
that it had written is known. A file that is neither is somebody else's by now, and stays.
"""

import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from singularity import documents, files, locks, paths
from singularity.errors import FileError, ImageError
from singularity.foreign_json import parse_json
from singularity.install.tool import Kind, New, Tool

logger = logging.getLogger(__name__)

_LARGEST = 1 << 20  # bytes of a file that is looked at: none of ours is near it
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that was written, or was about to be."""

    kind: Kind
    path: Path
    digests: tuple[str, ...]  # SHA-256 in hexadecimal: what it has, and while it is replaced, what it had


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is installed of one tool."""

    title: str  # NAME or NAME/VERSION
    image: Path
    files: tuple[Written, ...]
    directories: tuple[Path, ...] = ()  # that were made for them, those above before those below

    @property
    def place(self) -> Path:
        """Where it is kept."""
        return _directory() / (self.title.replace("/", "@") + _SUFFIX)


def _directory() -> Path:
    return paths.user_place() / "installed"


def records() -> list[Record]:
    """All there are, by title. Raises FileError for one that is damaged."""
    place = _directory()
    names = sorted(os.listdir(place)) if os.path.isdir(place) else []
    return [_read(place / name) for name in names if name.endswith(_SUFFIX)]


def _read(path: Path) -> Record:
    with FileError.about(path):
        data = path.read_bytes()
    try:
        return documents.decoded(parse_json(data), Record)
    except ImageError as error:
        what = f"{path}: a record of what is installed, and damaged"
        raise FileError(what, hint="remove it, and what it was about by hand") from error


def _write(record: Record) -> None:
    text = json.dumps(documents.encoded(record), indent=1) + "\n"
    files.write(record.place, text.encode(), overwrite=True, mode=0o600)


@contextmanager
def kept() -> Iterator[None]:
    """One process at a time changes what is installed."""
    paths.private(_directory())
    with locks.locked(_directory() / ".lock", "installs or uninstalls"):
        yield


def of(title: str, known: Sequence[Record]) -> Record | None:
    """The record of this tool."""
    return next((each for each in known if each.title == title), None)


def refuse(new: Sequence[New], before: Record | None, known: Sequence[Record]) -> None:
    """Raises FileError for a file that would be written over something that installing this tool has not written."""
    ours = {each.path: each for each in before.files} if before else {}
    owners = {each.path: record.title for record in known if record is not before for each in record.files}
    for path in (each.path for each in new):
        if not os.path.lexists(path):
            continue
        if path in ours and _digest(path) in ours[path].digests:
            continue
        if path in owners:
            raise FileError(f"{path}: belongs to {owners[path]}", hint="uninstall that first, or --force")
        if path in ours:
            raise FileError(f"{path}: changed since it was installed", hint="--force replaces it")
        raise FileError(f"{path}: exists", hint="--force replaces it")


def put(tool: Tool, new: Sequence[New], before: Record | None) -> Record:
    """Writes the files, in place of what the tool had of the same kinds. On any failure those that are new go again."""
    kinds = {each.kind for each in new}
    old = {each.path: each for each in before.files} if before else {}
    missing = _missing_directories([each.path.parent for each in new])
    made = (*(before.directories if before else ()), *missing)
    after = [Written(kind=each.kind, path=each.path, digests=(_digest_of(each.text),)) for each in new]
    staying = [each for each in old.values() if each.kind not in kinds]
    replaced = [replace(each, digests=(*each.digests, *old[each.path].digests)) for each in after if each.path in old]
    going = [each for each in old.values() if each.kind in kinds and each.path not in {one.path for one in after}]
    fresh = [each for each in after if each.path not in old]
    record = Record(title=tool.title, image=tool.image, files=(*staying, *replaced, *going, *fresh), directories=made)
    try:
        _write(record)
        for each in new:
            _make_directories(each.path.parent)
            with files.replacing(each.path, overwrite=True, mode=each.mode, keep_owner=True) as file:
                files.write_at(file.fd, each.text.encode("utf-8", "surrogateescape"), 0)
    except BaseException:
        _take_away(fresh, missing, force=False, on_kept=str)
        if before:
            _write(replace(record, files=(*staying, *replaced, *going), directories=before.directories))
        else:
            record.place.unlink(missing_ok=True)
        raise
    _take_away(going, (), force=False, on_kept=_tell)
    final = replace(record, files=(*staying, *after))
    _write(final)
    return final


def take_away(record: Record, *, force: bool) -> list[Path]:
    """Removes what was written, and the directories made for it that are empty; the files that stay: changed since."""
    stay: list[Path] = []
    _take_away(record.files, record.directories, force=force, on_kept=stay.append)
    record.place.unlink(missing_ok=True)
    return stay


def _take_away(
    written: Collection[Written], directories: Sequence[Path], *, force: bool, on_kept: Callable[[Path], object]
) -> None:
    for each in written:
        try:
            _remove(each, force=force, on_kept=on_kept)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise FileError.because(each.path, error) from error
    for directory in reversed(directories):
        with suppress(OSError):  # somebody else's files are in it, or it is gone
            directory.rmdir()


def _remove(written: Written, *, force: bool, on_kept: Callable[[Path], object]) -> None:
    """Looked at and removed in one and the same directory, whoever makes its path lead elsewhere meanwhile."""
    with files.closing(os.open(written.path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as directory:
        name = written.path.name
        is_directory = stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
        if _digest(name, directory) in written.digests or (force and not is_directory):
            os.unlink(name, dir_fd=directory)
        else:
            on_kept(written.path)


def _tell(path: Path) -> None:
    logger.warning("%s: changed since it was installed, and stays", path)


def _missing_directories(wanted: Sequence[Path]) -> list[Path]:
    """The directories that have to be made, those above before those below."""
    all_ = {above for each in wanted for above in (each, *each.parents)}
    return sorted((each for each in all_ if not os.path.lexists(each)), key=lambda path: len(path.parts))


def _make_directories(path: Path) -> None:
    with FileError.about(path):
        files.make_directories(path, 0o755)


def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _digest(path: str | Path, directory: int | None = None) -> str:
    """The digest of a regular file that is no link; empty for all else, which is none of ours."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return ""
    with files.closing(fd):
        status = os.fstat(fd)
        is_ours = stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST
        return hashlib.sha256(os.read(fd, _LARGEST)).hexdigest() if is_ours else ""


def matching(words: Sequence[str], known: Sequence[Record]) -> Iterator[Record]:
    """The records that these names or images mean. Raises FileError for a word that means none."""
    for word in words:
        image = Path(word).absolute()
        found = [each for each in known if word in (each.title, each.title.partition("/")[0]) or each.image == image]
        if not found:
            raise FileError(f"{word}: nothing is installed of it", hint="singularity install --list")
        yield from found


def as_document(known: Sequence[Record]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "name": each.title,
            "image": str(each.image),
            "files": [{"kind": one.kind.value, "path": str(one.path)} for one in each.files],
        }
        for each in known
    ]
