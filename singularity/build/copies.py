"""`%files`: from the host, or from the root file system of an earlier stage, into the one that is being built."""

import errno
import fnmatch
import hashlib
import logging
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import files, kernel
from singularity.build.reproducible import source_date_epoch
from singularity.definition.model import Copy
from singularity.errors import DefinitionError
from singularity.files import WORKING_PREFIX
from singularity.image import marks
from singularity.image.root import Root

logger = logging.getLogger(__name__)

_PATTERN = re.compile(r"[*?\[{]")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_ALTERNATIVES_LIMIT = 10_000
_READING = os.O_RDONLY | os.O_NONBLOCK
_PART = 1 << 20  # bytes that are in memory at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a section's sources are."""

    root: Root
    directory: str  # what relative paths are relative to
    follow: bool  # links: their targets are copied; else, below the first level, the links themselves


@contextmanager
def source(stage: Path | None) -> Iterator[Source]:
    """The host, as seen from the working directory, or the root file system of a stage."""
    with Root(stage or "/") as root:
        yield Source(root=root, directory="/" if stage else str(Path.cwd()), follow=stage is None)


def copy(entry: Copy, source: Source, target: Root, name: str, *, below: str = "") -> None:
    """Carries out one line of `%files`, its targets `below` a directory of the root; `name` stands in messages.

    Files keep the time of their last change, and permissions as cp gives them under the umask 0002; from a stage, all
    permissions but set-user-ID and set-group-ID. Raises DefinitionError for a line that cannot be carried out.
    """
    copier = _Copier(source, target, f"{name}:{entry.line}")
    with _explained(entry, name):
        for path, destination in _pairs(entry, source, target, name, below):
            target.make_directory(os.path.dirname(destination))
            copier.copy(path, destination)


def check(entry: Copy, source: Source, name: str) -> None:
    """Raises DefinitionError for a line whose source is not there; patterns of any depth are not tried."""
    if "**" not in entry.source:
        with _explained(entry, name):
            _sources(entry, source, name)


def digest(entry: Copy, source: Source, name: str) -> str:
    """Of everything that one line of `%files` would copy: names, contents and modes. Raises DefinitionError."""
    found = hashlib.sha256()
    with _explained(entry, name):
        for path in _sources(entry, source, name):
            for one in _walk(source, os.path.normpath(os.path.join(source.directory, path))):
                found.update(_described(source, one))
    return found.hexdigest()


@contextmanager
def _explained(entry: Copy, name: str) -> Iterator[None]:
    """Puts the line of the definition in front of what the system says."""
    try:
        yield
    except OSError as error:
        hint = ""
        if error.errno == errno.EACCES:
            hint = "you may not read it" if os.geteuid() or kernel.maps_one_id() else "not even root may read it here"
        what = f"%{entry.section}: {error.filename or entry.source}: {error.strerror}"
        raise DefinitionError(what, name=name, line=entry.line, hint=hint) from error


def _sources(entry: Copy, source: Source, name: str) -> list[str]:
    """What the line's pattern stands for, each spelt as the pattern is."""
    found: dict[str, None] = {}
    for one in [entry.source] if _is_there(source, entry.source) else _alternatives(entry.source):
        matches = _matches(source, one)
        if not matches:
            where = f' in stage "{entry.stage}"' if entry.stage else ""
            hint = "~ and $NAME are not filled in here" if entry.source[:1] == "~" or "$" in entry.source else ""
            what = f"%{entry.section}: {one}: no such file{where}"
            raise DefinitionError(what, name=name, line=entry.line, hint=hint)
        found |= dict.fromkeys(matches)
    return list(found)


def _is_there(source: Source, path: str) -> bool:
    return source.root.status(os.path.join(source.directory, path), follow=False) is not None


@dataclass(frozen=True, slots=True)
class _Directory:
    """A directory that the walk is in, with those above it: how links in a circle are found."""

    device: int
    inode: int
    above: "_Directory | None"

    def is_within(self, status: os.stat_result) -> bool:
        here: _Directory | None = self
        while here is not None and (here.device, here.inode) != (status.st_dev, status.st_ino):
            here = here.above
        return here is not None


@dataclass(frozen=True, slots=True)
class _Found:
    """A file, link, directory or something else below a source, or the source itself."""

    path: str
    relative: str  # to the source: empty, or beginning with a slash
    status: os.stat_result


