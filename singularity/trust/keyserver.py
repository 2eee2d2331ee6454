"""Key servers: which there are, and asking them by HKP, the protocol that all of them have over HTTP.

What a server gives is taken for a key of the fingerprint that was asked for, or not at all; it says nothing about whom
the key belongs to.
"""

import json
import logging
import re
import urllib.parse
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from singularity import documents, files, locks, paths
from singularity.errors import FileError, ImageError, NetworkError, RegistryError, SignatureError, UsageError
from singularity.foreign_json import parse_json
from singularity.trust import keyring, openpgp
from singularity.web.http import Answer, Client, Patience, number

logger = logging.getLogger(__name__)

DEFAULT = "https://keys.openpgp.org"
_NAME = "keyservers.json"
_ANSWER = 4 << 20  # bytes
_RESULTS = 100
_PATIENCE = Patience(connect=10, stall=30, delays=(1,))
_HKP_PORT = 11371
_ALGORITHMS = {"1": "RSA", "17": "DSA", "18": "ECDH", "19": "ECDSA", "22": "EdDSA"}
_DIGITS = re.compile(r"(0[xX])?[0-9a-fA-F]{8,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyServer:
    """A server of keys, as it was named."""

    uri: str
    insecure: bool = False  # http is good enough
    authorization: str = ""  # what it is sent: a login

    @property
    def url(self) -> str:
        """Where its protocol begins. Raises UsageError for no address, and for http unasked."""
        parts = urllib.parse.urlsplit(self.uri if "://" in self.uri else f"https://{self.uri}")
        scheme = {"hkp": "http", "hkps": "https"}.get(parts.scheme, parts.scheme)
        if scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise UsageError(f'"{self.uri}" is no address of a key server', hint="https://HOST")
        if scheme == "http" and not self.insecure:
            raise UsageError(
                f"{self.uri}: keys and logins would go by http", hint="https://, or keyserver add --insecure"
            )
        port = f":{_HKP_PORT}" if parts.scheme == "hkp" and not parts.port else ""
        return f"{scheme}://{parts.netloc}{port}{parts.path.rstrip('/')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A key that a server knows."""

    fingerprint: str
    bits: str
    algorithm: str
    created: int | None
    expires: int | None
    flags: str  # r: revoked, d: disabled, e: expired
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """What a file says."""

    keyservers: tuple[KeyServer, ...]


def configured() -> list[KeyServer]:
    """The servers to ask, in this order: the user's, or the site's, or the one that is built in."""
    for path in (_place(), paths.site_directory() / _NAME):
        servers = _read(path)
        if servers is not None:
            return servers
    return [KeyServer(uri=DEFAULT)]


def named(url: str) -> list[KeyServer]:
    """The server of an option, with the login that there is for it; without one, those that are configured.

    Who types a URL of http means it.
    """
    if not url:
        return configured()
    known = next((each for each in configured() if each.uri.rstrip("/") == url.rstrip("/")), KeyServer(uri=url))
    return [replace(known, insecure=True)]


def add(uri: str, *, insecure: bool, order: int | None) -> None:
    """Adds a server, at the end or as the one of this number, counted from 1. Raises UsageError."""
    server = KeyServer(uri=uri.rstrip("/"), insecure=insecure)
    _ = server.url
    with _changing() as servers:
        if any(each.uri == server.uri for each in servers):
            raise UsageError(f"{uri}: is a key server already", hint="singularity keyserver list")
        if order is not None and not 1 <= order <= len(servers) + 1:
            raise UsageError(f"--order {order}: from 1 to {len(servers) + 1}")
        servers.insert(len(servers) if order is None else order - 1, server)


def remove(uri: str) -> None:
    """Forgets a server, its login too. Raises UsageError."""
    with _changing() as servers:
        servers.remove(_find(servers, uri))


def set_login(uri: str, authorization: str) -> None:
    """Keeps what a server is sent; an empty text forgets it. Raises UsageError for a server that is not configured."""
    with _changing() as servers:
        known = _find(servers, uri)
        servers[servers.index(known)] = replace(known, authorization=authorization)


def basic(username: str, password: str) -> str:
    """What a server is sent for a user name and a password."""
    return "Basic " + b64encode(f"{username}:{password}".encode()).decode()


def ping(server: KeyServer) -> None:
    """Asks whether a server takes our login. Raises NetworkError and RegistryError."""
    with _get(server, "index", "0x" + "0" * 40, (200, 404)):
        pass


def find(uri: str) -> KeyServer:
    """The configured server of this name. Raises UsageError."""
    return _find(configured(), uri)


def search(words: str, servers: Sequence[KeyServer]) -> list[Found]:
    """The keys that the first server that answers knows for a name, an address or a fingerprint."""
    if _DIGITS.fullmatch(words.replace(" ", "")):
        words = "0x" + words.replace(" ", "").removeprefix("0x").removeprefix("0X")
    return list(_index(_first(servers, "index", words)))


def fetch(fingerprint: str, servers: Sequence[KeyServer]) -> bytes:
    """The key of this fingerprint, as packets. Raises SignatureError: no server has it; NetworkError."""
    wanted = keyring.fingerprint(fingerprint)
    data = openpgp.dearmored(_first(servers, "get", f"0x{wanted}"))
    for block in keyring.split(data, "what the server gave") if data else []:
        if openpgp.keys_in(block)[0].fingerprint.endswith(wanted):
            return block
    raise SignatureError(f"{fingerprint}: no key server knows this key", hint=", ".join(each.uri for each in servers))


def publish(block: bytes, servers: Sequence[KeyServer]) -> KeyServer:
    """Gives a public key to the first server; returns it. Raises NetworkError, RegistryError."""
    server = servers[0]
    text = openpgp.armored(block, secret=False).decode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with Client(_PATIENCE).send(
        "POST", f"{server.url}/pks/add", headers=headers, authorization=server.authorization,
        body=urllib.parse.urlencode({"keytext": text}).encode(), again=False,
    ) as answer:  # fmt: skip
        if answer.status not in (200, 201, 202):
            _refuse(server, answer.status, answer.drain())
    return server


def _first(servers: Sequence[KeyServer], operation: str, words: str) -> bytes:
    """What the first server says that knows anything; empty where all of them know nothing."""
    failure: NetworkError | RegistryError | None = None
    for server in servers:
        try:
            with _get(server, operation, words, (200, 404)) as answer:
                if answer.status == 200:
                    return answer.whole(_ANSWER)
        except (NetworkError, RegistryError) as error:
            if server is not servers[-1]:
                logger.info("%s", error)
            failure = error
    if failure is not None:
        raise failure
    return b""


def _get(server: KeyServer, operation: str, words: str, accept: Sequence[int]) -> Answer:
    query = urllib.parse.urlencode({"op": operation, "options": "mr", "search": words})
    url = f"{server.url}/pks/lookup?{query}"
    answer = Client(_PATIENCE).send("GET", url, authorization=server.authorization, accept=accept)
    if answer.status not in accept:
        _refuse(server, answer.status, answer.drain())
    return answer


def _refuse(server: KeyServer, status: int, said: bytes) -> None:
    words = re.sub(r"<[^>]*>", " ", said[:400].decode("utf-8", "replace"))
    reason = " ".join("".join(each for each in words if each.isprintable() or each.isspace()).split())[:160]
    hint = f"singularity keyserver login {server.uri}" if status in (401, 403) else ""
    raise RegistryError(f"{server.uri}: refused (status {status}): {reason}", hint=hint, status=status)


def _index(data: bytes) -> Iterator[Found]:
    """The machine-readable index (draft-shaw-openpgp-hkp, 5.2)."""
    lines = [line.split(":") for line in data.decode("utf-8", "replace").splitlines()]
    found: list[Found] = []
    for fields in lines:
        if fields[0] == "pub" and len(fields) >= 7 and len(found) < _RESULTS:
            created, expires = map(number, fields[4:6])
            algorithm = _ALGORITHMS.get(fields[2], fields[2])
            found.append(
                Found(fingerprint=fields[1].upper(), bits=fields[3], algorithm=algorithm, created=created,
                      expires=expires, flags=fields[6], users=())
            )  # fmt: skip
        elif fields[0] == "uid" and len(fields) >= 2 and found:
            user = urllib.parse.unquote(fields[1], errors="replace")
            found[-1] = replace(found[-1], users=(*found[-1].users, user))
    yield from found


def _find(servers: Sequence[KeyServer], uri: str) -> KeyServer:
    for each in servers:
        if each.uri == uri.rstrip("/"):
            return each
    raise UsageError(f"{uri}: no key server of yours", hint="singularity keyserver list")


def _place() -> Path:
    return paths.user_place() / _NAME


@contextmanager
def _changing() -> Iterator[list[KeyServer]]:
    """The servers, to be changed; those of the site or the built-in one become the user's own by that."""
    place = _place()
    paths.user_directory()
    with locks.locked(place.with_name(f".{_NAME}.lock"), "changes the list of key servers"):
        servers = configured()
        yield servers
        text = json.dumps(documents.encoded(_Listed(keyservers=tuple(servers))), indent=2) + "\n"
        files.write(place, text.encode(), overwrite=True, mode=0o600)


def _read(path: Path) -> list[KeyServer] | None:
    """The servers in a file; None where it is not there."""
    try:
        with path.open("rb") as file:
            if path == _place() and path.stat().st_mode & 0o077:
                raise FileError(f"{path}: others may read it, and there may be logins in it", hint=f"chmod 600 {path}")
            found = parse_json(file.read(_ANSWER))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileError.because(path, error) from error
    try:
        return list(documents.decoded(found, _Listed).keyservers)
    except ImageError as error:
        what = f"{path}: not a list of key servers: {error}"
        raise FileError(what, hint="remove it, then: singularity keyserver add") from error
