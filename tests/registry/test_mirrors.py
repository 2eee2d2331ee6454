"""registries.conf: mirrors, other places, insecure and blocked ones; what is used, and that it is said."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import servers
from pulls import AT_ONCE, Blob, client, fetched
from servers import PASSWORD, USER, Fault

from singularity.errors import FileError, NetworkError, RegistryError
from singularity.registry.access import Access
from singularity.registry.client import Registry as Client
from singularity.registry.mirrors import Place, Scheme, places
from singularity.registry.reference import parse

if TYPE_CHECKING:
    from pathlib import Path

    from servers import Certificates, Front, Registry

pytestmark = pytest.mark.usefixtures("no_proxy")
DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that counts."""
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    return path


def where(name: str, *, by_digest: bool = False, no_https: bool = False, pull: bool = True) -> list[str]:
    host, _, repository = name.partition("/")
    found = places(host, repository, by_digest=by_digest, no_https=no_https, pull=pull)
    return [f"{each.scheme}:{each}" for each in found]


# ---- what a file says ------------------------------------------------------------------------------------------------
def test_without_a_file_the_registry_itself_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr("singularity.registry.mirrors._SYSTEM", tmp_path / "none")
    assert where("ghcr.io/a/b") == ["https:ghcr.io/a/b"]
    assert where("ghcr.io/a/b", no_https=True) == ["http:ghcr.io/a/b"]
    assert places("docker.io", "library/x", by_digest=False, no_https=False)[0].api_host == "registry-1.docker.io"


def test_mirrors_come_before_the_registry(conf: Path) -> None:
    conf.write_text(
        '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io"\n'
        '[[registry.mirror]]\nlocation = "mirror.site:5000/hub"\n'
        '[[registry.mirror]]\nlocation = "other.site"\ninsecure = true\n'
    )
    mirrors = ["https:mirror.site:5000/hub/library/debian", "either:other.site/library/debian"]
    assert where("docker.io/library/debian") == [*mirrors, "https:docker.io/library/debian"]
    assert where("docker.io/library/debian", no_https=True) == [*mirrors, "http:docker.io/library/debian"]
    assert where("docker.io/library/debian", pull=False) == ["https:docker.io/library/debian"]
    assert where("ghcr.io/x/y") == ["https:ghcr.io/x/y"]


def test_some_mirrors_are_for_digests_or_for_tags_only(conf: Path) -> None:
    conf.write_text(
        '[[registry]]\nlocation = "a.site"\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "m.site"\n'
        '[[registry]]\nlocation = "b.site"\n[[registry.mirror]]\nlocation = "n.site"\npull-from-mirror = "tag-only"\n'
    )
    assert where("a.site/x") == ["https:a.site/x"]
    assert where("a.site/x", by_digest=True) == ["https:m.site/x", "https:a.site/x"]
    assert where("b.site/x") == ["https:n.site/x", "https:b.site/x"]
    assert where("b.site/x", by_digest=True) == ["https:b.site/x"]


def test_the_longest_prefix_counts_and_is_replaced(conf: Path) -> None:
    conf.write_text(
        '[[registry]]\nprefix = "a.site/team"\nlocation = "b.site/moved"\n'
        '[[registry]]\nprefix = "a.site"\nblocked = true\n'
        '[[registry]]\nprefix = "*.wild.site"\nlocation = "tame.site/all"\n'
    )
    assert where("a.site/team/x") == ["https:b.site/moved/x"]
    assert where("x.wild.site:5000/y/z") == ["https:tame.site/all/y/z"]
    assert where("wild.site/y") == ["https:wild.site/y"]
    for name in ("a.site/teams/x", "a.site/x"):
        with pytest.raises(RegistryError, match=rf"{name}: this registry is blocked \(by .*registries.conf\)"):
            where(name)


def test_the_user_s_file_counts_before_the_system_s_and_drop_ins_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, home = tmp_path / "system.conf", tmp_path / "config"
    monkeypatch.setattr("singularity.registry.mirrors._SYSTEM", system)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    system.write_text('[[registry]]\nlocation = "a.site"\nblocked = true\n')
    with pytest.raises(RegistryError, match="blocked"):
        where("a.site/x")
    (home / "containers/registries.conf.d").mkdir(parents=True)
    (home / "containers/registries.conf").write_text('[[registry]]\nprefix = "a.site"\nlocation = "b.site"\n')
    (home / "containers/registries.conf.d/1.conf").write_text('[[registry]]\nprefix = "c.site"\nlocation = "d.site"\n')
    assert where("a.site/x") == ["https:b.site/x"]
    assert where("c.site/x") == ["https:d.site/x"]


@pytest.mark.parametrize(
    "text",
    [
        "[[registry",
        "registry = 1",
        "[[registry]]\n",
        "[[registry]]\nlocation = 5\n",
        '[[registry]]\nlocation = "a.site"\nblocked = "yes"\n',
        '[[registry]]\nlocation = "a.site"\nmirror = 3\n',
        '[[registry]]\nprefix = "a.site"\nlocation = "a b"\n',
        '[[registry]]\nlocation = "a.site"\n[[registry.mirror]]\nlocation = "https://m.site"\n',
    ],
)
def test_a_file_that_makes_no_sense_is_named(conf: Path, text: str) -> None:
    conf.write_text(text)
    with pytest.raises(FileError, match=r"registries\.conf"):
        where("a.site/x")


