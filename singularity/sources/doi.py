"""`doi:`: image files of archives that give digital object identifiers, Zenodo for one."""

import hashlib

from singularity.content.download import Download
from singularity.deposit import records
from singularity.sources.fetch import Fetch
from singularity.sources.remote_file import RemoteFile
from singularity.sources.web import is_image
from singularity.web.file import WebFile

_KIND = "net"


def locate(place: str, fetch: Fetch) -> RemoteFile:
    """The image of a record. Raises ImageError, NetworkError and RegistryError."""
    del fetch
    doi, wanted = records.parse(place)
    found = records.find(doi, wanted)
    name = f"doi:{doi}/{found.name}"
    file = WebFile(found.url, size=found.size)
    download = Download(name=name, open=file.open, size=found.size, digest=found.digest)
    key = hashlib.sha256(f"{name}\0{found.digest}\0{found.size}".encode("utf-8", "replace")).hexdigest()
    return RemoteFile(kind=_KIND, key=key, download=download, check=is_image(name), release=file.close)
