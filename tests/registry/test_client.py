"""Manifests and blobs of real registries: by tag and by digest, broken off, slow, busy, and when the server lies."""

from __future__ import annotations

import json
import logging
import time
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from builders import run
from pulls import AT_ONCE, MANIFEST, PLAIN, Blob, all_at_once, client, fetched
from servers import Fault

from singularity.content import digest
from singularity.content import document as oci_document
from singularity.content.digest import Checked
from singularity.errors import ImageError, NetworkError, RegistryError
from singularity.registry.access import Access
from singularity.registry.reference import parse
from singularity.web.http import Patience

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Certificates, Front, Registry

pytestmark = pytest.mark.usefixtures("no_proxy")
SIZE = 3 << 20


@pytest.fixture(scope="session")
def large(plain_registry: Registry) -> Blob:
    """A blob of 3 MiB in the plain registry, in the repository `large`."""
    blob = Blob.random(SIZE)
    client(plain_registry.host).upload("large", blob.descriptor, blob.open)
    return blob


@pytest.fixture(scope="session")
def image(plain_registry: Registry, small_layout: Path) -> str:
    """The digest of the small image, `small:1` in the plain registry."""
    return plain_registry.fill(f"oci:{small_layout}:t", "small:1")


# ---- manifests -------------------------------------------------------------------------------------------------------
def test_an_image_is_had_by_tag_by_digest_and_by_both(plain_registry: Registry, image: str) -> None:
    registry = client(plain_registry.host)
    host = plain_registry.host
    documents = [
        registry.manifest(parse(f"{host}/{words}"))
        for words in ("small:1", f"small@{image}", f"small:other@{image}", f"small:1@{image}")
    ]
    assert {str(each.digest) for each in documents} == {image}
    assert {each.media_type for each in documents} == {MANIFEST}
    assert {each.source for each in documents} == {f"{host}/small"}
    assert len(json.loads(documents[0].data)["layers"]) == 2


def test_a_tag_is_checked_again_without_its_manifest(front: Front, image: str) -> None:
    reference = parse(f"{front.host}/small:1")
    assert str(client(front.host).digest(reference)) == image
    assert [each.method for each in front.asked] == ["HEAD"]
    assert str(client(front.host).digest(parse(f"{front.host}/small@{image}"))) == image
    assert len(front.asked) == 1, "what a digest names is known without asking"


@pytest.mark.parametrize(
    "fault",
    [Fault(method="HEAD", status=405), Fault(method="HEAD", without=("Docker-Content-Digest",))],
    ids=["no HEAD", "no digest in it"],
)
def test_a_server_without_head_is_asked_for_the_manifest(front: Front, image: str, fault: Fault) -> None:
    fault.times = 1
    front.faults.append(fault)
    assert str(client(front.host).digest(parse(f"{front.host}/small:1"))) == image
    assert [each.method for each in front.asked] == ["HEAD", "GET"]


def test_what_is_not_there_is_told_in_the_words_that_programs_look_for(plain_registry: Registry, image: str) -> None:
    del image
    host = plain_registry.host
    for name in ("small:none", "none/at/all"):
        for ask in (client(host).manifest, client(host).digest):
            with pytest.raises(RegistryError, match=r"manifest unknown \(no such image, or no such tag\)$") as error:
                ask(parse(f"{host}/{name}"))
            assert error.value.status == 404
    with pytest.raises(RegistryError, match="StatusCode: 404"):
        fetched(client(host), "small", Blob.of(b"never put there"))
    with pytest.raises(NetworkError, match=r"dial tcp: lookup nowhere\.invalid: no such host"):
        client("nowhere.invalid").manifest(parse("nowhere.invalid/x"))
    with pytest.raises(NetworkError, match=r"dial tcp localhost:1: Connection refused"):
        client("localhost:1").manifest(parse("localhost:1/x"))


