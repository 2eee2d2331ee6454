"""How a registry is shown who asks: basic and bearer authentication, tokens kept for as long as they are good.

Sources: RFC 7235, Docker's token authentication specification, and its OAuth2 form for identity tokens. Name, password
and token go to the registry, or to the service of tokens that it names, and to nobody that these send us on to.
"""

import json
import logging
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from singularity.errors import RegistryError
from singularity.registry.credentials import Credentials
from singularity.web.http import Answer, Client, Origin, shown

logger = logging.getLogger(__name__)

_TOKEN_LIMIT = 64 << 10  # bytes of the answer
_LIFETIME = 60.0  # seconds, where the service says nothing
_MARGIN = 10.0  # seconds before its end in which a token is not used any more
_CLIENT = "singularity"
_SCHEME = re.compile(r"\s*([A-Za-z0-9!#$%&'*+.^_`|~-]+)(?:\s+|(?=,)|$)")
_PARAMETER = re.compile(r"""\s*,?\s*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))""")
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way that a server would take; the scheme and the names of parameters are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(values: Sequence[str]) -> list[Challenge]:
    """The challenges of WWW-Authenticate headers; what makes no sense in them is left out."""
    found = []
    for value in values:
        position = 0
        while match := _SCHEME.match(value, position):
            position = match.end()
            parameters: dict[str, str] = {}
            while part := _PARAMETER.match(value, position):
                quoted = re.sub(r"\\(.)", r"\1", part[2]) if part[2] is not None else part[3]
                parameters.setdefault(part[1].lower(), quoted)
                position = part.end()
            found.append(Challenge(scheme=match[1].lower(), parameters=parameters))
            position = _after_comma(value, position)
    return found


def _after_comma(value: str, position: int) -> int:
    comma = value.find(",", position)
    return comma + 1 if comma >= 0 else len(value)


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float  # time.monotonic()


class Authorizer:
    """What authorizes requests to one registry. Used by several threads at once.

    `find` looks for credentials, once, when the registry first wants some.
    """

    def __init__(self, client: Client, url: str, name: str, find: Callable[[], Credentials | None]) -> None:
        self._client = client
        self._origin = Origin.of(url)
        self._name = name  # of the registry, for messages
        self._find = find
        self._lock = threading.RLock()
        self._basic = ""
        self._bearer: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._wanted: dict[tuple[str, ...], list[str]] = {}  # scopes as the registry named them for those of ours
        self._looked = False
        self._credentials: Credentials | None = None

    def credentials(self) -> Credentials | None:
        """As `find` found them."""
        with self._lock:
            if not self._looked:
                self._credentials, self._looked = self._find(), True
            return self._credentials

    def header(self, scopes: tuple[str, ...]) -> str:
        """The value of the Authorization header for requests that need these scopes; empty before it is known."""
        with self._lock:
            if self._bearer is None:
                return self._basic
            token = self._tokens.get(scopes)
            if token is None or time.monotonic() > token.until:
                token = self._tokens[scopes] = self._fetched(self._bearer, scopes)
            return f"Bearer {token.text}"

    def learn(self, answer: Answer, scopes: tuple[str, ...], used: str) -> bool:
        """Looks at a 401 answer to a request that was authorized by `used`; whether it is worth another one."""
        if Origin.of(answer.url) != self._origin:
            return False  # somebody whom we were sent on to
        challenges = parse_challenges(answer.every("WWW-Authenticate"))
        bearer = next((each for each in challenges if each.scheme == "bearer" and "realm" in each.parameters), None)
        with self._lock:
            if bearer is not None:
                token = self._tokens.get(scopes)
                if token is not None and used == f"Bearer {token.text}":
                    del self._tokens[scopes]  # it has ended before its time, or another one is needed
                    logger.debug("%s: the token is not taken any more", self._name)
                self._bearer = bearer
                self._wanted[scopes] = bearer.parameters.get("scope", "").split()
                return True
            credentials = self.credentials()
            if any(each.scheme == "basic" for each in challenges) and credentials and not used.startswith("Basic "):
                self._basic = credentials.basic
                self._bearer = None
                return bool(self._basic)
        return False

    def _fetched(self, challenge: Challenge, scopes: tuple[str, ...]) -> _Token:
        """A new token. Raises RegistryError and NetworkError."""
        credentials = self.credentials()
        if credentials is not None and credentials.registry_token:
            return _Token(credentials.registry_token, float("inf"))
        realm = challenge.parameters["realm"]
        if Origin.of(realm).scheme == "http" and self._origin.scheme == "https":
            raise RegistryError(f"{self._name}: its tokens come from {shown(realm)}, which is less safe")
        if "@" in urllib.parse.urlsplit(realm).netloc:
            raise RegistryError(f"{self._name}: its tokens come from a URL with a user in it")
        asked = list(dict.fromkeys([*self._wanted.get(scopes, ()), *scopes]))
        query = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
        query += [("scope", each) for each in asked]
        logger.debug("%s: a token from %s for %s", self._name, shown(realm), " ".join(asked) or "nothing")
        with self._ask(realm, query, credentials) as answer:
            if answer.status != 200:
                raise refusal(self._name, answer, login=credentials, is_refused=answer.status in (401, 403))
            return _parsed(answer.whole(_TOKEN_LIMIT), shown(realm))

    def _ask(self, realm: str, query: list[tuple[str, str]], credentials: Credentials | None) -> Answer:
        if credentials is not None and credentials.identity_token:
            scope = " ".join(value for name, value in query if name == "scope")
            form = [each for each in query if each[0] != "scope"] + [("scope", scope), ("client_id", _CLIENT)]
            form += [("grant_type", "refresh_token"), ("refresh_token", credentials.identity_token)]
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            said = urllib.parse.urlencode(form).encode()
            return self._client.send("POST", realm, headers=kind, body=said, is_secret=True)
        if credentials is not None:
            query = [*query, ("account", credentials.username)]
        parts = urllib.parse.urlsplit(realm)
        joined = "&".join(each for each in (parts.query, urllib.parse.urlencode(query)) if each)
        basic = credentials.basic if credentials is not None else ""
        return self._client.send("GET", parts._replace(query=joined).geturl(), authorization=basic)


