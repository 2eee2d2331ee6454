"""An image of any format as an OCI image: one layer with its root file system, a configuration, a manifest.

The same image gives the same bytes: a layer has its members in the order of the image, without names, times or numbers
of processors of the compression. The layer goes through a compressor into one temporary file, since its digest stands
before it in the protocol of registries; nothing else is written.
"""

import hashlib
import json
import logging
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import Enum
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, cast

from singularity import files, process
from singularity.build import architecture, reproducible, writers
from singularity.console import VERBOSE, working
from singularity.content import digest, document
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.errors import FileError, SingularityError
from singularity.image import contents, elf, metadata
from singularity.image import identify as images
from singularity.image.archive import tar_writer
from singularity.image.archive.held import Held
from singularity.image.limits import shown
from singularity.image.lookup import Followed
from singularity.image.opened import opened
from singularity.image.sif import format as sif
from singularity.image.tree import Entry, Kind, Member, Tree
from singularity.push import configuration

logger = logging.getLogger(__name__)

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OCI_OBJECT = b"oci-config.json"
_WHITEOUT = b".wh."
_NAMES = (b"runscript", b"labels.json", b"oci-config.json", b"env")
_OWN = metadata.DIRECTORY[1:].encode()
_HELD = frozenset((_OWN, b"singularity", b"environment", *(_OWN + b"/" + name for name in _NAMES)))
_HELD_LIMIT = 8 << 20  # bytes of one of them; larger ones say nothing of the image
_SHELLS = frozenset((b"bin/sh", b"usr/bin/sh"))
_PROGRAMS = (b"bin/", b"sbin/", b"lib", b"usr/")
_ENTRYPOINTS = frozenset(path[1:].encode() for path in (configuration.ENTRYPOINT, configuration.OLD_ENTRYPOINT))
_NANOSECONDS = 1_000_000_000
_LATEST = (1 << 32) - 1  # seconds since 1970 that a date is made of
_ZEROS = bytes(1 << 20)
_SHOWN = 5  # of things that are left out


class LayerFormat(Enum):
    """How a layer is compressed; the value is the option's."""

    GZIP = "gzip"
    ZSTD = "zstd"
    TAR = "tar"

    @property
    def media_type(self) -> str:
        """The type of such a layer."""
        return _LAYER if self is LayerFormat.TAR else f"{_LAYER}+{self.value}"


