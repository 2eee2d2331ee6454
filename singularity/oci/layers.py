"""The layers of an image become one root file system: each over those below it, as the OCI image specification says.

A whiteout, an empty file `.wh.NAME`, removes what lower layers have of that name; `.wh..wh..opq` removes all that they
have in its directory. Neither touches what its own layer brings, wherever in the layer it stands. Links on the way to a
member or a whiteout are followed inside the root, as a program in the container would (security requirement T6), the
last name never. Directories in which a layer changes something without speaking of them keep their times, so
that the same image makes the same files.
"""

import errno
import logging
import os
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self

from singularity import console, files
from singularity.console import VERBOSE
from singularity.errors import ImageError
from singularity.image.archive.places import open_beneath
from singularity.image.archive.policy import Loss, Parents, Policy, Report
from singularity.image.archive.unpack import Unpacker, warn
from singularity.image.limits import shown
from singularity.image.tree import Entry, Kind
from singularity.oci import members
from singularity.oci.image import Image, Layer
from singularity.oci.whiteout import MARK, Mark, mark

logger = logging.getLogger(__name__)

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY


def unpack(image: Image, root: Path) -> None:
    """Unpacks all layers into the directory `root`. Raises ImageError, FileError and ToolError."""
    losses: Counter[Loss] = Counter()
    policy = replace(Policy.of_caller(), parents=Parents.FOLLOW)
    with console.counting("unpacking", image.size) as add:
        for number, layer in enumerate(image.told(add).layers, 1):
            logger.log(VERBOSE, "Layer %d of %d: %s", number, len(image.layers), layer.name)
            losses.update(_apply(layer, root, policy).left_out)
    warn(Report(left_out=losses), Path(image.name))


def _apply(layer: Layer, root: Path, policy: Policy) -> Report:
    with members.read(layer) as tree, _Applied(root, policy) as applied:
        for entry in tree:
            applied.add(entry)
        return applied.finish()


class _Applied:
    """One layer on its way into the root."""

    def __init__(self, root: Path, policy: Policy) -> None:
        self._made: set[bytes] = set()  # paths of this layer, with those of the directories they are in
        self._members: set[bytes] = set()  # paths that the layer speaks of
        self._times: dict[bytes, int] = {}  # of directories that it does not speak of
        self._looked_at: set[bytes] = set()  # ways to directories whose times are in order, until links change
        self._unpacker = Unpacker(root, policy, on_made=self._note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *about: object) -> None:
        self._unpacker.__exit__(None, None, None)

    def add(self, entry: Entry) -> None:
        """Unpacks a member, or carries out what it says."""
        member = entry.member
        above, _, name = member.path.rpartition(b"/")
        said = mark(member.path, member.kind)
        if said is not None:
            self._keep_time(above)
            self._remove(above, name, said)
            return
        if member.path:
            self._keep_time(above)
        if member.kind in (Kind.LINK, Kind.HARD_LINK):
            self._looked_at.clear()
        self._unpacker.add(entry)

    def finish(self) -> Report:
        """Gives directories their times, and tells what could not be kept."""
        report = self._unpacker.finish()
        for path, time in self._times.items():
            if path not in self._members:
                place = self._unpacker.root.fd, path, _DIRECTORY | os.O_CLOEXEC
                with suppress(OSError), files.closing(open_beneath(*place)) as fd:  # gone, or no directory any more
                    os.utime(fd, ns=(time, time))
        return report

    def _note(self, path: bytes) -> None:
        self._members.add(path)
        while path not in self._made:
            self._made.add(path)
            path = path.rpartition(b"/")[0]

    def _keep_time(self, above: bytes) -> None:
        """Notes when a directory, or the last one on the way to it, was changed, before this layer changes it."""
        if above in self._looked_at:
            return
        self._looked_at.add(above)
        try:
            fd = self._unpacker.root.open(os.fsdecode(above), _DIRECTORY)
        except OSError:
            if above:
                self._keep_time(above.rpartition(b"/")[0])
            return
        with files.closing(fd):
            path = self._real(fd)
            if path not in self._members:
                self._times.setdefault(path, os.fstat(fd).st_mtime_ns)

    def _real(self, fd: int) -> bytes:
        """The path of an open directory from the root, links resolved."""
        root, here = (os.fsencode(os.readlink(f"/proc/self/fd/{each}")) for each in (self._unpacker.root.fd, fd))
        return here.removeprefix(root).lstrip(b"/")

    def _remove(self, above: bytes, name: bytes, said: Mark) -> None:
        """Carries out a whiteout in the directory `above`."""
        place = self._followed(above)
        if place is None:
            return
        if said is Mark.OPAQUE:
            self._clear(place)
        elif said is Mark.WHITEOUT:
            self._take_away(place + b"/" + name.removeprefix(MARK) if place else name.removeprefix(MARK))

    def _followed(self, path: bytes) -> bytes | None:
        """The path of a directory from the root, links resolved; None where there is none."""
        try:
            fd = self._unpacker.root.open(os.fsdecode(path), os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ImageError(f"{shown(path)}: links in a circle, where a whiteout needs a directory") from error
            raise
        with files.closing(fd):
            return self._real(fd)

    def _clear(self, directory: bytes) -> None:
        self._keep_time(directory)
        for name in self._unpacker.names(directory):
            self._take_away(directory + b"/" + name if directory else name)

    def _take_away(self, path: bytes) -> None:
        """Removes what is of lower layers at a path and below it."""
        if path not in self._made:
            self._unpacker.remove(path)
        elif self._is_real_directory(path):
            self._clear(path)

    def _is_real_directory(self, path: bytes) -> bool:
        """Whether a directory is there, no link on the way and none itself."""
        try:
            fd = open_beneath(self._unpacker.root.fd, path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return False
            raise
        with files.closing(fd):
            return stat.S_ISDIR(os.fstat(fd).st_mode)
