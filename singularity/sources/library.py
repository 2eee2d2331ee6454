"""`library://`: SIF files of image libraries that speak the open library API.

What is asked of a server:

GET /v1/images/ENTITY/COLLECTION/NAME:TAG?arch=ARCH      {"data": {"hash": "sha256.HEX", "size": BYTES, ...}}
GET /v1/imagefile/ENTITY/COLLECTION/NAME:TAG?arch=ARCH   the file, or where it is

A name of one part is in the collection `default` of the entity `library`; of two, in that collection of it.
"""

import re
import urllib.parse

from singularity.content import digest
from singularity.content.download import Download
from singularity.errors import ImageError
from singularity.foreign_json import parse_answer
from singularity.sources.fetch import Fetch
from singularity.sources.remote_file import RemoteFile, is_sif
from singularity.web.file import WebFile, refused
from singularity.web.http import Client

_KIND = "library"
_USUAL = "https://library.sylabs.io"
_DEFAULTS = ("library", "default")  # entity, collection
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*(?::\d{1,5})?")
_HASH = re.compile(r"(sha256)[.:]([0-9a-f]{64})")
_OK, _LIMIT = 200, 1 << 20


def locate(place: str, fetch: Fetch) -> RemoteFile:
    """The SIF file of a name. Raises ImageError, NetworkError and RegistryError."""
    server, path = parse(place, fetch.library, no_https=fetch.access.no_https)
    query = urllib.parse.urlencode({"arch": fetch.platform.architecture})
    quoted = urllib.parse.quote(path, safe="/:,")
    name = f"library://{server.partition('://')[2]}/{path}"
    with Client().send("GET", f"{server}/v1/images/{quoted}?{query}") as answer:
        if answer.status != _OK:
            raise refused(name, answer.status, f"for {fetch.platform.architecture}")
        data = answer.whole(_LIMIT)
    who = f"{name}: the answer of the library"
    about = parse_answer(data, who).get("data")
    if not isinstance(about, dict):
        raise ImageError(f"{who} makes no sense")
    hashed = _HASH.fullmatch(str(about.get("hash", "")))
    size = about.get("size")
    wanted = digest.parse(f"sha256:{hashed[2]}") if hashed else None
    if wanted is None:
        raise ImageError(f"{name}: the library does not say what its digest is")
    file = WebFile(f"{server}/v1/imagefile/{quoted}?{query}", size=size if isinstance(size, int) and size else None)
    download = Download(name=name, open=file.open, size=file.size, digest=wanted)
    return RemoteFile(kind=_KIND, key=f"sha256.{wanted.digits}", download=download, check=is_sif(name))


def parse(place: str, library: str, *, no_https: bool) -> tuple[str, str]:
    """Server and path of `[//HOST/][ENTITY/[COLLECTION/]]NAME[:TAG]`. Raises ImageError."""
    host, slash, rest = place.partition("/")
    server = library.rstrip("/") or _USUAL
    if slash and _HOST.fullmatch(host) and ("." in host or ":" in host or host == "localhost"):
        server, place = host, rest
    if "://" not in server:
        server = f"{'http' if no_https else 'https'}://{server}"
    path, _, tag = place.strip("/").partition(":")
    parts = path.split("/")
    parts = [*_DEFAULTS[: 3 - len(parts)], *parts]
    if len(parts) != 3 or not all(_PART.fullmatch(each) for each in (*parts, *(tag or "latest").split(","))):
        raise ImageError(f"library://{place[:200]}: names no image", hint="[ENTITY/[COLLECTION/]]NAME[:TAG]")
    return server, f"{'/'.join(parts)}:{tag or 'latest'}"
