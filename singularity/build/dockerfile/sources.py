"""What COPY, ADD and mounts of RUN take files from: the context, or the root file system of a stage.

Every path is resolved inside of it, links too: what leads out ends at its top. Of the context nothing is seen that
`.dockerignore` names, nor the image that is being built, nor working directories of builds.
"""

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from singularity import files
from singularity.build.reproducible import source_date_epoch
from singularity.definition.dockerfile.ignore import Patterns
from singularity.errors import FileError
from singularity.files import WORKING_PREFIX
from singularity.image import directory
from singularity.image.metadata import DIRECTORY
from singularity.image.root import Root
from singularity.image.tree import Entry, Kind, Member, Tree

_SPECIAL = re.compile(r"[*?\[\\]")
_OWN = DIRECTORY.strip("/")  # what a base image's configuration is kept in: no part of a stage's files


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where files come from."""

    root: Root
    shown: str  # for messages
    patterns: Patterns | None  # of what is not seen; None: a stage, all of which is
    target: str = ""  # path of the image that is being built, relative to the context

    @property
    def is_context(self) -> bool:
        """Whether it is the context, whose owners mean nothing."""
        return self.patterns is not None

    def names(self, pattern: str) -> list[str]:
        """The paths that a pattern stands for, without leading `/`, sorted; none where nothing fits."""
        parts = [part for part in posixpath.normpath("/" + pattern).split("/") if part]
        return [path for path in self._expand("", parts) if not self._is_hidden_whole(path)]

    def _is_hidden_whole(self, path: str) -> bool:
        """Whether nothing of a file or directory is seen."""
        if not path or not self.hides(path):
            return False
        return self.patterns is None or not self.patterns.has_exceptions or not self.root.is_directory(path)

    def _expand(self, above: str, parts: Sequence[str]) -> Iterator[str]:
        if not parts:
            yield above
            return
        path = f"{above}/" if above else ""
        if not _SPECIAL.search(parts[0]):
            if self.root.status(path + parts[0], follow=False) is not None:
                yield from self._expand(path + parts[0], parts[1:])
            return
        rule = Patterns([parts[0].replace("**", "*")])
        for name in self.root.names(above):
            if rule.leaves_out(name) and (len(parts) == 1 or self.root.is_directory(path + name)):
                yield from self._expand(path + name, parts[1:])

    def hides(self, path: str) -> bool:
        """Whether a file of this path is not seen; a directory of which nothing else is either."""
        if not path:
            return False
        if self.patterns is None:
            return path == _OWN
        name = path.rpartition("/")[2]
        return path == self.target or name.startswith(WORKING_PREFIX) or self.patterns.leaves_out(path)

    def entries(self, path: str, excluded: Patterns | None = None) -> Tree:
        """A file, or a directory with all that is in it; the paths are relative to it, its own is empty.

        Links to it are followed, those in it are not. `excluded` fits paths below it. Raises OSError and FileError.
        """
        real = self.root.real_path(path)
        if real is None:
            raise FileNotFoundError(errno.ENOENT, "a link to nothing", path)
        with files.closing(self.root.open(real, os.O_RDONLY | os.O_NONBLOCK)) as fd:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                yield from self._directory(fd, real.strip("/"), excluded)
            elif stat.S_ISREG(mode):
                yield from self._given(iter([directory.read_file(fd, Path(self.root.path, path))]))
            else:
                raise OSError(errno.EINVAL, "neither a file nor a directory", path)

    def _directory(self, fd: int, path: str, excluded: Patterns | None) -> Tree:
        above = f"{path}/" if path else ""
        patterns = [each for each in (self.patterns, excluded) if each is not None]
        exceptions = any(each.has_exceptions for each in patterns)

        def hidden(name: bytes) -> bool:
            relative = os.fsdecode(name)
            return self.hides(above + relative) or (excluded is not None and excluded.leaves_out(relative))

        def skipped(name: bytes, is_directory: bool) -> bool:
            """A directory is gone into where something in it may be seen all the same."""
            return hidden(name) and not (is_directory and exceptions and os.fsdecode(name) != self.target)

        found = directory.read(Path(self.root.path, path), cross_mounts=True, opened=fd, skipped=skipped)
        yield from self._given(_with_parents(found, hidden) if exceptions else found)

    def _given(self, found: Tree) -> Tree:
        """Of the context everything is root's, without attributes."""
        epoch = source_date_epoch()
        for entry in found:
            if not self.is_context:
                yield entry
                continue
            member = entry.member
            time = member.mtime if epoch is None else min(member.mtime, epoch * 10**9)
            yield Entry(replace(member, uid=0, gid=0, xattrs={}, mtime=time), entry.data)


def _with_parents(found: Tree, hidden: Callable[[bytes], bool]) -> Tree:
    """Without directories that are hidden, unless something in them is not."""
    waiting: list[Entry] = []
    for entry in found:
        path = entry.member.path
        waiting = [each for each in waiting if path.startswith(each.member.path + b"/")]
        if path and entry.member.kind is Kind.DIRECTORY and hidden(path):
            waiting.append(entry)
            continue
        yield from waiting
        waiting = []
        yield entry


@contextmanager
def context(place: Path, patterns: Sequence[str], target: Path) -> Iterator[Source]:
    """The context of a Dockerfile. Raises FileError."""
    with FileError.about(place):
        root = Root(place)
    here, image = place.resolve(), target.resolve()
    inside = str(image.relative_to(here)) if image.is_relative_to(here) and image != here else ""
    with root:
        yield Source(root=root, shown=str(place), patterns=Patterns(patterns), target=inside)


@contextmanager
def stage(place: Path, name: str) -> Iterator[Source]:
    """The root file system of a stage, or of an image."""
    with Root(place) as root:
        yield Source(root=root, shown=f'"{name}"', patterns=None)


def below(member: Member, above: bytes) -> Member:
    """A member whose path is below another."""
    path = above + b"/" + member.path if above and member.path else above or member.path
    if member.kind is Kind.HARD_LINK and above:
        return replace(member, path=path, target=above + b"/" + member.target)
    return replace(member, path=path)


def digest(source: Source, path: str, excluded: Patterns | None = None) -> str:
    """Of names, kinds, modes and contents; times and owners do not matter. Raises OSError and FileError."""
    found = hashlib.sha256()
    for entry in source.entries(path, excluded):
        member = entry.member
        segments = None if member.segments is None else [(each.offset, each.size) for each in member.segments]
        said = (member.path, member.kind.name, member.mode, member.size, segments, member.target, member.device)
        found.update(repr(said).encode())
        for data in entry.data:
            found.update(data)
    return found.hexdigest()
