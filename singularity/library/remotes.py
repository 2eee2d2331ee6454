"""Which libraries there are, under names, and the tokens for them: `remote.yaml`, the user's and the site's.

The file is the family's: `Active`, and `Remotes` by name with `URI`, `Token`, `System`, `Exclusive` and `Insecure`.
What it has besides stays.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from singularity import files, locks, paths
from singularity.errors import FileError, ImageError, RegistryError, UsageError
from singularity.foreign_json import objects, parse_answer
from singularity.web.http import Client, Patience, followed

USUAL = "https://library.sylabs.io"  # of a library:// that names no server, where no remote is active
_NOBODY = "cloud.apptainer.org"  # what Apptainer comes with: it has no library
_NAME = "remote.yaml"
_LIMIT = 1 << 20  # bytes
_NO_YAML = (AttributeError, LookupError, RecursionError, ValueError)  # of PyYAML, for values that are none of their tag
_DISCOVERY = "/assets/config/config.prod.json"
_PATIENCE = Patience(connect=10, stall=30, delays=(1,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A place that has a library, as it was named."""

    name: str
    uri: str  # HOST[/PATH], or with http:// or https://
    token: str = ""
    system: bool = False  # the site's
    exclusive: bool = False  # no other can be used
    insecure: bool = False  # by http

    @property
    def url(self) -> str:
        """Where its services are to be learned of."""
        scheme = "http" if self.insecure else "https"
        return (self.uri if "://" in self.uri else f"{scheme}://{self.uri}").rstrip("/")

    def services(self) -> dict[str, str]:
        """Addresses by name: libraryAPI, tokenAPI, keystoreAPI and so on. Raises NetworkError and RegistryError."""
        with Client(_PATIENCE).send("GET", f"{self.url}{_DISCOVERY}") as answer:
            if answer.status != 200:
                raise RegistryError(
                    f"remote {self.name}: {self.url} does not say what services it has", status=answer.status
                )
            document = parse_answer(answer.whole(_LIMIT), f"remote {self.name}")
        found = {name: about.get("uri") for name, about in document.items() if isinstance(about, dict)}
        return {
            name: followed(self.url, uri).rstrip("/")  # a token goes there: to none that is less safe
            for name, uri in found.items()
            if isinstance(uri, str) and uri.startswith(("http://", "https://"))
        }

    def check(self, token: str) -> None:
        """Asks whether a token is good there. Raises RegistryError."""
        service = self.services().get("tokenAPI")
        if service is None:
            raise RegistryError(f"remote {self.name}: has no logins")
        with Client(_PATIENCE).send("GET", f"{service}/v1/token-status", authorization=f"Bearer {token}") as answer:
            if answer.status != 200:
                raise RegistryError(f"remote {self.name}: the token is not taken", status=answer.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """A server and what it is sent to know us."""

    url: str
    authorization: str = ""


def remotes() -> list[Remote]:
    """The site's and the user's, in order of names; of one name the site's, with the user's token for that place."""
    system, own = _remotes(_read(_site())), _remotes(_read(_place()))
    mine = {name: each.token for name, each in own.items() if name in system and each.url == system[name].url}
    tokens = {name: replace(system[name], token=token) for name, token in mine.items() if token}
    return sorted({**own, **system, **tokens}.values(), key=_by_name)


def _by_name(remote: Remote) -> str:
    return remote.name


def active() -> Remote | None:
    """The one that is used: the site's only one, or the user's choice, or the site's; None: there is none."""
    known = remotes()
    exclusive = [each for each in known if each.exclusive and each.system]
    if exclusive:
        return exclusive[0]
    chosen = [_text(_read(path).get("Active")) for path in (_place(), _site())]
    return next((each for name in chosen for each in known if each.name == name), None)


def find(name: str) -> Remote:
    """The remote of a name, or the active one. Raises UsageError."""
    remote = active() if not name else next((each for each in remotes() if each.name == name), None)
    if remote is None:
        what = f"{name}: no such remote" if name else "no remote is active"
        raise UsageError(what, hint="singularity remote list; singularity remote use NAME")
    return remote


def library(named: str) -> Library:
    """The library of this URL; of the active remote without one. Raises NetworkError and RegistryError."""
    remote = active()
    if named or remote is None:
        same = remote is not None and named.rstrip("/") == remote.url
        return Library(url=(named or USUAL).rstrip("/"), authorization=_sent(remote) if same else "")
    url = remote.services().get("libraryAPI")
    if url is None:
        raise RegistryError(f"remote {remote.name}: {remote.uri} has no library", hint="--library URL")
    return Library(url=url, authorization=_sent(remote))


def _sent(remote: Remote | None) -> str:
    return f"Bearer {remote.token}" if remote is not None and remote.token else ""


# ---- changes ----


def add(remote: Remote, *, site: bool) -> None:
    """Adds one. Raises UsageError where there is one of this name."""
    with _changing(site=site) as document:
        if remote.name in document["Remotes"] or (not site and remote.name in _remotes(_read(_site()))):
            raise UsageError(f"remote add: {remote.name} is there already", hint="singularity remote list")
        document["Remotes"][remote.name] = {
            "URI": remote.uri, "Token": "", "System": site, "Exclusive": False, "Insecure": remote.insecure,
        }  # fmt: skip


def remove(name: str, *, site: bool) -> None:
    """Forgets one. Raises UsageError where there is none that may be removed."""
    with _changing(site=site) as document:
        if document["Remotes"].pop(name, None) is None:
            raise UsageError(f"remote remove: {name}: no such remote of {'the site' if site else 'yours'}")
        if document.get("Active") == name:
            document["Active"] = ""


def use(name: str, *, site: bool, exclusive: bool) -> None:
    """Makes one the active one; for all of the site, `exclusive` means that there is no other. Raises UsageError."""
    find(name)
    with _changing(site=site) as document:
        document["Active"] = name
        if site:
            for other, about in document["Remotes"].items():
                if isinstance(about, dict):
                    about["Exclusive"] = exclusive and other == name


def set_token(remote: Remote, token: str) -> None:
    """Keeps a token for the user, or forgets it."""
    with _changing(site=False) as document:
        about, known = document["Remotes"].get(remote.name), _remotes(document).get(remote.name)
        if known is None or known.url != remote.url:
            about = {"URI": remote.uri, "System": remote.system, "Insecure": remote.insecure}
        document["Remotes"][remote.name] = {**about, "Token": token}


class Merged(NamedTuple):
    """What another program's list has: of each remote whether it was new; servers of keys, and logins by address."""

    remotes: dict[str, bool]
    keyservers: tuple[str, ...]
    logins: dict[str, str]


def merge(other: Path, *, site: bool, change: bool) -> Merged:
    """Takes over the remotes of another such file that are missing, with their tokens; of the user's, not the site's.

    The active one stays, where there is one. Without `change` it is only said. Raises FileError and ImageError.
    """
    theirs = _read(other)
    known = _remotes(_read(_site() if site else _place()))
    found = {name: each for name, each in _remotes(theirs).items() if (site or not each.system) and each.uri != _NOBODY}
    new = [name for name in found if name not in known]
    if new and change:
        with _changing(site=site) as document:
            document["Remotes"] |= {name: theirs["Remotes"][name] for name in new}
            if not document.get("Active") and theirs.get("Active") in new:
                document["Active"] = theirs["Active"]
    listed = [server for each in objects([*theirs["Remotes"].values()]) for server in objects(each.get("Keyservers"))]
    servers = (_text(each.get("URI")) for each in listed if not each.get("Skip") and not each.get("Insecure"))
    logins = {_text(each.get("URI")): _text(each.get("Auth")) for each in objects(theirs.get("Credentials"))}
    return Merged({name: name in new for name in found}, tuple(dict.fromkeys(filter(None, servers))), logins)


# ---- the files ----


def _place() -> Path:
    return paths.user_place() / _NAME


def _site() -> Path:
    return paths.site_directory() / _NAME


def _remotes(document: dict[str, Any]) -> dict[str, Remote]:
    return {
        str(name): Remote(
            name=str(name),
            uri=about["URI"],
            token=_text(about.get("Token")),
            system=bool(about.get("System")),
            exclusive=bool(about.get("Exclusive")),
            insecure=bool(about.get("Insecure")),
        )
        for name, about in document["Remotes"].items()
        if isinstance(about, dict) and _text(about.get("URI"))
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _read(path: Path) -> dict[str, Any]:
    import yaml

    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if path == _place() and status.st_uid != os.geteuid():
                raise FileError(f"{path}: belongs to user {status.st_uid}, not to you")
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{path}: no regular file")
            document = yaml.safe_load(file.read(_LIMIT))
    except FileNotFoundError:
        document = None
    except OSError as error:
        raise FileError.because(path, error) from error
    except (yaml.YAMLError, *_NO_YAML) as error:
        raise ImageError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    found = document if isinstance(document, dict) else {}
    if not isinstance(found.get("Remotes"), dict):
        found["Remotes"] = {}
    return found


@contextmanager
def _changing(*, site: bool) -> Iterator[dict[str, Any]]:
    """The file's document, written again at the end, for its owner alone."""
    import yaml

    path = _site() if site else paths.user_directory() / _NAME
    if site and os.geteuid() != 0 and not os.access(path.parent, os.W_OK):
        raise UsageError("--global: for whoever may write the site's configuration")
    with locks.locked(path.with_name(f".{_NAME}.lock"), "changes the list of remotes"):
        document = _read(path)
        yield document
        text = yaml.safe_dump(document, sort_keys=False)
        files.write(path, text.encode(), overwrite=True, mode=0o644 if site else 0o600)
