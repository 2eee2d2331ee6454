"""Where finished images go: a registry, an OCI layout in a directory, an archive of one, or an archive as Docker saves.

Blobs go before the manifest that names them, and a blob that is there already is not sent again.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from singularity import files
from singularity.console import VERBOSE
from singularity.content import digest as digests
from singularity.content.digest import Digest
from singularity.content.document import MANIFEST_LIMIT, REFERENCE_NAME, parse_list, parse_object
from singularity.errors import FileError, ImageError
from singularity.image.tree import Entry, Kind, Member
from singularity.push.known_blobs import Pushed
from singularity.push.writer import Blob, Document, Packed, encoded

if TYPE_CHECKING:
    from singularity.push.referrers import Statement
    from singularity.registry.client import Registry
    from singularity.registry.reference import Reference

logger = logging.getLogger(__name__)

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_INDEX = "application/vnd.oci.image.index.v1+json"
_EMPTY = digests.of(b"{}")
_CHUNK = 1 << 20


class Destination(Protocol):
    """A place that takes images."""

    def begin(self) -> None:
        """Finds out what can go wrong before there is much to lose: names, rights, connections."""

    def put(self, blob: Blob) -> bool:
        """Takes a blob. False: it was there already."""

    def finish(self, image: Document) -> None:
        """Takes the manifest, by which the image is there."""


def send(image: Document, destination: Destination) -> None:
    """Brings an image to a place. Raises SingularityError of the kinds that the place has."""
    for blob in image.blobs:
        if not destination.put(blob):
            logger.log(VERBOSE, "%s is there already", blob.descriptor.digest)
    destination.finish(image)


class InRegistry:
    """A repository of a registry, and the tag that the image gets there."""

    def __init__(self, registry: "Registry", reference: "Reference") -> None:
        self._registry = registry
        self._reference = reference
        self._pushed = Pushed(reference.host)

    def begin(self) -> None:
        """Asks for the blob that half of all artifacts have."""
        self._registry.has_blob(self._reference.repository, _EMPTY)

    def put(self, blob: Blob) -> bool:
        """Uploads what the registry has not got, in this repository or where we have put it before."""
        repository, descriptor = self._reference.repository, blob.descriptor
        known = self._pushed.where(descriptor.digest)
        source = known if known != repository else ""
        return self._registry.upload(repository, descriptor, blob.open, mount_from=source)

    def finish(self, image: Document) -> None:
        """Puts the manifest under the tag; a registry that calls it by another digest has not got what was sent."""
        answered = self._registry.put_manifest(self._reference, image.manifest, image.media_type)
        if answered != image.digest:
            raise ImageError(f"{self._reference}: the registry has {answered}, but {image.digest} was sent")
        self._pushed.remember([blob.descriptor.digest for blob in image.blobs], self._reference.repository)

    def attach(self, image: Document, said: "Statement") -> Digest:
        """Puts a statement beside an image that is there."""
        from singularity.push import referrers

        return referrers.attach(self._registry, self._reference, image, said)


class InLayout:
    """An OCI layout in a directory, made where there is none; other images in it stay."""

    def __init__(self, path: Path, tag: str) -> None:
        self._path = path
        self._tag = tag

    def _place(self, digest: Digest) -> Path:
        return self._path / "blobs" / digest.algorithm / digest.digits

    def begin(self) -> None:
        """What is there must be a directory."""
        if self._path.exists() and not self._path.is_dir():
            raise FileError(f"{self._path}: no directory, as an OCI layout is", hint="oci-archive is for files")

    def put(self, blob: Blob) -> bool:
        """Copies."""
        place = self._place(blob.descriptor.digest)
        if place.is_file() and place.stat().st_size == blob.descriptor.size:
            return False
        _make(place.parent)
        with files.replacing(place, overwrite=True) as new, blob.open() as source, _out(new) as out:
            for chunk in _chunks(source):
                out.write(chunk)
        return True

    def finish(self, image: Document) -> None:
        """Lists the image, in place of another of this tag."""
        place = self._place(image.digest)
        _make(place.parent)
        _write(place, image.manifest)
        with _locked(self._path):
            if not (self._path / "oci-layout").exists():
                _write(self._path / "oci-layout", _LAYOUT)
            listed = self._listed()
            _write(self._path / "index.json", _index([*listed, _entry(image, self._tag)]))

    def _listed(self) -> list[dict[str, Any]]:
        """The other images."""
        place = self._path / "index.json"
        try:
            data = place.read_bytes()
        except FileNotFoundError:
            return []
        manifests = parse_object(data, str(place)).get("manifests")
        entries = parse_list(json.dumps(manifests or []).encode(), f"{place}: manifests")
        return [each for each in entries if (each.get("annotations") or {}).get(REFERENCE_NAME, "") != self._tag]


class InArchive:
    """A tar archive with an OCI layout of one image."""

    def __init__(self, path: Path, tag: str, *, overwrite: bool) -> None:
        self._path = path
        self._tag = tag
        self._overwrite = overwrite
        self._blobs: list[Blob] = []

    def begin(self) -> None:
        """The file is not replaced unasked."""
        files.refuse_target(self._path, overwrite=self._overwrite)

    def put(self, blob: Blob) -> bool:
        """Is written at the end."""
        self._blobs.append(blob)
        return True

    def finish(self, image: Document) -> None:
        """Writes the archive, whole or not at all."""
        _write_archive(self._path, self._entries(image), overwrite=self._overwrite)

    def _entries(self, image: Document) -> Iterator[Entry]:
        yield _file("oci-layout", _LAYOUT)
        yield _file("index.json", _index([_entry(image, self._tag)]))
        yield _file(f"blobs/sha256/{image.digest.digits}", image.manifest)
        for blob in self._blobs:
            digest = blob.descriptor.digest
            yield _copy(f"blobs/{digest.algorithm}/{digest.digits}", blob)


class InDockerArchive(InArchive):
    """A tar archive as `docker save` writes them, whose layer is not compressed."""

    def _entries(self, image: Document) -> Iterator[Entry]:
        if not isinstance(image, Packed):
            raise ImageError("docker-archive is for images")
        config, layer = (f"{each.descriptor.digest.digits}" for each in (image.config, image.layer))
        saved = {"Config": f"{config}.json", "RepoTags": [self._tag] if self._tag else None, "Layers": [f"{layer}.tar"]}
        yield _file("manifest.json", encoded([saved]))
        yield _copy(f"{config}.json", image.config)
        yield _copy(f"{layer}.tar", image.layer)


def _entry(image: Document, tag: str) -> dict[str, Any]:
    found: dict[str, Any] = {"mediaType": image.media_type, "digest": str(image.digest), "size": len(image.manifest)}
    if isinstance(image, Packed):
        found["platform"] = {"architecture": image.architecture, "os": "linux"}
    return {**found, "annotations": {REFERENCE_NAME: tag}} if tag else found


def _index(entries: list[dict[str, Any]]) -> bytes:
    data = encoded({"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries})
    if len(data) > MANIFEST_LIMIT:
        raise ImageError(f"{len(entries)} images in one layout are too many")
    return data


def _file(path: str, data: bytes) -> Entry:
    return Entry(Member(path=path.encode(), kind=Kind.FILE, mode=0o644, size=len(data)), (data,))


def _copy(path: str, blob: Blob) -> Entry:
    def data() -> Iterator[bytes]:
        with blob.open() as file:
            yield from _chunks(file)

    return Entry(Member(path=path.encode(), kind=Kind.FILE, mode=0o644, size=blob.descriptor.size), data())


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _make(path: Path) -> None:
    with FileError.about(path):
        path.mkdir(parents=True, exist_ok=True)


def _write(path: Path, data: bytes) -> None:
    with files.replacing(path, overwrite=True) as new, _out(new) as out:
        out.write(data)


def _write_archive(path: Path, entries: Iterator[Entry], *, overwrite: bool) -> None:
    from singularity.image.archive import tar_writer

    with files.replacing(path, overwrite=overwrite) as new, _out(new) as out:
        tar_writer.write(entries, out)


def _out(new: files.NewFile) -> BinaryIO:
    return open(new.fd, "wb", closefd=False, buffering=_CHUNK)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The list of a layout's images is changed by one process at a time."""
    with files.closing(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)) as fd:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            logger.debug("No lock: %s", error.strerror)
        yield
