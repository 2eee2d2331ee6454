"""The client of the network itself: redirects and what they carry, proxies, files of web servers."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import servers
from pulls import AT_ONCE, PLAIN, Blob, client, fetched
from servers import Fault

from singularity.errors import NetworkError, RegistryError
from singularity.registry.access import Access
from singularity.registry.reference import parse
from singularity.web import proxies
from singularity.web.file import WebFile
from singularity.web.http import Client, Patience, followed, number, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import Certificates, Front, Proxy, Registry, Static

pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    """The authority of the tests stands for the system's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
    return certificates


@pytest.fixture
def place(tmp_path: Path) -> Path:
    directory = tmp_path / "served"
    directory.mkdir()
    (directory / "file").write_bytes(bytes(range(256)) * 1000)
    return directory


@pytest.fixture
def files(place: Path) -> Iterator[Static]:
    with servers.static(place) as server:
        yield server


# ---- R-N1, R-N3: redirects -------------------------------------------------------------------------------------------
def test_r_n1_from_https_nobody_is_sent_on_to_http(
    trusted: Certificates, tls_registry: Registry, files: Static
) -> None:
    with servers.front(tls_registry.host, trusted, upstream_certificates=trusted) as front:
        front.faults.append(Fault(status=307, headers={"Location": f"{files.url}/file"}, times=9))
        with pytest.raises(NetworkError, match="which is less safe"):
            client(front.host, Access()).manifest(parse(f"{front.host}/small:1"))
        with pytest.raises(NetworkError, match="which is less safe"):
            WebFile(f"{front.url}/x").open()
    assert files.asked == []


def test_r_n1_ten_redirects_are_followed_and_no_more(front: Front) -> None:
    front.faults += [Fault(status=302, headers={"Location": "/again"}, times=10), Fault(status=200, body=b"x")]
    assert WebFile(f"{front.url}/start").open().read() == b"x"
    front.faults.append(Fault(status=302, headers={"Location": "/again"}, times=99))
    with pytest.raises(NetworkError, match="more than 10 times"):
        WebFile(f"{front.url}/start").open()
    assert len(front.asked) == 11 + 11


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://host/x", "gopher://x", "//user:pw@host/x", "http://[x"]
)
def test_r_n1_only_http_and_https_are_followed(front: Front, location: str) -> None:
    front.faults.append(Fault(status=302, headers={"Location": location}))
    with pytest.raises(NetworkError):
        WebFile(f"{front.url}/start").open()
    assert len(front.asked) == 1


def test_r_n3_what_authorizes_stays_with_its_origin(
    basic_registry: Registry, small_layout: Path, files: Static
) -> None:
    """Elsewhere is another port already; also when that sends us back."""
    digest = basic_registry.fill(f"oci:{small_layout}:t", "small:1")
    access = Access(no_https=True, username=servers.USER, password=servers.PASSWORD)
    with servers.front(basic_registry.host) as front, servers.front(basic_registry.host) as other:
        registry = client(front.host, access)
        blob = Blob.random(1000)
        registry.upload("small", blob.descriptor, blob.open)
        front.faults.append(Fault(path="blobs", method="GET", status=307, headers={"Location": f"{files.url}/file"}))
        with registry.open_blob("small", blob.descriptor) as stream, pytest.raises(RegistryError, match="more than"):
            stream.read()
        assert "authorization" not in files.asked[0].headers
        assert "authorization" in front.asked[-1].headers
        front.faults.append(Fault(path="manifests", status=302, headers={"Location": f"{other.url}/back"}))
        other.faults.append(Fault(path="back", status=302, headers={"Location": f"{front.url}/v2/small/manifests/1"}))
        with pytest.raises(RegistryError, match="denied"):
            registry.manifest(parse(f"{front.host}/small:1"))
        assert "authorization" not in other.asked[0].headers
        assert "authorization" not in front.asked[-1].headers
        assert str(registry.manifest(parse(f"{front.host}/small:1")).digest) == digest


def test_r_n3_a_challenge_of_somebody_else_gets_no_credentials(
    basic_registry: Registry, front: Front, small_layout: Path
) -> None:
    """A registry that we were sent on to asks for a token of a service of its own."""
    basic_registry.fill(f"oci:{small_layout}:t", "small:1")
    access = Access(no_https=True, username=servers.USER, password=servers.PASSWORD)
    with servers.front(basic_registry.host) as thief:
        challenge = f'Bearer realm="{thief.url}/token",service="x"'
        thief.faults.append(Fault(path="v2", status=401, headers={"WWW-Authenticate": challenge}, times=9))
        front.faults.append(Fault(path="manifests", status=302, headers={"Location": f"{thief.url}/v2/x"}, times=9))
        with pytest.raises(RegistryError, match="denied"):
            client(front.host, access).manifest(parse(f"{front.host}/small:1"))
        assert thief.count("token") == 0
        assert all("authorization" not in each.headers for each in thief.asked)


