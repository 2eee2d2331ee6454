"""The servers of these tests themselves: each does what the tests rely on."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest
import servers
from servers import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Front, Registry

pytestmark = pytest.mark.usefixtures("no_proxy")


def get(url: str, **headers: str) -> bytes:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - of a server of ours
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
        data: bytes = answer.read()
        return data


@pytest.mark.parametrize("kind", ["plain_registry", "tls_registry", "basic_registry", "token_registry"])
def test_each_registry_is_filled_by_skopeo(kind: str, request: pytest.FixtureRequest, small_layout: Path) -> None:
    registry: Registry = request.getfixturevalue(kind)
    digest = registry.fill(f"oci:{small_layout}:t", "some/image:1")
    assert digest.startswith("sha256:")
    assert registry.blob(digest).is_file()


def test_a_front_relays_breaks_and_answers_by_itself(
    plain_registry: Registry, front: Front, small_layout: Path
) -> None:
    plain_registry.fill(f"oci:{small_layout}:t", "through/front:1")
    url = f"{front.url}/v2/through/front/tags/list"
    assert b'"1"' in get(url)
    front.faults.append(Fault(path="tags", status=503, headers={"Retry-After": "1"}))
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(url)
    assert b'"1"' in get(url)
    assert front.count("tags/list", "GET") == 3


def test_files_are_served_with_ranges_and_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with servers.static(tmp_path) as server:
        assert get(f"{server.url}/file", Range="bytes=3-5") == b"345"
    with servers.static(tmp_path, ranges=False) as server:
        assert get(f"{server.url}/file", Range="bytes=3-5") == b"0123456789"


def test_a_proxy_knows_names_that_nobody_else_knows(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with servers.static(tmp_path) as server, servers.proxy() as proxy:
        proxy.names["files.invalid:80"] = server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"))
        connection.set_tunnel("files.invalid", 80)
        connection.request("GET", "/file")
        assert connection.getresponse().read() == b"content"
        connection.close()
        assert proxy.asked[0].method == "CONNECT"
