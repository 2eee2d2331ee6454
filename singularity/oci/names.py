"""The names of a root file system while layers are laid over each other, and what is left of each layer in the end.

It follows what `layers` does with files in a directory, link by link and whiteout by whiteout; the two are compared by
tests. A file takes some 40 bytes, whatever its name: paths are found by hashes with a key of this process, of 62 bits,
so that two of a million have the same one with a chance of one in ten million.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from singularity.errors import ImageError
from singularity.image.limits import LIMITS, shown
from singularity.image.tree import Kind, Member
from singularity.oci import index
from singularity.oci.index import LayerIndex
from singularity.oci.whiteout import MARK, Mark, mark

_LINKS_LIMIT = 40  # on the way to one member, as the kernel's
_NAMES_LIMIT = 4 * LIMITS.members  # in all layers
_TEXT_LIMIT = 1 << 28  # bytes of the paths and targets that are remembered: of directories and links
_WAYS_LIMIT = 1 << 12
_GONE, _DIRECTORY, _LINK, _OTHER = range(4)  # what a node is
_ROOT = 0
_NOWHERE = -1


class Fate(IntEnum):
    """What becomes of a member of a layer."""

    DROPPED = 0
    KEPT = 1
    RENAMED = 2  # it has another name, or several


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of all layers."""

    directories: Iterator[Member]  # those above others first
    fates: list[bytearray]  # of the members of each layer, as `Fate` has them; directories are dropped
    renamed: dict[int, list[bytes]]  # the names of members, by their numbers in all layers together


@dataclass(slots=True)
class _Directory:
    """What is known of a directory beside what is known of every node."""

    path: bytes
    above: int
    attributes: bytes = b""  # as an index has them; empty where no member has spoken of it
    first: int = _NOWHERE  # the node that was put into it last


class _Nodes:
    """What there is: every file has a number, its node."""

    def __init__(self) -> None:
        self._kinds = bytearray((_DIRECTORY,))
        self._next = array("i", (_NOWHERE,))  # in the same directory
        self._makers = array("H", (0,))  # the number of the layer, from 1, that has made the node, or what is below it
        self._sources = array("I", (0,))  # the number of the member whose content a node has
        self._directories = {_ROOT: _Directory(b"", _ROOT)}
        self._links: dict[int, bytes] = {}  # their targets
        self._paths = _Paths()
        self._ways: dict[bytes, int] = {b"": _ROOT}  # to directories, links followed, as long as nothing goes
        self._text = 0
        self._layer = 0

    def _new(self, above: int, path: bytes, kind: int, source: int) -> int:
        node = len(self._kinds)
        if node > LIMITS.members * 4:
            raise ImageError(f"more than {LIMITS.members * 4} names in all layers")
        self._kinds.append(kind)
        directory = self._directories[above]
        self._next.append(directory.first)
        directory.first = node
        self._makers.append(self._layer)
        self._sources.append(source)
        self._paths.insert(path, node)
        return node

    def _new_directory(self, above: int, path: bytes) -> int:
        node = self._new(above, path, _DIRECTORY, 0)
        self._directories[node] = _Directory(self._remembered(path), above)
        return node

    def _below(self, node: int) -> Iterator[int]:
        each = self._directories[node].first
        while each != _NOWHERE:
            if self._kinds[each] != _GONE:
                yield each
            each = self._next[each]

    def _take(self, node: int) -> None:
        """Removes a node and all below it."""
        pending = [node]
        while pending:
            each = pending.pop()
            kind = self._kinds[each]
            if kind == _DIRECTORY:
                pending.extend(self._below(each))
                self._text -= len(self._directories.pop(each).path)
            elif kind == _LINK:
                self._text -= len(self._links.pop(each))
            if kind != _OTHER and len(self._ways) > 1:
                self._ways = {b"": _ROOT}
            self._kinds[each] = _GONE

    def _note(self, node: int, above: int) -> None:
        """Notes that a node, and so the directories it is in, are of this layer."""
        self._makers[node] = self._layer
        while self._makers[above] != self._layer:
            self._makers[above] = self._layer
            above = self._directories[above].above

    def _remembered(self, text: bytes) -> bytes:
        self._text += len(text)
        if self._text > _TEXT_LIMIT:
            raise ImageError(f"the names of directories and links have more than {_TEXT_LIMIT >> 20} MiB")
        return text

    def _find(self, path: bytes) -> int:
        """The node of a path without links in it; NOWHERE where there is none."""
        node = self._paths.find(path)
        return node if node != _NOWHERE and self._kinds[node] else _NOWHERE


