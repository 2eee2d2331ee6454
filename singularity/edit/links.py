"""Where the paths of an archive lead in a root file system that they are unpacked over.

A directory of the archive that is a link to a directory there, as /lib is one to /usr/lib, is that directory: a program
in the container would see it so, and to put a directory in place of the link would break the container. This holds for
what has the path of a member above it, for the target of a hard link, and for a member that is a directory itself.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from singularity.errors import ImageError
from singularity.image.limits import shown
from singularity.image.tree import Entry, Kind, Member, Tree

_LINKS_LIMIT = 40  # as the kernel's


class Links:
    """The directories of a root file system and its symbolic links; both change as members come."""

    def __init__(self) -> None:
        self._directories: set[bytes] = {b""}
        self._links: dict[bytes, bytes] = {}

    def add(self, member: Member) -> None:
        """Notes a member whose path has no link in it."""
        if member.kind is Kind.DIRECTORY:
            self._links.pop(member.path, None)
            self._imply(member.path)
            return
        if member.path in self._directories:
            inside = member.path + b"/"
            gone = {path for path in self._directories if path == member.path or path[: len(inside)] == inside}
            self._directories -= gone
            self._links = {path: text for path, text in self._links.items() if path[: len(inside)] != inside}
        if member.kind is Kind.LINK:
            self._links[member.path] = member.target
        else:
            self._links.pop(member.path, None)

    def is_directory(self, path: bytes) -> bool:
        """Whether a path that has no link in it is a directory."""
        return path in self._directories

    def is_link(self, path: bytes) -> bool:
        """Whether a path that has no link above it is one."""
        return path in self._links

    def followed(self, tree: Tree) -> Iterator[Entry]:
        """The entries with their paths as they lead. Raises ImageError as `leads` does."""
        for entry in tree:
            member = self._placed(entry.member)
            self.add(member)
            yield Entry(member, entry.data)

    def _imply(self, path: bytes) -> None:
        while path not in self._directories:
            self._directories.add(path)
            path = path.rpartition(b"/")[0]

    def _placed(self, member: Member) -> Member:
        path = self._below(member.path)
        if member.kind is Kind.DIRECTORY and path in self._links:
            real = self.leads(path)
            path = real if real in self._directories else path
        self._imply(path.rpartition(b"/")[0])
        if member.kind is Kind.HARD_LINK:
            return replace(member, path=path, target=self._below(member.target))
        return replace(member, path=path)

    def _below(self, path: bytes) -> bytes:
        """A path whose directories are none of them links; a link that leads to no directory gives way."""
        above, slash, name = path.rpartition(b"/")
        if not slash or above in self._directories:
            return path
        done = b""
        for part in above.split(b"/"):
            done = done + b"/" + part if done else part
            if done in self._links:
                real = self.leads(done)
                if real in self._directories:
                    done = real
                else:
                    del self._links[done]
        return done + b"/" + name if done else name

    def leads(self, path: bytes) -> bytes:
        """Where a path leads, inside the root. Raises ImageError for links in a circle."""
        done: list[bytes] = []
        pending, count = path.split(b"/"), 0
        while pending:
            part = pending.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                del done[-1:]
                continue
            text = self._links.get(b"/".join([*done, part]))
            if text is None:
                done.append(part)
                continue
            count += 1
            if count > _LINKS_LIMIT:
                raise ImageError(f"{shown(path)}: links in a circle, where another member needs a directory")
            if text.startswith(b"/"):
                done = []
            pending = text.split(b"/") + pending
        return b"/".join(done)


def of_directory(path: Path) -> Links:
    """The links and directories below a directory."""
    links = Links()
    root = os.fsencode(path)
    for above, directories, files in os.walk(root):
        for name in (*directories, *files):
            place = os.path.join(above, name)
            inside = place[len(root) + 1 :]
            if os.path.islink(place):
                links.add(Member(path=inside, kind=Kind.LINK, mode=0o777, target=os.readlink(place)))
            elif os.path.isdir(place):
                links.add(Member(path=inside, kind=Kind.DIRECTORY, mode=0o755))
    return links


def of(tree: Tree) -> Links:
    """The links and directories of a tree, whose data is not read."""
    links = Links()
    for entry in tree:
        links.add(entry.member)
    return links
