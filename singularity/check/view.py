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

from singularity.image.lookup import Directory, Lookup, Node
from singularity.image.tree import Kind

_LINKS_LIMIT = 40  # as the kernel's
_READ_LIMIT = 16 << 20


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


class View:
    """The container's files; `layers` from the top down. Methods raise ImageError."""

    def __init__(self, layers: Sequence[Lookup]) -> None:
        self._layers = layers
        self._mounts: dict[str, _Mounted] = {}
        self._ways: set[str] = set()  # the directories above mounts
        self._known: dict[str, tuple[Node, Lookup | None, str] | None] = {}

    def mount(self, source: str, target: str) -> None:
        """Shows a file or directory of the host at `target`."""
        place = self._end(target)
        real = os.path.realpath(source)
        self._put(place, _Mounted(Directory(Path(real)), real))

    def make(self, target: str, *, directory: bool) -> None:
        """Shows an empty directory, or a file of which nothing is known, at `target`."""
        self._put(self._end(target), _Mounted(None, is_directory=directory))

    def _put(self, path: str, mounted: _Mounted) -> None:
        for below in [each for each in self._mounts if each == path or each.startswith(f"{path}/")]:
            del self._mounts[below]
        self._mounts[path] = mounted
        above = path
        while above:
            above = above.rpartition("/")[0]
            self._ways.add(above or "/")
        self._known.clear()

    def find(self, path: str) -> Place | None:
        """What is there in the end; None where there is nothing, or links without end."""
        if "\0" in path:
            return None
        try:
            found = self._resolve(path)[1]
        except OSError:
            return None
        return found

    def _end(self, path: str) -> str:
        """Where a path leads, whether something is there or not."""
        try:
            return self._resolve(path)[0]
        except OSError:
            return os.path.normpath(f"/{path}")

    def _resolve(self, path: str) -> tuple[str, Place | None]:
        way = [""]
        pending = _components(path)
        links = 0
        while pending:
            name = pending.pop(0)
            if name == "..":
                way = way[: max(1, len(way) - 1)]
                continue
            here = "/".join([*way, name])
            found = self._at(here)
            if found is None or (pending and found[0].kind not in (Kind.DIRECTORY, Kind.LINK)):
                return "/".join([*way, name, *pending]), None
            if found[0].kind is not Kind.LINK:
                way.append(name)
                continue
            links += 1
            if links > _LINKS_LIMIT:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if found[0].target.startswith("/"):
                way = [""]
            pending = _components(found[0].target) + pending
        end = "/".join(way) or "/"
        found = self._at(end)
        return end, Place(path=end, node=found[0], host=found[2]) if found else None

    def _at(self, path: str) -> tuple[Node, Lookup | None, str] | None:
        """The file at a path without links, where its content is, and its path on the host."""
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
        for layer in self._layers:
            node = layer.find(path)
            if node is not None:
                whiteout = node.kind is Kind.CHARACTER_DEVICE and node.device == 0
                return None if whiteout else (node, layer, "")
        return None

    def open(self, place: Place) -> BinaryIO:
        """The content of a regular file. Raises OSError where there is none, or it may not be read."""
        found = self._at(place.path)
        if found is None or found[0].kind is not Kind.FILE:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), place.path)
        if found[1] is None:
            return io.BytesIO()
        if found[2]:
            return Directory(Path(found[2])).open("/")
        return found[1].open(place.path)

    def read(self, path: str, *, limit: int = _READ_LIMIT) -> bytes:
        """The content of a regular file. Raises OSError: EFBIG beyond `limit` bytes."""
        place = self.find(path)
        if place is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        with self.open(place) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
        return data

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, links followed."""
        place = self.find(path)
        return place is not None and place.node.kind is Kind.DIRECTORY

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no directory."""
        place = self.find(path)
        if place is None or place.node.kind is not Kind.DIRECTORY:
            return []
        if place.host:
            return sorted(Directory(Path(place.host)).names("/"))
        way = place.path.rstrip("/")
        found = {name for layer in self._layers for name in layer.names(place.path) if self._at(f"{way}/{name}")}
        found |= {name for each in self._mounts if (name := _next(each, way))}
        return sorted(found)


def _next(path: str, above: str) -> str:
    """The name in the directory `above` on the way to `path`; empty where it is not on the way."""
    return path[len(above) + 1 :].partition("/")[0] if path.startswith(f"{above}/") else ""


def _components(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
