"""What is asked of a library: an image is found, sent, removed, looked for.

The API is the open one of image libraries (its clients' code is its description): documents are JSON objects with the
answer in `data`. What stands above an image is made when it lacks: ENTITY/COLLECTION/NAME:TAG, of an architecture.
"""

import json
import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from singularity.content import digest
from singularity.content.digest import Digest
from singularity.errors import ImageError, RegistryError
from singularity.foreign_json import objects, parse_answer
from singularity.library.remotes import Library
from singularity.web.file import refused
from singularity.web.http import Client, followed

_DEFAULTS = ("library", "default")  # entity, collection
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?")
_HASH = re.compile(r"(sha256)[.:]([0-9a-f]{64})")
_LIMIT = 4 << 20  # bytes of an answer
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image is in a library."""

    entity: str
    collection: str
    name: str
    tags: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.entity}/{self.collection}/{self.name}:{','.join(self.tags)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """An image that a library has."""

    digest: Digest
    size: int | None
    url: str  # of the file


def parse(place: str) -> tuple[str, Place]:
    """The server, "" for the usual one, and the place of `[HOST/][ENTITY/[COLLECTION/]]NAME[:TAG]`. Or ImageError."""
    host, slash, rest = place.removeprefix("//").partition("/")
    server = ""
    if slash and _HOST.fullmatch(host) and ("." in host or ":" in host or host == "localhost"):
        server, place = host, rest
    path, _, tags = place.strip("/").partition(":")
    parts = path.split("/")
    parts = [*_DEFAULTS[: 3 - len(parts)], *parts]
    words = tuple((tags or "latest").split(","))
    if len(parts) != 3 or not all(_PART.fullmatch(each) for each in (*parts, *words)):
        raise ImageError(f"library://{place[:200]}: names no image", hint="[ENTITY/[COLLECTION/]]NAME[:TAG]")
    return server, Place(entity=parts[0], collection=parts[1], name=parts[2], tags=words)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A SIF file that is sent."""

    digest: Digest
    size: int
    open: Callable[[], BinaryIO]


