"""`%files`: from the host, or from the root file system of an earlier stage, into the one that is being built."""

import errno
import fnmatch
import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from singularity.definition.model import Copy
from singularity.errors import DefinitionError
from singularity.image.root import Root

_PATTERN = re.compile(r"[*?\[{]")
_BRACES = re.compile(r"\{([^{}]*,[^{}]*)\}")
_ALTERNATIVES_LIMIT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a section's sources are."""

    root: Root
    directory: str  # what relative paths are relative to
    follow: bool  # links: their targets are copied; else, below the first level, the links themselves


def copy(entry: Copy, source: Source, target: Root, name: str, *, below: str = "") -> None:
    """Carries out one line of `%files`, its targets `below` a directory of the root; `name` stands in messages.

    Raises DefinitionError for a line that cannot be carried out.
    """
    try:
        for path, destination in _pairs(entry, source, target, name, below):
            parent = os.path.dirname(destination)
            target.make_directory(parent)
            _copy(source, path, target, destination, ())
    except OSError as error:
        what = f"%files: {error.filename}: {error.strerror}"
        raise DefinitionError(what, name=name, line=entry.line) from error


def digest(entry: Copy, source: Source, name: str) -> str:
    """Of everything that one line of `%files` would copy: names, contents and modes. Raises DefinitionError."""
    found = hashlib.sha256()
    try:
        for path in _sources(entry, source, name):
            for line in _described(source, path, ()):
                found.update(line)
    except OSError as error:
        what = f"%files: {error.filename}: {error.strerror}"
        raise DefinitionError(what, name=name, line=entry.line) from error
    return found.hexdigest()


def _sources(entry: Copy, source: Source, name: str) -> list[str]:
    """What the line's pattern stands for, each spelt as the pattern is."""
    found = list(dict.fromkeys(match for one in _alternatives(entry.source) for match in _matches(source, one)))
    if not found:
        where = f' in stage "{entry.stage}"' if entry.stage else ""
        raise DefinitionError(f"%files: {entry.source}: no such file{where}", name=name, line=entry.line)
    return found


def _described(source: Source, path: str, above: tuple[tuple[int, int], ...]) -> Iterator[bytes]:
    """What `_copy` takes of one file, link, or directory with all in it."""
    path = os.path.normpath(os.path.join(source.directory, path))
    status = source.root.status(path, follow=source.follow or not above)
    if status is None:
        raise FileNotFoundError(errno.ENOENT, "a link to nothing", path)
    shown = path.removeprefix(source.directory.rstrip("/") + "/")  # the same wherever a project lies
    head = f"{shown}\0{status.st_mode:o}\0"
    if stat.S_ISDIR(status.st_mode):
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise OSError(errno.ELOOP, "links in a circle", path)
        yield os.fsencode(head)
        for name in source.root.names(path):
            yield from _described(source, f"{path}/{name}", (*above, here))
    elif stat.S_ISLNK(status.st_mode):
        yield os.fsencode(f"{head}{source.root.link_text(path)}\n")
    elif stat.S_ISREG(status.st_mode):
        with open(source.root.open(path, os.O_RDONLY), "rb") as reader:
            yield os.fsencode(head) + hashlib.file_digest(reader, "sha256").digest()
    else:
        yield os.fsencode(head)


def _pairs(entry: Copy, source: Source, target: Root, name: str, below: str) -> Iterator[tuple[str, str]]:
    """Each source with the path that it gets."""
    found = _sources(entry, source, name)
    destination = below + os.path.normpath(f"/{entry.target}") if entry.target else ""
    inside = entry.target.endswith("/") or len(found) > 1 or (bool(destination) and target.is_directory(destination))
    for match in found:
        path = os.path.normpath(os.path.join(source.directory, match))
        if not destination:
            yield path, below + os.path.normpath(f"/{match}")
        else:
            yield path, os.path.join(destination, os.path.basename(path)) if inside else destination


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
    found = _expand(source.root, "/", [part for part in absolute.split("/") if part])
    prefix = "" if pattern.startswith("/") else source.directory.rstrip("/") + "/"
    return sorted(path.removeprefix(prefix) for path in found)


def _expand(root: Root, above: str, parts: Sequence[str]) -> Iterator[str]:
    if not parts:
        yield above.rstrip("/")
        return
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _expand(root, above, rest) if rest else ()
        for name in _names(root, above, "*"):
            if not rest:
                yield above + name
            if _is_real_directory(root, above + name):
                yield from _expand(root, f"{above}{name}/", parts)
        return
    if not _PATTERN.search(part):
        if root.status(above + part, follow=False) is not None:
            yield from _expand(root, f"{above}{part}/", rest)
        return
    for name in _names(root, above, part):
        if not rest or root.is_directory(above + name):
            yield from _expand(root, f"{above}{name}/", rest)


def _names(root: Root, directory: str, pattern: str) -> list[str]:
    hidden = pattern.startswith(".")
    shell = pattern.replace("[^", "[!")
    return [n for n in root.names(directory) if fnmatch.fnmatchcase(n, shell) and (hidden or not n.startswith("."))]


def _is_real_directory(root: Root, path: str) -> bool:
    status = root.status(path, follow=False)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _copy(source: Source, path: str, target: Root, destination: str, above: tuple[tuple[int, int], ...]) -> None:
    """One file, link, or directory with all in it; `above` are the directories that it lies in."""
    follow = source.follow or not above
    status = source.root.status(path, follow=follow)
    if status is None:
        raise FileNotFoundError(errno.ENOENT, "a link to nothing", path)
    if stat.S_ISDIR(status.st_mode):
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise OSError(errno.ELOOP, "links in a circle", path)
        target.make_directory(destination, stat.S_IMODE(status.st_mode) & 0o755)
        for name in source.root.names(path):
            _copy(source, f"{path}/{name}", target, f"{destination}/{name}", (*above, here))
    elif stat.S_ISLNK(status.st_mode):
        target.link(destination, source.root.link_text(path))
    elif stat.S_ISREG(status.st_mode):
        with (
            open(source.root.open(path, os.O_RDONLY), "rb") as reader,
            target.create(destination, stat.S_IMODE(status.st_mode) & 0o755) as writer,
        ):
            shutil.copyfileobj(reader, writer)
    else:
        raise OSError(errno.EINVAL, "neither a file, a link nor a directory", path)
