"""The base of an image that holds only what differs from it: which file that is, and where it is found.

`build --on` makes such a SIF file. Its primary partition is a squashfs whose directory `upper` has the new files, and
character devices 0:0 in place of those that are gone, as overlayfs wants them. The partition's name says the SHA-256 of
the base, which the front door reads (`launcher/front/base.c`); the object base.json says that and the rest.

What a file's digest is, is remembered in the user's cache as long as inode, size and times stay the same, one record a
line: inode, size, mtime and ctime in nanoseconds, and the path. The device is none of it: nodes number shared file
systems as they come. The front door reads these records, too, and asks nobody where one holds.
"""

import json
import logging
import os
import shlex
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from singularity import config, files, paths
from singularity.errors import FileError, ImageError
from singularity.foreign_json import parse_json
from singularity.image.identify import Format, Image, identify, open_path
from singularity.image.sif import format as sif
from singularity.variables import variable

logger = logging.getLogger(__name__)

OBJECT_NAME = b"base.json"
MARK = sif.BASE_MARK
LIMIT = 8  # images on each other, the lowest one not counted
RECORDS = "bases"  # in the cache: a file for each digest
_OTHERS = ".others"  # ends the name of a second file: of strangers' files, which are bases of their own images alone
_KEPT = 8  # records of one digest
_ENTRIES = 1 << 14  # of a directory that are looked at
_TOLD = 1 << 30  # bytes of a file that takes a while to read
_TICK = 50_000_000  # nanoseconds in which two changes of a file may get the same time
_READ_ONLY = (Format.SQUASHFS, Format.EROFS)
# What this process has found: in a user namespace that it enters later, root's files look like a stranger's.
_found: "dict[str, Record]" = {}


class Base(NamedTuple):
    """What an image says of its base, and of how the two become one file (`build/layered.py`)."""

    digest: str  # SHA-256 of the file, 64 digits
    size: int  # of the file, in bytes
    name: str  # that the file had, without directories
    uri: str = ""  # where it can be had; empty: nobody knows
    epoch: int | None = None  # SOURCE_DATE_EPOCH of the build
    first: tuple[str, ...] = ()  # the files that were to be stored first
    arguments: tuple[str, ...] = ()  # further ones of mksquashfs
    sparse: tuple[str, ...] = ()  # of the image's own files, those with holes: mksquashfs tells them from zeros

    def __str__(self) -> str:
        at = f", {self.uri}" if self.uri else ""
        return f"{self.name} (sha256:{self.digest}{at})"

    @property
    def file_name(self) -> str:
        """What `pull` calls it: no name by which a file does more than to be there."""
        return "base.sif" if self.name.startswith((".", "-")) else f"{self.name.removesuffix('.sif')}.sif"

    def encode(self) -> bytes:
        """As object of a SIF file."""
        said = self._asdict() | {"digest": f"sha256:{self.digest}"}
        return json.dumps({key: value for key, value in said.items() if value not in ("", None)}, indent=1).encode()


def of(image: Image) -> Base | None:
    """What an image is on; None for one that is whole. Raises ImageError where it does not say that twice."""
    if image.content is None:
        return None
    with image.path.open("rb") as file:
        return of_file(file, image.content, image.path)


def of_path(path: Path) -> Base | None:
    """The same of any file or directory, an image or not."""
    if not path.is_file():
        return None
    with open(open_path(path), "rb") as file:
        is_sif = file.read(sif.MAGIC_OFFSET + len(sif.MAGIC)).endswith(sif.MAGIC)
        return of_file(file, sif.read(file), path) if is_sif else None


def of_file(file: BinaryIO, content: sif.Sif, path: Path) -> Base | None:
    """The same of a SIF file that may be no image: one with data, or encrypted."""
    primary = content.primary()
    if primary is None:
        return None
    named = primary.name.removeprefix(MARK).decode("ascii", "replace") if primary.name.startswith(MARK) else ""
    found = content.find(sif.DataType.GENERIC_JSON, OBJECT_NAME)
    if not named and found is None:
        return None
    base = _decoded(sif.read_object(file, found)) if found else None
    if base is None or base.digest != named or found is None or found.group != primary.group:
        raise ImageError(f"{path}: what it says of its base makes no sense", hint="build or pull it again")
    if content.overlays():
        what = f"{path}: on a base, and with an overlay partition"
        raise ImageError(what, hint="singularity sif del takes it out")
    return base


