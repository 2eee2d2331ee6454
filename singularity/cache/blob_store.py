"""Blobs that are kept: fetched once, whoever asks for them, and never used when they are not what they are called.

A store is an OCI image layout, so that other tools can read it: `oci-layout`, `index.json`, `blobs/ALGORITHM/DIGITS`;
beside them `partial` holds what was not fetched to its end. Processes share a store: a blob has its name only when it
is whole, and the index is changed under a lock. When a blob was used last is its access time.

Before a store of the user's own come those that others keep, which are only read: a site's, or one on a network file
system. Whoever reads a blob checks its digest (`digest.Checked`), so a damaged one is never used, wherever it lies.
"""

import hashlib
import json
import logging
import stat
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from singularity import files, locks
from singularity.cache.blob_names import BLOBS, INDEX, PARTIAL
from singularity.content import digest as digests
from singularity.content import document
from singularity.content.digest import Digest
from singularity.content.document import REFERENCE_NAME, Descriptor, Index
from singularity.content.download import Download, Told
from singularity.errors import FileError, ImageError
from singularity.foreign_json import objects
from singularity.image import origin

logger = logging.getLogger(__name__)

_MARK, _LOCK = "oci-layout", ".index.lock"
_LAYOUT = '{"imageLayoutVersion":"1.0.0"}\n'
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_CHUNK = 1 << 20


_distrusted: set[Path] = set()  # damaged files of other stores, known for as long as this process runs