def _walk(source: Source, top: str) -> Iterator[_Found]:
    """A source with all that is in it, directories before their content, by name.

    Working directories of builds, this one's among them, are passed over.
    A link is the file that it leads to at the top, and everywhere where links are followed; one that leads to nothing
    is itself, but not at the top.
    """
    pending: list[tuple[str, str, _Directory | None]] = [(top, "", None)]
    while pending:
        path, relative, above = pending.pop()
        status = source.root.status(path, follow=source.follow or above is None)
        if status is None and above is not None:
            status = source.root.status(path, follow=False)
        if status is None:
            raise FileNotFoundError(errno.ENOENT, "a link to nothing", path)
        if above is not None and stat.S_ISDIR(status.st_mode) and above.is_within(status):
            raise OSError(errno.ELOOP, "links in a circle", path)
        yield _Found(path, relative, status)
        if stat.S_ISDIR(status.st_mode):
            here = _Directory(status.st_dev, status.st_ino, above)
            names = [
                name for name in source.root.names(path) if not (source.follow and name.startswith(WORKING_PREFIX))
            ]
            pending += [(f"{path}/{name}", f"{relative}/{name}", here) for name in reversed(names)]


def _described(source: Source, found: _Found) -> bytes:
    """What the copy takes of one file, link or directory."""
    shown = found.path.removeprefix(source.directory.rstrip("/") + "/")  # the same wherever a project lies
    head = os.fsencode(f"{shown}\0{found.status.st_mode:o}\0")
    if stat.S_ISLNK(found.status.st_mode):
        return head + os.fsencode(f"{source.root.link_text(found.path)}\n")
    if stat.S_ISREG(found.status.st_mode):
        with open(source.root.open(found.path, _READING), "rb") as reader:
            return head + hashlib.file_digest(reader, "sha256").digest()
    return head


class _Copier:
    """Carries out one line: files that are one file by another name stay so."""

    def __init__(self, source: Source, target: Root, place: str) -> None:
        self.source = source
        self.target = target
        self.place = place  # in the definition, for messages
        self.permissions = 0o1775 if source.follow else 0o1777
        self.times = not source.follow or source_date_epoch() is None
        self.linked: dict[tuple[int, int], tuple[str, int]] = {}  # the path of a copy, and its inode

    def copy(self, path: str, destination: str) -> None:
        """One file, link, or directory with all in it."""
        made: list[tuple[str, _Found]] = []
        for found in _walk(self.source, path):
            there = destination + found.relative
            mode = found.status.st_mode
            if stat.S_ISDIR(mode):
                if self.directory(there):
                    made.append((there, found))
            elif stat.S_ISLNK(mode):
                if self.source.follow:
                    logger.warning("%s: %s leads to nothing, and is copied as a link", self.place, found.path)
                self.target.link(there, self.source.root.link_text(found.path))
                self.date_link(there, found.status)
            elif stat.S_ISREG(mode):
                self.file(found, there)
            elif found.relative:
                logger.warning("%s: %s is left out: %s", self.place, found.path, _kind(mode))
            else:
                raise OSError(errno.EINVAL, f"{_kind(mode)} cannot be copied", path)
        for there, found in reversed(made):
            self.finish_directory(found, there)

    def directory(self, there: str) -> bool:
        """Makes it, open to its owner only as yet; whether it was not there before."""
        status = self.target.status(there)
        if status is None:
            with self.target.parent(there) as (fd, name):
                os.mkdir(name, 0o700, dir_fd=fd)
        elif not stat.S_ISDIR(status.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "a file is there, and a directory should be", there)
        return status is None

    def finish_directory(self, found: _Found, there: str) -> None:
        """Sets mode, attributes and times: last, since a read-only directory takes no files and new ones change it."""
        with files.closing(self.target.open(there, os.O_RDONLY | os.O_DIRECTORY)) as fd:
            with files.closing(self.source.root.open(found.path, os.O_RDONLY | os.O_DIRECTORY)) as reader:
                self.attributes(reader, fd)
            os.fchmod(fd, stat.S_IMODE(found.status.st_mode) & self.permissions)
            self.date(fd, found.status)

    def file(self, found: _Found, there: str) -> None:
        key = (found.status.st_dev, found.status.st_ino)
        if found.status.st_nlink > 1 and key in self.linked and self.link(self.linked[key], there):
            return
        before = self.target.status(there, follow=False)
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory is there, and a file should be", there)
        mode = stat.S_IMODE(found.status.st_mode) & self.permissions
        with open(self.source.root.open(found.path, _READING), "rb", buffering=0) as reader:
            status = os.fstat(reader.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, f"{_kind(status.st_mode)} cannot be copied", found.path)
            with self.target.create(there, mode) as writer, _about(found.path):
                _copy_content(reader.fileno(), writer.fileno(), status.st_size)
                self.attributes(reader.fileno(), writer.fileno())
                self.date(writer.fileno(), status)
                if found.status.st_nlink > 1:
                    self.linked[key] = (there, os.fstat(writer.fileno()).st_ino)

    def link(self, copied: tuple[str, int], there: str) -> bool:
        """A further name for what was copied; False where the file system does not do that, or it is replaced."""
        first, inode = copied
        try:
            with self.target.parent(first) as (old, name), self.target.parent(there) as (new, other):
                if os.stat(name, dir_fd=old, follow_symlinks=False).st_ino != inode or first == there:
                    return False
                self.target.remove(there)
                os.link(name, other, src_dir_fd=old, dst_dir_fd=new, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOENT):
                return False
            raise
        return True

    def attributes(self, reader: int, writer: int) -> None:
        """Of the host's files those that users give them; of a stage's, all but labels of the host's security."""
        with suppress(OSError):  # a file system without them
            for name in os.listxattr(reader):
                ours = name in ("security.selinux", marks.NAME)  # owners are not copied either
                if not ours and (name.startswith("user.") or not self.source.follow):
                    with suppress(OSError):
                        os.setxattr(writer, name, os.getxattr(reader, name))

    def date(self, fd: int, status: os.stat_result) -> None:
        if self.times:
            os.utime(fd, ns=(status.st_mtime_ns, status.st_mtime_ns))

    def date_link(self, there: str, status: os.stat_result) -> None:
        if self.times:
            with self.target.parent(there) as (fd, name):
                os.utime(name, ns=(status.st_mtime_ns, status.st_mtime_ns), dir_fd=fd, follow_symlinks=False)


