"""`library://`: SIF files of image libraries."""

from singularity.content.download import Download
from singularity.library import remotes
from singularity.library.service import Service, parse
from singularity.sources.fetch import Fetch
from singularity.sources.remote_file import RemoteFile, is_sif
from singularity.web.file import WebFile

_KIND = "library"


def locate(place: str, fetch: Fetch) -> RemoteFile:
    """The SIF file of a name. Raises ImageError, NetworkError and RegistryError."""
    host, path = parse(place)
    library = remotes.library(url(host or fetch.library, no_https=fetch.access.no_https))
    service = Service(library)
    known = service.find(path, fetch.platform.architecture)
    file = WebFile(known.url, size=known.size, authorization=library.authorization)
    name = service.name(path)
    download = Download(name=name, open=file.open, size=file.size, digest=known.digest)
    return RemoteFile(kind=_KIND, key=f"sha256.{known.digest.digits}", download=download, check=is_sif(name))


def url(server: str, *, no_https: bool) -> str:
    """Of a server as it was named; "" for none."""
    return server if not server or "://" in server else f"{'http' if no_https else 'https'}://{server}"
