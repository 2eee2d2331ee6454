"""An image becomes a file of a draft in an archive that InvenioRDM runs (its REST API), and with it gets an identifier.

A draft is changed and thrown away as its owner likes, in a web browser too. What is published stays for good.
"""

import hashlib
import json
import re
import urllib.parse
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from singularity.content.digest import Digest
from singularity.errors import FileError, RegistryError, UsageError
from singularity.foreign_json import parse_answer
from singularity.variables import variable
from singularity.web.http import Client, shown

_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_LIMIT = 4 << 20  # bytes of an answer
_PLACE = re.compile(r"([A-Za-z0-9.-]+(?::[0-9]{1,5})?)(?:/([A-Za-z0-9-]+))?/?", re.ASCII)
_SAID = 300  # characters of what a server says


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposited:
    """A draft, or a record, that has the image."""

    doi: str
    page: str  # where its owner looks at it
    number: str


class Archive:
    """One host, and the token that it knows us by, which the user has given for this host and no other."""

    def __init__(self, host: str, *, no_https: bool) -> None:
        self._api = f"{'http' if no_https else 'https'}://{host}/api/records"
        given = (each.partition("=") for each in variable("DOI_TOKEN").split())
        token = {whose.lower(): token for whose, _, token in given}.get(host.lower())
        if not token:
            what = f"push: no token for {host}, which lets nobody in without one"
            raise UsageError(what, hint=f"SINGULARITY_DOI_TOKEN={host}=TOKEN, and several with blanks between them")
        self._authorization = f"Bearer {token}"
        self._client = Client()

    def make(self, metadata: Mapping[str, Any]) -> str:
        """A new draft; its number. Raises NetworkError and RegistryError."""
        about = {
            "access": {"record": "public", "files": "public"},
            "files": {"enabled": True},
            "metadata": {**metadata, "publisher": urllib.parse.urlsplit(self._api).hostname},
        }
        number = self._asked("POST", "", about, (201,)).get("id")
        if not isinstance(number, str) or not re.fullmatch(r"[A-Za-z0-9-]+", number):
            raise RegistryError(f"{shown(self._api)}: does not say which draft it has made")
        return number

    def put(self, number: str, image: Path) -> None:
        """The image becomes a file of the draft, in place of one of its name; what the archive has of it is checked."""
        name = urllib.parse.quote(image.name, safe="")
        files = f"/{number}/draft/files"
        with FileError.about(image):
            size = image.stat().st_size
            with image.open("rb") as file:
                digest = Digest("md5", hashlib.file_digest(file, Digest("md5", "").hasher).hexdigest())
        self._asked("DELETE", f"{files}/{name}", None, (204, 404))
        self._asked("POST", files, [{"key": image.name}], (201,))
        answer = self._client.send(
            "PUT",
            f"{self._api}{files}/{name}/content",
            headers={"Content-Type": "application/octet-stream"},
            authorization=self._authorization,
            body=lambda: image.open("rb"),
            length=size,
        )
        with answer:
            if answer.status != 200:
                raise self._refused(answer.url, answer.status, answer.drain())
            answer.drain()
        said = self._asked("POST", f"{files}/{name}/commit", None, (200,)).get("checksum")
        if said != str(digest):
            raise RegistryError(f"{image.name}: the archive has {said}, and it is {digest}", hint="push it again")

    def finish(self, number: str, *, publish: bool) -> Deposited:
        """Reserves an identifier for the draft, or publishes it, which nobody can take back."""
        draft = self._asked("GET", f"/{number}/draft", None, (200,))
        if not _doi(draft):
            draft = self._asked("POST", f"/{number}/draft/pids/doi", None, (200, 201))
        if publish:
            draft = self._asked("POST", f"/{number}/draft/actions/publish", None, (200, 202))
        links = draft.get("links")
        page = links.get("self_html") if isinstance(links, dict) else None
        return Deposited(doi=_doi(draft), page=page if isinstance(page, str) else "", number=number)

    def _asked(self, method: str, path: str, about: object, accept: Collection[int]) -> Mapping[str, Any]:
        body = json.dumps(about).encode() if about is not None else None
        url = f"{self._api}{path}"
        with self._client.send(method, url, headers=_JSON, authorization=self._authorization, body=body) as answer:
            if answer.status not in accept:
                raise self._refused(url, answer.status, answer.drain())
            data = answer.whole(_LIMIT)
        return parse_answer(data, shown(url)) if data.strip() and answer.status not in (204, 404) else {}

    def _refused(self, url: str, status: int, data: bytes) -> RegistryError:
        """In the words of the archive, where it has some."""
        try:
            about = json.loads(data)
            words = [str(about.get("message", ""))]
            words += [f"{each['field']}: {' '.join(each['messages'])}" for each in about.get("errors", [])]
        except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
            words = []
        said = "; ".join(word for word in words if word)[:_SAID] or "refused"
        return RegistryError(f"{shown(url)}: {said} (StatusCode: {status})", status=status)


def parse(place: str) -> tuple[str, str]:
    """Host, and the number of a draft or "", of `HOST[/DRAFT]`. Raises UsageError."""
    match = _PLACE.fullmatch(place)
    if match is None:
        raise UsageError(f'push: "doi:{place}" names no archive', hint="doi:zenodo.org, or doi:zenodo.org/DRAFT")
    return match[1], match[2] or ""


def _doi(record: Mapping[str, Any]) -> str:
    pids = record.get("pids")
    about = pids.get("doi") if isinstance(pids, dict) else None
    found = about.get("identifier") if isinstance(about, dict) else None
    return found if isinstance(found, str) else ""
