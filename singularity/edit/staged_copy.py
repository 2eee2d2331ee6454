"""`cp` into an ext image that cannot be mounted: into a likeness of the place, and from there into a copy of the image.

The likeness has the directories of the image, and files of the same size, mode and time that hold no data: what cp asks
about what is there already, it finds out. Links are links to themselves, which lead nowhere, and so are devices and
pipes, which cp must not put files in place of. What is new or different after cp has run is what it did; a file that is
another one then is so under all names that it has in the image.
"""

import logging
import os
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from singularity import process
from singularity.edit import links
from singularity.errors import FileError
from singularity.image import directory
from singularity.image.tree import Entry, Kind, Member, Tree

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an image cp works: below `base`; its last word is `target`. Paths as members have them."""

    base: bytes
    target: bytes
    is_directory: bool  # the target; then all that is below it matters, else only its neighbours
    is_led_to: bool = False  # by a link

    def concerns(self, path: bytes) -> bool:
        """Whether cp may look at a member."""
        above, _, _ = path.rpartition(b"/")
        if not self.base:
            return self.is_directory or not above
        return above == self.base or (self.is_directory and path.startswith(self.base + b"/"))


def find(found: links.Links, word: str) -> Place:
    """The place of cp's last word. Raises FileError, and ImageError for links in a circle."""
    path = os.fsencode(word).strip(b"/")
    real = found.leads(path)
    if found.is_directory(real):
        return Place(real, real, True)
    above, _, name = real.rpartition(b"/")
    if not found.is_directory(above) or name in (b"", b".."):
        raise FileError(f"/{os.fsdecode(above)}: no such directory in the image")
    slash = b"/" if word.endswith("/") else b""
    before, _, last = path.rpartition(b"/")
    led = found.is_link(b"/".join(filter(None, (found.leads(before), last))))
    return Place(above, real + slash, False, led)


