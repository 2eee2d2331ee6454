"""From one image format to another as a stream: nothing on disk but the new file, and no privilege.

What an ordinary user converts is what root converts: owners, device nodes and files that nobody may read pass through
as entries of the stream, and no file of theirs is ever made.
"""

import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from singularity import console, files, process
from singularity.build import architecture, layout, pack, platform_files, reproducible, streaming, writers
from singularity.build.request import BuildRequest, Chosen, Target
from singularity.cache.packed_store import Store
from singularity.console import VERBOSE
from singularity.definition import source
from singularity.errors import ImageError
from singularity.image import base, metadata
from singularity.image.identify import Format, Image
from singularity.image.root import Root
from singularity.image.sif import format as sif
from singularity.image.sif import write as sif_write
from singularity.image.sif.format import DataType
from singularity.image.sif.write import NewObject
from singularity.image.squashfs import packer
from singularity.image.squashfs import root as squashfs_root
from singularity.image.squashfs import tools as squashfs
from singularity.image.tree import Entry, Kind, Member, Tree
from singularity.trust import provenance

if TYPE_CHECKING:
    from singularity.oci import image as oci_image
    from singularity.oci.index import LayerIndex

logger = logging.getLogger(__name__)

_NEED_A_TREE = frozenset(
    ("-sort", "-action", "-log-action", "-true-action", "-false-action", "-e", "-ef", "-wildcards")
)
_FILESYSTEMS = (Target.SIF, Target.SQUASHFS)
_NANOSECONDS = 1_000_000_000
_XATTRS = (b"user.", b"trusted.", b"security.")  # that squashfs knows


def _needs_a_tree(request: BuildRequest) -> bool:
    """Whether what is asked for is made of a directory only: mkfs.erofs takes archives since 1.7 alone."""
    return request.format is Target.SANDBOX or request.makes_erofs or request.onto is not None


def can_stream(image: Image, request: BuildRequest) -> bool:
    """Whether `perform` can make what is asked for: a file from a file, with nothing to be run or copied between.

    Raises ToolError where mksquashfs is needed and missing.
    """
    if image.format is Format.DIRECTORY or _needs_a_tree(request):
        return False
    if request.format not in _FILESYSTEMS:
        return True
    if _NEED_A_TREE.intersection(request.mksquashfs_arguments):
        return False
    return _is_copied(image, request) or _is_packed(request) or squashfs.reads_tar(purpose=f"write {request.target}")


def perform(image: Image, request: BuildRequest) -> None:
    """Writes `request.target`, whole or not at all, from an image for which `can_stream` is true.

    It gets what a build writes below /.singularity.d, as `singularity build` from a definition that names the image
    does; only a squashfs file, and a SIF file that has all that already, are copied as they are, with their layout.
    Raises ImageError, FileError and ToolError.
    """
    files.refuse_target(request.target, overwrite=request.overwrite)
    if _is_copied(image, request):
        _copy(image, request)
        return

    chosen = request.only.chosen(image) if request.only else None

    @contextmanager
    def read() -> Iterator[Tree]:
        from singularity.image import contents

        with contents.tree(image) as tree, writers.counted(_chosen(tree, chosen), "writing") as told:
            yield told

    with files.temporary_directory(request.temporary, keep=request.keep) as directory:
        has = _architecture(image.architecture, request)
        configure = chosen.complete if chosen else _nothing
        _Conversion(str(image.path), read, has, request, directory, image.path.stat().st_size, configure).perform()


def _nothing(root: Root) -> None:
    del root


def _chosen(tree: Tree, chosen: Chosen | None) -> Tree:
    return tree if chosen is None else (entry for entry in tree if entry.member.path in chosen.paths)


def can_stream_layers(request: BuildRequest) -> bool:
    """Whether `convert_oci` can make what is asked for. Raises ToolError where mksquashfs is needed and missing."""
    if _needs_a_tree(request):
        return False
    if request.format not in _FILESYSTEMS or packs(request):
        return True
    return not _NEED_A_TREE.intersection(request.mksquashfs_arguments) and squashfs.reads_tar(
        purpose=f"write {request.target}"
    )