def test_docker_s_old_format_is_refused_in_a_clear_line(front: Front, image: str) -> None:
    del image
    kind = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}
    front.faults.append(Fault(path="manifests", headers=kind, change=lambda _: b'{"schemaVersion": 1, "fsLayers": []}'))
    with pytest.raises(ImageError, match=r"an image in Docker's old format \(schema 1\)"):
        client(front.host).manifest(parse(f"{front.host}/small:1"))


# ---- R-N2: digests ---------------------------------------------------------------------------------------------------
def test_r_n2_a_manifest_is_what_its_digest_says(front: Front, image: str) -> None:
    def lie(data: bytes) -> bytes:
        return data.replace(b"layers", b"lawyer")

    for name in (f"small@{image}", "small:1"):
        front.faults.append(Fault(path="manifests", change=lie))
        with pytest.raises(RegistryError, match=f"its content is not what {image} names"):
            client(front.host).manifest(parse(f"{front.host}/{name}"))
    front.faults.append(Fault(path="manifests", headers={"Docker-Content-Digest": "sha256:../../x"}))
    with pytest.raises(RegistryError, match="is no digest"):
        client(front.host).manifest(parse(f"{front.host}/small:1"))


def test_r_n2_whoever_reads_a_blob_notices_a_changed_byte(front: Front, large: Blob) -> None:
    front.faults.append(Fault(path="blobs", change=lambda data: data[:-1] + bytes([data[-1] ^ 1])))
    with client(front.host).open_blob("large", large.descriptor) as stream:
        checked = Checked(stream, large.descriptor.digest, "blob", large.descriptor.size)
        with pytest.raises(ImageError, match="its content is not what"):
            checked.finish()


def test_r_n2_more_bytes_than_there_should_be_are_refused(front: Front, large: Blob) -> None:
    front.faults.append(Fault(path="blobs", change=lambda data: data + b"more"))
    with pytest.raises(RegistryError, match=f"more than the {SIZE} bytes"):
        fetched(client(front.host), "large", large)


def test_r_n2_fewer_bytes_than_there_should_be_are_an_error(front: Front, large: Blob) -> None:
    front.faults.append(Fault(path="blobs", change=lambda data: data[:-5], times=99, without_ranges=True))
    with pytest.raises(NetworkError, match="ends 5 bytes too early"):
        fetched(client(front.host), "large", large)


def test_r_n5_what_a_manifest_is_said_to_be_is_kept_so_that_a_lie_is_noticed(front: Front, image: str) -> None:
    del image
    index = "application/vnd.oci.image.index.v1+json"
    front.faults.append(Fault(path="manifests", headers={"Content-Type": f"{index}; charset=utf-8"}))
    document = client(front.host).manifest(parse(f"{front.host}/small:1"))
    assert document.media_type == index
    with pytest.raises(ImageError, match="its content is not of the type"):
        oci_document.parse(document.data, document.media_type, "x")


# ---- R-N1: limits ----------------------------------------------------------------------------------------------------
def test_r_n1_a_manifest_has_four_mebibytes_at_most(front: Front, image: str) -> None:
    del image
    front.faults.append(Fault(path="manifests", change=lambda data: data + bytes(4 << 20)))
    with pytest.raises(RegistryError, match=f"more than {4 << 20} bytes"):
        client(front.host).manifest(parse(f"{front.host}/small:1"))


def test_r_n1_a_server_that_goes_silent_is_left_and_asked_again(front: Front, large: Blob) -> None:
    front.faults.append(Fault(path="blobs", stall_at=1000, stall=20))
    quick = Patience(connect=5, stall=0.5, delays=(0, 0, 0, 0))
    started = time.monotonic()
    assert fetched(client(front.host, patience=quick), "large", large) == large.data
    assert time.monotonic() - started < 15
    assert front.count("blobs") >= 2


