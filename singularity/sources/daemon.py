"""`docker-daemon:`: images of a Docker daemon on this machine, or of podman's service, over its socket.

What is asked (Docker Engine API): GET /images/NAME/json for the image's id, GET /images/NAME/get for what `docker save`
writes.
"""

import http.client
import os
import re
import socket
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from singularity import console, files
from singularity.content.platform import Platform
from singularity.errors import FileError, ImageError, NetworkError, RegistryError, UsageError
from singularity.foreign_json import parse_json
from singularity.oci import local
from singularity.oci.image import Image

_SOCKET = "unix:///var/run/docker.sock"
_NAME = re.compile(r"[A-Za-z0-9][\w./:-]*(?:@sha256:[0-9a-f]{64})?|sha256:[0-9a-f]{64}")
_SILENCE = 300.0  # seconds: a daemon puts the archive together before the first byte
_OK, _NOT_FOUND, _LIMIT, _CHUNK = 200, 404, 4 << 20, 1 << 20


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon listens: the path of a socket, or host and port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


def name(place: str) -> str:
    """The name of an image, with a tag. Raises ImageError."""
    if not _NAME.fullmatch(place):
        raise ImageError(f"docker-daemon:{place[:200]}: names no image", hint="NAME:TAG, as docker images shows it")
    is_tagged = ":" in place.rpartition("/")[2] or "@" in place
    return place if is_tagged else f"{place}:latest"


def address(option: str) -> Address:
    """The daemon that an option or DOCKER_HOST names, else the usual one. Raises UsageError."""
    text = option or os.environ.get("DOCKER_HOST", "").strip() or _SOCKET
    parts = urllib.parse.urlsplit(text)
    if parts.scheme == "unix" and parts.path:
        return Address(path=parts.path)
    with suppress(ValueError):
        if parts.scheme in ("tcp", "http") and parts.hostname:
            return Address(host=parts.hostname, port=parts.port or 2375)
    raise UsageError(f"{text}: no address of a Docker daemon that can be used", hint="unix:///PATH, or tcp://HOST:PORT")


def identity(named: str, place: Address) -> str:
    """The id of an image. Raises NetworkError, RegistryError and ImageError."""
    with _asked(f"/images/{urllib.parse.quote(named)}/json", named, place) as answer:
        document = parse_json(answer.read(_LIMIT))
    found = document.get("Id") if isinstance(document, dict) else None
    if not isinstance(found, str) or not found:
        raise ImageError(f"docker-daemon:{named}: the daemon does not say which image it is")
    return found


@contextmanager
def opened(named: str, place: Address, wanted: Platform, temporary: Path) -> Iterator[Image]:
    """The image, out of the archive that the daemon writes, which is kept below `temporary` meanwhile."""
    with files.temporary_directory(temporary) as directory:
        archive = directory / "image.tar"
        _save(named, place, archive)
        with local.opened("docker-archive", str(archive), wanted, directory) as found:
            yield found


def _save(named: str, place: Address, archive: Path) -> None:
    with (
        _asked(f"/images/{urllib.parse.quote(named)}/get", named, place) as answer,
        console.counting("fetching", None) as add,
    ):
        try:
            with archive.open("wb") as file:
                while data := answer.read(_CHUNK):
                    file.write(data)
                    add(len(data))
        except (http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise NetworkError(f"docker-daemon:{named}: the daemon broke off: {error or 'too early'}") from error
        except OSError as error:
            raise FileError.because(archive, error) from error


class _Connection(http.client.HTTPConnection):
    """HTTP over the socket of a daemon."""

    def __init__(self, place: Address) -> None:
        super().__init__(place.host or "localhost", place.port or 80, timeout=_SILENCE)
        self._place = place

    def connect(self) -> None:
        if not self._place.path:
            super().connect()
            return
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SILENCE)
        self.sock.connect(self._place.path)


@contextmanager
def _asked(path: str, named: str, place: Address) -> Iterator[http.client.HTTPResponse]:
    connection = _Connection(place)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        if answer.status == _NOT_FOUND:
            raise RegistryError(f"docker-daemon:{named}: the daemon has no such image (StatusCode: 404)", status=404)
        if answer.status != _OK:
            said = answer.read(_LIMIT).decode("utf-8", "replace").strip()[:300]
            raise RegistryError(f"docker-daemon:{named}: {said or 'refused'} (StatusCode: {answer.status})")
        yield answer
    except FileNotFoundError as error:
        raise NetworkError(f"{place}: no Docker daemon there", hint="is it running? --docker-host names it") from error
    except PermissionError as error:
        raise NetworkError(f"{place}: {error.strerror}", hint="the daemon is for its group and root only") from error
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(f"{place}: {error or type(error).__name__}") from error
    finally:
        connection.close()
