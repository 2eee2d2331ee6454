"""Files of a stream that are held back while it goes by: those that are wanted, as it leaves them in the end."""

import errno
import os
from collections.abc import Callable
from io import BytesIO
from typing import BinaryIO

from singularity.errors import ImageError
from singularity.image.lookup import READ_LIMIT, Lookup, Node
from singularity.image.tree import Entry, Kind, Tree

_HELD_LIMIT = 64 << 20  # bytes of all files together


class Held(Lookup):
    """The files whose paths `wanted` asks for; owners and modes are forgotten. Raises ImageError for too many bytes."""

    def __init__(self, tree: Tree, wanted: Callable[[bytes], bool]) -> None:
        self._directories: dict[bytes, dict[bytes, None]] = {b"": {}}
        self._contents: dict[bytes, bytes | int] = {}  # content, or the size of what is too large to be kept
        self._links: dict[bytes, bytes] = {}
        self._held = 0
        for entry in tree:
            if wanted(entry.member.path):
                self._remove(entry.member.path, keep_directory=entry.member.kind is Kind.DIRECTORY)
                self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        member = entry.member
        path = member.path
        if member.kind is Kind.DIRECTORY:
            self._make_way(path)
            return
        if member.kind is Kind.FILE:
            self._held += 0 if member.size > READ_LIMIT else member.size
            if self._held > _HELD_LIMIT:
                raise ImageError(f"more than {_HELD_LIMIT >> 20} MiB below /.singularity.d")
            large = member.size > READ_LIMIT or member.segments is not None
            self._contents[path] = member.size if large else b"".join(entry.data)
        elif member.kind is Kind.LINK:
            self._links[path] = member.target
        elif member.kind is Kind.HARD_LINK and member.target in self._contents:
            self._contents[path] = self._contents[member.target]
        elif member.kind is Kind.HARD_LINK and member.target in self._links:
            self._links[path] = self._links[member.target]
        else:
            return
        above, _, name = path.rpartition(b"/")
        self._make_way(above)[name] = None

    def _make_way(self, path: bytes) -> dict[bytes, None]:
        """A directory, made with those above it where they are missing."""
        if path in self._directories:
            return self._directories[path]
        above, _, name = path.rpartition(b"/")
        self._make_way(above)[name] = None
        self._contents.pop(path, None)
        self._links.pop(path, None)
        return self._directories.setdefault(path, {})

    def _remove(self, path: bytes, *, keep_directory: bool) -> None:
        """What an entry replaces."""
        if keep_directory and path in self._directories:
            return
        self._contents.pop(path, None)
        self._links.pop(path, None)
        for each in [each for each in self._directories if path and (each + b"/").startswith(path + b"/")]:
            for name in self._directories.pop(each):
                self._contents.pop(each + b"/" + name, None)
                self._links.pop(each + b"/" + name, None)

    def find(self, path: str) -> Node | None:
        """What is there."""
        place = os.fsencode(path[1:])
        if place in self._directories:
            return Node(kind=Kind.DIRECTORY, mode=0o755, uid=0, gid=0)
        if place in self._links:
            return Node(kind=Kind.LINK, mode=0o777, uid=0, gid=0, target=os.fsdecode(self._links[place]))
        content = self._contents.get(place)
        if content is None:
            return None
        size = content if isinstance(content, int) else len(content)
        return Node(kind=Kind.FILE, mode=0o644, uid=0, gid=0, size=size)

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        return [os.fsdecode(name) for name in self._directories.get(os.fsencode(path[1:]), ())]

    def open(self, path: str) -> BinaryIO:
        """The content of a file. Raises OSError, EFBIG, for one that was too large, or had holes."""
        content = self._contents.get(os.fsencode(path[1:]))
        if content is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if isinstance(content, int):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return BytesIO(content)