def test_a_file_that_is_named_must_be_there(conf: Path) -> None:
    assert not conf.exists()
    with pytest.raises(FileError, match=r"registries\.conf: No such file"):
        where("a.site/x")


# ---- R-N6: what is used ----------------------------------------------------------------------------------------------
def mirrored(conf: Path, host: str, *mirrors: str, own: str = "") -> None:
    lines = [f'[[registry]]\nprefix = "{host}"\nlocation = "{own or host}"\ninsecure = true\n']
    conf.write_text("".join([*lines, *(f'[[registry.mirror]]\nlocation = "{m}"\ninsecure = true\n' for m in mirrors)]))


def test_r_n6_an_image_comes_from_the_first_mirror_that_has_it_and_that_is_said(
    conf: Path, plain_registry: Registry, front: Front, small_layout: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The registry itself cannot be reached; the first mirror is busy, the second lacks it."""
    caplog.set_level(logging.INFO)
    mirrored(conf, "reg.invalid", f"{front.host}/cache", f"{plain_registry.host}/lacks", f"{plain_registry.host}/cache")
    digest = plain_registry.fill(f"oci:{small_layout}:t", "cache/tools:1")
    blob = Blob.random(1000)
    client(plain_registry.host).upload("cache/tools", blob.descriptor, blob.open)
    front.faults.append(Fault(path="manifests", status=503, times=99))
    registry = Client("reg.invalid", Access(), AT_ONCE)
    document = registry.manifest(parse("reg.invalid/tools:1"))
    assert (str(document.digest), document.source) == (digest, f"{plain_registry.host}/cache/tools")
    said = [record.getMessage() for record in caplog.records if "from" in record.getMessage()]
    assert f"reg.invalid/tools:1: not from {front.host}/cache/tools: " in said[0]
    assert "manifest unknown" in said[1]
    assert said[2] == f"reg.invalid/tools:1: from {plain_registry.host}/cache/tools"
    front.asked.clear()
    assert fetched(registry, "tools", blob) == blob.data
    assert front.asked == [], "blobs are asked for where the manifest was"


def test_when_no_mirror_has_it_the_registry_s_own_words_are_said(conf: Path, plain_registry: Registry) -> None:
    mirrored(conf, "reg.example", "localhost:1", own=f"{plain_registry.host}/moved")
    with pytest.raises(RegistryError, match=r"reg\.example/none:1: manifest unknown"):
        Client("reg.example", Access(), AT_ONCE).manifest(parse("reg.example/none:1"))


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")  # switched off where no test changes the filters
def test_an_insecure_place_may_have_a_certificate_of_its_own_making(
    conf: Path, tls_registry: Registry, small_layout: Path
) -> None:
    digest = tls_registry.fill(f"oci:{small_layout}:t", "tools:1")
    reference = parse("reg.example/tools:1")
    mirrored(conf, "reg.example", own=tls_registry.host)
    assert str(Client("reg.example", Access(), AT_ONCE).manifest(reference).digest) == digest
    conf.write_text(conf.read_text().replace("true", "false"))
    with pytest.raises(NetworkError, match="certificate not trusted"):
        Client("reg.example", Access(), AT_ONCE).manifest(reference)


def test_r_n3_a_mirror_gets_no_password_of_the_registry(conf: Path, front: Front, basic_registry: Registry) -> None:
    front.faults.append(Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'}, times=99))
    mirrored(conf, basic_registry.host, front.host)
    access = Access(no_https=True, username=USER, password=PASSWORD)
    with pytest.raises(RegistryError, match="manifest unknown"):
        Client(basic_registry.host, access, AT_ONCE).manifest(parse(f"{basic_registry.host}/none:1"))
    assert front.asked
    assert all("authorization" not in each.headers for each in front.asked)


def test_what_is_pushed_goes_to_the_registry_itself(conf: Path, front: Front, plain_registry: Registry) -> None:
    mirrored(conf, "reg.example", front.host, own=f"{plain_registry.host}/moved")
    blob = Blob.random(100)
    assert Client("reg.example", Access(), AT_ONCE).upload("pushed", blob.descriptor, blob.open)
    assert fetched(client(plain_registry.host), "moved/pushed", blob) == blob.data
    assert front.asked == []


def test_a_registry_that_mirrors_another_by_itself_is_just_a_registry(
    plain_registry: Registry, certificates: Certificates, tmp_path: Path, small_layout: Path
) -> None:
    del certificates
    digest = plain_registry.fill(f"oci:{small_layout}:t", "up/stream:1")
    with servers.registry(tmp_path / "cache", mirror_of=plain_registry.url) as cache:
        document = client(cache.host).manifest(parse(f"{cache.host}/up/stream:1"))
    assert str(document.digest) == digest


def test_places_are_written_as_people_write_them() -> None:
    assert str(Place(host="docker.io", repository="a/b", scheme=Scheme.HTTPS)) == "docker.io/a/b"