@contextmanager
def _about(path: str) -> Iterator[None]:
    """Names the file in errors of calls that know a descriptor only."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = path
        raise


def _kind(mode: int) -> str:
    kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a named pipe", stat.S_IFBLK: "a block device"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _copy_content(reader: int, writer: int, size: int) -> None:
    """All of a file, holes as holes. Files of /proc and such say that they are empty, and are read to their end."""
    files.copy_data(reader, writer)
    while not size and (data := os.pread(reader, _PART, size)):
        files.write_at(writer, data, size)
        size += len(data)


def _pairs(entry: Copy, source: Source, target: Root, name: str, below: str) -> Iterator[tuple[str, str]]:
    """Each source with the path that it gets."""
    found = _sources(entry, source, name)
    destination = below + _within(entry.target) if entry.target else ""
    inside = entry.target.endswith("/") or len(found) > 1 or (bool(destination) and target.is_directory(destination))
    for match in found:
        path = os.path.normpath(os.path.join(source.directory, match))
        if path == "/" and source.follow:
            raise OSError(errno.EINVAL, "all of the host cannot be copied", entry.source)
        if not destination:
            yield path, below + _within(match)
        else:
            yield path, os.path.join(destination, os.path.basename(path)) if inside else destination


def _within(path: str) -> str:
    """An absolute path without `..`; above the root there is the root."""
    return os.path.normpath(f"/{path.lstrip('/')}")


def _alternatives(pattern: str) -> list[str]:
    """`a{b,c}` is `ab` and `ac`, also nested."""
    done: list[str] = []
    pending = [pattern]
    while pending:
        one = pending.pop(0)
        match = _BRACES.search(one)
        if match is None or len(pending) + len(done) > _ALTERNATIVES_LIMIT:
            done.append(one)
        else:
            pending += [one[: match.start()] + part + one[match.end() :] for part in match[1].split(",")]
    return done


def _matches(source: Source, pattern: str) -> list[str]:
    """What a pattern stands for, sorted, each spelt as the pattern is: relative or absolute."""
    absolute = os.path.join(source.directory, pattern)
    if source.root.status(absolute, follow=False) is not None:
        return [pattern]
    if not _PATTERN.search(pattern):
        return []
    above = "/" if pattern.startswith("/") else source.directory.rstrip("/") + "/"
    found = _expand(source.root, above, [part for part in pattern.split("/") if part])
    return sorted(path if above == "/" else path.removeprefix(above) for path in found)


def _expand(root: Root, above: str, parts: Sequence[str]) -> Iterator[str]:
    if not parts:
        yield above.rstrip("/")
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        for directory in _directories(root, above):
            yield from (
                _expand(root, directory, rest) if rest else (directory + name for name in _names(root, directory, "*"))
            )
        return
    if not _PATTERN.search(part):
        if root.status(above + part, follow=False) is not None:
            yield from _expand(root, f"{above}{part}/", rest)
        return
    for name in _names(root, above, part):
        if not rest or root.is_directory(above + name):
            yield from _expand(root, f"{above}{name}/", rest)


def _directories(root: Root, top: str) -> Iterator[str]:
    """`top` and all directories below it that no link leads to and whose names are not hidden, each with a slash."""
    pending = [top]
    while pending:
        here = pending.pop()
        yield here
        pending += [f"{here}{name}/" for name in _names(root, here, "*") if _is_real_directory(root, here + name)]


def _names(root: Root, directory: str, pattern: str) -> list[str]:
    hidden = pattern.startswith(".")
    shell = pattern.replace("[^", "[!")
    return [n for n in root.names(directory) if fnmatch.fnmatchcase(n, shell) and (hidden or not n.startswith("."))]


def _is_real_directory(root: Root, path: str) -> bool:
    status = root.status(path, follow=False)
    return status is not None and stat.S_ISDIR(status.st_mode)
