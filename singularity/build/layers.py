"""The root file system of a stage as a stack of layers, so that each step's changes can be kept apart.

An overlay in the mount namespace of the build shows the layers as one directory. A step writes into a fresh upper
directory, which becomes the next layer when the step has succeeded. Where there can be no overlay (a kernel that has
none, or keeps it from ordinary users; a network file system below the cache) the root file system is a plain directory,
and the next build begins anew.

In a user namespace the overlay keeps its marks in attributes that users may set (`userxattr`, Linux 5.11), and
directories of lower layers cannot be renamed, only copied: rename(2) answers EXDEV, for which mv is prepared.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from singularity import __version__, digest, files, kernel
from singularity.build import reproducible
from singularity.cache.layer_store import FORMAT, Layer, LayerCache
from singularity.errors import BuildError, FileError
from singularity.image.root import Root

_DEPTH = 120  # layers; their names must fit into one page, and some are needed for what is not kept
_OPTIONS = {  # the first that the kernel takes; volatile (5.10): what a crash loses is noticed later, by its size
    True: ("userxattr,volatile", "userxattr"),
    False: ("redirect_dir=on,index=off,metacopy=off,volatile", "redirect_dir=on,index=off", ""),
}


def enter() -> None:
    """A mount namespace of this process's own, in which mounts of the host still arrive. Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", None, kernel.MS_REC | kernel.MS_SLAVE)


def marks() -> str:
    """Which attributes mark a layer's files; layers with others cannot be used."""
    return "trusted" if kernel.is_initial_user_namespace() else "user"


def empty_key(architecture: str, *, one_id: bool, marks: str) -> str:
    """The key of an empty root file system: of what all layers of a build depend on.

    With `one_id` everything belongs to the builder, and files may be marked as those of others. Scripts see
    SOURCE_DATE_EPOCH. Raises BuildError where that is nonsense.
    """
    epoch = reproducible.source_date_epoch()
    ids = "marked" if one_id else ""
    world = {"architecture": architecture, "one_id": ids, "marks": marks, "epoch": epoch}
    return digest.of_words("layers", FORMAT, __version__, world)


def probe(place: Path) -> str:
    """Why layers cannot be made in a directory; empty when they can."""
    try:
        with files.temporary_directory(place) as scratch:
            lower, seen = scratch / "lower", scratch / "seen"
            (lower / "d" / "f").mkdir(parents=True)
            seen.mkdir()
            upper = _Upper.make(scratch / "upper", None)
            upper.mount([lower], seen)
            try:
                shutil.rmtree(seen / "d")
                (seen / "d").mkdir()
                hidden = not os.listdir(seen / "d")
            finally:
                upper.unmount()
            os.getxattr(upper.content / "d", f"{marks()}.overlay.opaque")
            return "" if hidden else "removed files come back"
    except FileError as error:
        return str(error)
    except OSError as error:
        return error.strerror or str(error)


@dataclass(slots=True, kw_only=True)
class _Upper:
    """The upper directory of an overlay: where a step's changes go."""

    content: Path
    work: Path
    at: Path | None = None  # where it is mounted

    @classmethod
    def make(cls, place: Path, below: Path | None) -> "_Upper":
        """An empty one in `place`, which is made; its root gets owner, mode and attributes of the root of `below`."""
        upper = cls(content=place / "content", work=place / "work")
        place.mkdir()
        upper.content.mkdir(mode=0o755)
        upper.work.mkdir(mode=0o700)
        upper.content.chmod(0o755)
        if below is not None:
            _copy_status(below, upper.content)
        return upper

    def mount(self, lowers: list[Path], place: Path) -> None:
        """Shows the changes over the layers `lowers`, the topmost last. Raises OSError."""
        opened = [os.open(path, os.O_PATH | os.O_CLOEXEC) for path in (self.content, self.work, *reversed(lowers))]
        try:
            names = [f"/proc/self/fd/{fd}" for fd in opened]  # short, and without characters that mean something
            data = f"upperdir={names[0]},workdir={names[1]},lowerdir={':'.join(names[2:])}"
            _mount_first(place, data)
        finally:
            for fd in opened:
                os.close(fd)
        self.at = place

    def unmount(self) -> None:
        """Ends the mount; what a host script left running there keeps what it has opened."""
        if self.at:
            kernel.unmount(str(self.at), kernel.MNT_DETACH)
            self.at = None

    def remove(self) -> None:
        self.unmount()
        files.remove_tree(self.content.parent)


def _mount_first(place: Path, data: str) -> None:
    choices = _OPTIONS[marks() == "user"]
    for options in choices:
        try:
            kernel.mount("overlay", str(place), "overlay", 0, f"{data},{options}".rstrip(","))
            return
        except OSError as error:
            if error.errno != errno.EINVAL or options == choices[-1]:  # that is what an unknown option gives
                raise


