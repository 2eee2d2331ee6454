"""The contents that a lock names are brought together before a build: kept ones, the mirror's, or a snapshot's.

Nothing is taken that is not what its digest says. What is gone is named, all of it, before anything is built.
"""

import logging
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO, cast

from singularity import console
from singularity.build.locked.document import Fetched, Installed, Lock
from singularity.cache.blob_store import Store
from singularity.content.digest import Digest
from singularity.content.document import Descriptor
from singularity.errors import BuildError, ImageError, NetworkError, RegistryError
from singularity.web.file import refused
from singularity.web.http import Answer, Client, Patience, followed, shown
from singularity.web.stream import Resuming

logger = logging.getLogger(__name__)

_AT_ONCE = 4
_OK, _PARTIAL = 200, 206
_PATIENCE = Patience(delays=(1, 2))  # there are other places to ask
_PARTS = ("dists", "pool")  # below the top of an archive of Debian's form


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gone:
    fetched: Fetched
    why: str


class _Places:
    """Where contents of a lock may be: where they were, where one is sent on from, and in archives of then."""

    def __init__(self, lock: Lock, snapshots: Sequence[str]) -> None:
        self._created, self._snapshots = lock.created, snapshots
        self._urls: dict[str, list[str]] = {}  # by the digest of what was there
        self._before: dict[str, list[str]] = {}  # by where they sent on to
        for each in lock.fetched:
            if each.method == "GET":
                self._urls.setdefault(each.sha256, []).append(each.url)
            with suppress(NetworkError):  # where a server that makes no sense sent on to
                if location := each.headers.get("Location"):
                    self._before.setdefault(followed(each.url, location), []).append(each.url)

    def of(self, each: Fetched) -> Iterator[str]:
        """The places of one, those first where it is most likely."""
        same = self._urls[each.sha256]
        yield from same
        for url in same:
            yield from self._before.get(url, ())
        for url in same:
            yield from snapshot_places(url, self._created, self._snapshots)


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

    places = _Places(lock, snapshots)

    def bring(each: Fetched) -> _Gone | None:
        return _bring(each, places, store, client)

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


def _bring(each: Fetched, places: _Places, store: Store, client: Client) -> _Gone | None:
    if each.method != "GET":
        return _Gone(fetched=each, why=f"{shown(each.url)}: an answer to {each.method}, which only kept sources have")
    descriptor = Descriptor(media_type="", digest=_digest(each), size=each.size)
    why = ""
    for url in places.of(each):

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
    """The content at a URL, from an offset on, however often the connection breaks.

    Raises NetworkError and RegistryError, and so does reading it.
    """

    def ask(start: int) -> Answer:
        headers = {"Accept": each.accept or "*/*", **({"Range": f"bytes={start}-"} if start else {})}
        answer = client.send("GET", url, headers=headers, accept=(_OK, _PARTIAL))
        if answer.status not in (_OK, _PARTIAL):
            answer.drain()
            raise refused(shown(url), answer.status)
        if answer.status == _OK and answer.length not in (None, each.size):
            answer.close()
            raise RegistryError(f"{shown(url)}: has changed: {answer.length} bytes, and it had {each.size}")
        return answer

    return cast("BinaryIO", Resuming(shown(url), ask, size=each.size, offset=offset, patience=client.patience))


def _digest(each: Fetched) -> Digest:
    return Digest("sha256", each.sha256)
