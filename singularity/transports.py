"""Ways to an image, by the word before the colon of its name. Needs nothing of ours, since messages about files do.

A name is `TRANSPORT:PLACE` or `TRANSPORT://PLACE`, for web servers a whole URL.
"""

import os
import re
from enum import Enum
from urllib.parse import urlsplit


class Transport(Enum):
    """Ways to an image; the values are what stands before the colon."""

    DOCKER = "docker"
    DOCKER_DAEMON = "docker-daemon"
    DOCKER_ARCHIVE = "docker-archive"
    OCI = "oci"
    OCI_ARCHIVE = "oci-archive"
    ORAS = "oras"
    LIBRARY = "library"
    SHUB = "shub"
    DOI = "doi"
    HTTP = "http"
    HTTPS = "https"

    @property
    def is_oci(self) -> bool:
        """Whether what is there is made of layers; else it is one file."""
        return self in _OCI

    @property
    def is_web(self) -> bool:
        """Whether it is a plain web server."""
        return self in (Transport.HTTP, Transport.HTTPS)


_OCI = frozenset((
    Transport.DOCKER, Transport.DOCKER_DAEMON, Transport.DOCKER_ARCHIVE, Transport.OCI, Transport.OCI_ARCHIVE
))  # fmt: skip
BY_NAME = {each.value: each for each in Transport}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def fault(text: str) -> tuple[str, str] | None:
    """What is wrong with a name, and a hint: a transport that nobody knows, or nothing behind it. None: all is well."""
    name, colon, rest = text.partition(":")
    transport = BY_NAME.get(name.lower())
    if not colon or transport is None:
        is_unknown = (
            name.lower() != "file" and _SCHEME.match(text) and not os.path.lexists(text)
        )  # `import` knows file:
        return _unknown(name, rest) if is_unknown else None
    if transport.is_web:
        return (f"{text}: names no server", "") if rest.startswith("//") and not urlsplit(text).hostname else None
    return None if rest.removeprefix("//").strip("/") else (f"{text}: names no image", "")


def _unknown(name: str, rest: str) -> tuple[str, str]:
    from difflib import get_close_matches

    if name.lower() == "instance":
        return f"{name}:{rest}: an instance is no image", "exec, run, shell and test take it"
    near = get_close_matches(name.lower(), list(BY_NAME), n=1)
    hint = f"did you mean {near[0]}:{rest}?" if near else f"known are {', '.join(BY_NAME)}"
    return f'{name}:{rest}: unknown transport "{name}"', hint
