"""A root file system on its way from one format to another: checked, and completed with what launches expect.

The files that a build writes are made from what an image has: its scripts, labels and definition. They are few and
small. So they are held back in a directory while everything else passes, the build's own code works on that directory
as on a root file system, and what it has made of them goes out at the end.
"""

import os
import posixpath
import stat
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from singularity.build import reproducible
from singularity.errors import ImageError
from singularity.image.limits import shown
from singularity.image.root import Root
from singularity.image.squashfs import packer
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

_NANOSECONDS = 1_000_000_000
_CHUNK = 1 << 20
_HINT = "build a directory of it with --sandbox first, and go on from that"
_OWN = b".singularity.d"
_HELD = frozenset(b"singularity environment .run .exec .test .shell .build.labels .post.script".split())
_MARKED = frozenset((b"etc/hosts", b"etc/resolv.conf"))  # only whether they are there matters
TOLD = packer.Told(  # the same for who hands over those members only, of an image whose layers are packed
    hold=sorted(os.fsdecode(name) for name in _HELD),
    hold_links=("etc/localtime",),
    hold_trees=(".singularity.d", "scif/apps/*/scif"),
    show=("*", "*/*"),
    read=("usr/share/zoneinfo",),
)
_HOLDABLE = (Kind.DIRECTORY, Kind.FILE, Kind.LINK, Kind.HARD_LINK)
_HELD_TIME = 1_000_000_000  # nanoseconds since 1970: the mtime of a file that nobody has written anew
_LOCAL_TIME = b"etc/localtime"
_ZONES = b"usr/share/zoneinfo/"
_ZONE_LIMIT, _ZONES_LIMIT = 64 << 10, 8 << 20  # bytes of one file of time zones, and of all that are remembered
_LINKS_LIMIT = 8  # from one time zone to another


class RepeatedError(ImageError):
    """A path that comes again: which of the two counts is known only when the whole stream has been seen."""


class Names:
    """The paths that have passed: 13 bytes for each, whatever its length.

    Kept are hashes with a key of this process, whose lowest bit says whether the path is a directory. That two of a
    million paths have the same one has a chance of one in thirty million.
    """

    def __init__(self) -> None:
        self._table = array("Q", bytes(8 << 12))
        self._used = 0
        self._parent: bytes | None = None  # of the member before, which often is that of the next one
        self.implied: set[bytes] = set()  # directories that have members and no entry of their own so far

    def add(self, member: Member) -> None:
        """Raises RepeatedError, and ImageError for what no directory can hold: a member below something else."""
        path = member.path
        is_directory = member.kind is Kind.DIRECTORY
        parent = path.rpartition(b"/")[0]
        if parent and parent != self._parent:
            self._need(parent)
        self._parent = parent
        known = self._find(path)
        if known is None:
            self._insert(path, is_directory=is_directory)
        elif path in self.implied and is_directory:
            self.implied.discard(path)
        elif path in self.implied or known != is_directory:
            raise ImageError(f"{shown(path)}: once a directory, once something else", hint=_HINT)
        else:
            raise RepeatedError(f"{shown(path)}: there twice")

    def is_new(self, path: bytes) -> bool:
        """Adds a path, of whatever kind; whether it was not there."""
        if self._find(path) is not None:
            return False
        self._insert(path, is_directory=True)
        return True

    def __contains__(self, path: bytes) -> bool:
        return self._find(path) is not None

    def _need(self, parent: bytes) -> None:
        """All directories above a member are directories; those that have not passed are implied."""
        while parent:
            known = self._find(parent)
            if known:
                return
            if known is False:
                raise ImageError(f"{shown(parent)}: something lies below it, but it is no directory", hint=_HINT)
            self._insert(parent, is_directory=True)
            self.implied.add(parent)
            parent = parent.rpartition(b"/")[0]

    def _find(self, path: bytes) -> bool | None:
        """Whether a known path is a directory; None for an unknown one."""
        wanted = _key(path)
        table, mask = self._table, len(self._table) - 1
        slot = (wanted >> 8) & mask
        while found := table[slot]:
            if found & ~1 == wanted:
                return bool(found & 1)
            slot = (slot + 1) & mask
        return None

    def _insert(self, path: bytes, *, is_directory: bool) -> None:
        if self._used * 10 >= len(self._table) * 7:
            self._grow()
        self._place(_key(path) | is_directory)
        self._used += 1

    def _place(self, value: int) -> None:
        mask = len(self._table) - 1
        slot = (value >> 8) & mask
        while self._table[slot]:
            slot = (slot + 1) & mask
        self._table[slot] = value

    def _grow(self) -> None:
        old = self._table
        self._table = array("Q", bytes(16 * len(old)))
        for value in old:
            if value:
                self._place(value)