class Store:
    """The blobs below `directory`, which is made where it is missing; `others` are looked at first, and only read.

    With `public` everybody may read what is put there. Raises FileError when the directory cannot be made.
    """

    def __init__(self, directory: Path, others: Sequence[Path] = (), *, public: bool = False) -> None:
        self.directory = directory
        self._others = tuple(others)
        self._modes = (0o755, 0o644) if public else (0o700, 0o600)
        self._begin()

    def _begin(self) -> None:
        with FileError.about(self.directory, inner=True):
            for each in (self.directory, self.directory / BLOBS, self.directory / PARTIAL):
                self._make(each)
            mark = self.directory / _MARK
            if not mark.exists():
                self._write(mark, _LAYOUT.encode())
            if not (self.directory / INDEX).exists():
                self._change_index(lambda entries: entries)

    def _make(self, directory: Path) -> None:
        if not directory.is_dir():
            files.make_directories(directory, 0o700)
            directory.chmod(self._modes[0])

    def _write(self, path: Path, data: bytes) -> None:
        files.write(path, data, overwrite=True, mode=self._modes[1])
        if path.stat().st_mode & 0o777 != self._modes[1]:  # the umask took something away
            path.chmod(self._modes[1])

    def find(self, digest: Digest, size: int | None = None) -> Path | None:
        """The file of a blob; None where there is none. One of another size than it should have is removed."""
        for place in (*self._others, self.directory):
            path = _path(place, digest)
            try:
                status = path.stat()
            except OSError:
                continue
            if path in _distrusted:
                continue
            if stat.S_ISREG(status.st_mode) and size in (None, status.st_size):
                if place is self.directory:
                    files.touch(path)
                return path
            if place is self.directory:
                logger.debug("%s: of another size than it should have: removed", path)
                self.drop(digest)
        return None

    def open(self, digest: Digest, size: int | None = None) -> BinaryIO | None:
        """A blob, not checked; None where there is none."""
        path = self.find(digest, size)
        if path is None:
            return None
        try:
            return path.open("rb")
        except FileNotFoundError:  # removed by another process since
            return None
        except OSError as error:
            raise FileError.because(path, error) from error

    def read(self, digest: Digest, limit: int) -> bytes | None:
        """A small blob, whole and checked; None where there is none, or a damaged one, which is removed."""
        file = self.open(digest)
        if file is None:
            return None
        with file:
            data = file.read(limit + 1)
        if len(data) <= limit and hashlib.new(digest.algorithm, data).hexdigest() == digest.digits:
            return data
        self.drop(digest)
        return None

    def fetch(self, descriptor: Descriptor, open_: Callable[[int], BinaryIO], name: str, told: Told) -> Path:
        """The file of a blob, which `open_`, given an offset, brings where it is missing; checked while it comes.

        Processes and threads that want the same blob bring it once. Raises ImageError, FileError, and what `open_`
        raises.
        """
        digest, size = descriptor.digest, descriptor.size
        path = self.find(digest, size)
        if path is not None:
            told(size)
            return path
        target = _path(self.directory, digest)
        self._make(target.parent)

        def is_there() -> bool:
            return target.exists()

        download = Download(name=name, open=open_, size=size, digest=digest)
        download.into(target, self._partial(digest), mode=self._modes[1], done=is_there, told=told)
        return target

    def _partial(self, digest: Digest) -> Path:
        return self.directory / PARTIAL / f"{digest.algorithm}-{digest.digits}"

    def put(self, data: bytes) -> Digest:
        """Keeps a small blob."""
        digest = digests.of(data)
        target = _path(self.directory, digest)
        if not target.exists():
            self._make(target.parent)
            self._write(target, data)
        return digest

    def adopt(self, file: Path, digest: Digest) -> bool:
        """A file of another program's store gets a second name here; False where there is such a blob.

        It is not read: whoever reads a blob checks it. Raises FileError.
        """
        target = _path(self.directory, digest)
        self._make(target.parent)
        return files.give_second_name(file, target)

    def take(self, file: Path, digest: Digest) -> None:
        """A file of this file system becomes a blob, under that name alone. Its digest is not looked at again.

        Raises OSError.
        """
        target = _path(self.directory, digest)
        self._make(target.parent)
        file.chmod(self._modes[1])
        file.rename(target)

    def drop(self, digest: Digest) -> None:
        """Removes a blob of the store's own, where it is there."""
        with suppress(OSError):
            _path(self.directory, digest).unlink()

    def drop_damaged(self, blobs: Iterable[Digest]) -> int:
        """Reads these blobs where they are there; how many are not what they are called. Those are never used again:

        one of the store's own is removed, one of another store is passed over by this process.
        """
        count = 0
        for digest in blobs:
            path = self.find(digest)
            if path is None or _is_what_it_is_called(path, digest):
                continue
            count += 1
            if path.is_relative_to(self.directory):
                self.drop(digest)
            else:
                logger.warning("%s: damaged; it is not used", path)
                _distrusted.add(path)
        return count

    # ---- names ----

    def note(self, name: str, digest: Digest, media_type: str, size: int, source: str = "") -> None:
        """Remembers what a name, a reference in full, means now, and who said so. Raises FileError."""
        entry = {
            "mediaType": media_type,
            "digest": str(digest),
            "size": size,
            "annotations": {REFERENCE_NAME: name} | ({origin.LABEL: source} if source else {}),
        }
        if known([self.directory], name) == digest:
            return

        def changed(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [*(each for each in entries if _name_of(each) != name), entry]

        self._change_index(changed)

    def source(self, digest: Digest) -> str:
        """Who gave a document, HOST/REPOSITORY; empty where nobody has noted it."""
        for place in (*self._others, self.directory):
            for each in _index(place):
                if each.digest == digest and origin.LABEL in each.annotations:
                    return each.annotations[origin.LABEL]
        return ""

    def _change_index(self, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
        path = self.directory / INDEX
        with locks.locked(self.directory / _LOCK, "changes the index of the cache"):
            try:
                found = json.loads(path.read_bytes()).get("manifests")
            except (OSError, ValueError, AttributeError):
                found = None
            entries = change(objects(found))
            text = json.dumps({"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": entries}, indent=1)
            self._write(path, f"{text}\n".encode())

    def forget_missing(self) -> None:
        """Takes names out of the index whose documents are gone. Raises FileError."""

        def is_there(entry: dict[str, Any]) -> bool:
            try:
                return _path(self.directory, digests.parse(entry.get("digest"))).exists()
            except ImageError:
                return False

        if not all(_path(self.directory, each.digest).exists() for each in _index(self.directory)):
            self._change_index(lambda entries: [each for each in entries if is_there(each)])


def noted(store: Path) -> list[str]:
    """The references, in full, whose images are known in a store, sorted."""
    return sorted({name for each in _index(store) if (name := each.annotations.get(REFERENCE_NAME))})


def known(stores: Sequence[Path], name: str) -> Digest | None:
    """What a name, a reference in full, meant when it was noted last in the first of these that has it; or None."""
    for store in stores:
        for each in _index(store):
            if each.annotations.get(REFERENCE_NAME) == name:
                return each.digest
    return None


def _is_what_it_is_called(path: Path, digest: Digest) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.digits
    except OSError:
        return False


def _path(place: Path, digest: Digest) -> Path:
    return place / BLOBS / digest.algorithm / digest.digits


def _name_of(entry: dict[str, Any]) -> object:
    annotations = entry.get("annotations")
    return annotations.get(REFERENCE_NAME) if isinstance(annotations, dict) else None


def _index(place: Path) -> Sequence[Descriptor]:
    try:
        data = (place / INDEX).read_bytes()
        found = document.parse(data, "", str(place))
    except (OSError, ImageError):
        return ()
    return found.manifests if isinstance(found, Index) else ()