def _decoded(data: bytes) -> Base | None:
    said = parse_json(data)
    if not isinstance(said, dict):
        return None
    digest, size, name, uri = (said.get(key, "") for key in ("digest", "size", "name", "uri"))
    epoch, *lists = said.get("epoch"), *(said.get(key, []) for key in ("first", "arguments", "sparse"))
    digits = digest.removeprefix("sha256:") if isinstance(digest, str) else ""
    good = all(isinstance(each, list) and all(isinstance(word, str) for word in each) for each in lists)
    if not (is_digest(digits) and isinstance(size, int) and isinstance(name, str) and isinstance(uri, str) and good):
        return None
    if not name.isprintable() or "/" in name or not uri.isprintable() or not (epoch is None or isinstance(epoch, int)):
        return None
    first, arguments, sparse = map(tuple, lists)
    return Base(digits, size, name, uri, epoch, first, arguments, sparse)


def is_digest(text: str) -> bool:
    """Whether a text is the 64 digits of a SHA-256."""
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def refuse(image: Image, what: str) -> None:
    """Raises ImageError for an image that is not whole, where `what` cannot be done with it."""
    if of(image) is not None:
        raise ImageError(
            f"{image.path}: only what differs from its base: {what} is for whole images",
            hint=f"singularity flatten WHOLE.sif {image.path} makes one",
        )


def chain(image: Image) -> list[Image]:
    """The image, its base, the base of that and so on; a whole image alone. Raises ImageError: one is missing."""
    found = [image]
    while (base := of(found[-1])) is not None:
        if len(found) > LIMIT:
            raise ImageError(f"{image.path}: more than {LIMIT} images on each other", hint="flatten one of them")
        below = identify(find(found[-1].path, base))
        refuse_as_base(below)
        found.append(below)
    return found


def refuse_as_base(image: Image) -> None:
    """Raises ImageError for what can change, or has more than one layer: nothing can be made on it."""
    if image.root.format not in _READ_ONLY or image.overlays:
        what = "with an overlay partition" if image.overlays else f"{image.root.format.value}"
        raise ImageError(
            f"{image.path}: {what}, and no base", hint="a base is a SIF, squashfs or EROFS file that nobody writes"
        )


# ---- where it is


class MissingError(ImageError):
    """A base that is nowhere."""


def find(image: Path, base: Base) -> Path:
    """The file with the right bytes. Raises MissingError where it is in none of the places, with what those are."""
    others: list[Path] = []
    strangers: list[Path] = []
    if (before := _found.get(base.digest)) is not None and before.holds:
        return before.path
    named = _named()
    for path in _candidates(image, base):
        with suppress(FileError, OSError):
            if path not in named and _is_anybodys(path, image):
                strangers.append(path)
                continue
            if path.stat().st_size == base.size and digest_of(path) == base.digest:
                _found[base.digest] = _record(path.absolute())
                return path
            others.append(path)
    wrong = f"; {others[0]} is another file" if others else ""
    if strangers:
        wrong = f"; {strangers[0]} is a stranger's, in a directory where anybody writes"
    places = ", ".join(str(each) for each in dict.fromkeys(_places(image)))
    words = ["singularity", "pull", base.file_name, base.uri]
    pull = f"{shlex.join(words)}, or " if base.uri else ""  # of a stranger's choice, and typed as it stands
    raise MissingError(
        f"{image}: its base {base} is neither in the cache nor in {places}{wrong}",
        hint=f"{pull}SINGULARITY_BASEPATH=DIRECTORY says where it is",
    )


def _is_anybodys(path: Path, image: Path) -> bool:
    """Whether a stranger put a file where anybody can, as into /tmp: he may change it after it was read, by a mapping
    of tmpfs without a trace. Whoever made the image is none."""
    if not path.parent.stat().st_mode & stat.S_IWOTH:
        return False
    known = {0, os.geteuid(), image.stat().st_uid}
    return not {path.stat().st_uid, path.lstat().st_uid} <= known


def _places(image: Path) -> Iterator[Path]:
    """Directories, and files, that are looked at; the user's word before the image's place before the site's."""
    yield from _named()
    yield image.absolute().parent
    yield image.resolve().parent
    yield from (Path(each) for each in config.listed("base path") if each.startswith("/"))


def _named() -> list[Path]:
    return [Path(each).absolute() for each in variable("BASEPATH").split(":") if each]


