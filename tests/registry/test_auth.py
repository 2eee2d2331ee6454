"""Authentication against real registries: passwords, tokens of a service, tokens that end in the middle."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import servers
from hypothesis import given
from hypothesis import strategies as st
from pulls import AT_ONCE, PLAIN, Blob, all_at_once, client, fetched
from servers import PASSWORD, USER, Fault

from singularity.errors import NetworkError, RegistryError
from singularity.registry import auth
from singularity.registry.access import Access
from singularity.registry.auth import Challenge
from singularity.registry.reference import parse
from singularity.web.http import Client

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Certificates, Front, Registry, TokenService

pytestmark = pytest.mark.usefixtures("no_proxy")
ALICE = Access(no_https=True, username=USER, password=PASSWORD)
WRONG = Access(no_https=True, username=USER, password="wrong: word")


# ---- what a server asks for ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('Basic realm="x y"', [("basic", {"realm": "x y"})]),
        (
            'Bearer realm="https://a/b?c=d",service="s",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://a/b?c=d", "service": "s", "scope": "repository:a/b:pull,push"})],
        ),
        ('BEARER Realm = "x" , Service=y', [("bearer", {"realm": "x", "service": "y"})]),
        (r'Bearer realm="a\"b"', [("bearer", {"realm": 'a"b'})]),
        ('Negotiate, Basic realm="x"', [("negotiate", {}), ("basic", {"realm": "x"})]),
        ('Basic realm="x", Bearer realm="y"', [("basic", {"realm": "x"}), ("bearer", {"realm": "y"})]),
        ("Negotiate", [("negotiate", {})]),
        ("", []),
        ('"', []),
    ],
)
def test_challenges_are_read_as_servers_write_them(value: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert auth.parse_challenges([value]) == [Challenge(scheme=each, parameters=more) for each, more in expected]


@given(st.lists(st.text('abBasic Bearer=,"\\\t ;', max_size=60) | st.text(max_size=30), max_size=3))
def test_any_header_is_challenges_or_nothing(values: list[str]) -> None:
    for each in auth.parse_challenges(values):
        assert each.scheme
        assert each.scheme == each.scheme.lower()


# ---- basic -----------------------------------------------------------------------------------------------------------
def test_a_registry_with_passwords_is_pulled_from_and_pushed_to(basic_registry: Registry, small_layout: Path) -> None:
    digest = basic_registry.fill(f"oci:{small_layout}:t", "small:1")
    host = basic_registry.host
    registry = client(host, ALICE)
    assert str(registry.manifest(parse(f"{host}/small:1")).digest) == digest
    blob = Blob.random(1000)
    assert registry.upload("small", blob.descriptor, blob.open)
    assert fetched(registry, "small", blob) == blob.data


def test_without_a_login_a_refusal_says_how_to_get_one(basic_registry: Registry) -> None:
    host = basic_registry.host
    with pytest.raises(
        RegistryError, match=rf"requested access to the resource is denied \(.*registry login docker://{host}\)"
    ):
        client(host).manifest(parse(f"{host}/small:1"))
    refused = f"requested access to the resource is denied: the login for {host} was refused"
    with pytest.raises(RegistryError, match=rf"{refused}.* \(singularity registry login docker://{host}\)"):
        client(host, WRONG).manifest(parse(f"{host}/small:1"))


def test_a_wrong_login_says_where_it_is_from(basic_registry: Registry, tmp_path: Path) -> None:
    host = basic_registry.host
    path = tmp_path / "logins.json"
    path.write_text(json.dumps({"auths": {host: {"username": "x", "password": "y"}}}))
    path.chmod(0o600)
    with pytest.raises(RegistryError, match=rf"the login for {host} was refused.* \(that of {path}; singularity "):
        client(host, Access(no_https=True, authfile=path)).manifest(parse(f"{host}/small:1"))


# ---- tokens ----------------------------------------------------------------------------------------------------------
def test_anybody_gets_a_token_for_what_is_public(
    token_registry: Registry, token_service: TokenService, small_layout: Path
) -> None:
    digest = token_registry.fill(f"oci:{small_layout}:t", "public:1")
    token_service.asked.clear()
    registry = client(token_registry.host)
    assert str(registry.manifest(parse(f"{token_registry.host}/public:1")).digest) == digest
    (asked,) = token_service.asked
    assert "authorization" not in asked.headers
    assert "scope=repository%3Apublic%3Apull" in asked.path
    assert "service=tests+of+registries" in asked.path


def test_what_is_private_wants_a_login(
    token_registry: Registry, token_service: TokenService, small_layout: Path
) -> None:
    digest = token_registry.fill(f"oci:{small_layout}:t", "private/x:1")
    reference = parse(f"{token_registry.host}/private/x:1")
    for access, words in ((PLAIN, "or private: singularity registry login"), (WRONG, "the login for ")):
        with pytest.raises(RegistryError, match="requested access to the resource is denied") as error:
            client(token_registry.host, access).manifest(reference)
        assert words in str(error.value)
    assert str(client(token_registry.host, ALICE).manifest(reference).digest) == digest
    assert token_service.given


def test_one_token_is_enough_for_one_repository(token_registry: Registry, token_service: TokenService) -> None:
    registry = client(token_registry.host, ALICE)
    blobs = [Blob.random(1000) for _ in range(4)]
    for each in blobs:
        registry.upload("tools", each.descriptor, each.open)
    token_service.given.clear()
    reader = client(token_registry.host)

    def fetch(number: int) -> None:
        assert fetched(reader, "tools", blobs[number % 4]) == blobs[number % 4].data

    fetch(0)
    assert all_at_once(8, fetch) == []
    assert len(token_service.given) == 1


def test_a_token_is_replaced_before_its_end_where_the_service_says_when_that_is(
    token_registry: Registry, token_service: TokenService
) -> None:
    registry = client(token_registry.host, ALICE)
    blob = Blob.random(1000)
    registry.upload("long", blob.descriptor, blob.open)
    token_service.lifetime = 1
    token_service.given.clear()
    reader = client(token_registry.host)
    assert fetched(reader, "long", blob) == blob.data
    time.sleep(0.6)
    assert fetched(reader, "long", blob) == blob.data
    assert len(token_service.given) == 2


def test_a_token_that_ends_in_mid_pull_is_replaced(token_registry: Registry, token_service: TokenService) -> None:
    """Before the end that the service speaks of, while a stream is read whose connection then breaks."""
    blob = Blob.random(2 << 20)
    client(token_registry.host, ALICE).upload("long", blob.descriptor, blob.open)
    token_service.real_lifetime = 1
    token_service.given.clear()
    with servers.front(token_registry.host) as front:
        front.faults.append(Fault(path="blobs", close_at=1_000_000, times=0))
        reader = client(front.host)
        with reader.open_blob("long", blob.descriptor) as whole:
            assert whole.read() == blob.data
        front.faults[0].times = 1
        with reader.open_blob("long", blob.descriptor) as stream:
            beginning = stream.read(500_000)
            time.sleep(2.1)
            assert beginning + stream.read() == blob.data
    assert len(token_service.given) == 2


def test_an_identity_token_is_exchanged_for_tokens(
    token_registry: Registry, token_service: TokenService, private_home: Path, small_layout: Path
) -> None:
    digest = token_registry.fill(f"oci:{small_layout}:t", "private/x:1")
    path = private_home / "auth.json"
    path.write_text(f'{{"auths":{{"{token_registry.host}":{{"identitytoken":"an identity"}}}}}}')
    path.chmod(0o600)
    token_service.asked.clear()
    registry = client(token_registry.host, Access(no_https=True, authfile=path))
    assert str(registry.manifest(parse(f"{token_registry.host}/private/x:1")).digest) == digest
    assert [each.method for each in token_service.asked] == ["POST"]
    path.write_text(path.read_text().replace("an identity", "another"))
    with pytest.raises(RegistryError, match="denied"):
        client(token_registry.host, Access(no_https=True, authfile=path)).manifest(
            parse(f"{token_registry.host}/private/x:1")
        )


def test_a_blob_is_mounted_from_a_repository_that_another_token_is_for(
    token_registry: Registry, token_service: TokenService
) -> None:
    del token_service
    registry = client(token_registry.host, ALICE)
    blob = Blob.random(1000)
    assert registry.upload("one/a", blob.descriptor, blob.open)
    assert not registry.upload("two/b", blob.descriptor, blob.open, mount_from="one/a")
    assert registry.has_blob("two/b", blob.descriptor.digest)


# ---- R-N1, R-N3 ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data + b" " * (64 << 10), f"more than {64 << 10} bytes"),
        (lambda _: b"{}", "no token in its answer"),
        (lambda _: b"[" * 5000, "no JSON object"),
        (lambda _: b'{"token": 5}', "no token in its answer"),
        (lambda _: b'{"token": "x\\r\\nEvil: yes"}', "no token in its answer"),
        (lambda _: b"<html>", "no JSON object"),
    ],
)
def test_r_n1_the_answer_of_a_token_service_is_bounded_and_what_it_should_be(
    token_registry: Registry, token_service: TokenService, change: object, words: str
) -> None:
    token_service.change = change  # type: ignore[assignment]
    with pytest.raises(RegistryError, match=words):
        client(token_registry.host).manifest(parse(f"{token_registry.host}/public:1"))


def test_r_n1_a_registry_of_https_has_no_token_service_of_http(
    tls_registry: Registry, certificates: Certificates, token_service: TokenService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    with servers.front(tls_registry.host, certificates, upstream_certificates=certificates) as front:
        challenge = f'Bearer realm="{token_service.url}/token",service="x"'
        front.faults.append(Fault(status=401, headers={"WWW-Authenticate": challenge}, times=9))
        access = Access(username=USER, password=PASSWORD)
        with pytest.raises(RegistryError, match="which is less safe"):
            client(front.host, access).manifest(parse(f"{front.host}/small:1"))
    assert token_service.asked == []


def test_r_n3_a_password_for_tokens_does_not_follow_a_redirect(
    token_registry: Registry, token_service: TokenService, front: Front
) -> None:
    """The token service sends us on, and the password stays behind."""
    with servers.front(token_service.url.removeprefix("http://")) as sender:
        challenge = f'Bearer realm="{sender.url}/token",service="tests of registries"'
        front.faults.append(Fault(status=401, headers={"WWW-Authenticate": challenge}))
        elsewhere = f"{token_service.url}/token?service=tests+of+registries&scope=repository:public:pull"
        sender.faults.append(Fault(status=307, headers={"Location": elsewhere}))
        with pytest.raises(RegistryError):
            client(front.host, ALICE).manifest(parse(f"{front.host}/nothing:1"))
        assert sender.asked[0].headers["authorization"].startswith("Basic ")
        assert all("authorization" not in each.headers for each in token_service.asked)
    del token_registry


def test_r_n3_an_identity_token_does_not_follow_a_redirect(
    token_registry: Registry, token_service: TokenService, front: Front, private_home: Path
) -> None:
    """It is in the body, which 307 would have sent again."""
    path = private_home / "auth.json"
    path.write_text(f'{{"auths":{{"{front.host}":{{"identitytoken":"an identity"}}}}}}')
    path.chmod(0o600)
    with servers.front(token_service.url.removeprefix("http://")) as sender:
        challenge = f'Bearer realm="{sender.url}/token",service="tests of registries"'
        front.faults.append(Fault(status=401, headers={"WWW-Authenticate": challenge}))
        sender.faults.append(Fault(status=307, headers={"Location": f"{token_service.url}/token"}))
        token_service.asked.clear()
        with pytest.raises(RegistryError):
            client(front.host, Access(no_https=True, authfile=path)).manifest(parse(f"{front.host}/nothing:1"))
        assert [each.method for each in sender.asked] == ["POST"]
        assert token_service.asked == []
    del token_registry


def test_r_n3_a_token_goes_to_its_registry_alone(
    token_registry: Registry, token_service: TokenService, small_layout: Path, tmp_path: Path
) -> None:
    token_registry.fill(f"oci:{small_layout}:t", "public:1")
    blob = Blob.random(1000)
    client(token_registry.host, ALICE).upload("public", blob.descriptor, blob.open)
    (tmp_path / "blob").write_bytes(blob.data)
    with servers.static(tmp_path) as files, servers.front(token_registry.host) as front:
        target = {"Location": f"{files.url}/blob?signed=1"}
        reader = client(front.host)
        reader.manifest(parse(f"{front.host}/public:1"))
        front.faults.append(Fault(path="blobs", status=307, headers=target))
        assert fetched(reader, "public", blob) == blob.data
        assert front.asked[-1].headers["authorization"].startswith("Bearer ")
        assert "authorization" not in files.asked[0].headers
    del token_service


def test_r_n3_no_secret_is_in_debug_output_or_in_an_error(
    token_registry: Registry, basic_registry: Registry, token_service: TokenService, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = [repr(ALICE), str(ALICE)]
    tokens: list[str] = []
    token_service.change = lambda data: (tokens.append(data.decode().split('"')[3]), data)[1]
    for host in (token_registry.host, basic_registry.host):
        for access in (ALICE, WRONG):
            blob = Blob.random(10)
            for action in (
                partial(client(host, access).upload, "x", blob.descriptor, blob.open),
                partial(client(host, access).manifest, parse(f"{host}/none:1")),
            ):
                try:
                    action()
                except (RegistryError, NetworkError) as error:
                    said.append(f"{error} {error!r} {error.__cause__!r}")
    whole = caplog.text + "".join(said)
    assert "a token from" in whole, "that there is one is said"
    assert len(said) > 2
    assert tokens
    for secret in (PASSWORD, "wrong: word", "YWxpY2U6", *tokens):
        assert secret not in whole


def test_r_n3_the_origin_of_another_port_gets_nothing(basic_registry: Registry, front: Front) -> None:
    """Also where the client itself is asked."""
    front.faults.append(Fault(status=307, headers={"Location": f"{basic_registry.url}/v2/"}))
    answer = Client(AT_ONCE).send("GET", f"{front.url}/v2/", authorization="Basic YWxpY2U6cmFiYml0OiBob2xlIDc=")
    assert answer.status == 401
    answer.drain()
