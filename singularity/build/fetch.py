"""Small files from the network or this machine: a program, a key, a configuration file."""

import http.client
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO

from singularity.errors import BuildError, FileError

_SILENCE = 60.0  # seconds without a byte after which a server counts as gone
_SCHEMES = ("http://", "https://")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """At most ten, and never from a line that nobody can change to one that anybody can."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith(_SCHEMES) or (req.full_url.startswith("https:") and not newurl.startswith("https:")):
            raise BuildError(f"{req.full_url}: sent on to {newurl}, which is less safe")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # as documented


def fetch(place: str, *, limit: int) -> bytes:
    """The content at an `http:`, `https:` or `file:` URL or an absolute path; of at most `limit` bytes.

    Servers of https URLs must prove who they are. Proxies are those of the environment. Raises BuildError, and
    FileError for a local file.
    """
    if not place.startswith(_SCHEMES):
        return _read(Path("/" + place.removeprefix("file:").lstrip("/")), limit)
    opener = urllib.request.build_opener(_Redirects, urllib.request.HTTPSHandler(context=ssl.create_default_context()))
    request = urllib.request.Request(place, headers={"User-Agent": "singularity"})  # noqa: S310 - one of _SCHEMES
    try:
        with opener.open(request, timeout=_SILENCE) as answer:
            data: bytes = answer.read(limit + 1)
            expected = answer.headers.get("Content-Length", "")
    except urllib.error.HTTPError as error:
        raise BuildError(f"{place}: {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise BuildError(f"{place}: {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise BuildError(f"{place}: {error or type(error).__name__}") from error
    if expected.isdecimal() and len(data) < min(int(expected), limit):
        raise BuildError(f"{place}: {len(data)} of {expected} bytes came")
    return _within(data, limit, place)


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            return _within(file.read(limit + 1), limit, path)
    except OSError as error:
        raise FileError.because(path, error) from error


def _within(data: bytes, limit: int, place: object) -> bytes:
    if len(data) > limit:
        raise BuildError(f"{place}: larger than {limit >> 20} MiB")
    return data
