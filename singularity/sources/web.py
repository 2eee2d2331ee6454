"""`http://` and `https://`: files of web servers, which are fetched again only when they have changed."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import cast

from singularity.content import chunks
from singularity.content.download import Download
from singularity.errors import ImageError, RegistryError
from singularity.image.identify import identify
from singularity.sources.fetch import Fetch
from singularity.sources.remote_file import InParts, RemoteFile
from singularity.web.file import WebFile

_KIND = "net"


def locate(url: str, fetch: Fetch) -> RemoteFile:
    """The file at a URL, as its server describes it. Raises NetworkError and RegistryError."""
    del fetch
    file = WebFile(url)
    file.describe()
    download = Download(name=file.name, open=file.open, size=file.size)

    def index(limit: int) -> bytes:
        place, mark, query = url.partition("?")
        beside = WebFile(place + chunks.SUFFIX + mark + query)
        with io.BufferedReader(cast("io.RawIOBase", beside.open())) as stream:
            data = stream.read(limit + 1)
        if not chunks.is_index(data):  # a page that says so with the status of success
            raise RegistryError(f"{beside.name}: no index of chunks")
        return data

    parts = InParts(index, file.part)
    return RemoteFile(kind=_KIND, key=file.key, download=download, parts=parts, release=file.close)


def is_image(name: str) -> Callable[[Path], None]:
    """A check that raises ImageError for what is no image, a page with an error for instance."""

    def check(path: Path) -> None:
        try:
            identify(path)
        except ImageError as error:
            raise ImageError(f"{name}: no image: {str(error).removeprefix(f'{path}: ')}") from error

    return check