class Names(_Nodes):
    """The names of a root file system while layers are laid over each other."""

    def __init__(self) -> None:
        super().__init__()
        self._shared: dict[int, list[tuple[int, bytes]]] = {}  # nodes and their names, by source, of hard links
        self._moved: dict[int, bytes] = {}  # by source: names that are not those of the members
        self._counts: list[int] = []
        self._start = 0  # the number of the layer's first member

    # Layers

    def lay(self, layer: LayerIndex) -> None:
        """Lays a layer over those before. Raises ImageError."""
        self._layer += 1
        number = self._start
        for letter, path, more in layer.members():
            said = mark(path, Kind.DIRECTORY if letter == index.DIRECTORY else Kind.FILE) if MARK in path else None
            if said is not None:
                self._remove_as(said, path)
            elif letter == index.FILE:
                self._put(path, _OTHER, number)
            elif letter == index.DIRECTORY:
                self._put_directory(path, more)
            elif letter == index.LINK:
                self._links[self._put(path, _LINK, number)] = self._remembered(more)
            else:
                self._put_hard_link(path, more)
            number += 1
        if number != self._start + layer.count:
            raise ImageError("damaged index of a layer")
        self._counts.append(layer.count)
        self._start = number

    def left(self) -> Left:
        """What is left. Nothing can be laid over it afterwards."""
        fates = [bytearray(count) for count in self._counts]
        every = bytearray(self._start)
        for kind, source in zip(self._kinds, self._sources, strict=True):
            if kind in (_LINK, _OTHER):
                every[source] = Fate.KEPT
        renamed = {source: [path] for source, path in self._moved.items() if every[source]}
        for source, names in self._shared.items():
            left = [path for node, path in names if self._kinds[node] != _GONE]
            if left:
                renamed[source] = left
        for source in renamed:
            every[source] = Fate.RENAMED
        at = 0
        for fate in fates:
            fate[:] = every[at : at + len(fate)]
            at += len(fate)
        return Left(self._left_directories(), fates, renamed)

    def _left_directories(self) -> Iterator[Member]:
        for each in self._directories.values():
            if each.attributes:
                yield index.directory(each.path, each.attributes)
            elif each.path:
                yield Member(path=each.path, kind=Kind.DIRECTORY, mode=0o755)

    # Members

    def _put(self, path: bytes, kind: int, source: int) -> int:
        """A file or link in place of what is there; its node."""
        above = self._way(path.rpartition(b"/")[0])
        real = self._real(above, path)
        before = self._find(real)
        if before != _NOWHERE:
            self._take(before)
        node = self._new(above, real, kind, source)
        if real is not path:
            self._moved[source] = self._remembered(real)
        self._note(node, above)
        return node

    def _put_directory(self, path: bytes, attributes: bytes) -> None:
        if not path:
            self._directories[_ROOT].attributes = attributes
            self._makers[_ROOT] = self._layer
            return
        above = self._way(path.rpartition(b"/")[0])
        real = self._real(above, path)
        node = self._find(real)
        if node != _NOWHERE and self._kinds[node] != _DIRECTORY:
            self._take(node)
            node = _NOWHERE
        if node == _NOWHERE:
            node = self._new_directory(above, real)
        self._directories[node].attributes = attributes
        self._note(node, above)

    def _put_hard_link(self, path: bytes, target: bytes) -> None:
        above = self._way(path.rpartition(b"/")[0])
        real = self._real(above, path)
        there, _, name = target.rpartition(b"/")
        missing = ImageError(f"{shown(path)}: a hard link to {shown(target)}, which is not there")
        place = self._follow(there)
        if place == _NOWHERE:
            raise missing
        wanted = _joined(self._directories[place].path, name)
        node = self._find(wanted)
        if node == _NOWHERE:
            raise missing
        if self._kinds[node] == _DIRECTORY:
            raise ImageError(f"{shown(path)}: a hard link to a directory, {shown(target)}")
        if wanted == real:
            return
        before = self._find(real)
        if before != _NOWHERE:
            self._take(before)
            if self._kinds[node] == _GONE:
                raise missing
        source, kind = self._sources[node], self._kinds[node]
        made = self._new(above, real, kind, source)
        if kind == _LINK:
            self._links[made] = self._remembered(self._links[node])
        self._shared.setdefault(source, [(node, self._remembered(wanted))]).append((made, self._remembered(real)))
        self._note(made, above)

    def _remove_as(self, said: Mark, path: bytes) -> None:
        """Carries out a whiteout in the directory that it is in, links followed."""
        above, _, name = path.rpartition(b"/")
        place = self._follow(above) if above else _ROOT
        if place == _NOWHERE:
            return
        if said is Mark.OPAQUE:
            self._clear(place)
        elif said is Mark.WHITEOUT:
            node = self._find(_joined(self._directories[place].path, name.removeprefix(MARK)))
            if node == _NOWHERE:
                return
            if self._makers[node] != self._layer:
                self._take(node)
            elif self._kinds[node] == _DIRECTORY:
                self._clear(node)

    def _clear(self, directory: int) -> None:
        """Removes what is of lower layers in a directory, and in those of this layer below it."""
        pending = [directory]
        while pending:
            for each in list(self._below(pending.pop())):
                if self._makers[each] != self._layer:
                    self._take(each)
                elif self._kinds[each] == _DIRECTORY:
                    pending.append(each)

    # Paths

    def _real(self, above: int, path: bytes) -> bytes:
        """A path with the links on the way to it resolved; the same object where there are none."""
        directory = self._directories[above].path
        at = path.rfind(b"/")
        if (path[:at] if at >= 0 else b"") == directory:
            return path
        return _joined(directory, path[at + 1 :])

    def _way(self, path: bytes) -> int:
        """The directory of this path, links followed inside the root, made where it is missing."""
        node = self._ways.get(path)
        if node is None:
            node = self._follow(path, looped=True)
            if node == _NOWHERE:
                node = self._make_way(path)
            if len(self._ways) > _WAYS_LIMIT:
                self._ways = {b"": _ROOT}
            self._ways[path] = node
        return node

    def _make_way(self, path: bytes) -> int:
        here = _ROOT
        done = b""
        for name in path.split(b"/"):
            done = _joined(done, name)
            real = _joined(self._directories[here].path, name)
            node = self._find(real)
            if node != _NOWHERE and self._kinds[node] == _LINK:
                there = self._follow(done)
                if there != _NOWHERE:
                    here = there
                    continue
                self._take(node)
                node = _NOWHERE
            if node == _NOWHERE:
                node = self._new_directory(here, real)
                self._note(node, here)
            elif self._kinds[node] != _DIRECTORY:
                raise ImageError(f"{shown(done)}: no directory, though another member of the archive lies in it")
            here = node
        return here

    def _follow(self, path: bytes, *, looped: bool = False) -> int:
        """The directory of this path as a program in the container would find it; _NOWHERE where there is none.

        Raises ImageError for links without an end, unless those on the way are to be looked at one by one (`looped`).
        """
        node = self._find(path) if path else _ROOT
        if node != _NOWHERE and self._kinds[node] == _DIRECTORY:
            return node
        here = _ROOT
        links = 0
        pending = path.split(b"/")[::-1]
        while pending:
            name = pending.pop()
            node = self._step(here, name)
            if node == _NOWHERE or self._kinds[node] == _OTHER:
                return _NOWHERE
            if self._kinds[node] == _DIRECTORY:
                here = node
                continue
            links += 1
            if links > _LINKS_LIMIT:
                if looped:
                    return _NOWHERE
                raise ImageError(f"{shown(path)}: links in a circle, where another member needs a directory")
            target = self._links[node]
            here = _ROOT if target.startswith(b"/") else here
            pending.extend(target.split(b"/")[::-1])
        return here

    def _step(self, here: int, name: bytes) -> int:
        """What a directory has of this name, which may be that of itself or of the one above."""
        if name in (b"", b"."):
            return here
        if name == b"..":
            return self._directories[here].above
        if len(name) > LIMITS.component:
            raise ImageError(f"{shown(name)}: a name longer than {LIMITS.component} bytes")
        return self._find(_joined(self._directories[here].path, name))