def _kept() -> list[Path]:
    others = (*variable("CACHEPATH").split(":"), *config.listed("cache path"))
    return [paths.cache_place(), *(Path(each) for each in others if each)]


def _candidates(image: Path, base: Base) -> Iterator[Path]:
    """Files that may be it: of the name that it had, whatever is in them, and of any other of the right size."""
    seen: set[Path] = set()
    named = len(_named())
    places = list(dict.fromkeys(_places(image)))
    known = [record.path for record in _records(base.digest)]
    for path in (
        *(each for place in places[:named] for each in _of_size(place, base)),
        *known,
        *(each for place in places[named:] for each in _of_size(place, base)),
        *(each for place in _kept() for each in sorted(place.glob("*/*.kept/image.sif"))),
    ):
        if path not in seen and "\n" not in str(path) and (path.name == base.name or _size(path) == base.size):
            seen.add(path)
            yield path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _of_size(place: Path, base: Base) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    if (place / base.name).is_file():
        yield place / base.name
    with suppress(OSError), os.scandir(place) as entries:
        for _, entry in zip(range(_ENTRIES), entries, strict=False):
            if entry.is_file() and entry.stat().st_size == base.size:
                yield Path(entry.path)


# ---- what is remembered


class Record(NamedTuple):
    """A file that was read, as the file system spoke of it then."""

    inode: int
    size: int
    mtime: int  # nanoseconds
    ctime: int
    path: Path

    @property
    def holds(self) -> bool:
        """Whether nothing has happened to the file."""
        with suppress(OSError):
            return _record(self.path) == self
        return False

    def encode(self) -> bytes:
        """As a line."""
        return b" ".join([*(str(each).encode() for each in self[:4]), os.fsencode(self.path)]) + b"\n"


def _record(path: Path) -> Record:
    status = path.stat()
    return Record(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, path)


def _records(name: str) -> list[Record]:
    """What a file remembers of files with a digest, the newest first."""
    found = []
    with suppress(OSError, ValueError), (paths.cache_place() / RECORDS / name).open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:  # what others wrote is their word
            return []
        for line in file.read().splitlines()[:_KEPT]:
            *numbers, path = line.split(b" ", 4)
            inode, size, mtime, ctime = map(int, numbers)
            found.append(Record(inode, size, mtime, ctime, Path(os.fsdecode(path))))
    return found


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, which is read once as long as it does not change. Raises FileError."""
    from singularity import console
    from singularity.digest import of_file

    path = path.absolute()
    with FileError.about(path):
        now = _record(path)
        for each in sorted((paths.cache_place() / RECORDS).glob("?" * 64 + "*")):
            if now in _records(each.name):
                return each.name.removesuffix(_OTHERS)
        if now.size >= _TOLD:
            logger.info("Reading %s once, to know that it is the right one (%s)", path, console.size(now.size))
        if (left := _TICK - (time.time_ns() - now.ctime)) >= 0:
            time.sleep(min(left, _TICK) / 1e9)
        digest = of_file(path)
        if _record(path) != now:
            raise FileError(f"{path}: changes while it is read", hint="wait until it is whole")
    _remember(digest, now)
    return digest


def _remember(digest: str, record: Record) -> None:
    if b"\n" in os.fsencode(record.path):
        return
    name = digest if _is_word_of_ours(record.path) else digest + _OTHERS
    others = [each for each in _records(name) if each.path != record.path and each.holds]
    with suppress(FileError, OSError):
        place = paths.private(paths.cache_directory() / RECORDS)
        files.write(place / name, _lines([record, *others[: _KEPT - 1]]), overwrite=True, mode=0o600)


def _is_word_of_ours(path: Path) -> bool:
    """Whether images of anybody's may lie on a file: the user's or root's, or where the user or the site has bases.

    What a stranger has beside his image is for that image: he can change it under any other one.
    """
    with suppress(OSError):
        if path.stat().st_uid in (0, os.geteuid()):
            return True
    places = [*_named(), *_kept(), *map(Path, config.listed("base path"))]
    return any(path.is_relative_to(each) for each in places)


def _lines(records: Iterable[Record]) -> bytes:
    return b"".join(each.encode() for each in records)


def told(images: Sequence[Image]) -> bytes:
    """What the front door is told of a chain: a record for each base, in order."""
    return _lines(_record(each.path.absolute()) for each in images[1:])