class Service:
    """A library, and the connections to it."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._client = Client()

    def name(self, place: Place) -> str:
        """For messages."""
        return f"library://{self._library.url.partition('://')[2]}/{place}"

    def find(self, place: Place, architecture: str) -> Known:
        """The image at a place. Raises NetworkError, RegistryError and ImageError."""
        name, url = self.name(place), self._of_image("images", place, architecture)
        about = self._asked("GET", url, (200,), name=name, what=f"for {architecture}")
        hashed, size = _HASH.fullmatch(str(about.get("hash", ""))), about.get("size")
        wanted = digest.parse(f"sha256:{hashed[2]}") if hashed else None
        if wanted is None:
            raise ImageError(f"{name}: the library does not say what its digest is")
        file = self._of_image("imagefile", place, architecture)
        return Known(digest=wanted, size=size if type(size) is int and size > 0 else None, url=file)

    def remove(self, place: Place, architecture: str) -> None:
        """Removes it there. Raises NetworkError and RegistryError."""
        url = self._of_image("images", place, architecture)
        self._asked("DELETE", url, (200, 202, 204), name=self.name(place), what=f"for {architecture}")

    def search(self, words: str, architecture: str, *, signed: bool) -> list[tuple[str, str]]:
        """What matches: the kind (`image`, `container`, `collection`, `entity`) and the library:// name of each."""
        query = {"value": words, "arch": architecture, "signed": "true" if signed else ""}
        query = {name: value for name, value in query.items() if value}
        found = self._asked("GET", f"{self._library.url}/v1/search?{urllib.parse.urlencode(query)}", (200,))
        return [
            (kind, name)
            for kind in ("image", "container", "collection", "entity")
            for each in objects(found.get(kind))
            for name in _names(kind, each)
        ]

    def send(self, file: File, place: Place, architecture: str, description: str) -> bool:
        """Puts a SIF file at a place, under all its tags; False: its bytes were there already.

        Raises NetworkError and RegistryError.
        """
        hashed = file.digest
        entity = self._made("entities", place.entity, {"name": place.entity})
        path = f"{place.entity}/{place.collection}"
        collection = self._made("collections", path, {"name": place.collection, "entity": entity})
        path = f"{path}/{place.name}"
        about = {"name": place.name, "collection": collection, "description": description}
        container = self._made("containers", path, about)
        by_hash = f"{path}:sha256.{hashed.digits}?{urllib.parse.urlencode({'arch': architecture})}"
        known = self._asked("GET", f"{self._library.url}/v1/images/{by_hash}", (200, 404))
        if not known.get("id"):
            about = {"hash": f"sha256.{hashed.digits}", "container": container, "description": description}
            known = self._asked("POST", f"{self._library.url}/v1/images", (200, 201), about)
        number = str(known.get("id", ""))
        sent = not known.get("uploaded")
        if sent:
            self._upload(file, number)
        self._tag(container, number, place.tags, architecture)
        return sent

    def _upload(self, file: File, number: str) -> None:
        version = self._asked("GET", f"{self._library.url}/version", (200, 404)).get("apiVersion", "")
        if not re.match(r"[2-9]", str(version)):
            self._put("POST", f"{self._library.url}/v1/imagefile/{_part(number)}", file, self._library.authorization)
            return
        place = f"{self._library.url}/v2/imagefile/{_part(number)}"
        about = {"filesize": file.size, "sha256sum": file.digest.digits}
        url = self._asked("POST", place, (200, 201), about).get("uploadURL")
        if not isinstance(url, str) or not url:
            raise RegistryError(f"library {self._library.url}: does not say where images are sent to")
        self._put("PUT", followed(self._library.url, url), file, "")  # signed, and perhaps elsewhere
        self._asked("PUT", f"{place}/_complete", (200, 201), {})

    def _put(self, method: str, url: str, file: File, authorization: str) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        with self._client.send(
            method, url, headers=headers, authorization=authorization, body=file.open, length=file.size,
            accept=(200, 201, 202, 204), again=False,
        ) as answer:  # fmt: skip
            if answer.status not in (200, 201, 202, 204):
                raise refused(f"library {self._library.url}", answer.status, "when the image was sent")
            answer.drain()

    def _tag(self, container: str, number: str, tags: Sequence[str], architecture: str) -> None:
        """By the second version of tags, which knows architectures; by the first one where that is all there is."""
        base = f"{self._library.url}/v2/tags/{_part(container)}"
        for tag in tags:
            about = {"Arch": architecture, "Tag": tag, "ImageID": number}
            with self._send("POST", base, json.dumps(about).encode()) as answer:
                status = answer.status
                answer.drain()
            if status == 404:
                first = f"{self._library.url}/v1/tags/{_part(container)}"
                self._asked("POST", first, (200, 201, 204), about)
            elif status not in (200, 201, 204):
                raise refused(f"library {self._library.url}", status, f"when tag {tag} was set")

    def _made(self, kind: str, path: str, about: dict[str, Any]) -> str:
        """The id of something that is there, or is now."""
        known = self._asked("GET", f"{self._library.url}/v1/{kind}/{path}", (200, 404))
        if not known.get("id"):
            known = self._asked("POST", f"{self._library.url}/v1/{kind}", (200, 201), about)
        return str(known.get("id", ""))

    def _of_image(self, kind: str, place: Place, architecture: str) -> str:
        quoted = urllib.parse.quote(str(place), safe="/:,")
        return f"{self._library.url}/v1/{kind}/{quoted}?{urllib.parse.urlencode({'arch': architecture})}"

    def _send(self, method: str, url: str, body: bytes | None = None) -> Any:
        headers = _JSON if body is not None else {}
        authorization = self._library.authorization
        return self._client.send(method, url, headers=headers, authorization=authorization, body=body)

    def _asked(
        self,
        method: str,
        url: str,
        accept: Sequence[int],
        about: dict[str, Any] | None = None,
        *,
        name: str = "",
        what: str = "",
    ) -> dict[str, Any]:
        """The `data` of an answer, which may be none. Raises RegistryError for a status that is not in `accept`."""
        name = name or f"library {self._library.url}"
        with self._send(method, url, None if about is None else json.dumps(about).encode()) as answer:
            if answer.status not in accept:
                if answer.status in (401, 403):
                    hint = "singularity remote login"
                    raise RegistryError(f"{refused(name, answer.status)}", hint=hint, status=answer.status)
                raise refused(name, answer.status, what)
            data = answer.whole(_LIMIT)
        if answer.status == 404 or not data.strip():
            return {}
        found = parse_answer(data, f"{name}: the answer of the library").get("data")
        if not isinstance(found, dict):
            if about is None and method == "GET":
                raise ImageError(f"{name}: the answer of the library makes no sense")
            return {}
        return found


def _part(number: str) -> str:
    """A thing's id, which the library chose, as one part of an address."""
    return urllib.parse.quote(number, safe="", errors="replace")


def _names(kind: str, about: dict[str, Any]) -> list[str]:
    above = [about.get("entityName"), about.get("collectionName"), about.get("containerName")]
    parts = [str(each) for each in above if each]
    if kind != "image":
        return ["library://" + "/".join([*parts, str(about.get("name", ""))])]
    tags = about.get("tags")
    return [f"library://{'/'.join(parts)}:{tag}" for tag in (tags if isinstance(tags, list) and tags else ["latest"])]
