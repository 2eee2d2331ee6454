"""What the words after `docker://` and `oras://` name: an image in a registry, by its tag or its digest.

The grammar is that of the OCI distribution specification and of Docker's references; the whole text must fit it
(security requirement N4).
"""

import re
from typing import NamedTuple

from singularity.content import digest
from singularity.content.digest import Digest
from singularity.errors import ImageError

HUB = "docker.io"
_HUB_NAMES = frozenset({HUB, "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_HUB_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_REPOSITORY_LIMIT = 255
_HOST_LIMIT = 255
_PORT_LIMIT = 1 << 16


class Reference(NamedTuple):
    """An image in a registry. With both a tag and a digest, the digest says which."""

    host: str  # with the port where one is named; `docker.io` is Docker Hub
    repository: str  # with the namespace
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.host}/{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"

    @property
    def target(self) -> str:
        """What the registry's manifest is asked for by: the digest, else the tag."""
        return str(self.digest) if self.digest else self.tag


def parse(text: str, *, registry: str = "", namespace: str = "") -> Reference:
    """`[HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST]`; the tag is `latest` where there is neither tag nor digest.

    `registry`, a host that a namespace may follow, and `namespace` hold where the text names none. On Docker Hub, which
    is the default, repositories without a namespace are those of `library`. Raises ImageError.
    """
    rest, at, after = text.partition("@")
    wanted = digest.parse(after) if at else None
    first, slash, path = rest.partition("/")
    if slash and is_host(first):
        host, rest = canonical(first), path
    else:
        host, _, above = registry.partition("://")[2 if "://" in registry else 0].rstrip("/").partition("/")
        host = canonical(host or HUB)
        if not slash and (namespace or above):
            rest = f"{namespace.strip('/') or above}/{rest}"
    repository, colon, tag = rest.partition(":")
    if host == HUB and "/" not in repository:
        repository = f"{_HUB_NAMESPACE}/{repository}"
    if not _REPOSITORY.fullmatch(repository) or len(repository) > _REPOSITORY_LIMIT:
        lower = "in lower case: " if repository != repository.lower() else ""
        raise ImageError(f'"{text[:300]}" names no image', hint=f"{lower}[HOST[:PORT]/]NAME[:TAG][@sha256:...]")
    if colon and not _TAG.fullmatch(tag):
        raise ImageError(f'"{text[:300]}": "{tag[:140]}" is no tag', hint="letters, digits, and . _ - after the first")
    return Reference(
        host=host, repository=repository, tag=tag if colon else "" if wanted else DEFAULT_TAG, digest=wanted
    )


def is_host(word: str) -> bool:
    """Whether the first part of a reference is a host, not a namespace: by a dot, a port, or as `localhost`."""
    return word.lower() == "localhost" or "." in word or ":" in word


def canonical(host: str) -> str:
    """A host in the one form that we know it by. Raises ImageError for what can be none."""
    port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else ""
    if not _HOST.fullmatch(host) or len(host) > _HOST_LIMIT or int(port or 1) not in range(1, _PORT_LIMIT):
        raise ImageError(f'"{host[:100]}" is no registry', hint="HOST, or HOST:PORT")
    host = host.lower()
    return HUB if host in _HUB_NAMES else host
