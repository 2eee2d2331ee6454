"""What a digital object identifier leads to: the files of a record, in an archive that InvenioRDM runs, such as Zenodo.

The resolver of identifiers sends on to the page of a record, https://HOST/records/ID; what the record has is said at
https://HOST/api/records/ID (InvenioRDM's REST API): its files are a list as Zenodo has them, or `entries` by name.
"""

import re
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from singularity.content.digest import Digest
from singularity.errors import ImageError, NetworkError, RegistryError
from singularity.foreign_json import parse_answer
from singularity.variables import variable
from singularity.web.http import Client, followed, shown

_RESOLVER = "https://doi.org"
_FORM = re.compile(r"(10\.[0-9]{4,9}/[\w.;()-]+)(?:/(.+))?", re.ASCII)
_PAGE = re.compile(r"/(?:records?)/([A-Za-z0-9-]+)/?")
_CHECKSUM = re.compile(r"(md5):([0-9a-f]{32})|(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_IMAGES = (".sif", ".sqfs", ".squashfs", ".sqsh", ".erofs", ".img", ".simg")
_LIMIT, _SHOWN = 8 << 20, 8  # bytes of an answer; files in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One of a record's."""

    name: str
    url: str
    size: int | None
    digest: Digest  # as the archive says it, md5 as a rule: it tells damage, and no intention


def parse(place: str) -> tuple[str, str]:
    """The identifier and the name of a file, or "", of `10.PREFIX/SUFFIX[/FILE]`. Raises ImageError."""
    match = _FORM.fullmatch(place.strip("/"))
    if match is None:
        raise ImageError(f"doi:{place[:200]}: is no identifier", hint="doi:10.5281/zenodo.NUMBER[/FILE]")
    return match[1], match[2] or ""


def find(doi: str, wanted: str) -> File:
    """The file of this name; without one, the only image there. Raises ImageError, NetworkError and RegistryError."""
    page = _resolved(doi)
    match = _PAGE.fullmatch(urllib.parse.urlsplit(page).path)
    if match is None:
        what = f"doi:{doi}: leads to {shown(page)}, which is no record that this program can read"
        raise ImageError(what, hint="Zenodo and other archives of InvenioRDM")
    api = urllib.parse.urljoin(page, f"/api/records/{match[1]}")
    with Client().send("GET", api, headers={"Accept": "application/json"}) as answer:
        if answer.status != 200:
            raise RegistryError(
                f"doi:{doi}: {shown(api)} says nothing (StatusCode: {answer.status})", status=answer.status
            )
        about = parse_answer(answer.whole(_LIMIT), f"doi:{doi}: the record")
    found = {file.name: file for file in _files(about, api)}
    if wanted:
        named = [wanted] if wanted in found else []
    else:
        named = [name for name in found if name.lower().endswith(_IMAGES)]
    if len(named) != 1:
        there = ", ".join(sorted(found)[:_SHOWN]) or "no file that all may have"
        what = "no file of this name" if wanted else "no image" if not named else f"{len(named)} images"
        raise ImageError(f"doi:{doi}{f'/{wanted}' if wanted else ''}: {what}", hint=f"there is {there}")
    return found[named[0]]


def _resolved(doi: str) -> str:
    """The page that an identifier leads to."""
    resolver = (variable("DOI_RESOLVER") or _RESOLVER).rstrip("/")
    try:
        with Client().send("GET", f"{resolver}/{urllib.parse.quote(doi, safe='/')}") as answer:
            if answer.status != 200:
                what = "no such identifier" if answer.status == 404 else "nothing is there"
                raise RegistryError(f"doi:{doi}: {what} (StatusCode: {answer.status})", status=answer.status)
            return answer.url
    except NetworkError as error:
        raise NetworkError(f"doi:{doi}: {error}") from error


def _files(about: Mapping[str, Any], api: str) -> Iterator[File]:
    listed = about.get("files")
    entries = listed.get("entries") if isinstance(listed, dict) else listed
    for each in entries.values() if isinstance(entries, dict) else entries if isinstance(entries, list) else ():
        if not isinstance(each, dict) or not isinstance(each.get("key"), str):
            continue
        name, links, size = each["key"], each.get("links"), each.get("size")
        checksum = _CHECKSUM.fullmatch(str(each.get("checksum", "")))
        if checksum is None:
            continue
        algorithm, digits = (part for part in checksum.groups() if part)
        given = links.get("content") or links.get("self") if isinstance(links, dict) else None
        url = given if isinstance(given, str) else f"{api}/files/{urllib.parse.quote(name, safe='')}/content"
        known = size if isinstance(size, int) and size >= 0 else None
        yield File(name=name, url=followed(api, url), size=known, digest=Digest(algorithm, digits))