class Likeness:
    """The likeness, in a private empty directory."""

    def __init__(self, root: Path, place: Place, shared: Mapping[bytes, Sequence[bytes]]) -> None:
        self.root = os.fsencode(root)
        self.place = place
        self._shared = shared  # files of several names in the image: the first name, and all of them
        self._first: dict[bytes, Member] = {}  # those files, by their first name
        self._members: dict[bytes, Member] = {}  # what the image has
        self._inodes: dict[int, list[bytes]] = {}  # of the likeness, and the paths that each had at first

    def make(self, tree: Tree) -> None:
        """Fills the directory."""
        os.makedirs(self._at(self.place.base), exist_ok=True)
        directories = []
        for entry in tree:
            member = entry.member
            path = self._at(member.path)
            if member.path in self._shared:
                self._first[member.path] = member
            if member.path == self.place.base:
                directories.append(member)
                continue
            if not self.place.concerns(member.path):
                continue
            if member.kind is Kind.DIRECTORY:
                os.makedirs(path, exist_ok=True)
                directories.append(member)
                continue
            first = member.target if member.kind is Kind.HARD_LINK else member.path
            if first in self._shared:
                member = replace(self._first[first], path=member.path)
                there = next((each for each in self._shared[first] if each in self._members), None)
                if there is not None:
                    os.link(self._at(there), path, follow_symlinks=False)
                    self._note(member)
                    continue
            if member.kind is Kind.FILE:
                self._make_file(path, member)
            else:
                os.symlink(os.path.basename(path), path)
            self._note(member)
        for member in reversed(directories):
            path = self._at(member.path)
            os.chmod(path, member.mode | 0o700)
            os.utime(path, ns=(member.mtime, member.mtime))
            self._note(member)

    def _make_file(self, path: bytes, member: Member) -> None:
        with open(path, "xb") as file:
            file.truncate(member.size)
            os.fchmod(file.fileno(), member.mode | 0o600)
        os.utime(path, ns=(member.mtime, member.mtime))

    def _note(self, member: Member) -> None:
        self._members[member.path] = member
        self._inodes.setdefault(os.lstat(self._at(member.path)).st_ino, []).append(member.path)

    def _at(self, path: bytes) -> bytes:
        return os.path.join(self.root, path)

    def has_target(self) -> bool:
        """Whether the target is there, before cp has run."""
        return self.place.target.rstrip(b"/") in self._members

    def changes(self) -> Iterator[Entry]:
        """What is new or different, as entries; names that files have got in exchange for their own come first."""
        for path, old in self._moved():
            yield Entry(Member(path=path, kind=Kind.HARD_LINK, mode=0, target=old))
        for entry in directory.read(Path(os.fsdecode(self.root))):
            changed = self._changed(entry.member)
            if changed is not None:
                yield Entry(changed, entry.data)
                yield from self._other_names(changed)

    def _other_names(self, changed: Member) -> Iterator[Entry]:
        """Those that a file keeps which is another one now, wherever in the image they are."""
        inode = os.lstat(self._at(changed.path)).st_ino
        if changed.kind is not Kind.FILE or changed.path not in self._inodes.get(inode, ()):
            return
        group = next((names for names in self._shared.values() if changed.path in names), ())
        for name in group:
            if name == changed.path:
                continue
            if name in self._members:
                try:
                    if os.lstat(self._at(name)).st_ino != inode:
                        continue
                except FileNotFoundError:
                    continue
            yield Entry(Member(path=name, kind=Kind.HARD_LINK, mode=0, target=changed.path))

    def _moved(self) -> list[tuple[bytes, bytes]]:
        """Files of the image that cp gave another name, as --backup makes it."""
        found = []
        for above, _, names in os.walk(self.root):
            for name in names:
                place = os.path.join(above, name)
                path = place[len(self.root) + 1 :]
                old = self._inodes.get(os.lstat(place).st_ino, [path])
                if path not in old:
                    found.append((path, old[0]))
        return found

    def _changed(self, member: Member) -> Member | None:
        """A member of the likeness as it belongs in the image; None where the image has it already."""
        path = member.path
        before = self._members.get(path)
        status = os.lstat(self._at(path))
        old = self._inodes.get(status.st_ino)
        if old is None:  # whoever runs cp is root in the image
            leads_here = member.kind is Kind.DIRECTORY and b"/".join((b"", self.place.base, b"")).startswith(
                b"/" + path
            )
            return None if leads_here else replace(member, uid=0, gid=0)
        is_other = path not in old or member.kind is Kind.HARD_LINK  # another name of what comes by its first one
        if is_other or before is None or before.kind not in (Kind.FILE, Kind.DIRECTORY):
            return None
        extra = 0o700 if before.kind is Kind.DIRECTORY else 0o600
        same_mode = stat.S_IMODE(status.st_mode) == before.mode | extra
        same_data = before.kind is Kind.DIRECTORY or (status.st_size == before.size and status.st_blocks == 0)
        if same_mode and status.st_mtime_ns == before.mtime and same_data:
            return None
        if before.kind is Kind.FILE and same_data and before.size:
            return None  # only its attributes, which cp --attributes-only changes
        mode = before.mode if same_mode else member.mode
        if before.kind is Kind.FILE and before.mode & 0o6000 and same_mode:
            mode &= 0o1777  # as writing to such a file does
        return replace(member, uid=before.uid, gid=before.gid, mode=mode, xattrs=before.xattrs)


def run(argv: Sequence[str]) -> int:
    """Runs cp to its end; its status."""
    cp: subprocess.Popen[bytes] | None = None
    try:
        with process.signals_held():
            cp = subprocess.Popen(argv, preexec_fn=partial(process.begin, os.getpid()))
        status = cp.wait()
    except BaseException:
        if cp is not None:
            cp.kill()
            cp.wait()
        raise
    return status if status >= 0 else 128 - status


def _watched(tree: Tree, shared: dict[bytes, list[bytes]]) -> Tree:
    """The same tree; notes the files of several names that pass."""
    for entry in tree:
        if entry.member.kind is Kind.HARD_LINK:
            first = entry.member.target
            shared.setdefault(first, [first]).append(entry.member.path)
        yield entry


def copy(tree: Tree, again: Tree, words: Sequence[str], likeness: Path) -> "tuple[int, Likeness]":
    """Runs cp with these words on a likeness of an image, whose content is read twice; its status, and what it did."""
    shared: dict[bytes, list[bytes]] = {}
    made = Likeness(likeness, find(links.of(_watched(tree, shared)), words[-1]), shared)
    made.make(again)
    if made.place.is_led_to and not made.has_target():
        raise FileError(f"{words[-1]}: a link to nothing in the image")
    target = os.path.join(os.fsencode(likeness), made.place.target)
    return run([*words[:-1], os.fsdecode(target)]), made
