"""The files that a program in the container would see: the image, overlays above it, and what launches mount on them.

Links are resolved as the kernel does in the container: an image's link to /etc is a link to the container's.
"""

import errno
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from singularity.image.lookup import Directory, Followed, Lookup, Node
from singularity.image.stacked import Stacked
from singularity.image.tree import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What a path leads to."""

    path: str  # in the container, without any link in it
    node: Node
    host: str = ""  # the path on the host, of what is mounted from there


@dataclass(frozen=True, slots=True)
class _Mounted:
    lookup: Lookup | None  # None: something that launches make
    host: str = ""
    is_directory: bool = True


_MADE = Node(kind=Kind.DIRECTORY, mode=0o755, uid=os.getuid(), gid=os.getgid())
_MADE_FILE = Node(kind=Kind.FILE, mode=0o644, uid=os.getuid(), gid=os.getgid())


class View(Followed):
    """The container's files; `layers` from the top down. Methods raise ImageError, and OSError as `Followed` does."""

    def __init__(self, layers: Sequence[Lookup]) -> None:
        self._stack = _Stack(layers)
        super().__init__(self._stack)

    def mount(self, source: str, target: str) -> None:
        """Shows a file or directory of the host at `target`."""
        real = os.path.realpath(source)
        self._stack.put(self.resolve(target)[0], _Mounted(Directory(Path(real)), real))

    def make(self, target: str, *, directory: bool) -> None:
        """Shows an empty directory, or a file of which nothing is known, at `target`."""
        self._stack.put(self.resolve(target)[0], _Mounted(None, is_directory=directory))

    def find(self, path: str) -> Place | None:
        """What is there in the end; None where there is nothing, or links without end."""
        end, node = self.resolve(path)
        found = self._stack.at(end) if node else None
        return Place(path=end, node=found[0], host=found[2]) if found else None

    def resolve(self, path: str) -> tuple[str, Node | None]:
        """Where a path leads, whether something is there or not; links without end lead to nothing."""
        try:
            return super().resolve(path)
        except OSError:
            return os.path.normpath(f"/{path}"), None

    def open(self, place: Place) -> BinaryIO:
        """The content of a regular file. Raises OSError where there is none, or it may not be read."""
        return self._stack.open(place.path)


class _Stack(Lookup):
    """Layers with mounts on them, before links are followed."""

    def __init__(self, layers: Sequence[Lookup]) -> None:
        self._layers = Stacked(layers)
        self._mounts: dict[str, _Mounted] = {}
        self._ways: set[str] = set()  # the directories above mounts
        self._known: dict[str, tuple[Node, Lookup | None, str] | None] = {}

    def put(self, path: str, mounted: _Mounted) -> None:
        """Mounts something, in place of what was mounted there or below."""
        for below in [each for each in self._mounts if each == path or each.startswith(f"{path}/")]:
            del self._mounts[below]
        self._mounts[path] = mounted
        above = path
        while above:
            above = above.rpartition("/")[0]
            self._ways.add(above or "/")
        self._known.clear()

    def at(self, path: str) -> tuple[Node, Lookup | None, str] | None:
        """The file at a path, where its content is, and its path on the host."""
        if path not in self._known:
            self._known[path] = self._look(path)
        return self._known[path]

    def _look(self, path: str) -> tuple[Node, Lookup | None, str] | None:
        above = path
        while True:
            mounted = self._mounts.get(above or "/")
            if mounted is not None:
                found = self._in_mount(mounted, path[len(above) :])
                break
            if not above or above == "/":
                found = self._in_layers(path)
                break
            above = above.rpartition("/")[0]
        return found or ((_MADE, None, "") if path in self._ways else None)

    def _in_mount(self, mounted: _Mounted, rest: str) -> tuple[Node, Lookup | None, str] | None:
        if mounted.lookup is None:
            made = _MADE if mounted.is_directory else _MADE_FILE
            return None if rest else (made, None, "")
        node = mounted.lookup.find(rest or "/")
        return None if node is None else (node, mounted.lookup, mounted.host + rest)

    def _in_layers(self, path: str) -> tuple[Node, Lookup | None, str] | None:
        found = self._layers.at(path)
        return (*found, "") if found else None

    def find(self, path: str) -> Node | None:
        """What is there."""
        found = self.at(path)
        return found[0] if found else None

    def names(self, path: str) -> list[str]:
        """The names in a directory."""
        place = self.at(path)
        if place is None or place[0].kind is not Kind.DIRECTORY:
            return []
        if place[2]:
            return Directory(Path(place[2])).names("/")
        way = path.rstrip("/")
        found = {name for name in self._layers.names(path) if self.at(f"{way}/{name}")}
        return [*(found | {name for each in self._mounts if (name := _next(each, way))})]

    def open(self, path: str) -> BinaryIO:
        """The content of a file."""
        found = self.at(path)
        if found is None or found[0].kind is not Kind.FILE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if found[1] is None:
            return io.BytesIO()
        return Directory(Path(found[2])).open("/") if found[2] else found[1].open(path)


def _next(path: str, above: str) -> str:
    """The name in the directory `above` on the way to `path`; empty where it is not on the way."""
    return path[len(above) + 1 :].partition("/")[0] if path.startswith(f"{above}/") else ""