def _key(path: bytes) -> int:
    """62 bits of a hash between a bit that is always set and one that is for the kind."""
    return (hash(path) & 0x7FFFFFFFFFFFFFFE) | 1 << 63


def superseded(read: Callable[[], AbstractContextManager[Tree]]) -> frozenset[int]:
    """The numbers, from 0, of the entries that a later one of the same path replaces; `read` opens the stream anew.

    Raises ImageError where leaving those out gives something else than unpacking would: a hard link is to what is
    replaced after it.
    """
    names = Names()
    with read() as tree:
        again = {entry.member.path for entry in tree if not names.is_new(entry.member.path)}
    last: dict[bytes, int] = {}
    left_out = set()
    links: list[tuple[bytes, int]] = []
    with read() as tree:
        for number, entry in enumerate(tree):
            member = entry.member
            if member.path in again:
                if member.path in last:
                    left_out.add(last[member.path])
                last[member.path] = number
            if member.kind is Kind.HARD_LINK and member.target in again:
                links.append((member.target, number))
    for target, number in links:
        if number not in left_out and last[target] > number:
            raise ImageError(f"{shown(target)}: replaced after a hard link to it", hint=_HINT)
    return frozenset(left_out)


def without(tree: Tree, numbers: frozenset[int]) -> Tree:
    """The entries but those with these numbers."""
    return (entry for number, entry in enumerate(tree) if number not in numbers)


def completed(tree: Tree, place: Path, complete: Callable[[Root], None], *, zones: bool = True) -> Tree:
    """The entries, and at the end what `complete` makes of the files that launches look at.

    They are held back below the directory `place`, which is private and empty. Directories that have no entry of their
    own get one at the end. Without `zones` the files of time zones are not read, and /etc/localtime stays a link.
    Raises RepeatedError and ImageError.
    """
    names = Names()
    held = _Held(place, zones=zones)
    for entry in tree:
        member = entry.member
        names.add(member)
        if _is_held(member):
            held.take(entry)
        elif member.kind is Kind.HARD_LINK and member.target in held.members:
            held.late.append(member)
        else:
            yield held.seen(entry)
    held.find_local_time()
    with Root(place) as root:
        complete(root)
    yield from held.entries(names)
    for path in sorted(names.implied):
        yield Entry(Member(path=path, kind=Kind.DIRECTORY, mode=0o755))


def _is_held(member: Member) -> bool:
    path = member.path
    if member.kind not in _HOLDABLE:
        return False
    if path in _HELD:
        return member.kind is not Kind.DIRECTORY
    if path == _LOCAL_TIME:
        return member.kind is Kind.LINK
    if path.startswith(b"scif/apps/"):
        return path.split(b"/", 4)[3:4] == [b"scif"]
    return path == _OWN or path.startswith(b".singularity.d/")


@dataclass(slots=True)
class _Zone:
    """A file of time zones, or a link to one."""

    data: bytes = b""
    target: bytes = b""


