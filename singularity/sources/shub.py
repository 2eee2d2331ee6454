"""`shub://`: images of Singularity Hub, and of servers that speak as it did.

The hub itself takes no new images since 2021; what it had is an archive. A server is asked for
GET /api/container/USER/NAME:TAG, and answers {"image": URL, "version": DIGEST, ...}.
"""

import hashlib
import re
import urllib.parse

from singularity.content.download import Download
from singularity.errors import ImageError, NetworkError
from singularity.foreign_json import parse_answer
from singularity.sources.fetch import Fetch
from singularity.sources.remote_file import RemoteFile
from singularity.sources.web import is_image
from singularity.web.file import WebFile, refused
from singularity.web.http import Client, followed

_KIND = "shub"
_HUB = "singularity-hub.org"
_FORM = re.compile(
    r"(?:(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d{1,5})?)/)?"
    r"(?P<user>[A-Za-z0-9][\w.-]*)/(?P<name>[A-Za-z0-9][\w.-]*)"
    r"(?::(?P<tag>[\w.-]+))?(?:@(?P<commit>[0-9A-Za-z]+))?"
)
_ARCHIVE = "the hub is an archive now: https://datasets.datalad.org/?dir=/shub"
_OK, _LIMIT = 200, 1 << 20


def locate(place: str, fetch: Fetch) -> RemoteFile:
    """The image of a name. Raises ImageError, NetworkError and RegistryError."""
    host, path = parse(place)
    url = f"{'http' if fetch.access.no_https else 'https'}://{host}/api/container/{path}"
    name = f"shub://{place}"
    hint = _ARCHIVE if host == _HUB else ""
    try:
        with Client().send("GET", url) as answer:
            if answer.status != _OK:
                raise refused(name, answer.status, f"({hint})" if hint else "")
            data = answer.whole(_LIMIT)
    except NetworkError as error:
        raise NetworkError(str(error), hint=hint) from error
    about = parse_answer(data, f"{name}: the answer of the server")
    if not isinstance(about.get("image"), str) or not about["image"]:
        raise ImageError(f"{name}: the server does not say where the image is")
    image = followed(url, about["image"])
    file = WebFile(image)
    file.describe()
    words = (name, image, str(about.get("version") or ""), *file.validators, str(file.size))
    key = hashlib.sha256("\0".join(words).encode("utf-8", "replace")).hexdigest()
    download = Download(name=name, open=file.open, size=file.size)
    return RemoteFile(kind=_KIND, key=key, download=download, check=is_image(name), release=file.close)


def parse(place: str) -> tuple[str, str]:
    """Host and path of `[HOST/]USER/NAME[:TAG][@COMMIT]`. Raises ImageError."""
    match = _FORM.fullmatch(place)
    if match is None:
        raise ImageError(f"shub://{place[:200]}: names no image", hint="[HOST/]USER/NAME[:TAG][@COMMIT]")
    commit = f"@{match['commit']}" if match["commit"] else ""
    path = f"{match['user']}/{match['name']}:{match['tag'] or 'latest'}{commit}"
    return match["host"] or _HUB, urllib.parse.quote(path, safe="/:@")