def packs(request: BuildRequest) -> bool:
    """Whether layers are packed each by itself, and merged: unless mksquashfs was told what to do, or files change."""
    return request.format in _FILESYSTEMS and not request.fix_permissions and _is_packed(request)


def _is_packed(request: BuildRequest) -> bool:
    """Whether we write it ourselves: squashfs of which mksquashfs was not told how, by a program that was built."""
    return not (request.erofs or request.mksquashfs_arguments) and packer.is_there()


def convert_oci(
    image: "oci_image.Image",
    request: BuildRequest,
    indexed: "Callable[[oci_image.Layer], LayerIndex] | None" = None,
    *,
    packed: Path | None = None,
) -> None:
    """Writes `request.target`, whole or not at all, from the layers of an image; `can_stream_layers` must be true.

    It is what a build from a definition that names the image makes, with all owners and devices, whoever builds it.
    `indexed` gives the index of a layer that may have been made before; `packed` is where packed layers are kept.
    Raises ImageError, FileError and ToolError.
    """
    from singularity.oci import container, merge
    from singularity.oci.index import index_layer

    files.refuse_target(request.target, overwrite=request.overwrite)

    @contextmanager
    def read() -> Iterator[Tree]:
        with console.counting("reading", image.size) as add:
            tree = merge.merged(image.told(lambda count: add(count)), indexed or index_layer)
        with closing(tree), console.counting("packing", image.size) as add:
            yield tree

    def configure(root: Root) -> None:
        container.write(root, image)

    with files.temporary_directory(request.temporary, keep=request.keep) as directory:
        has = _architecture(image.config.platform.architecture, request)
        conversion = _Conversion(image.name, read, has, request, directory, image.size or 0, configure)
        if packs(request):
            conversion.pack(image, packed or directory)
        else:
            conversion.perform()


def _is_copied(image: Image, request: BuildRequest) -> bool:
    """Whether the file system is there, byte for byte as it is asked for."""
    changed = request.mksquashfs_arguments or request.fix_permissions or request.only
    if image.root.format is not Format.SQUASHFS or changed or base.of(image) is not None:
        return False
    return request.format is Target.SQUASHFS or (request.format is Target.SIF and _is_described(image))


def _is_described(image: Image) -> bool:
    """Whether an image says about itself what a build would write."""
    return image.content is not None and image.content.find(DataType.GENERIC_JSON, metadata.OBJECT_NAME) is not None


def _copy(image: Image, request: BuildRequest) -> None:
    with (
        files.replacing(request.target, overwrite=request.overwrite, mode=0o777) as new,
        image.path.open("rb") as file,
    ):
        if request.format is Target.SQUASHFS or image.content is None:
            copy_partition(image, file, new.fd, 0)
            return
        offset = sif_write.partition_offset(())
        copy_partition(image, file, new.fd, offset)
        write_objects(new, objects_of(image.content, file), offset, _architecture(image.architecture, request))


def copy_partition(image: Image, file: BinaryIO, target: int, offset: int) -> None:
    """The file system of an image, byte for byte, into an open file. Raises ImageError where it is cut off."""
    part = image.root
    if os.fstat(file.fileno()).st_size < part.offset + part.size:
        raise ImageError(f"{image.path}: ends within its file system", hint="incomplete? fetch it again")
    files.copy_range(file.fileno(), part.offset, part.offset + part.size, target, offset - part.offset)


def objects_of(content: sif.Sif, file: BinaryIO) -> list[NewObject]:
    """What a SIF file says about its primary partition; signatures and provenance are of the file that they are in."""
    primary = content.primary()
    return [
        NewObject(type=DataType(each.type), data=sif.read_object(file, each), name=each.name)
        for each in content.descriptors
        if primary
        and each.group == primary.group
        and each.type in (DataType.DEFINITION, DataType.GENERIC_JSON)
        and each.name != provenance.OBJECT_NAME
    ]


def _architecture(said: str, request: BuildRequest) -> str:
    """What was asked for, what the image says, else this machine's, as SIF names it."""
    named = (request.architecture, said)
    return next((name for name in named if name in sif.ARCHITECTURES), "") or architecture.host().sif