# ---- broken, busy ----------------------------------------------------------------------------------------------------
def test_a_blob_is_read_on_where_its_connection_broke(
    front: Front, large: Blob, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    front.faults += [Fault(path="blobs", close_at=500_000), Fault(path="blobs", close_at=1_000_000)]
    assert fetched(client(front.host), "large", large) == large.data
    ranges = [each.headers.get("range") for each in front.asked if "blobs" in each.path]
    assert ranges == [None, "bytes=500000-", "bytes=1500000-"]
    assert len(caplog.records) == 2
    assert "going on at byte 500000" in caplog.records[0].getMessage()


def test_many_breaks_are_no_matter_as_long_as_bytes_come(front: Front, large: Blob) -> None:
    front.faults.append(Fault(path="blobs", close_at=200_000, times=10))
    assert fetched(client(front.host), "large", large) == large.data
    assert front.count("blobs") == 11


def test_without_any_byte_more_it_ends_with_an_error(front: Front, large: Blob) -> None:
    front.faults += [Fault(path="blobs", close_at=1000), Fault(path="blobs", close_at=0, times=99)]
    with pytest.raises(NetworkError, match=r"blobs/sha256:[0-9a-f]+: .*(ended too early|reset|closed)"):
        fetched(client(front.host), "large", large)


def test_a_server_without_ranges_is_read_again_and_passed_over(
    front: Front, large: Blob, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    front.faults += [Fault(path="blobs", close_at=1_000_000), Fault(path="blobs", without_ranges=True)]
    assert fetched(client(front.host), "large", large) == large.data
    assert any("knows no ranges" in each.getMessage() for each in caplog.records)
    front.faults.append(Fault(path="blobs", without_ranges=True))
    assert fetched(client(front.host), "large", large, offset=12345) == large.data[12345:]


def test_a_blob_is_read_from_any_offset(plain_registry: Registry, large: Blob) -> None:
    for offset in (0, 1, SIZE - 1, SIZE):
        assert fetched(client(plain_registry.host), "large", large, offset) == large.data[offset:]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, 408])
def test_a_busy_server_is_asked_again_which_is_told_in_one_line(
    front: Front, image: str, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.INFO)
    front.faults.append(Fault(path="manifests", status=status, body=b"secret words of the server"))
    assert str(client(front.host).manifest(parse(f"{front.host}/small:1")).digest) == image
    (record,) = caplog.records
    assert f"StatusCode: {status}" in record.getMessage()
    assert "trying again in 0 s" in record.getMessage()


def test_how_long_to_wait_is_what_the_server_says_and_at_least_the_next_delay(front: Front, image: str) -> None:
    del image
    reference = parse(f"{front.host}/small:1")
    front.faults.append(Fault(path="manifests", status=429, headers={"Retry-After": "1"}))
    started = time.monotonic()
    client(front.host).manifest(reference)
    assert 1 <= time.monotonic() - started < 15
    for text in ("3600", formatdate(time.time() + 3600, usegmt=True)):
        front.faults.append(Fault(path="manifests", status=429, headers={"Retry-After": text}))
        with pytest.raises(NetworkError, match=r"toomanyrequests: .*come back in (59|60) minutes"):
            client(front.host).manifest(reference)


def test_a_server_that_stays_busy_is_given_up(front: Front, image: str) -> None:
    del image
    front.faults.append(Fault(path="manifests", status=503, times=99))
    with pytest.raises(NetworkError, match="StatusCode: 503"):
        client(front.host).manifest(parse(f"{front.host}/small:1"))
    assert front.count("manifests") == len(AT_ONCE.delays) + 1


def test_a_broken_answer_is_asked_for_again(front: Front, image: str) -> None:
    front.faults.append(Fault(path="manifests", close_at=-1, times=2))
    assert str(client(front.host).manifest(parse(f"{front.host}/small:1")).digest) == image


def test_several_threads_use_one_client(plain_registry: Registry, large: Blob) -> None:
    registry = client(plain_registry.host)

    def fetch(number: int) -> None:
        assert fetched(registry, "large", large, number * 1000) == large.data[number * 1000 :]

    assert all_at_once(12, fetch) == []