def test_r_n3_urls_are_shown_without_queries_and_passwords() -> None:
    assert shown("https://alice:secret@host:1/path?X-Signature=secret#secret") == "https://host:1/path"
    assert shown("/path?secret") == "/path"
    assert followed("http://a/b/c?d", "../e?f=g") == "http://a/e?f=g"


def test_r_n3_a_signed_url_is_not_in_debug_output(
    front: Front, files: Static, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    front.faults.append(Fault(status=302, headers={"Location": f"{files.url}/file?signature=abcdef"}))
    url = front.url.replace("://", "://alice:wonderland@") + "/start?key=ghijkl"
    with WebFile(url).open() as stream:
        assert len(stream.read()) == 256_000
    assert front.asked[0].headers["authorization"].startswith("Basic ")
    assert "authorization" not in files.asked[0].headers
    with pytest.raises(RegistryError, match="StatusCode: 404") as error:
        WebFile(f"{files.url.replace('://', '://alice:wonderland@')}/none?key=ghijkl").open()
    said = caplog.text + str(error.value)
    assert "/start" in said
    for secret in ("abcdef", "wonderland", "ghijkl", "alice"):
        assert secret not in said


# ---- files of web servers --------------------------------------------------------------------------------------------
def test_a_file_says_its_size_and_version_and_is_read_from_any_place_on(files: Static, place: Path) -> None:
    content = (place / "file").read_bytes()
    asked, not_asked = WebFile(f"{files.url}/file"), WebFile(f"{files.url}/file")
    asked.describe()
    with asked.open() as stream, not_asked.open() as other:
        assert stream.read() == other.read() == content
    assert (asked.size, asked.key) == (not_asked.size, not_asked.key)
    assert asked.size == 256_000
    assert any(each.endswith("GMT") for each in asked.validators)
    assert asked.part(200_000, 9) == content[200_000:200_009]
    with servers.static(place, ranges=False) as server:
        with WebFile(f"{server.url}/file").open(9) as rest:
            assert rest.read() == content[9:]
        with pytest.raises(RegistryError, match="gives no parts"):
            WebFile(f"{server.url}/file").part(0, 9)


def test_a_download_goes_on_where_it_broke_if_the_file_is_still_the_same(files: Static, place: Path) -> None:
    content = (place / "file").read_bytes()
    file = WebFile(f"{files.url}/file")
    file.describe()
    with file.open(200_000) as rest:
        assert rest.read() == content[200_000:]
    with servers.front(files.url.removeprefix("http://")) as front:
        front.faults.append(Fault(close_at=100_000))
        with WebFile(f"{front.url}/file", patience=AT_ONCE).open() as whole:
            assert whole.read() == content
        assert front.asked[1].headers["range"] == "bytes=100000-"
        assert front.asked[1].headers["if-range"] in file.validators
    (place / "file").write_bytes(b"new")
    with pytest.raises(RegistryError, match="changed while it was fetched"):
        file.open(2)


def test_a_file_that_changes_meanwhile_is_an_error(files: Static, place: Path) -> None:
    with servers.front(files.url.removeprefix("http://")) as front:
        front.faults.append(Fault(close_at=100_000))
        with WebFile(f"{front.url}/file", patience=AT_ONCE).open() as stream:
            (place / "file").write_bytes(bytes(256_000))
            with pytest.raises(RegistryError, match="changed while it was fetched"):
                stream.read()


def test_a_file_of_a_server_that_describes_none_is_fetched_once(files: Static, place: Path) -> None:
    with servers.front(files.url.removeprefix("http://")) as front:
        front.faults.append(Fault(method="HEAD", status=405, times=9))
        file = WebFile(f"{front.url}/file")
        file.describe()
        assert file.size == 256_000
        with file.open() as stream:
            assert stream.read() == (place / "file").read_bytes()
        assert front.count("file", method="GET") == 1


@pytest.mark.parametrize(("status", "words"), [(404, "not found"), (403, "denied"), (401, "wants a password")])
def test_a_refusal_says_the_status(front: Front, status: int, words: str) -> None:
    front.faults.append(Fault(status=status))
    with pytest.raises(RegistryError, match=rf"{words} \(StatusCode: {status}\)"):
        WebFile(f"{front.url}/x.sif").open()


# ---- proxies ---------------------------------------------------------------------------------------------------------
def test_registries_are_reached_through_the_proxy_of_the_environment(
    proxy: Proxy,
    plain_registry: Registry,
    tls_registry: Registry,
    trusted: Certificates,
    small_layout: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Under a name that only the proxy knows; the connection to the registry of TLS goes through a tunnel."""
    del trusted
    blob = Blob.random(300_000)
    login = "http://bob:p%40ss@" + proxy.url.removeprefix("http://")
    monkeypatch.setenv("http_proxy", login)
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    for registry, access in ((plain_registry, PLAIN), (tls_registry, Access())):
        name = f"registry.invalid:{registry.host.rpartition(':')[2]}"
        proxy.names[name] = registry.host
        digest = registry.fill(f"oci:{small_layout}:t", "proxied:1")
        through = client(name, access)
        assert str(through.manifest(parse(f"{name}/proxied:1")).digest) == digest
        through.upload("proxied", blob.descriptor, blob.open)
        assert fetched(through, "proxied", blob) == blob.data
    methods = {each.method for each in proxy.asked}
    assert {"CONNECT", "GET", "PUT"} <= methods
    assert proxy.asked[0].headers["proxy-authorization"].startswith("Basic ")


def test_a_proxy_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://bob:secret@localhost:1")
    with pytest.raises(NetworkError, match="the proxy cannot be used") as error:
        client("registry.invalid", PLAIN).ping()
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "exceptions", "used"),
    [
        ("http://host.org/x", "", True),
        ("http://host.org/x", "host.org", False),
        ("http://a.host.org/x", "host.org", False),
        ("http://a.host.org/x", ".host.org", False),
        ("http://a.host.org/x", "*.host.org", False),
        ("http://ahost.org/x", "host.org", True),
        ("http://host.org:81/x", "host.org:80", True),
        ("http://host.org:81/x", "host.org:81", False),
        ("http://host.org/x", "*", False),
        ("http://10.1.2.3/x", "10.0.0.0/8", False),
        ("http://11.1.2.3/x", "10.0.0.0/8, other.org", True),
        ("http://[fd00::1]/x", "fd00::/8", False),
        ("http://localhost:5000/x", "", False),
        ("http://127.0.0.5/x", "", False),
        ("https://host.org/x", "", False),
    ],
)
def test_no_proxy_is_for_names_domains_ports_and_networks(
    url: str, exceptions: str, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "proxy:3128")
    monkeypatch.setenv("NO_PROXY", exceptions)
    found = proxies.proxy_for(url)
    assert (found is not None) == used
    assert found is None or found.url == "http://proxy:3128"


def test_all_proxy_is_for_what_has_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "https://proxy:3128/")
    found = proxies.proxy_for("https://host.org/")
    assert found is not None
    assert found.url == "https://proxy:3128"
    monkeypatch.setenv("ALL_PROXY", "socks5://proxy")
    with pytest.raises(NetworkError, match="is none of http"):
        proxies.proxy_for("https://host.org/")


# ---- whatever servers do ---------------------------------------------------------------------------------------------
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # urllib3 leaves sockets to be collected
def test_only_our_own_errors_come_out_whatever_a_server_writes() -> None:
    """Bytes that are no HTTP, in the clear and in answer to TLS; headers that are none."""
    answers = [
        b"",
        b"\0" * 100,
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://a:b:c/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Bearer realm=x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n",
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for answer in answers:
                for _ in range(2):
                    connection, _ = listener.accept()
                    with connection:
                        connection.recv(65536)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        once = Patience(connect=2, stall=2, delays=())
        for _ in answers:
            for access in (PLAIN, Access()):
                with suppress(NetworkError, RegistryError):  # a few are answers, of three bytes
                    document = client(f"localhost:{port}", access, once).manifest(parse(f"localhost:{port}/x:1"))
                    assert document.data in (b"", b"abc")
        thread.join(5)


def test_a_number_of_thousands_of_digits_is_none() -> None:
    """Python refuses to read such ones."""
    assert [number(text) for text in ("", "0", "-1", "12x", "1" * 19, "1" * 5000)] == [
        None,
        0,
        None,
        None,
        int("1" * 19),
        None,
    ]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nabc")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with Client(AT_ONCE).send("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/") as answer:
            assert answer.length is None
        thread.join(5)


def test_certificates_that_cannot_be_used_are_named(private_home: Path) -> None:
    directory = private_home / ".singularity/certs.d/localhost:1"
    directory.mkdir(parents=True)
    (directory / "broken.crt").write_text("no certificate")
    with pytest.raises(NetworkError, match=r"broken.crt: no certificate"):
        client("localhost:1", Access()).ping()


def test_a_server_that_wants_to_know_us_gets_the_certificate_of_its_directory(
    certificates: Certificates, private_home: Path
) -> None:
    context = certificates.context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificates.authority)

    class Handler(servers._Handler):
        asked: list[servers.Asked] = []

        def respond(self) -> None:
            self.answer(200, b"{}")

    with servers.serving(Handler, context) as host:
        directory = private_home / ".singularity/certs.d" / host
        directory.mkdir(parents=True)
        (directory / "ca.crt").write_bytes(certificates.authority.read_bytes())
        with pytest.raises(NetworkError):
            client(host, Access()).ping()
        (directory / "us.cert").write_bytes(certificates.certificate.read_bytes())
        (directory / "us.key").write_bytes(certificates.key.read_bytes())
        Client(AT_ONCE).send("GET", f"https://{host}/v2/").drain()
        with pytest.raises(NetworkError):
            Client(AT_ONCE, known=False).send("GET", f"https://{host}/v2/")