def write_objects(
    new: files.NewFile,
    objects: list[NewObject],
    offset: int,
    architecture: str,
    filesystem: sif.Filesystem = sif.Filesystem.SQUASHFS,
    *,
    partition_name: bytes = b"",
) -> None:
    """Puts the objects behind the partition at `offset`, and the head before it."""
    size = os.fstat(new.fd).st_size - offset
    head, rest = sif_write.encode_around(
        objects,
        partition_offset=offset,
        partition_size=size,
        filesystem=filesystem,
        architecture=architecture,
        id=pack.new_id(),
        time=pack.new_time(),
        name=partition_name,
    )
    files.write_at(new.fd, head, 0)
    files.write_at(new.fd, rest, offset + size)


def write_layer(tree: Tree, request: BuildRequest, new: files.NewFile, offset: int, place: Path) -> None:
    """Writes a tree as a squashfs file system `offset` bytes into a file; `place` is for what is in between."""
    conversion = _Conversion(str(request.target), lambda: nullcontext(tree), "", request, place)
    with writers.counted(tree, "packing") as told:
        conversion.write_file_system(writers.clamped(told), new, offset)


@dataclass
class _Conversion:
    """One conversion; tried again when the stream turns out to need more than one look."""

    name: str  # of the source, for messages
    source: Callable[[], AbstractContextManager[Tree]]  # the image as a stream, from its beginning
    architecture: str
    request: BuildRequest
    directory: Path
    size: int = 0  # bytes of the source, about
    configure: Callable[[Root], None] = _nothing  # writes what the source says beside its files
    left_out: frozenset[int] = frozenset()
    root: Member = Member(path=b"", kind=Kind.DIRECTORY, mode=0o755)  # noqa: RUF009 - frozen
    attempts: int = 0

    def perform(self) -> None:
        while True:
            self.attempts += 1
            try:
                self.write()
            except streaming.RepeatedError as error:
                if self.left_out:
                    raise
                logger.log(VERBOSE, "%s: %s: what is replaced is looked for first", self.name, error)
                self.left_out = streaming.superseded(self.source)
            else:
                return

    def write(self) -> None:
        request = self.request
        place = self.directory / f"attempt-{self.attempts}"
        place.mkdir()
        objects: list[NewObject] = []

        def complete(root: Root) -> None:
            self.configure(root)
            self.write_metadata(root)
            objects.extend(pack.objects_of(root))

        with (
            self.source() as tree,
            files.replacing(request.target, overwrite=request.overwrite, mode=0o777) as new,
        ):
            wanted = streaming.without(tree, self.left_out) if self.left_out else tree
            if request.fix_permissions:
                wanted = _with_permissions(wanted)
            whole = writers.clamped(streaming.completed(wanted, place, complete))
            match request.format:
                case Target.TAR:
                    writers.write_tar(whole, new, request.target)
                case Target.EXT3:
                    writers.write_ext3(whole, new, request)
                case Target.SQUASHFS:
                    self.write_file_system(whole, new, 0)
                case _:
                    offset = sif_write.partition_offset(())
                    self.write_file_system(whole, new, offset)
                    write_objects(new, objects, offset, self.architecture)
            if request.only:
                request.only.try_out(new, request.target)

    def pack(self, image: "oci_image.Image", store: Path) -> None:
        """The same from packed layers: no stream of all their files, and so no second attempt."""
        from singularity.build import packing

        request, objects = self.request, list[NewObject]()

        def complete(root: Root) -> None:
            self.configure(root)
            self.write_metadata(root)
            objects[:] = pack.objects_of(root)

        place = self.directory / "packing"
        place.mkdir()
        form = packer.form()
        with files.replacing(request.target, overwrite=request.overwrite, mode=0o777) as new:
            offset = sif_write.partition_offset(()) if request.format is Target.SIF else 0
            packing.write(image, Store(store, str(form)), form, new, request.target, offset, place, complete)
            if request.format is Target.SIF:
                write_objects(new, objects, offset, self.architecture)

    def write_metadata(self, root: Root) -> None:
        """What a build writes."""
        request = self.request
        definition = source.read(request.source, request.arguments, unused_allowed=True)
        epoch = reproducible.source_date_epoch()
        facts = platform_files.Facts(
            architecture=self.architecture,
            time=int(time.time()) if epoch is None else epoch,
            overwrite=request.overwrite,
            sections=request.sections,
        )
        platform_files.write(root, definition, definition.stages[-1], facts)

    def write_file_system(self, tree: Tree, new: files.NewFile, offset: int) -> None:
        """Writes a squashfs file system `offset` bytes into a file: of one layer, which is packed first."""
        if not _is_packed(self.request):
            self.write_squashfs(tree, new, offset)
            return
        from singularity.image.archive import tar_writer

        form, name = packer.form(), str(self.request.target)
        layer = self.directory / f"layer-{self.attempts}"
        budget = int(self.size * layout.LAYER_SHARE)
        with (
            layer.open("x+b") as file,
            packer.layer(file.fileno(), form=form, choice=layout.LAYERS, budget=budget, name=name) as archive,
        ):
            tar_writer.write(tree, archive)
        epoch = reproducible.source_date_epoch()
        with packer.merging(
            [layer], new.fd, offset=offset, form=form, told=packer.Told(), epoch=epoch, scratch=self.directory,
            name=name, first=layout.FIRST, literal=True,
        ) as merging:  # fmt: skip
            for _ in merging.members():
                pass
            tar_writer.write(iter(()), merging.input)
            losses = merging.finish()
        pack.warn_of_losses(self.request.target, losses.times, losses.lists)

    def write_squashfs(self, tree: Tree, new: files.NewFile, offset: int) -> None:
        """The same by mksquashfs."""
        request = self.request
        purpose = f"write {request.target}"
        argv: list[str | Path] = ["mksquashfs", "-", new.path, "-tar", "-quiet", *pack.common_arguments(offset)]
        argv += pack.compression(request.mksquashfs_arguments, purpose, packer.LEVEL)
        argv += pack.memory(request.mksquashfs_arguments)
        argv += ["-noI"] if "-noI" not in request.mksquashfs_arguments else []  # set_attributes() changes the table
        argv += request.mksquashfs_arguments
        from singularity.image.archive import tar_writer

        with process.started(
            argv, purpose=purpose, stdin=subprocess.PIPE, keep=[new.fd], environment=reproducible.environment()
        ) as tool:
            tar_writer.write(self.fitting(tree), writers.wide(tool))
        root = self.root
        time = root.mtime // _NANOSECONDS
        attributes = squashfs_root.Attributes(mode=root.mode, uid=root.uid, gid=root.gid, time=time)
        if not squashfs_root.set_attributes(new.fd, offset, attributes):
            logger.warning("%s: the root directory is root's: its owner has nothing else there", request.target)

    def fitting(self, tree: Tree) -> Tree:
        """The entries but the root, as far as squashfs can hold what they say; what it cannot is counted."""
        from singularity.image.archive import sparse

        times = xattrs = 0
        for entry in tree:
            member = entry.member
            seconds = member.mtime // _NANOSECONDS
            if seconds not in pack.TIMES:
                times += 1
                seconds = min(max(seconds, pack.TIMES.start), pack.TIMES.stop - 1)
            kept = member.xattrs
            if kept and not all(name.startswith(_XATTRS) for name in kept):
                xattrs += 1
                kept = {name: value for name, value in kept.items() if name.startswith(_XATTRS)}
            if seconds * _NANOSECONDS != member.mtime or kept is not member.xattrs:
                member = replace(member, mtime=seconds * _NANOSECONDS, xattrs=kept)
                entry = Entry(member, entry.data)
            if member.path:
                yield entry if member.segments is None else sparse.in_blocks(entry)
            else:
                self.root = member
        pack.warn_of_losses(self.request.target, times, xattrs)


def _with_permissions(tree: Tree) -> Tree:
    """The entries, with owners who may read and write everything."""
    bits: dict[Kind, int] = {Kind.DIRECTORY: 0o700, Kind.FILE: 0o600}
    for entry in tree:
        mode = entry.member.mode | bits.get(entry.member.kind, 0)
        yield entry if mode == entry.member.mode else Entry(replace(entry.member, mode=mode), entry.data)