class _Held:
    """What is held back, in a directory that looks like the root file system to whoever writes the build's files."""

    def __init__(self, place: Path, *, zones: bool) -> None:
        self.place = os.fsencode(place)
        self.reads_zones = zones
        self.members: dict[bytes, Member] = {}
        self.late: list[Member] = []  # hard links to what is held back
        self.zones: dict[bytes, _Zone] = {}
        self.zones_size = 0
        self.others: set[bytes] = set()  # in the directory, but not to be written: they stand for what has passed

    def take(self, entry: Entry) -> None:
        """Holds back an entry."""
        member = entry.member
        path = self._path(member.path)
        match member.kind:
            case Kind.DIRECTORY:
                os.makedirs(path, exist_ok=True)
            case Kind.LINK:
                if member.path != _LOCAL_TIME:
                    os.symlink(member.target, path)
            case Kind.HARD_LINK if member.target in self.members:
                original = self.members[member.target]
                os.link(self._path(member.target), path, follow_symlinks=False)
                member = replace(original, path=member.path)
            case Kind.HARD_LINK:
                self.late.append(member)
                self._mark(member.path)
                return
            case _:
                with open(path, "xb") as file:
                    _write(entry, file)
                os.utime(path, ns=(_HELD_TIME, _HELD_TIME))
        self.members[member.path] = member

    def seen(self, entry: Entry) -> Entry:
        """Remembers what the build's own code will ask about an entry that passes on; the entry itself."""
        member = entry.member
        path = member.path
        if member.kind is Kind.DIRECTORY:
            if path.count(b"/") < 2:
                os.makedirs(os.path.join(self.place, path), exist_ok=True)
                self.others.add(path)
        elif b"/" not in path and member.kind is Kind.LINK:
            os.symlink(member.target, self._path(path))
            self.others.add(path)
        elif path in _MARKED or b"/" not in path:
            self._mark(path)
        elif path.startswith(_ZONES) and self.reads_zones:
            return self._zone(entry)
        return entry

    def _zone(self, entry: Entry) -> Entry:
        member = entry.member
        if member.kind in (Kind.LINK, Kind.HARD_LINK):
            above = posixpath.dirname(member.path)
            target = member.target if member.kind is Kind.HARD_LINK else posixpath.join(b"/" + above, member.target)
            self.zones[member.path] = _Zone(target=posixpath.normpath(target).lstrip(b"/"))
        elif member.kind is Kind.FILE and member.size <= min(_ZONE_LIMIT, _ZONES_LIMIT - self.zones_size):
            self.zones_size += member.size
            data = b"".join(entry.data)
            self.zones[member.path] = _Zone(data=data)
            return Entry(member, (data,))
        return entry

    def find_local_time(self) -> None:
        """Puts the link to a time zone, with what it leads to, where the build's own code finds it."""
        link = self.members.get(_LOCAL_TIME)
        if link is None:
            return
        target = posixpath.normpath(posixpath.join(b"/etc", link.target)).lstrip(b"/")
        zone = self.zones.get(target)
        for _ in range(_LINKS_LIMIT):
            if zone is not None and zone.target:
                zone = self.zones.get(zone.target)
        if zone is None or zone.target:
            self._mark(_LOCAL_TIME)
            return
        self.others.add(target)
        with open(self._path(target), "wb") as file:
            file.write(zone.data)
        os.symlink(b"/" + target, self._path(_LOCAL_TIME))

    def entries(self, names: Names) -> Iterator[Entry]:
        """What is in the directory at the end and has not passed: as it was held back, or as it was made."""
        epoch = reproducible.source_date_epoch()
        now = (int(time.time()) if epoch is None else epoch) * _NANOSECONDS
        for above, directories, files in os.walk(self.place):
            directories.sort()
            for name in sorted([*directories, *files]):
                path = os.path.join(above, name)[len(self.place) + 1 :]
                member = self.members.get(path)
                if member is None and (path in self.others or path in names):
                    continue
                yield self._entry(path, member, now)
        for late in self.late:
            yield Entry(late)

    def _entry(self, path: bytes, before: Member | None, now: int) -> Entry:
        """A file of the directory; one that was held back has its owner and time when it is as it was."""
        place = os.path.join(self.place, path)
        status = os.lstat(place)
        kind = Kind(stat.S_IFMT(status.st_mode))
        made = Member(path=path, kind=kind, mode=stat.S_IMODE(status.st_mode), mtime=now)
        if before is not None and path == _LOCAL_TIME and path in self.others:
            return Entry(before)
        if kind is Kind.DIRECTORY:
            return Entry(before if before is not None and before.kind is kind else made)
        if kind is Kind.LINK:
            target = os.readlink(place)
            same = before is not None and before.kind is kind and before.target == target
            return Entry(before if same and before is not None else replace(made, target=target))
        if before is not None and before.kind is kind and status.st_mtime_ns == _HELD_TIME:
            made = replace(before, segments=None)
        return Entry(replace(made, size=status.st_size), _chunks(place))

    def _path(self, path: bytes) -> bytes:
        """Where a path is in the directory; the directories above it are made."""
        place = os.path.join(self.place, path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        return place

    def _mark(self, path: bytes) -> None:
        """An empty file that stands for something that passes on."""
        with open(self._path(path), "xb"):
            self.others.add(path)


def _write(entry: Entry, file: BinaryIO) -> None:
    """Writes the data of a file, with its holes."""
    member = entry.member
    segments = iter((Segment(offset=0, size=member.size),) if member.segments is None else member.segments)
    left = 0
    for chunk in entry.data:
        data = chunk
        while data:
            if not left:
                segment = next(segments)
                file.seek(segment.offset)
                left = segment.size
            file.write(data[:left])
            data, left = data[left:], max(left - len(data), 0)
    file.truncate(member.size)


def _chunks(path: bytes) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
