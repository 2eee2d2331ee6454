"""The proxies of the environment: http_proxy, https_proxy, all_proxy and no_proxy, in lower or upper case."""

import base64
import os
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

from singularity.errors import NetworkError

if TYPE_CHECKING:
    import ipaddress

_LOCAL = ("localhost", "127.0.0.1", "::1")


class Proxy(NamedTuple):
    """Who is asked in place of a server; `login` is `NAME:PASSWORD`."""

    url: str
    login: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.url!r})"

    @property
    def headers(self) -> dict[str, str]:
        """What it is shown."""
        return {"Proxy-Authorization": "Basic " + base64.b64encode(self.login.encode()).decode()} if self.login else {}


def proxy_for(url: str) -> Proxy | None:
    """The proxy for a URL; None: there is none. Raises NetworkError for one of a kind that we do not speak.

    This machine itself is never asked through a proxy.
    """
    parts = urllib.parse.urlsplit(url)
    host, port = (parts.hostname or "").lower(), parts.port
    text = _variable(f"{parts.scheme}_proxy") or _variable("all_proxy")
    if not text or host in _LOCAL or _is_loopback(host) or _is_excepted(host, port, _variable("no_proxy")):
        return None
    proxy = urllib.parse.urlsplit(text if "://" in text else f"http://{text}")
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise NetworkError(f"the proxy for {host} is none of http", hint=f"see {parts.scheme}_proxy, all_proxy")
    login = ""
    if proxy.username:
        login = f"{urllib.parse.unquote(proxy.username)}:{urllib.parse.unquote(proxy.password or '')}"
    return Proxy(f"{proxy.scheme}://{proxy.netloc.rpartition('@')[2]}", login)


def _variable(name: str) -> str:
    return (os.environ.get(name) or os.environ.get(name.upper()) or "").strip()


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> "ipaddress.IPv4Address | ipaddress.IPv6Address | None":
    import ipaddress

    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _is_excepted(host: str, port: int | None, exceptions: str) -> bool:
    """Whether no_proxy names a host: itself, a domain above it, `HOST:PORT`, a network of addresses, or `*`."""
    address = _address(host)
    for word in exceptions.lower().replace(",", " ").split():
        name, _, number = word.rpartition(":") if word.count(":") == 1 else (word, "", "")
        if number and number != str(port):
            continue
        if word == "*" or host == name.strip("[]") or host.endswith("." + name.lstrip("*").lstrip(".")):
            return True
        if address is not None and "/" in word and _is_within(address, word):
            return True
    return False


def _is_within(address: "ipaddress.IPv4Address | ipaddress.IPv6Address", network: str) -> bool:
    import ipaddress

    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