def _parsed(data: bytes, name: str) -> _Token:
    """The token in a service's answer. Its text may hold nothing that could end a header."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise RegistryError(f"{name}: its answer is no JSON object")
    text = document.get("token") or document.get("access_token")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise RegistryError(f"{name}: there is no token in its answer")
    lifetime = document.get("expires_in")
    if not isinstance(lifetime, int | float) or isinstance(lifetime, bool) or not lifetime > 0:
        lifetime = _LIFETIME
    return _Token(text, time.monotonic() + max(lifetime - _MARGIN, lifetime / 2))


def refusal(name: str, answer: Answer, *, login: Credentials | None, is_refused: bool = False) -> RegistryError:
    """The error for an answer that is none of those expected.

    `login` is who has logged in, None for nobody; `is_refused` says that it was this login which was not taken, and not
    what was asked for with it.
    """
    code, said = said_by(answer.drain())
    if answer.status in (401, 403):
        what = f"{name}: requested access to the resource is denied"
        host = name.partition("/")[0]
        again = f"singularity registry login docker://{host}"
        if login is None:
            hint = f"no such image, or private: {again}"
        elif is_refused:
            what += f": the login for {host} was refused{said and f', {said}'}"
            hint = f"that of {login.source}; {again}" if login.source else again
        else:
            hint = said or "not for this user"
        return RegistryError(what, hint=hint, status=answer.status)
    words = f"{said} " if said else ""
    return RegistryError(f"{name}: {words}(StatusCode: {answer.status})", status=answer.status, code=code)


def said_by(data: bytes) -> tuple[str, str]:
    """The code in a registry's error document, and it with the message; both empty where there is none."""
    try:
        errors = json.loads(data)["errors"]
        first = errors[0]
        words = [str(first.get(key) or "") for key in ("code", "message")]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return "", ""
    return words[0][:300], ": ".join(word[:300] for word in words if word)
