"""What a registry is asked for and given: manifests, blobs. Source: OCI distribution specification 1.1.

Nothing of an image is looked at here but its bytes: a manifest is what its digest says, a blob has its size, and
whoever reads a blob checks its digest (`content.digest.Checked`).
"""

import hashlib
import io
import logging
import urllib.parse
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, TypeVar, cast

from singularity.console import VERBOSE
from singularity.content import digest
from singularity.content.digest import Digest
from singularity.content.media_types import INDEX_TYPES, MANIFEST_LIMIT, MANIFEST_TYPES, SCHEMA_1
from singularity.errors import NetworkError, RegistryError, SingularityError
from singularity.registry import endpoint as endpoints
from singularity.registry import mirrors
from singularity.registry.access import Access
from singularity.registry.endpoint import Endpoint
from singularity.registry.mirrors import Place, Scheme
from singularity.registry.reference import Reference
from singularity.web.http import Answer, Client, Patience, followed
from singularity.web.stream import Resuming, part

if TYPE_CHECKING:
    from singularity.content.document import Descriptor

logger = logging.getLogger(__name__)

_TAGS = 10_000  # that are asked for at once
_ACCEPT = ", ".join(sorted(MANIFEST_TYPES | INDEX_TYPES))
_DIGEST_HEADER = "Docker-Content-Digest"
_NO_MANIFEST = "manifest unknown"
# What a manifest is refused with whose blobs somebody else puts at the same time: Distribution 2.8 empties their links
# before it writes them anew, and registries on object stores learn of a blob a moment after they took it.
_IN_MOTION = frozenset({"DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"})
_BUFFER = 1 << 20  # bytes

_Result = TypeVar("_Result")


class Document(NamedTuple):
    """A manifest or an index as the registry has it."""

    data: bytes
    media_type: str
    digest: Digest
    source: str = ""  # HOST/REPOSITORY that it came from: not what was asked for where there are mirrors


