"""An image that holds only what differs from its base, and the whole image that the two are together.

Such an image is packed from the finished root file system, compared with the base file by file, contents too: whatever
the definition did, it and the base have all that the ordinary build has. `flatten` unpacks both and packs them as the
ordinary build would have, in the same order, so that of the same files the same bytes come.
"""

import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from singularity import console, files, uri
from singularity.build import convert, pack, reproducible
from singularity.build.agents import localimage
from singularity.build.request import BuildRequest, On, Target
from singularity.errors import ImageError, UsageError
from singularity.image import base, contents, directory, stacked
from singularity.image.base import Base
from singularity.image.identify import Image, identify
from singularity.image.layered import UPPER, is_whiteout
from singularity.image.lookup import Lookup
from singularity.image.root import Root
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType
from singularity.image.sif.write import NewObject
from singularity.image.tree import Entry, Kind, Member, Segment, Tree

logger = logging.getLogger(__name__)

_NANOSECONDS = 1_000_000_000
_CHUNK = 1 << 20
# Arguments of mksquashfs that say how files are packed, and nothing else: others read and write files of the host, or
# execute commands (`-action`, `-p`, `-log`), and an image may say what it likes.
_WITH_WORD = frozenset((
    "-b", "-comp", "-Xcompression-level", "-Xdict-size", "-Xbcj", "-Xwindow-size", "-Xstrategy", "-Xalgorithm",
))  # fmt: skip
_ALONE = frozenset((
    "-noI", "-noInodeCompression", "-noId", "-noIdTableCompression", "-noD", "-noDataCompression", "-noF",
    "-noFragmentCompression", "-noX", "-noXattrCompression", "-no-compression", "-no-fragments", "-tailends",
    "-always-use-fragments", "-no-duplicates", "-no-sparse", "-no-exports", "-nopad", "-no-xattrs", "-Xhc",
))  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9,]+", re.ASCII)


@contextmanager
def based(named: str, request: BuildRequest, *, encrypt: bool) -> Iterator[On]:
    """What TARGET is made on, a file or a URI: found, and read once, before the work.

    Raises UsageError for a TARGET that can be on nothing, ImageError for what can be no base, and what fetching raises.
    """
    if request.format is not Target.SIF or request.erofs or encrypt:
        becomes = "erofs" if request.erofs else "encrypted" if encrypt else request.format.value
        raise UsageError("--on is for SIF files with squashfs", hint=f"TARGET becomes {becomes}")
    from singularity.sources import images

    parsed = uri.parse(named)
    if parsed is None:
        on = On(path=Path(named))
        of(on)
        yield on
        return
    with images.available(parsed, request.fetch) as path:
        on = On(path=path, name=parsed.file_name, uri="" if parsed.transport.is_oci else str(parsed))
        of(on)
        yield on


def of(on: On) -> tuple[Image, Base]:
    """The image that is to be the base, and what is said of it. Raises ImageError for one that can be none."""
    if on.path.is_dir():
        raise ImageError(f"{on.path}: a directory, and no base", hint="a base is a SIF, squashfs or EROFS file")
    image = identify(on.path)
    base.refuse_as_base(image)
    if len(base.chain(image)) > base.LIMIT:
        raise ImageError(f"{on.path}: {base.LIMIT} images on each other already", hint="flatten it first")
    said = Base(base.digest_of(on.path), on.path.stat().st_size, on.name or on.path.resolve().name, on.uri)
    return image, said


def write(root: Path, request: BuildRequest, on: On, architecture: str, *, read_first: Sequence[str]) -> None:
    """Writes `request.target`, whole or not at all, from a finished root file system. Raises as `pack.pack`."""
    image, said = of(on)
    epoch = reproducible.source_date_epoch()
    said = said._replace(epoch=epoch, first=tuple(read_first), arguments=request.mksquashfs_arguments)
    with console.working(f"comparing with {on.path}"):
        wanted, gone, sparse = _difference(root, image, epoch)
    said = said._replace(sparse=tuple(sorted(f"/{os.fsdecode(each)}" for each in sparse)))
    with Root(root) as opened:
        objects = [
            NewObject(type=DataType.GENERIC_JSON, data=said.encode(), name=base.OBJECT_NAME),
            *pack.objects_of(opened),
        ]
    with (
        files.temporary_directory(request.temporary) as place,
        files.replacing(request.target, overwrite=request.overwrite, mode=0o777) as new,
    ):
        offset = sif_write.partition_offset(())
        convert.write_layer(_tree(root, wanted, gone), request, new, offset, place)
        name = base.MARK + said.digest.encode()
        convert.write_objects(new, objects, offset, architecture, partition_name=name)
    kept, all_ = len(wanted), len(wanted) + len(gone)
    logger.info("On %s: %d files and directories of its own, %d gone", on.path, kept, all_ - kept)


# ---- what differs


def _difference(root: Path, image: Image, epoch: int | None) -> tuple[set[bytes], list[bytes], set[bytes]]:
    """What is kept, with all directories above it, what of the base is gone, and what of the kept has holes: paths."""
    with contents.tree(image) as tree:
        below = _Listed((entry.member for entry in tree), epoch)
    changed: set[bytes] = set()
    with stacked.shown(image) as lookup:
        members: list[Member] = []
        for entry in directory.read(root):
            member = entry.member
            if is_whiteout(member):
                raise ImageError(f"/{os.fsdecode(member.path)}: a device 0:0, which stands for a file that is gone")
            members.append(member)
            same = below.attributes.get(member.path) == below.attributes_of(member)
            if member.kind is not Kind.HARD_LINK and not (same and (not member.size or _is_same(entry, lookup))):
                changed.add(member.path)
    here = _Listed(members, epoch)
    groups, were = ({frozenset(names) for names in each.groups.values()} for each in (here, below))
    for names in groups | were:  # a file with several names is of one layer, with all of them
        if names not in groups & were or names & changed:
            changed |= names & here.attributes.keys()
    wanted = {b"", *changed}
    for path in changed:
        while path := path.rpartition(b"/")[0]:
            wanted.add(path)
    gone = sorted(path for path in below.attributes if path not in here.attributes and here.has_place(path))
    for path in gone:
        while path := path.rpartition(b"/")[0]:
            wanted.add(path)
    return wanted, gone, wanted & {each.path for each in members if each.segments is not None}