class _Paths:
    """A table from paths to numbers, of 12 bytes for each place in it; what is in it stays."""

    def __init__(self) -> None:
        self._keys, self._nodes = array("Q", bytes(8 << 12)), array("i", bytes(4 << 12))
        self._used = 0

    def find(self, path: bytes) -> int:
        """The number of a path, or _NOWHERE."""
        wanted = _key(path)
        keys = self._keys
        mask = len(keys) - 1
        slot = wanted & mask
        while found := keys[slot]:
            if found == wanted:
                return self._nodes[slot]
            slot = (slot + 1) & mask
        return _NOWHERE

    def insert(self, path: bytes, node: int) -> None:
        """Gives a path a number, in place of the one that it had."""
        if self._used * 10 >= len(self._keys) * 7:
            self._grow()
        self._used += self._place(_key(path), node)

    def _place(self, key: int, node: int) -> bool:
        """Whether the key is new."""
        keys = self._keys
        mask = len(keys) - 1
        slot = key & mask
        while (found := keys[slot]) and found != key:
            slot = (slot + 1) & mask
        keys[slot] = key
        self._nodes[slot] = node
        return not found

    def _grow(self) -> None:
        keys, nodes = self._keys, self._nodes
        size = 2 * len(keys)
        self._keys, self._nodes = array("Q", bytes(8 * size)), array("i", bytes(4 * size))
        for key, node in zip(keys, nodes, strict=True):
            if key:
                self._place(key, node)


def _key(path: bytes) -> int:
    """62 bits of a hash, which is never 0."""
    return hash(path) & 0x3FFFFFFFFFFFFFFF | 1 << 62


def _joined(directory: bytes, name: bytes) -> bytes:
    return directory + b"/" + name if directory else name