# ---- pushing ---------------------------------------------------------------------------------------------------------
def test_what_is_put_there_is_had_by_skopeo(plain_registry: Registry, small_layout: Path, image: str) -> None:
    host = plain_registry.host
    registry = client(host)
    document = registry.manifest(parse(f"{host}/small:1"))
    content = json.loads(document.data)
    blobs = []
    for each in (content["config"], *content["layers"]):
        blob = Blob.of((small_layout / "blobs/sha256" / each["digest"][7:]).read_bytes())
        assert registry.upload("copies/one", blob.descriptor, blob.open)
        assert not registry.upload("copies/one", blob.descriptor, blob.open), "it is there"
        assert not registry.upload("copies/two", blob.descriptor, blob.open, mount_from="copies/one")
        blobs.append(blob)
    for name in ("one", "two"):
        put = registry.put_manifest(parse(f"{host}/copies/{name}:7"), document.data, document.media_type)
        assert str(put) == image
        words = ["skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", f"docker://{host}/copies/{name}:7"]
        assert run(*words, cwd=small_layout).strip() == image
    assert registry.has_blob("copies/two", blobs[0].descriptor.digest)
    assert not registry.has_blob("copies/two", digest.of(b"something else"))


def test_an_upload_that_breaks_is_done_again(front: Front) -> None:
    blob = Blob.random(1 << 20)
    front.faults += [
        Fault(method="PUT", close_at=-1),
        Fault(method="PUT", status=503),
        Fault(method="POST", status=502),
    ]
    registry = client(front.host)
    assert registry.upload("pushed", blob.descriptor, blob.open)
    assert fetched(registry, "pushed", blob) == blob.data
    assert front.count("uploads", "PUT") == 3


def test_a_manifest_whose_blobs_are_missing_is_refused(plain_registry: Registry) -> None:
    lost = {"mediaType": "application/octet-stream", "digest": str(digest.of(b"lost")), "size": 4}
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": lost, "layers": []}
    with pytest.raises(RegistryError, match=r"MANIFEST_BLOB_UNKNOWN|blob unknown"):
        client(plain_registry.host).put_manifest(
            parse(f"{plain_registry.host}/x:1"), json.dumps(document).encode(), MANIFEST
        )


# ---- TLS -------------------------------------------------------------------------------------------------------------
def test_r_n1_a_registry_proves_who_it_is(
    tls_registry: Registry,
    plain_registry: Registry,
    certificates: Certificates,
    private_home: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_layout: Path,
) -> None:
    tls_registry.fill(f"oci:{small_layout}:t", "small:1")
    host = tls_registry.host
    reference = parse(f"{host}/small:1")
    with pytest.raises(NetworkError, match="certificate not trusted"):
        client(host, Access()).manifest(reference)
    with pytest.raises(NetworkError, match=r"no TLS connection: [a-z ]+ \(it speaks http\? then: --no-https\)"):
        client(plain_registry.host, Access()).manifest(parse(f"{plain_registry.host}/small:1"))
    wrong = f"127.0.0.1:{host.rpartition(':')[2]}"
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    client(host, Access()).manifest(reference)
    client(wrong, Access()).manifest(parse(f"{wrong}/small:1"))
    other = f"localhost.localdomain.localhost:{host.rpartition(':')[2]}"
    with pytest.raises(NetworkError, match=r"Hostname mismatch|no such host"):
        client(other, Access()).manifest(parse(f"{other}/small:1"))
    monkeypatch.delenv("SSL_CERT_FILE")
    own = private_home / ".singularity/certs.d" / host
    own.mkdir(parents=True)
    (own / "tests.crt").write_bytes(certificates.authority.read_bytes())
    client(host, Access()).manifest(reference)
    with pytest.raises(NetworkError, match="certificate not trusted"):
        client(wrong, Access()).manifest(parse(f"{wrong}/small:1"))


def test_r_n1_https_is_spoken_unless_it_is_asked_otherwise(plain_registry: Registry, tls_registry: Registry) -> None:
    with pytest.raises(NetworkError):
        client(plain_registry.host, Access()).ping()
    with pytest.raises((NetworkError, RegistryError)):
        client(tls_registry.host, PLAIN).ping()
