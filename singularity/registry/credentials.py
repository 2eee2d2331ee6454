"""Who we are to a registry: in files of Docker's form, and in the helper programs that these name.

Looked at are, the first that knows the registry: what options and variables say; the file that an option or a variable
names, and then no other; `docker-config.json` in the user's directory, which `registry login` writes; Docker's own. A
file with passwords in it that others may read is not used (security requirement N7).
"""

import base64
import fcntl
import functools
import json
import logging
import os
import re
import select
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from singularity import files, process
from singularity.errors import FileError, SingularityError, ToolError, UsageError
from singularity.foreign_json import parse_json
from singularity.paths import user_directory, user_place
from singularity.registry.access import Access
from singularity.registry.reference import HUB, canonical
from singularity.variables import handed_on

logger = logging.getLogger(__name__)

_HUB_KEY = "https://index.docker.io/v1/"
_FILE_LIMIT = 1 << 20  # bytes
_HELPER_LIMIT = 64 << 10  # bytes of its answer
_HELPER_SECONDS = 60.0  # until it has answered; it may have to ask its user
_HELPER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_TOKEN_USER = "<token>"  # noqa: S105 - of a helper whose secret is an identity token
_NAME = "docker-config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a registry, or its service of tokens, is shown; secrets are shown nowhere else."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = ""  # the file or helper that they are from, for messages

    @property
    def basic(self) -> str:
        """The value of a header for basic authentication; empty where there is no password."""
        if not self.password:
            return ""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """One entry of a file, as `registry list` shows it."""

    host: str
    secure: bool  # https


# ---- looking ---------------------------------------------------------------------------------------------------------
def find(host: str, repository: str, access: Access, *, named: bool = True) -> Credentials | None:
    """The credentials for a repository of a registry; None: there are none.

    What options and variables say holds for the registry that is `named` by the user, not for its mirrors. Raises
    FileError for a file that cannot be used, UsageError where there is nobody to ask.
    """
    if named and access.login:
        return _prompted(host)
    if named and access.username:
        return Credentials(username=access.username, password=access.password)
    for path, must in _files(access):
        document = _read(path, must=must)
        if document is None:
            continue
        found = _in(document, path, host, repository)
        if found is not None:
            logger.debug("%s: credentials of %s", host, found.source)
            return found
    return None


def _files(access: Access) -> Iterator[tuple[Path, bool]]:
    """The files in their order, and whether they must be there."""
    if access.authfile is not None:
        yield access.authfile, True
        return
    named = os.environ.get("REGISTRY_AUTH_FILE", "").strip()
    if named:
        yield Path(named), True
        return
    yield user_place() / _NAME, False
    docker = os.environ.get("DOCKER_CONFIG", "").strip()
    yield (Path(docker) if docker else Path.home() / ".docker") / "config.json", False


def _read(path: Path, *, must: bool) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_LIMIT + 1)
            status = os.fstat(file.fileno())
    except (FileNotFoundError, NotADirectoryError) as error:
        if must:
            raise FileError.because(path, error) from error
        return None
    except OSError as error:
        raise FileError.because(path, error) from error
    try:
        document = parse_json(data) if len(data) <= _FILE_LIMIT and data.strip() else {} if not data.strip() else None
    except SingularityError:
        document = None
    if not isinstance(document, dict):
        raise FileError(f"{path}: not a file of credentials", hint="as Docker writes ~/.docker/config.json")
    if stat.S_IMODE(status.st_mode) & 0o077 and any(_secret(each) for each in _entries(document).values()):
        raise FileError(f"{path}: others may read the passwords in it", hint=f"chmod 600 {path}")
    return document