def _copy_status(source: Path, target: Path) -> None:
    status = source.stat()
    os.chown(target, status.st_uid, status.st_gid)
    for name in os.listxattr(source):
        if ".overlay." not in name:
            with suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))
    target.chmod(stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


@dataclass(slots=True, kw_only=True)
class Change:
    """What one step does; `key` is set when it is known, and without it the change is not kept."""

    content: Path | None  # of the changes alone; None in a plain directory
    key: str | None
    what: str
    definition: str


@dataclass(slots=True, kw_only=True)
class Stack:
    """The root file system of one stage."""

    path: Path  # where it is seen
    scratch: Path | None = None  # where changes are made; None: `path` is a plain directory
    cache: LayerCache | None = None  # where layers are kept; None: they are not
    replace: bool = False  # layers in the cache are replaced, not used
    key: str | None = None  # of what is seen; None: nobody can say
    _layers: list[Layer] = field(default_factory=list)  # from the bottom
    _upper: _Upper | None = None

    def begin(self, key: str | None, base: Path | None = None) -> None:
        """The empty root file system, or, with layers only, a directory that is used as it is and not written to."""
        self.path.mkdir(exist_ok=True)
        self.path.chmod(0o755)
        if self.scratch is None:
            return
        self.key = key if self.cache else None
        if base is not None:
            self._layers = [Layer(path=base)]

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been put into it so far; always False of a plain directory."""
        return self.scratch is not None and not self._layers and self._upper is None

    def can_begin_with(self, base: Path) -> bool:
        """Whether a directory can be the lowest layer: all owners have an id here, and nothing is written into it."""
        if self.scratch is None or self.scratch.resolve().is_relative_to(base.resolve()):
            return False
        if kernel.is_initial_user_namespace():
            return True
        owners = {each for pair in digest.by_status(base, changes=True).owners for each in pair}
        return owners <= {0} if kernel.maps_one_id() else kernel.OVERFLOW not in owners

    def begin_like(self, other: "Stack") -> bool:
        """Begins with all that another one shows, where that is layers alone; else False, and nothing is done."""
        if self.scratch is None or not self.is_empty or (other._upper is not None and other.key is None):
            return False  # where the other one has a key, its upper directory only shows what it is made of
        self._layers, self.key = list(other._layers), other.key
        return True

    def read(self, path: str) -> bytes | None:
        """A small file as it is now, without a mount; None where there is none. Raises OSError."""
        shown = self.scratch is None or self._upper is not None
        for place in [self.path] if shown else [layer.path for layer in reversed(self._layers)]:
            with Root(place) as root:
                if root.is_file(path):
                    return root.read(path)
        return None

    def take(self, key: str | None) -> bool:
        """Puts a layer of an earlier build on top, where there is one."""
        if key is None or self.cache is None or self.replace or self.key is None:
            return False
        layer = self.cache.take(key, self._parent())
        if layer is None:
            return False
        self._layers.append(layer)
        self.key = key
        return True

    @contextmanager
    def changing(self, key: str | None, what: str, definition: str) -> Iterator[Change]:
        """A step's changes: kept under the key, just there without one, and gone when the step fails."""
        if self.scratch is None:
            yield Change(content=None, key=None, what=what, definition=definition)
            return
        upper = self._mounted()
        change = Change(content=upper.content, key=key, what=what, definition=definition)
        yield change  # after a failure the changes stay to be looked at, until `close`
        if self.cache and change.key and self.key is not None and len(self._layers) < _DEPTH:
            self._keep(self.cache, upper, change, change.key)
        else:
            self.key = None

    def _keep(self, cache: LayerCache, upper: _Upper, change: Change, key: str) -> None:
        upper.unmount()
        layer = cache.keep(
            upper.content,
            key,
            parent=self._parent(),
            what=change.what,
            definition=change.definition,
            replace=self.replace,
        )
        self._layers.append(layer)
        self._upper = None
        self.key = key
        files.remove_tree(upper.content.parent)

    @contextmanager
    def throwaway(self) -> Iterator[None]:
        """Changes that are gone at the end, as they are when a step fails. Raises BuildError without layers."""
        upper = self._mounted() if self.scratch else None
        if upper is None or self.scratch is None:
            raise BuildError("--writable-tmpfs needs an overlay file system, which cannot be had here")
        lowers = [*(layer.path for layer in self._layers), upper.content]
        upper.unmount()
        shown = _Upper.make(self.scratch / f"upper-{os.urandom(6).hex()}", upper.content)
        shown.mount(lowers, self.path)
        try:
            yield
        finally:
            shown.remove()
            upper.work.rename(upper.work.with_name("before"))  # one that is volatile is good for one mount
            upper.work.mkdir(mode=0o700)
            upper.mount(lowers[:-1], self.path)

    def _parent(self) -> str:
        """What the next layer names as its parent: the id of the topmost layer, or the key where there is none."""
        return (self._layers[-1].id if self._layers else "") or self.key or ""

    def _mounted(self) -> _Upper:
        if self._upper is None and self.scratch is not None:
            lowers = [layer.path for layer in self._layers]
            upper = _Upper.make(self.scratch / f"upper-{os.urandom(6).hex()}", lowers[-1] if lowers else None)
            if not lowers:
                lowers = [upper.content.parent / "nothing"]
                lowers[0].mkdir()
            upper.mount(lowers, self.path)
            self._upper = upper
        if self._upper is None:
            raise BuildError(f"{self.path}: not a stack of layers")
        return self._upper

    def show(self) -> None:
        """Makes sure that `path` shows the root file system."""
        if self.scratch is not None:
            self._mounted()

    def close(self) -> None:
        """Ends the mount and removes what is not kept."""
        if self._upper:
            self._upper.remove()
            self._upper = None
