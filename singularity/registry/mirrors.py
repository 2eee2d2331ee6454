"""Where an image is asked for: its registry, or the mirrors and other places that a registries.conf has for it.

The file is that of podman and skopeo (containers-registries.conf(5), version 2). The first that there is counts: the
one that CONTAINERS_REGISTRIES_CONF names, the user's, the system's, that of this installation; then the drop-in files
beside them. Nothing is asked for elsewhere than these say (security requirement N6).
"""

import functools
import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from singularity.errors import FileError, RegistryError, SingularityError
from singularity.paths import site_directory
from singularity.registry.reference import HUB, Reference, canonical

logger = logging.getLogger(__name__)

_API_HOSTS = {HUB: "registry-1.docker.io"}
_SYSTEM = Path("/etc/containers/registries.conf")
_FILE_LIMIT = 1 << 20  # bytes


class Scheme(Enum):
    """How a place is spoken to."""

    HTTPS = "https"
    HTTP = "http"
    EITHER = "either"  # https, from whomever; http where there is none

    def __str__(self) -> str:
        return self.value


class Place(NamedTuple):
    """A repository of a server that may have the image."""

    host: str
    repository: str
    scheme: Scheme = Scheme.HTTPS
    is_mirror: bool = False

    def __str__(self) -> str:
        return f"{self.host}/{self.repository}"

    @property
    def api_host(self) -> str:
        """Where requests go."""
        return _API_HOSTS.get(self.host, self.host)


class _Mirror(NamedTuple):
    location: str
    insecure: bool
    pulls: str  # all, digest-only or tag-only


class _Rule(NamedTuple):
    """One `[[registry]]` of the file."""

    prefix: str
    location: str
    path: Path
    insecure: bool = False
    blocked: bool = False
    mirrors: tuple[_Mirror, ...] = ()


def places(host: str, repository: str, *, by_digest: bool, no_https: bool, pull: bool = True) -> list[Place]:
    """Where a repository is to be asked for, in this order; what is pushed goes to the last alone.

    Raises RegistryError for one that is blocked, and FileError for a file that makes no sense.
    """
    name = f"{host}/{repository}"
    rule = _rule_for(name)
    if rule is None:
        return [Place(host=host, repository=repository, scheme=Scheme.HTTP if no_https else Scheme.HTTPS)]
    if rule.blocked:
        raise RegistryError(f"{name}: this registry is blocked", hint=f"by {rule.path}")
    found = []
    if pull:
        wanted = ("all", "digest-only" if by_digest else "tag-only")
        found = [
            _place(each.location, rule, name, insecure=each.insecure, is_mirror=True)
            for each in rule.mirrors
            if each.pulls in wanted
        ]
    own = _place(rule.location or rule.prefix, rule, name, insecure=rule.insecure, is_mirror=False)
    if no_https and own.host == host:
        own = Place(host=own.host, repository=own.repository, scheme=Scheme.HTTP)
    return [*found, own]


def _place(location: str, rule: _Rule, name: str, *, insecure: bool, is_mirror: bool) -> Place:
    """Where a name is below `location`, which stands for the rule's prefix."""
    if rule.prefix.startswith("*."):  # for any host below it: the whole host is replaced
        host, _, rest = name.partition("/")
        whole = name if location in ("", rule.prefix) else f"{location}/{rest}"
    else:
        whole = location + name[len(rule.prefix) :]
    host, _, repository = whole.partition("/")
    scheme = Scheme.EITHER if insecure else Scheme.HTTPS
    try:
        return Place(host=canonical(host), repository=repository, scheme=scheme, is_mirror=is_mirror)
    except SingularityError as error:
        raise FileError(f'{rule.path}: "{location}" is no place of a registry') from error


def _rule_for(name: str) -> _Rule | None:
    """The rule whose prefix fits the most of a name."""
    fitting = [each for each in rules() if _fits(each.prefix, name)]
    return max(fitting, key=lambda each: (not each.prefix.startswith("*."), len(each.prefix)), default=None)


def _fits(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):
        return name.partition("/")[0].partition(":")[0].endswith(prefix[1:])
    return name == prefix or (name.startswith(prefix) and name[len(prefix)] in "/:@")


def rules() -> tuple[_Rule, ...]:
    """All rules. Raises FileError for a file that makes no sense."""
    return tuple(rule for path in _paths() for rule in _read(path, _changed(path)))


def _changed(path: Path) -> int:
    with FileError.about(path):
        return path.stat().st_mtime_ns


def _paths() -> Iterator[Path]:
    named = os.environ.get("CONTAINERS_REGISTRIES_CONF", "").strip()
    if named:
        yield Path(named)
        return
    candidates = [_SYSTEM, site_directory() / "registries.conf"]
    with suppress(RuntimeError):  # no home
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        candidates.insert(0, Path(home) / "containers/registries.conf")
    first = next((path for path in candidates if path.is_file()), None)
    if first is not None:
        yield first
    for path in candidates:
        yield from sorted(Path(f"{path}.d").glob("*.conf"))


@functools.cache
def _read(path: Path, changed: int) -> tuple[_Rule, ...]:
    del changed  # a file that was changed is read again
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
        document = tomllib.loads(data.decode()) if len(data) <= _FILE_LIMIT else {}
    except OSError as error:
        raise FileError.because(path, error) from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: {error}") from error
    tables = document.get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
        raise FileError(f"{path}: registry is no list of tables")
    if isinstance(document.get("registries"), dict):
        logger.info("%s: its [registries] tables, of version 1, are not used", path)
    return tuple(_rule(each, path) for each in tables)


def _rule(table: Mapping[str, Any], path: Path) -> _Rule:
    location, prefix = _text(table, "location", path), _text(table, "prefix", path)
    if not (location or prefix):
        raise FileError(f"{path}: a registry with neither location nor prefix")
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list) or not all(isinstance(each, dict) for each in mirrors):
        raise FileError(f"{path}: mirror is no list of tables")
    only = _flag(table, "mirror-by-digest-only", path)
    return _Rule(
        prefix=_named(prefix or location),
        location=location,
        insecure=_flag(table, "insecure", path),
        blocked=_flag(table, "blocked", path),
        mirrors=tuple(
            _Mirror(
                location=_text(each, "location", path),
                insecure=_flag(each, "insecure", path),
                pulls=_text(each, "pull-from-mirror", path) or ("digest-only" if only else "all"),
            )
            for each in mirrors
        ),
        path=path,
    )


def _named(prefix: str) -> str:
    """A prefix as references begin."""
    host, slash, rest = prefix.rstrip("/").partition("/")
    with suppress(SingularityError):
        host = canonical(host)
    return f"{host}{slash}{rest}"


def _text(table: Mapping[str, Any], key: str, path: Path) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise FileError(f"{path}: {key} is no text")
    return value.rstrip("/")


def _flag(table: Mapping[str, Any], key: str, path: Path) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise FileError(f"{path}: {key} is true or false")
    return value


def for_reference(reference: Reference, *, no_https: bool) -> list[Place]:
    """The places for an image."""
    by_digest = reference.digest is not None
    return places(reference.host, reference.repository, by_digest=by_digest, no_https=no_https)