def _entries(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = document.get("auths")
    return {key: each for key, each in found.items() if isinstance(each, dict)} if isinstance(found, dict) else {}


def _secret(entry: Mapping[str, Any]) -> bool:
    return any(entry.get(key) for key in ("auth", "password", "identitytoken", "registrytoken"))


def _in(document: Mapping[str, Any], path: Path, host: str, repository: str) -> Credentials | None:
    """What a file says of a registry: its own helper, the entry for the most of the repository, the helper for all."""
    helper = _own_helper(document, host)
    if helper:
        return _asked(helper, host)
    by_place = {_place(key): each for key, each in _entries(document).items() if _secret(each)}
    parts = [host, *repository.split("/")] if repository else [host]
    for count in range(len(parts), 0, -1):
        entry = by_place.get("/".join(parts[:count]))
        if entry is not None:
            return _of_entry(entry, path, host)
    helper = _helper(document, host)
    return _asked(helper, host) if helper else None


def _place(key: str) -> str:
    """The registry, and perhaps the namespace, that a key of `auths` is for."""
    bare = key.partition("://")[2] or key
    host, slash, path = bare.partition("/")
    try:
        host = canonical(host)
    except SingularityError:
        return ""
    path = path.strip("/")
    return host if not slash or path in ("", "v1", "v2") else f"{host}/{path}"


def _of_entry(entry: Mapping[str, Any], path: Path, host: str) -> Credentials:
    values = {key: entry.get(key) or "" for key in ("username", "password", "auth", "identitytoken", "registrytoken")}
    if not all(isinstance(each, str) for each in values.values()):
        raise FileError(f"{path}: the entry for {host} makes no sense", hint="log in again")
    username, password = values["username"], values["password"]
    if values["auth"]:
        try:
            username, _, password = base64.b64decode(values["auth"], validate=True).decode().partition(":")
        except ValueError as error:
            raise FileError(f"{path}: the entry for {host} makes no sense", hint="log in again") from error
        password = password.rstrip("\0")
    return Credentials(
        username=username,
        password=password,
        identity_token=values["identitytoken"],
        registry_token=values["registrytoken"],
        source=str(path),
    )


# ---- asking ----------------------------------------------------------------------------------------------------------
@functools.cache
def _prompted(host: str) -> Credentials:
    username, password = prompt(host)
    return Credentials(username=username, password=password)


def prompt(host: str, username: str = "") -> tuple[str, str]:
    """Asks at the terminal for a name, unless it is given, and a password, which is not shown. Raises UsageError."""
    import getpass

    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        hint = "SINGULARITY_DOCKER_USERNAME and SINGULARITY_DOCKER_PASSWORD, or registry login --password-stdin"
        raise UsageError(f"{host}: there is nobody to ask for a password", hint=hint) from error
    with open(terminal, "r+b", buffering=0) as file:
        while not username:
            file.write(f"Username for {host}: ".encode())
            line = file.readline()
            if not line:
                raise UsageError(f"{host}: no user name")
            username = line.decode(errors="replace").strip()
    return username, getpass.getpass(f"Password for {username} at {host}: ")


# ---- helpers ---------------------------------------------------------------------------------------------------------
def _own_helper(document: Mapping[str, Any], host: str) -> str:
    """The name of the program that keeps the credentials for this registry; empty where there is none."""
    by_host = document.get("credHelpers")
    if not isinstance(by_host, dict):
        return ""
    return _checked(next((each for key, each in by_host.items() if _place(key) == host), ""))


def _helper(document: Mapping[str, Any], host: str) -> str:
    """The same, or the one for all registries."""
    return _own_helper(document, host) or _checked(document.get("credsStore") or "")


def _checked(name: object) -> str:
    if not isinstance(name, str) or (name and not _HELPER.fullmatch(name)):
        raise FileError(f'"{str(name)[:80]}" is no name of a credential helper')
    return name


def _asked(helper: str, host: str) -> Credentials | None:
    """What a helper knows of a registry. One that is missing or fails knows nothing, which is told."""
    try:
        answer = _call(helper, "get", _key(host))
        document = json.loads(answer) if answer else {}
        username, secret = document.get("Username") or "", document.get("Secret") or ""
    except (ToolError, ValueError, AttributeError, RecursionError) as error:
        what = error if isinstance(error, ToolError) else "its answer makes no sense"
        logger.warning("docker-credential-%s: %s: going on without logging in to %s", helper, what, host)
        return None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    source = f"docker-credential-{helper}"
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret, source=source)
    return Credentials(username=username, password=secret, source=source)


def _call(helper: str, action: str, text: str) -> str:
    """Runs a helper; secrets go in and come out by pipes. Empty when it has nothing. Raises ToolError."""
    environment = {name: value for name, value in handed_on().items() if name != "PATH"}
    name = f"docker-credential-{helper}"
    with process.started(
        [name, action],
        purpose=f"{'look for' if action == 'get' else 'keep'} a password",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        environment=environment,
        accept=(0, 1) if action == "get" else (0,),
    ) as running:
        if running.stdin is None or running.stdout is None:
            raise ToolError(f"{name} has no pipes")
        running.stdin.write(text.encode())
        running.stdin.close()
        answer = _read_within(_HELPER_SECONDS, running.stdout, name)
    return "" if not answer.lstrip().startswith(b"{") else answer.decode("utf-8", "replace")