_SUFFIXES = {LayerFormat.GZIP: ".gz", LayerFormat.ZSTD: ".zst", LayerFormat.TAR: ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """Bytes that an image consists of; `open` gives them from the beginning, each time."""

    descriptor: Descriptor
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What an image or artifact is: its manifest, and the blobs that it names, the configuration last."""

    manifest: bytes
    media_type: str
    blobs: tuple[Blob, ...]

    @property
    def digest(self) -> Digest:
        """The name of it all."""
        return digest.of(self.manifest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed(Document):
    """An image; what its configuration says stands there too."""

    config: Blob
    layer: Blob
    architecture: str
    code: tuple[str, ...]  # lines of environment scripts that stand for no constant variable


def encoded(value: object) -> bytes:
    """A document's bytes, always the same for the same value."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def described(blob: Descriptor) -> dict[str, Any]:
    """A descriptor as documents have it."""
    found: dict[str, Any] = {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
    return {**found, "annotations": dict(blob.annotations)} if blob.annotations else found


def small(media_type: str, data: bytes) -> Blob:
    """A blob that is in memory."""
    descriptor = Descriptor(media_type=media_type, digest=digest.of(data), size=len(data))
    return Blob(descriptor=descriptor, open=lambda: BytesIO(data))


def manifest(config: Blob, layers: Iterable[Blob], annotations: Mapping[str, str]) -> bytes:
    """The manifest of an image or artifact."""
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": described(config.descriptor),
        "layers": [described(each.descriptor) for each in layers],
    }
    if annotations:
        content["annotations"] = dict(sorted(annotations.items()))
    return encoded(content)


@contextmanager
def packed(path: Path, temporary: Path, layer_format: LayerFormat, annotations: Mapping[str, str]) -> Iterator[Packed]:
    """The image file or directory `path` as an OCI image, whose layer is below `temporary` until the block ends.

    A directory of an ordinary user's is read as builds read it, by root of a user namespace: what is the user's there
    is root's in the image. Raises as `pack`, and FileError where the image cannot be opened.
    """
    give_to_root = path.is_dir() and os.geteuid() != 0 and not _become_root()
    with (
        opened(path, writable=False) as found,
        files.temporary_directory(temporary) as place,
        contents.tree(found.image) as tree,
    ):
        if found.image.overlays:
            logger.warning("%s: its overlays are left out: they belong to no layer", path)
        with working(f"packing {path}"):
            made = pack(found.image, _given_to_root(tree) if give_to_root else tree, place, layer_format, annotations)
        if made.code:
            listed = ", ".join(made.code[:_SHOWN]) + (", ..." if len(made.code) > _SHOWN else "")
            what = "%s: not constant, so no variables of the OCI image, but set where its runscript is started: %s"
            logger.warning(what, path, listed)
        yield made


def _become_root() -> bool:
    from singularity.namespaces import fakeroot

    try:
        fakeroot.become_root()
    except SingularityError as error:
        logger.log(VERBOSE, "%s: what is yours becomes root's", error)
        return False
    return True


def _given_to_root(tree: Tree) -> Tree:
    """The entries, those of the caller's as root's."""
    uid, gid = os.geteuid(), os.getegid()
    for entry in tree:
        member = entry.member
        owner, group = (0 if member.uid == uid else member.uid), (0 if member.gid == gid else member.gid)
        yield Entry(replace(member, uid=owner, gid=group), entry.data)


def pack(
    image: images.Image, tree: Tree, place: Path, layer_format: LayerFormat, annotations: Mapping[str, str]
) -> Packed:
    """The image of `tree`, which is read once, as an OCI image whose layer lies in the directory `place`.

    Raises ImageError, FileError and ToolError; what the layer cannot hold is left out with a warning.
    """
    seen = _Seen(name=str(image.path), came_with=_object(image))
    path = place / "layer"
    with FileError.about(path, inner=True):
        content = _write(seen.through(writers.clamped(tree)), path, layer_format, seen.name)
        layer = _blob_of(path, layer_format.media_type)
    made = seen.says()
    seen.warn()
    machine = image.architecture if image.architecture in sif.ARCHITECTURES else seen.architecture
    machine = machine or architecture.host().sif
    config = small(_CONFIG, encoded(_config(made, content, machine, seen.created(image))))
    return Packed(
        manifest=manifest(config, [layer], annotations),
        media_type=MANIFEST,
        blobs=(layer, config),
        config=config,
        layer=layer,
        architecture=machine,
        code=made.code,
    )


def _object(image: images.Image) -> bytes | None:
    """The configuration that an image came with, where a SIF file has it beside its root file system."""
    found = image.content.find(sif.DataType.GENERIC_JSON, _OCI_OBJECT) if image.content else None
    if found is None:
        return None
    with image.path.open("rb") as file:
        return sif.read_object(file, found)


def _config(made: configuration.Configuration, content: Digest, machine: str, created: int) -> dict[str, Any]:
    date = f"{datetime.fromtimestamp(created, UTC):%Y-%m-%dT%H:%M:%SZ}"
    config = {
        "created": date,
        "architecture": machine,
        "os": "linux",
        "config": dict(made.content),
        "rootfs": {"type": "layers", "diff_ids": [str(content)]},
        "history": [{"created": date, "created_by": "singularity push"}],
    }
    document.parse_config(encoded(config), "the configuration of the image")
    return config


def _blob_of(path: Path, media_type: str) -> Blob:
    with path.open("rb") as file:
        found = Digest("sha256", hashlib.file_digest(file, "sha256").hexdigest())
        size = file.tell()
    return Blob(descriptor=Descriptor(media_type=media_type, digest=found, size=size), open=lambda: path.open("rb"))


def _write(tree: Tree, path: Path, layer_format: LayerFormat, name: str) -> Digest:
    """Writes a layer; the digest is that of what was compressed."""
    with path.open("xb", buffering=1 << 20) as file:
        argv = writers.compressor(_SUFFIXES[layer_format])
        if not argv:
            out = _Hashed(file)
            tar_writer.write(tree, cast("BinaryIO", out))
            return out.digest()
        purpose = f"make a layer of {name}"
        with process.started(argv, purpose=purpose, stdin=subprocess.PIPE, stdout=file.fileno()) as tool:
            out = _Hashed(writers.wide(tool))
            tar_writer.write(tree, cast("BinaryIO", out))
        return out.digest()


class _Hashed:
    """What `tar_writer.write` needs of a file, with a digest of what went through."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._out.write(data)

    def digest(self) -> Digest:
        return Digest("sha256", self._hash.hexdigest())


@dataclass(slots=True)
class _Seen:
    """What is learnt of an image while it goes by."""

    name: str
    came_with: bytes | None  # the configuration of a SIF file
    kept: list[Entry] = field(default_factory=list)
    held_back: dict[bytes, Entry] = field(default_factory=dict)
    whiteouts: list[bytes] = field(default_factory=list)
    architecture: str = ""
    has_shell: bool = False
    newest: int = 0  # nanoseconds since 1970

    def through(self, tree: Tree) -> Tree:
        """The entries as a layer can have them, and at the end the program that the configuration starts."""
        for entry in tree:
            member = entry.member
            if member.path.rpartition(b"/")[2].startswith(_WHITEOUT):
                self.whiteouts.append(member.path)
                continue
            self.newest = max(self.newest, member.mtime)
            self.has_shell = self.has_shell or member.path in _SHELLS
            if member.segments is not None:  # Docker's tar-split, and with it its digests, cannot cope with holes
                entry = Entry(replace(member, segments=None), _filled(entry))
            if member.kind is Kind.HARD_LINK and member.xattrs:
                entry = Entry(replace(member, xattrs={}))  # the file has them
            if member.path in _ENTRYPOINTS:
                self.held_back[member.path] = Entry(entry.member, (b"".join(entry.data),))
                continue
            yield self._looked_at(entry)
        yield from self._entrypoint(self.says())

    def _looked_at(self, entry: Entry) -> Entry:
        member = entry.member
        if _is_held(member.path):
            if member.kind is Kind.FILE and member.size <= _HELD_LIMIT:
                entry = Entry(member, (b"".join(entry.data),))
            self.kept.append(entry if member.kind is not Kind.FILE or member.size <= _HELD_LIMIT else Entry(member))
        elif not self.architecture and member.kind is Kind.FILE and member.path.startswith(_PROGRAMS):
            return Entry(member, self._peeked(entry.data))
        return entry

    def _peeked(self, data: Iterable[bytes]) -> Iterator[bytes]:
        first = True
        for chunk in data:
            if first:
                self.architecture = self.architecture or elf.architecture(chunk)
            first = False
            yield chunk

    def says(self) -> configuration.Configuration:
        """What the image says about itself, once all of it has gone by."""
        return configuration.of(self._files(), kept=self.came_with, has_shell=self.has_shell, name=self.name)

    def _files(self) -> Followed:
        return Followed(Held(iter(self.kept), _is_held))

    def _entrypoint(self, made: configuration.Configuration) -> Iterator[Entry]:
        path = made.place[1:].encode()
        for each, entry in self.held_back.items():
            if each != path or made.entrypoint is None:
                yield entry
        if made.entrypoint is not None:
            member = Member(path=path, kind=Kind.FILE, mode=0o755, mtime=self._time_of_runscript())
            data = made.entrypoint
            yield Entry(replace(member, size=len(data)), (data,))

    def _time_of_runscript(self) -> int:
        names = (b".singularity.d/runscript", b"singularity")
        times = [each.member.mtime for each in self.kept if each.member.path in names]
        return max(times, default=self.newest)

    def created(self, image: images.Image) -> int:
        """When the image was made, in seconds since 1970: as SOURCE_DATE_EPOCH or it says, else its newest file."""
        epoch = reproducible.source_date_epoch()
        if epoch is not None:
            return epoch
        labels = metadata.read_labels(self._files(), f"{metadata.DIRECTORY}/labels.json")
        said = reproducible.said(labels, image)
        return min(self.newest // _NANOSECONDS, _LATEST) if said is None else said

    def warn(self) -> None:
        """What is left out."""
        if self.whiteouts:
            listed = ", ".join(shown(each) for each in self.whiteouts[:_SHOWN])
            what = "%s: %d files are left out, whose names would delete others in a layer: %s"
            logger.warning(what, self.name, len(self.whiteouts), listed)


def _is_held(path: bytes) -> bool:
    return path in _HELD or path.startswith(_OWN + b"/env/")


def _filled(entry: Entry) -> Iterator[bytes]:
    """The data of a file with holes, the holes as zeros."""
    position = 0
    pending = iter(entry.data)
    chunk = b""
    for segment in entry.member.segments or ():
        yield from _zeros(segment.offset - position)
        left = segment.size
        while left:
            chunk = chunk or next(pending, b"")
            if not chunk:
                return  # `tar_writer.write` says that data is missing
            yield chunk[:left]
            chunk, left = chunk[left:], left - min(left, len(chunk))
        position = segment.offset + segment.size
    yield from _zeros(entry.member.size - position)


def _zeros(count: int) -> Iterator[bytes]:
    while count > 0:
        yield _ZEROS[:count]
        count -= len(_ZEROS)