class _Listed:
    """The files of a tree by path: their attributes, and which are names of one file."""

    def __init__(self, members: Iterator[Member] | Sequence[Member], epoch: int | None) -> None:
        self.latest = pack.TIMES.stop - 1 if epoch is None else min(epoch, pack.TIMES.stop - 1)
        self.attributes: dict[bytes, object] = {}
        self.groups: dict[bytes, set[bytes]] = {}  # of files with several names, by the first one
        self.directories: set[bytes] = set()
        for member in members:
            if member.kind is Kind.HARD_LINK:
                self.groups.setdefault(member.target, {member.target}).add(member.path)
                self.attributes[member.path] = self.attributes.get(member.target)
            else:
                self.attributes[member.path] = self.attributes_of(member)
            if member.kind is Kind.DIRECTORY:
                self.directories.add(member.path)

    def attributes_of(self, member: Member) -> object:
        """What must be the same, but for the content; times as a file system of a SIF file will have them."""
        time = max(0, min(member.mtime // _NANOSECONDS, self.latest))
        owner = (member.uid, member.gid)
        return (member.kind, member.mode, *owner, time, member.size, member.target, member.device, dict(member.xattrs))

    def has_place(self, path: bytes) -> bool:
        """Whether the directory is there that a path would be in."""
        return path.rpartition(b"/")[0] in self.directories


def _is_same(entry: Entry, lookup: Lookup) -> bool:
    """Whether a file has the content that the base has at its path. A file whose size changes meanwhile is another."""
    member = entry.member
    with lookup.open("/" + os.fsdecode(member.path)) as file:
        chunks, at = iter(entry.data), 0
        for segment in member.segments if member.segments is not None else (Segment(offset=0, size=member.size),):
            if not _is_hole(file, segment.offset - at):
                return False
            left = segment.size
            while left:
                chunk = next(chunks, b"")
                if not chunk or file.read(len(chunk)) != chunk:
                    return False
                left -= len(chunk)
            at = segment.offset + segment.size
        return _is_hole(file, member.size - at)


def _is_hole(file: BinaryIO, size: int) -> bool:
    while size:
        data = file.read(min(size, _CHUNK))
        if not data or data.strip(b"\0"):
            return False
        size -= len(data)
    return True


def _tree(root: Path, wanted: set[bytes], gone: Sequence[bytes]) -> Tree:
    """What is kept, below `upper`, so that no file of the image can be taken for that directory of an overlay."""
    yield Entry(Member(path=b"", kind=Kind.DIRECTORY, mode=0o755))
    for entry in directory.read(root, skipped=lambda path, _: path not in wanted):
        member = entry.member
        target = _below(member.target) if member.kind is Kind.HARD_LINK else member.target
        yield Entry(replace(member, path=_below(member.path), target=target), entry.data)
    for path in gone:
        yield Entry(Member(path=_below(path), kind=Kind.CHARACTER_DEVICE, mode=0))


def _below(path: bytes) -> bytes:
    return UPPER + b"/" + path if path else UPPER


# ---- one file again


def refuse_whole(image: Image) -> Base:
    """What an image says of its base. Raises ImageError for one that is on none."""
    said = base.of(image)
    if said is None:
        raise ImageError(f"{image.path}: whole, and on no base", hint="a copy of it is all that there is to make")
    return said


def flatten(source: Path, target: Path, temporary: Path, *, overwrite: bool) -> None:
    """Makes a whole image of one that is on a base: that of the ordinary build, to the byte where time had no say.

    Raises ImageError for a whole image, and what `localimage.fill` and `pack.pack` raise.
    """
    image = identify(source)
    said = refuse_whole(image)
    files.refuse_target(target, overwrite=overwrite)
    with _epoch(said.epoch), files.temporary_directory(temporary) as place:
        root = place / "root"
        root.mkdir()
        localimage.fill(source, root)
        with console.working(f"writing {target}"):
            pack.pack(
                root,
                target,
                architecture=image.architecture,
                arguments=_packing(said.arguments, source),
                overwrite=overwrite,
                read_first=said.first,
            )


def _packing(said: Sequence[str], source: Path) -> list[str]:
    """Those arguments of an image's build that the image is believed."""
    kept: list[str] = []
    for option, word in zip(said, (*said[1:], ""), strict=False):
        if option in _ALONE:
            kept.append(option)
        elif option in _WITH_WORD and _WORD.fullmatch(word):
            kept += (option, word)
    if len(kept) != len(said):
        logger.warning("%s: arguments of mksquashfs that do more than to pack are left out; files are the same", source)
    return kept


@contextmanager
def _epoch(epoch: int | None) -> Iterator[None]:
    """The time of the build, for whatever asks for it; as it was afterwards."""
    before = os.environ.pop("SOURCE_DATE_EPOCH", None)
    if epoch is not None:
        os.environ["SOURCE_DATE_EPOCH"] = str(epoch)
    try:
        yield
    finally:
        os.environ.pop("SOURCE_DATE_EPOCH", None)
        if before is not None:
            os.environ["SOURCE_DATE_EPOCH"] = before