def _read_within(seconds: float, pipe: BinaryIO, name: str) -> bytes:
    """What a helper writes until it closes the pipe. Raises ToolError when that takes longer."""
    end = time.monotonic() + seconds
    answer = b""
    while len(answer) < _HELPER_LIMIT:
        left = end - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise ToolError(f"{name}: no answer in {seconds:.0f} seconds")
        data = os.read(pipe.fileno(), _HELPER_LIMIT)
        if not data:
            break
        answer += data
    return answer


def _key(host: str) -> str:
    """What files and helpers know a registry by."""
    return _HUB_KEY if host == HUB else host


# ---- keeping ---------------------------------------------------------------------------------------------------------
def own_file(access: Access) -> Path:
    """The file that logins are kept in; the user's directory is made for it."""
    place = _own_place(access)
    return user_directory() / _NAME if place == user_place() / _NAME else place


def _own_place(access: Access) -> Path:
    named = os.environ.get("REGISTRY_AUTH_FILE", "").strip()
    return access.authfile or Path(named or user_place() / _NAME)


def save(host: str, username: str, password: str, access: Access) -> str:
    """Keeps a login; where it is kept, for a message. Raises FileError and ToolError."""
    path = own_file(access)
    with _changed(path) as document:
        helper = _helper(document, host)
        auths = document.setdefault("auths", {})
        for key in [key for key in auths if _place(key) == host]:
            del auths[key]
        entry: dict[str, Any] = {"insecure": True} if access.no_https else {}
        if helper:
            record = {"ServerURL": _key(host), "Username": username, "Secret": password}
            _call(helper, "store", json.dumps(record))
        else:
            entry["auth"] = base64.b64encode(f"{username}:{password}".encode()).decode()
        auths[_key(host)] = entry
        return f"docker-credential-{helper}" if helper else str(path)


def remove(host: str, access: Access) -> Path | None:
    """Forgets a login, and says which file had it; None: there was none. Raises FileError and ToolError."""
    path = own_file(access)
    with _changed(path) as document:
        helper = _helper(document, host)
        auths = document.setdefault("auths", {})
        keys = [key for key in auths if _place(key) == host]
        if not keys and not helper:
            return None
        for key in keys:
            del auths[key]
        if helper:
            _call(helper, "erase", _key(host))
    return path


def merge(other: Path, access: Access, *, change: bool) -> dict[str, bool]:
    """Takes over what another such file has and the user's has not; of each registry whether it is new.

    The helpers that a file names for registries count as logins. Without `change` it is only said. Raises FileError.
    """
    theirs = _read(other, must=True) or {}
    if not change:
        return _merged(_read(_own_place(access), must=False) or {}, theirs)
    with _changed(own_file(access)) as ours:
        return _merged(ours, theirs)


def _merged(ours: dict[str, Any], theirs: Mapping[str, Any]) -> dict[str, bool]:
    """Adds to the first document what it lacks of the second."""
    news: dict[str, bool] = {}
    for kind in ("auths", "credHelpers"):
        found, there = theirs.get(kind), ours.setdefault(kind, {})
        if not isinstance(found, dict) or not isinstance(there, dict):
            continue
        known = {_place(key) for key in there}
        for key, entry in found.items():
            if place := _place(key):
                news[place] = news.get(place, False) or place not in known
                if place not in known:
                    there[key] = entry
    store = theirs.get("credsStore")
    if isinstance(store, str) and store:
        news[f"docker-credential-{store}"] = not ours.get("credsStore")
        ours["credsStore"] = ours.get("credsStore") or store
    return news


def logins(access: Access) -> list[Login]:
    """The logins that are kept, by host."""
    path = access.authfile or Path(os.environ.get("REGISTRY_AUTH_FILE", "").strip() or user_place() / _NAME)
    document = _read(path, must=False) or {}
    found = {_place(key): not each.get("insecure") for key, each in _entries(document).items()}
    by_host = document.get("credHelpers")
    for key in by_host if isinstance(by_host, dict) else ():
        found.setdefault(_place(key), True)
    return [Login(host=host, secure=secure) for host, secure in sorted(found.items()) if host]


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    """The document of a file, which is written anew at the end, whole, for its owner alone; one change at a time."""
    path = path.resolve()  # a link to it stays one
    with FileError.about(path.parent):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with files.closing(directory):
        fcntl.flock(directory, fcntl.LOCK_EX)
        document = _read(path, must=False) or {}
        if not isinstance(document.get("auths", {}), dict):
            raise FileError(f"{path}: not a file of credentials")
        yield document
        with files.replacing(path, overwrite=True, mode=0o600) as new, open(new.fd, "wb", closefd=False) as file:
            file.write(json.dumps(document, indent="\t").encode() + b"\n")