class Registry:
    """One registry, its mirrors included. Used by several threads at once.

    Whatever cannot be reached is a NetworkError, whatever is not to be had a RegistryError.
    """

    def __init__(self, host: str, access: Access, patience: Patience | None = None) -> None:
        self.host = host
        self._access = access
        self._client = Client(patience)
        self._endpoints: dict[tuple[str, bool], Endpoint] = {}
        self._known: dict[str, Place] = {}  # where the manifest of a repository came from: its blobs are there too

    # ---- pulling -----------------------------------------------------------------------------------------------------
    def manifest(self, reference: Reference) -> Document:
        """The manifest or index that a reference names, checked against the digest it names or the server's own.

        Raises ImageError for one in Docker's old format.
        """
        return self._first(reference, lambda place: self._manifest(reference, place))

    def digest(self, reference: Reference) -> Digest:
        """What a tag stands for now; asked without the manifest itself where the server can do that."""
        if reference.digest is not None:
            return reference.digest
        return self._first(reference, lambda place: self._digest(reference, place), VERBOSE)

    def open_blob(self, repository: str, descriptor: "Descriptor", offset: int = 0) -> BinaryIO:
        """The bytes of a blob from `offset` on, read on where the connection breaks. Their digest is not checked.

        Whoever reads gets `descriptor.size - offset` bytes, or an error.
        """
        reference = Reference(host=self.host, repository=repository, digest=descriptor.digest)
        stream = self._first(reference, lambda place: self._blob(place, descriptor, offset))
        return cast("BinaryIO", io.BufferedReader(stream, _BUFFER))

    def blob_part(self, repository: str, descriptor: "Descriptor", offset: int, size: int) -> bytes:
        """`size` bytes of a blob from `offset` on, which are not checked. For servers that know ranges only."""
        reference = Reference(host=self.host, repository=repository, digest=descriptor.digest)
        return self._first(reference, lambda place: self._blob_part(place, descriptor, offset, size))

    def _blob_part(self, place: Place, descriptor: "Descriptor", offset: int, size: int) -> bytes:
        def ask(start: int) -> Answer:
            headers = {"Range": f"bytes={start}-{offset + size - 1}"}
            return self.send(place, "GET", f"blobs/{descriptor.digest}", headers, (206,))

        name = f"{place}@{descriptor.digest.short}"
        return part(name, ask, offset=offset, size=size, patience=self._client.patience)

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Whether the registry itself has a blob in a repository."""
        place = self.own(repository)
        try:
            self.send(place, "HEAD", f"blobs/{digest}").close()
        except RegistryError as error:
            if endpoints.is_missing(error):
                return False
            raise
        return True

    def _first(self, reference: Reference, ask: Callable[[Place], _Result], level: int = logging.INFO) -> _Result:
        """The answer of the first place that has one. Which it was is told where it is not what was named."""
        places = mirrors.for_reference(reference, no_https=self._access.no_https)
        known = self._known.get(reference.repository)
        if known in places:
            places.remove(known)
            places.insert(0, known)
        for place in places[:-1]:
            try:
                result = ask(place)
            except (NetworkError, RegistryError) as error:
                logger.log(level, "%s: not from %s: %s", reference, place, error)
                continue
            return self._from(reference, place, result, level)
        result = ask(places[-1])
        if len(places) > 1 or places[-1].host != reference.host:
            return self._from(reference, places[-1], result, level)
        return result

    def _from(self, reference: Reference, place: Place, result: _Result, level: int) -> _Result:
        if self._known.get(reference.repository) != place:
            self._known[reference.repository] = place
            logger.log(level, "%s: from %s", reference, place)
        return result

    def _manifest(self, reference: Reference, place: Place) -> Document:
        try:
            answer = self.send(place, "GET", f"manifests/{reference.target}", {"Accept": _ACCEPT})
        except RegistryError as error:
            raise unknown(error, reference) from error
        with answer:
            data = answer.whole(MANIFEST_LIMIT)
            said = _said_digest(answer, reference)
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind.startswith(SCHEMA_1):  # its digest is not that of its bytes
            from singularity.content.document import parse

            parse(data, kind, str(reference))
        expected = reference.digest or said
        found = _digest_of(data, expected.algorithm if expected else "sha256")
        if expected is not None and found != expected:
            raise RegistryError(f"{reference}: its content is not what {expected} names", hint=f"it is {found}")
        return Document(data=data, media_type=kind, digest=found, source=str(place))

    def _digest(self, reference: Reference, place: Place) -> Digest:
        try:
            answer = self.send(place, "HEAD", f"manifests/{reference.target}", {"Accept": _ACCEPT}, (200, 405, 501))
        except RegistryError as error:
            raise unknown(error, reference) from error
        with answer:
            said = _said_digest(answer, reference) if answer.status == 200 else None
        return said or self._manifest(reference, place).digest

    def _blob(self, place: Place, descriptor: "Descriptor", offset: int) -> Resuming:
        def ask(start: int) -> Answer:
            headers = {"Range": f"bytes={start}-"} if start else {}
            return self.send(place, "GET", f"blobs/{descriptor.digest}", headers, (200, 206))

        name = f"{place}@{descriptor.digest.short}"
        return Resuming(name, ask, size=descriptor.size, offset=offset, patience=self._client.patience)

    # ---- pushing -----------------------------------------------------------------------------------------------------
    def upload(
        self,
        repository: str,
        descriptor: "Descriptor",
        open: Callable[[], BinaryIO],  # noqa: A002
        mount_from: str = "",
    ) -> bool:
        """Puts a blob into a repository, or has it put there from another one of the same registry.

        `open` gives its bytes from the beginning, again for each attempt. False: it was there, or the registry had it.
        """
        if self.has_blob(repository, descriptor.digest):
            return False
        place = self.own(repository)
        return _patiently(self._client, lambda: self._upload(place, descriptor, open, mount_from), _is_broken)

    def _upload(self, place: Place, descriptor: "Descriptor", open_: Callable[[], BinaryIO], mount_from: str) -> bool:
        start = "blobs/uploads/"
        scopes: tuple[str, ...] = (f"repository:{place.repository}:pull,push",)
        if mount_from:
            start += "?" + urllib.parse.urlencode({"mount": str(descriptor.digest), "from": mount_from})
            scopes = (*scopes, f"repository:{mount_from}:pull")
        with self.send(place, "POST", start, {"Content-Length": "0"}, (201, 202), scopes=scopes) as answer:
            location = answer.headers.get("Location", "")
            url = followed(answer.url, location) if location else ""
            mounted = answer.status == 201
            answer.drain()
        if mounted:
            return False
        if not url:
            raise RegistryError(f"{place}: does not say where to put a blob")
        mark = "&" if urllib.parse.urlsplit(url).query else "?"
        url += mark + urllib.parse.urlencode({"digest": str(descriptor.digest)})
        endpoint = self._endpoint(place)
        endpoint.send(
            "PUT",
            url,
            repository=place.repository,
            scopes=(f"repository:{place.repository}:pull,push",),
            headers={"Content-Type": "application/octet-stream"},
            body=open_,
            length=descriptor.size,
            accept=(201,),
            again=False,
        ).drain()
        return True

    def put_manifest(self, reference: Reference, data: bytes, media_type: str) -> Digest:
        """Puts a manifest, whose blobs are there, under the reference's digest or tag."""
        place = self.own(reference.repository)
        found = _digest_of(data, reference.digest.algorithm if reference.digest else "sha256")
        if reference.digest not in (None, found):
            raise RegistryError(f"{reference}: the manifest is {found}")
        target = str(found) if reference.digest else reference.tag
        headers = {"Content-Type": media_type}

        def put() -> Digest | None:
            with self.send(place, "PUT", f"manifests/{target}", headers, (201, 202), body=data, push=True) as answer:
                said = _said_digest(answer, reference)
                answer.drain()
                return said

        said = _patiently(self._client, put, _is_in_motion)
        if said is not None and said.algorithm == found.algorithm and said != found:
            raise RegistryError(f"{reference}: the registry took the manifest for {said}, but it is {found}")
        return found

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository, as the registry itself knows them; none where it does not say."""
        place = self.own(repository)
        with self.send(place, "GET", f"tags/list?n={_TAGS}", {}, (200, 404), push=True) as answer:
            return _listed(answer, place) if answer.status == 200 else []

    def lists_referrers(self, repository: str, digest: Digest) -> bool:
        """Whether the registry itself lists what refers to a manifest."""
        try:
            self.send(self.own(repository), "GET", f"referrers/{digest}").drain()
        except RegistryError as error:
            if endpoints.is_missing(error):
                return False
            raise
        return True

    # ---- requests ----------------------------------------------------------------------------------------------------
    def ping(self) -> None:
        """Whether the host itself is a registry that lets us in, wherever its images are to be had."""
        place = self.own("")
        if place.host != self.host:
            place = Place(host=self.host, repository="", scheme=Scheme.HTTP if self._access.no_https else Scheme.HTTPS)
        self._endpoint(place).ping()

    def own(self, repository: str) -> Place:
        """Where the registry itself has a repository."""
        return mirrors.places(self.host, repository, by_digest=False, no_https=self._access.no_https, pull=False)[-1]

    def send(
        self,
        place: Place,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (200,),
        *,
        body: bytes | None = None,
        push: bool = False,
        scopes: tuple[str, ...] = (),
    ) -> Answer:
        """A request below a repository; of its endpoints, as one path."""
        return self._endpoint(place).send(
            method,
            f"/v2/{place.repository}/{path}",
            repository=place.repository,
            scopes=scopes or (f"repository:{place.repository}:{'pull,push' if push else 'pull'}",),
            headers=headers,
            body=body,
            accept=accept,
        )

    def _endpoint(self, place: Place) -> Endpoint:
        key = (place.host, place.is_mirror)
        known = self._endpoints.get(key)
        if known is not None:
            return known
        named = place.host == self.host
        new = Endpoint(place.host, place.api_host, place.scheme, self._client, self._access, named=named)
        return self._endpoints.setdefault(key, new)


def _patiently(
    client: Client, attempt: Callable[[], _Result], is_passing: Callable[[SingularityError], bool]
) -> _Result:
    """What an attempt gives, which is made again after a failure that passes."""
    delays = iter(client.patience.delays)
    while True:
        try:
            return attempt()
        except SingularityError as error:
            if not is_passing(error):
                raise
            client.wait(next(delays, None), error)


def _is_broken(error: SingularityError) -> bool:
    return isinstance(error, NetworkError)


def _is_in_motion(error: SingularityError) -> bool:
    return isinstance(error, RegistryError) and error.code in _IN_MOTION


def _digest_of(data: bytes, algorithm: str) -> Digest:
    return Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


def _listed(answer: Answer, place: Place) -> list[str]:
    from singularity.foreign_json import parse_answer

    found = parse_answer(answer.whole(MANIFEST_LIMIT), f"{place}: the list of tags").get("tags")
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []


def _said_digest(answer: Answer, reference: Reference) -> Digest | None:
    """What the server says that its answer is. Raises RegistryError for nonsense."""
    text = answer.headers.get(_DIGEST_HEADER, "").strip()
    if not text:
        return None
    try:
        return digest.parse(text)
    except SingularityError as error:
        raise RegistryError(f"{reference}: {error}") from error


def unknown(error: RegistryError, reference: Reference) -> RegistryError:
    """The refusal of a manifest, in the words that people and programs know."""
    if not endpoints.is_missing(error):
        return error
    what = f"{reference}: {_NO_MANIFEST}"
    return RegistryError(what, hint="no such image, or no such tag", status=error.status)
