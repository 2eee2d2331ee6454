"""Registries of the session: fixtures of all tests that fetch or push images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import machine
import pytest
import servers
from builders import by_umoci, configure
from servers import Certificates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Front, Proxy, Registry, TokenService

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(scope="session")
def registries_place(storage: Path) -> Path:
    place = storage / "registries"
    place.mkdir(mode=0o755)
    return place


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands between the test and its servers."""
    for name in _PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def certificates(registries_place: Path) -> Certificates:
    machine.require("openssl")
    return Certificates.make(registries_place / "certificates")


@pytest.fixture(scope="session")
def plain_registry(registries_place: Path) -> Iterator[Registry]:
    """Speaks http, and lets everybody do everything."""
    machine.require("docker-registry")
    with servers.registry(registries_place / "plain") as registry:
        yield registry


@pytest.fixture(scope="session")
def tls_registry(registries_place: Path, certificates: Certificates) -> Iterator[Registry]:
    machine.require("docker-registry")
    with servers.registry(registries_place / "tls", certificates=certificates) as registry:
        yield registry


@pytest.fixture(scope="session")
def basic_registry(registries_place: Path) -> Iterator[Registry]:
    """Wants the name and the password of `servers.USER`, for everything."""
    machine.require("docker-registry")
    with servers.registry(registries_place / "basic", passwords=True) as registry:
        yield registry


@pytest.fixture(scope="session")
def _token_service(registries_place: Path) -> Iterator[TokenService]:
    machine.require("openssl")
    with servers.token_service(registries_place / "tokens") as service:
        yield service


@pytest.fixture
def token_service(_token_service: TokenService) -> TokenService:
    """The service behind `token_registry`, set up as it is made."""
    _token_service.lifetime, _token_service.real_lifetime = 300, 300
    _token_service.anonymous, _token_service.change = True, bytes
    _token_service.asked.clear()
    _token_service.given.clear()
    return _token_service


@pytest.fixture(scope="session")
def token_registry(registries_place: Path, _token_service: TokenService) -> Iterator[Registry]:
    """Wants tokens: anybody gets one to pull but below `private/`, `servers.USER` one for everything."""
    machine.require("docker-registry")
    with servers.registry(registries_place / "with-tokens", tokens=_token_service) as registry:
        yield registry


@pytest.fixture
def front(plain_registry: Registry) -> Iterator[Front]:
    """Before the plain registry, to have faults."""
    with servers.front(plain_registry.host) as server:
        yield server


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with servers.proxy() as server:
        yield server


@pytest.fixture(scope="session")
def small_layout(registries_place: Path) -> Path:
    """An OCI layout with a small image `t` of two layers, by umoci."""
    machine.require("umoci")
    place = registries_place / "small"
    place.mkdir()

    def first(root: Path) -> None:
        (root / "etc").mkdir()
        (root / "etc/greeting").write_text("hello\n")

    def second(root: Path) -> None:
        (root / "data").write_bytes(bytes(range(256)) * 4096)

    layout = by_umoci(place, first, second)
    configure(layout, "--config.cmd", "/bin/cat", "--config.cmd", "/etc/greeting", "--config.env", "COLOUR=blue")
    return layout
