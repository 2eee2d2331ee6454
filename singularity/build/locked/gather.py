"""The contents that a lock names are brought together before a build: kept ones, the mirror's, or a snapshot's.

Nothing is taken that is not what its digest says. What is gone is named, all of it, before anything is built.
"""

import logging
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, cast

from singularity import console
from singularity.build.locked.document import Fetched, Installed, Lock
from singularity.cache.blob_store import Store
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.errors import BuildError, ImageError, NetworkError, RegistryError
from singularity.web.file import refused
from singularity.web.http import Answer, Client, Patience, shown

logger = logging.getLogger(__name__)

_AT_ONCE = 4
_CHUNK = 1 << 20
_OK, _PARTIAL = 200, 206
_PATIENCE = Patience(delays=(1, 2))  # there are other places to ask
_PARTS = ("dists", "pool")  # below the top of an archive of Debian's form


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gone:
    fetched: Fetched
    why: str


def gather(lock: Lock, store: Store, snapshots: Sequence[str], name: str) -> None:
    """Brings all contents of a lock, which is called `name`, into a store.

    `snapshots` are URLs of archives in which `{archive}` and `{time}` stand for a mirror's last word and the lock's
    date. Raises BuildError when something is not to be had; each such file or package has been named in an ERROR line
    then. Raises FileError where nothing can be kept.
    """
    wanted = list({each.sha256: each for each in lock.fetched if each.sha256}.values())
    damaged = store.drop_damaged(_digest(each) for each in wanted)
    if damaged:
        logger.warning("%s: kept files that are damaged, and are fetched again: %d", store.directory, damaged)
    missing = [each for each in wanted if store.find(_digest(each), each.size) is None]
    if not missing:
        return
    total = sum(each.size for each in missing)
    logger.info("Fetching what %s names: %d of %d files, %s", name, len(missing), len(wanted), console.size(total))
    client, meter, done = Client(_PATIENCE), console.Meter(total), 0
    gone: list[_Gone] = []

    def bring(each: Fetched) -> _Gone | None:
        return _bring(each, lock, store, client, snapshots)

    with console.progress() as show, ThreadPoolExecutor(_AT_ONCE) as pool:
        for each, failed in zip(missing, pool.map(bring, missing), strict=True):
            done += each.size
            meter.shown(show, "fetching", done)
            if failed is not None:
                gone.append(failed)
    if gone:
        _tell(gone, lock, name, len(wanted))


def _tell(gone: Sequence[_Gone], lock: Lock, name: str, count: int) -> None:
    packages: Mapping[str, Installed] = {each.file: each for each in lock.packages if each.file}
    for each in sorted(gone, key=lambda each: each.fetched.url):
        package = packages.get(each.fetched.url)
        about = f"{package.text}: " if package else ""
        logger.error("%s%s", about, each.why)
    hint = "--keep-sources with the directory of an earlier build has them, or --snapshot names a mirror of that day"
    raise BuildError(f"{name}: gone or changed, of {count} files that it names: {len(gone)}", hint=hint)


def _bring(each: Fetched, lock: Lock, store: Store, client: Client, snapshots: Sequence[str]) -> _Gone | None:
    if each.method != "GET":
        return _Gone(fetched=each, why=f"{shown(each.url)}: an answer to {each.method}, which only kept sources have")
    descriptor = Descriptor(media_type="", digest=_digest(each), size=each.size)
    why = ""
    for url in _places(each, lock, snapshots):

        def open_(offset: int, url: str = url) -> BinaryIO:
            return _opened(client, url, each, offset)

        try:
            store.fetch(descriptor, open_, shown(url), _nothing)
            return None
        except (NetworkError, RegistryError, ImageError) as error:
            why = why or error.what
            logger.debug("%s", error)
    return _Gone(fetched=each, why=why)


def _nothing(count: int) -> None:
    del count


def _places(each: Fetched, lock: Lock, snapshots: Sequence[str]) -> Iterator[str]:
    """Where a content may be: where it was, where one was sent on from to there, and in archives of that day."""
    same = [other.url for other in lock.fetched if other.sha256 == each.sha256 and other.method == "GET"]
    yield from same
    for other in lock.fetched:
        location = other.headers.get("Location", "")
        if location and urllib.parse.urljoin(other.url, location) in same:
            yield other.url
    for url in same:
        yield from snapshot_places(url, lock.created, snapshots)


def snapshot_places(url: str, created: str, snapshots: Sequence[str]) -> Iterator[str]:
    """The places of a URL of an archive of Debian's form in archives of the past."""
    parts = urllib.parse.urlsplit(url)
    words = parts.path.split("/")
    index = next((index for index, word in enumerate(words) if index > 1 and word in _PARTS), None)
    if index is None:
        return
    time = created.replace("-", "").replace(":", "")
    for place in snapshots:
        top = place.replace("{archive}", words[index - 1]).replace("{time}", time).rstrip("/")
        yield f"{top}/{'/'.join(words[index:])}"


def _opened(client: Client, url: str, each: Fetched, offset: int) -> BinaryIO:
    """The content at a URL, from an offset on. Raises NetworkError and RegistryError."""
    headers = {"Accept": each.accept or "*/*"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    answer = client.send("GET", url, headers=headers, accept=(_OK, _PARTIAL))
    if answer.status not in (_OK, _PARTIAL):
        answer.drain()
        raise refused(shown(url), answer.status)
    passed_over = offset if answer.status == _OK else 0
    if answer.length not in (None, each.size - offset + passed_over):
        answer.close()
        raise RegistryError(f"{shown(url)}: has changed: {answer.length} bytes, and it had {each.size}")
    return _without(answer, passed_over)


def _without(answer: Answer, count: int) -> BinaryIO:
    while count and (data := answer.read(min(count, _CHUNK))):
        count -= len(data)
    return cast("BinaryIO", answer)


def _digest(each: Fetched) -> Digest:
    return Digest("sha256", each.sha256)
