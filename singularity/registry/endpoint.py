"""Requests to one server of images, authorized as it wants, refusals told in the words that other programs look for."""

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from singularity.errors import NetworkError, RegistryError
from singularity.registry.access import Access
from singularity.registry.mirrors import Scheme
from singularity.web.http import Answer, Body, Client

if TYPE_CHECKING:
    from singularity.registry.auth import Authorizer

logger = logging.getLogger(__name__)

_ATTEMPTS = 3  # without knowing how, with a token that has ended, with a new one


class Endpoint:
    """One server, by its name for us (`docker.io`) and its name in the network."""

    def __init__(
        self, host: str, api_host: str, scheme: Scheme, client: Client, access: Access, *, named: bool = True
    ) -> None:
        self.host = host
        self._client = client
        self._access = access
        self._named = named  # by the user, not a mirror
        self._api_host = api_host
        self._verified = scheme is not Scheme.EITHER
        self._base = "" if scheme is Scheme.EITHER else f"{scheme}://{api_host}"
        self._authorizers: dict[str, Authorizer] = {}  # by repository: credentials may be for some only

    @property
    def base(self) -> str:
        """The beginning of all URLs. Raises NetworkError where nobody answers."""
        if not self._base:
            try:
                self._client.send("GET", f"https://{self._api_host}/v2/", verified=False, again=False).drain()
                self._base = f"https://{self._api_host}"
            except NetworkError as error:
                logger.debug("%s: no https (%s): http", self.host, error)
                self._base = f"http://{self._api_host}"
        return self._base

    def send(
        self,
        method: str,
        path: str,
        *,
        repository: str = "",
        scopes: tuple[str, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        length: int | None = None,
        accept: Collection[int] = (200,),
        again: bool = True,
    ) -> Answer:
        """One request; `path` begins with a slash, or is a whole URL that this server gave.

        The status of the answer is one of `accept`. Raises RegistryError for others, and NetworkError.
        """
        url = path if "://" in path else self.base + path
        name = f"{self.host}/{repository}" if repository else self.host
        authorizer = self._authorizers.get(repository)  # none before anybody has asked who we are
        for _ in range(_ATTEMPTS):
            used = authorizer.header(scopes) if authorizer and url.startswith(f"{self.base}/") else ""
            answer = self._client.send(
                method,
                url,
                headers=headers,
                authorization=used,
                body=body,
                length=length,
                accept=accept,
                verified=self._verified or not url.startswith(f"{self.base}/"),
                again=again,
            )
            if answer.status in accept:
                return answer
            authorizer = self._authorizer(repository)
            if answer.status != 401 or not authorizer.learn(answer, scopes, used):
                break
            answer.drain()
        from singularity.registry import auth

        is_refused = answer.status == 401 and used.startswith("Basic ")
        raise auth.refusal(name, answer, login=authorizer.credentials() if authorizer else None, is_refused=is_refused)

    def ping(self) -> None:
        """Whether this is a registry that lets us in. Raises RegistryError and NetworkError."""
        self.send("GET", "/v2/").drain()

    def _authorizer(self, repository: str) -> "Authorizer":
        from singularity.registry import credentials
        from singularity.registry.auth import Authorizer

        known = self._authorizers.get(repository)
        if known is not None:
            return known
        new = Authorizer(
            self._client,
            self.base,
            self.host,
            lambda: credentials.find(self.host, repository, self._access, named=self._named),
        )
        return self._authorizers.setdefault(repository, new)


def is_missing(error: RegistryError) -> bool:
    """Whether a server does not have what was asked for."""
    return error.status == 404
