"""By which way a build reaches the network: as the environment says, or through a recorder that notes what comes.

Tools and scripts are told of the recorder by the variables for proxies, and trust its authority by a file that is shown
to them: in the image below /dev, which is of the build, and on the host in the mount namespace of the tool alone.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from singularity import kernel
from singularity.build.request import Bind
from singularity.errors import NetworkError
from singularity.image.root import Root

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, ProxyManager

    from singularity.web.http import Patience

_HANDED_ON = (
    "TERM", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY",
    "ftp_proxy", "FTP_PROXY",
)  # fmt: skip
_REDIRECTS, _REDIRECTS_LIMIT = (301, 302, 303, 307, 308), 10
_PROXIES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")
_OF_HOSTS = (  # where distributions have the certificates of authorities, as one file
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
_OF_IMAGES = (  # where dnf, zypper and pacman look
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
    "/etc/ca-certificates/extracted/tls-ca-bundle.pem",
)
# By which programs take other authorities than the system's: OpenSSL, curl, requests, pip, git, Node, cargo, apk.
_AUTHORITIES = (
    "SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "PIP_CERT", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS",
    "CARGO_HTTP_CAINFO", "SSL_CA_CERT_FILE",
)  # fmt: skip
# For apt: an index of its day will do, where the lock's digest says that it is the right one.
ANY_DATE = 'Acquire::Check-Valid-Until "false"; Acquire::Check-Date "false";'
_CERTIFICATE, _APT, _WGET = "/dev/build-authority.pem", "/dev/build-apt.conf", "/dev/build-wgetrc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A recorder, and the files that go with it, in `directory`."""

    url: str
    certificate: Path
    directory: Path
    plays: bool  # what was noted before, and nothing else


_gate: Gate | None = None  # of this process, which builds one image at a time


@contextmanager
def through(gate: Gate) -> Iterator[None]:
    """Until the end of the block all that a build fetches goes through a recorder."""
    global _gate
    for name, text in (("apt.conf", _apt(gate)), ("wgetrc", f"ca_certificate = {_CERTIFICATE}\n")):
        file = gate.directory / name
        file.write_text(text, encoding="ascii")
        file.chmod(0o644)  # for users of the image; the directory above it is private
    before, _gate = _gate, gate
    try:
        yield
    finally:
        _gate = before


def _apt(gate: Gate) -> str:
    lines = [f'Acquire::https::CaInfo "{_CERTIFICATE}";', *([ANY_DATE] if gate.plays else [])]
    return "\n".join(lines) + "\n"


def environment() -> Mapping[str, str]:
    """What tools and scripts that use the network get from our environment."""
    found = {name: os.environ[name] for name in _HANDED_ON if os.environ.get(name)}
    if _gate is None:
        return found
    return {name: found[name] for name in ("TERM",) if name in found} | dict.fromkeys(_PROXIES, _gate.url)


def plays() -> bool:
    """Whether all that is fetched was noted before, whatever its date."""
    return _gate is not None and _gate.plays


def variables_inside() -> Mapping[str, str]:
    """What scripts in the image get besides, with `files_inside`; pip and uv keep no answers, with their times."""
    if _gate is None:
        return {}
    trusting = dict.fromkeys(_AUTHORITIES, _CERTIFICATE) | {"APT_CONFIG": _APT, "WGETRC": _WGET}
    return {**trusting, "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "UV_NO_CACHE": "1"}


def variables_on_host() -> Mapping[str, str]:
    """What scripts on the host get, in place of what their environment says of the network."""
    if _gate is None:
        return {}
    return {**environment(), "no_proxy": "", "NO_PROXY": "", **dict.fromkeys(_AUTHORITIES, str(_gate.certificate))}


def files_inside(root: Root) -> Sequence[Bind]:
    """The files that `variables_inside` speaks of, and for package managers that ask no variable the system's own."""
    if _gate is None:
        return ()
    shown = {_CERTIFICATE: _gate.certificate, _APT: _gate.directory / "apt.conf", _WGET: _gate.directory / "wgetrc"}
    shown |= {name: _gate.certificate for name in _OF_IMAGES if root.is_file(name)}
    return [Bind(source=source, target=target, writable=False) for target, source in shown.items()]


def trust_on_host() -> None:
    """Shows the recorder's authority as the only one, in the mount namespace of this process, which is a tool's."""
    for place in _OF_HOSTS if _gate is not None else ():
        if _gate is not None and place.is_file():
            kernel.mount(str(_gate.certificate), str(place), None, kernel.MS_BIND)


@contextmanager
def opened(url: str, *, patience: "Patience | None" = None) -> Iterator[BinaryIO]:
    """A file of a web server. Raises NetworkError and RegistryError, and so does reading it."""
    from singularity.web.file import WebFile

    if _gate is None:
        with WebFile(url, patience=patience).open() as stream:
            yield stream
        return
    import urllib3

    from singularity.web.file import refused
    from singularity.web.http import shown

    login = urllib3.make_headers(proxy_basic_auth=_gate.url.partition("://")[2].rpartition("@")[0])
    address = f"http://{_gate.url.rpartition('@')[2]}"
    with urllib3.ProxyManager(address, proxy_headers=login, use_forwarding_for_https=True) as proxy:
        try:
            response = _asked(proxy, url)
        except urllib3.exceptions.HTTPError as error:
            raise NetworkError(f"{shown(url)}: {error}") from error
        with response:
            if response.status != 200:
                raise refused(shown(url), response.status)
            yield cast("BinaryIO", response)


def _asked(proxy: "ProxyManager", url: str) -> "BaseHTTPResponse":
    """What the recorder answers, in the end: sent on, and with a password for its server alone, as ever."""
    from singularity.web.file import without_user
    from singularity.web.http import Origin, followed, shown

    place, authorization = without_user(url)
    origin = Origin.of(place)
    for _ in range(_REDIRECTS_LIMIT):
        if Origin.of(place) != origin:
            authorization = ""
        headers = {"Authorization": authorization} if authorization else {}
        response = proxy.request(
            "GET", place, headers=headers, redirect=False, preload_content=False, decode_content=False
        )
        location = response.headers.get("Location", "") if response.status in _REDIRECTS else ""
        if not location:
            return response
        response.drain_conn()
        place = followed(place, location)
    raise NetworkError(f"{shown(url)}: sent on more than {_REDIRECTS_LIMIT} times")
