"""Locked builds: real package managers, on repositories of the loopback interface that move on meanwhile."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
import repositories
from builders import by_umoci
from package_sources import SUITE
from repositories import Key, Package, lay

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builds import Build
    from repositories import Server
    from servers import Certificates, Registry

pytestmark = [pytest.mark.long, pytest.mark.needs("busybox", "mksquashfs")]

MODES = {"/proc": "%attr(0555,root,root)", "/sys": "%attr(0555,root,root)", "/tmp": "%attr(1777,root,root)"}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def lock_of(build: Build, name: str = "x.lock") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((build.directory / name).read_bytes())
    return found


@pytest.fixture
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A directory, served by HTTP."""
    place = tmp_path_factory.mktemp("served")
    with repositories.serving(place) as server:
        yield place, server


def greeter_deb(work: Path, version: str) -> Package:
    tree = lay(work / f"greeter-{version}", {"/usr/bin/greeter": f'#!/bin/sh\necho "greeter {version}"\n'})
    return Package(name="greeter", tree=tree, version=version, requires=("libc6",))


def move_on(mirror: Path, work: Path, key: Key) -> None:
    """A new version replaces the old one, whose file is gone, as on every mirror of Debian."""
    for old in (mirror / "pool").glob("greeter_*"):
        old.unlink()
    repositories.deb(greeter_deb(work, "2"), mirror / "pool", {})
    shutil.rmtree(mirror / "dists")
    repositories.index_debs(mirror, SUITE, key)


@pytest.mark.needs("debootstrap", "mmdebstrap", "gpg", "dpkg-scanpackages")
@pytest.mark.parametrize("agent", ["debootstrap", "mmdebstrap"])
def test_a_mirror_of_debian_that_moves_on(
    builder: Build, debian_mirror: Path, key: Key, moving: tuple[Path, Server], tmp_path: Path, agent: str
) -> None:
    place, server = moving
    mirror = place / "debian"
    shutil.copytree(debian_mirror, mirror)
    lines = [f"Bootstrap: {agent}", f"OSVersion: {SUITE}", f"MirrorURL: {server.url}/debian", "Include: greeter"]
    builder.write("x.def", "\n".join([*lines, f"GPG: {key.public}", "%post", "    greeter"]) + "\n")
    done = builder.ok("build", "--lock", "--keep-sources", "kept", "x.sif", "x.def")
    assert "greeter 1" in done.stdout
    assert (builder.directory / "kept").stat().st_mode & 0o555 == 0o555  # others can build from it
    first = sha256(builder.directory / "x.sif")
    lock = lock_of(builder)
    assert lock["image"]["sha256"] == first
    package = next(each for each in lock["packages"] if each["name"] == "greeter")
    assert package["version"] == "1"
    assert package["sha256"] == sha256(mirror / "pool" / "greeter_1_all.deb")

    shutil.copytree(mirror, place / "archive" / "debian" / "then")
    move_on(mirror, tmp_path / "work", key)
    assert "greeter 2" in builder.ok("build", "other.sif", "x.def").stdout

    server.asked.clear()
    assert "greeter 1" in builder.ok("build", "--locked", "--keep-sources", "kept", "y.sif", "x.def").stdout
    assert sha256(builder.directory / "y.sif") == first
    assert server.asked == []

    done = builder("build", "--locked", "z.sif", "x.def")
    assert done.returncode == 255
    lines = [line for line in done.stderr.splitlines() if line.startswith(("ERROR", "FATAL"))]
    assert f"ERROR:   greeter 1: {server.url}/debian/pool/greeter_1_all.deb: not found (StatusCode: 404)" in lines
    assert lines[-1].startswith("FATAL:   x.lock: gone or changed, of ")
    assert not (builder.directory / "z.sif").exists()

    snapshot = f"{server.url}/archive/{{archive}}/then"
    builder.ok("build", "--locked", "--snapshot", snapshot, "z.sif", "x.def")
    assert sha256(builder.directory / "z.sif") == first
    assert builder.leftovers() == []


@pytest.mark.needs("dnf", "rpmbuild", "createrepo")
def test_a_repository_of_rpm_that_moves_on(builder: Build, moving: tuple[Path, Server], tmp_path: Path) -> None:
    place, server = moving
    repository = place / "rpm"
    repository.mkdir()
    tree = lay(tmp_path / "base", {**repositories.base_files(), "/etc/redhat-release": "Tiny release 1\n"})
    for name in ("proc", "sys", "dev", "tmp", "root"):
        (tree / name).mkdir()
    tiny = Package(name="tiny-release", tree=tree, modes=MODES, provides=("coreutils", "/bin/sh"))
    repositories.rpm(tiny, repository)

    def publish(version: str) -> None:
        for old in repository.glob("greeter-*.rpm"):
            old.unlink()
        text = f'#!/bin/sh\necho "greeter {version}"\n'
        greeter = Package(
            name="greeter", tree=lay(tmp_path / f"greeter-{version}", {"/usr/bin/greeter": text}), version=version
        )
        repositories.rpm(greeter, repository)
        repositories.index_rpms(repository)

    publish("1")
    old = repository / "greeter-1.rpm"
    digest = sha256(old)
    builder.write("x.def", f"Bootstrap: dnf\nMirrorURL: {server.url}/rpm\nInclude: greeter\n%post\n    greeter\n")
    assert "greeter 1" in builder.ok("build", "--lock", "--keep-sources", "kept", "x.sif", "x.def").stdout
    first = sha256(builder.directory / "x.sif")
    package = next(each for each in lock_of(builder)["packages"] if each["name"] == "greeter")
    assert (package["version"], package["sha256"]) == ("1-1", digest)

    publish("2")
    assert "greeter 2" in builder.ok("build", "other.sif", "x.def").stdout
    server.asked.clear()
    assert "greeter 1" in builder.ok("build", "--locked", "--keep-sources", "kept", "y.sif", "x.def").stdout
    assert sha256(builder.directory / "y.sif") == first
    assert server.asked == []
    done = builder("build", "--locked", "z.sif", "x.def")
    assert f"ERROR:   greeter 1-1: {server.url}/rpm/greeter-1.rpm: not found (StatusCode: 404)" in done.stderr
    assert done.returncode == 255


def wheel(place: Path, version: str) -> Path:
    """A wheel with one module (the binary distribution format of PyPA)."""
    file = place / f"greeter-{version}-py3-none-any.whl"
    info = f"greeter-{version}.dist-info"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("greeter.py", f'print("greeter {version}")\n')
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: greeter\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"greeter.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return file


def publish_wheel(place: Path, version: str) -> Path:
    directory = place / "simple" / "greeter"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    made = wheel(directory, version)
    (directory / "index.html").write_text(f'<a href="{made.name}#sha256={sha256(made)}">{made.name}</a>\n')
    return made


@pytest.mark.needs("openssl", "pip")
@pytest.mark.parametrize("tool", ["pip", "uv"])
def test_an_index_of_python_that_moves_on(
    builder: Build, python_base: Path, certificates: Certificates, uv: Path, tmp_path: Path, tool: str
) -> None:
    """By https, whose certificate the build's own authority stands in for."""
    del python_base
    place = tmp_path / "index"
    made = publish_wheel(place, "1")
    digest = sha256(made)
    with repositories.serving(place, certificates.context()) as server:
        url = f"{server.url}/simple"
        where = "--break-system-packages --prefix /opt/site"  # --target compiles where nothing is the same twice
        program = {"pip": "python3 -m pip", "uv": "/mnt/uv/bin/uv pip"}[tool]
        install = f"{program} install --quiet {where} --index-url {url} greeter"
        use = "python3 $(find /opt/site -name greeter.py)"
        builder.write("x.def", f"Bootstrap: localimage\nFrom: base\n%post\n    {install}\n    {use}\n")
        options = ("--bind", "/usr:/usr:ro", "--bind", f"{uv}:/mnt/uv:ro")
        trust = {"SSL_CERT_FILE": str(certificates.authority)}
        done = builder.ok("build", *options, "--lock", "--keep-sources", "kept", "x.sif", "x.def", **trust)
        assert "greeter 1" in done.stdout
        first = sha256(builder.directory / "x.sif")
        package = next(each for each in lock_of(builder)["packages"] if each["name"] == "greeter")
        assert (package["manager"], package["sha256"]) == ("pypi", digest)

        publish_wheel(place, "2")
        server.asked.clear()
        done = builder.ok("build", *options, "--locked", "--keep-sources", "kept", "y.sif", "x.def")
        assert "greeter 1" in done.stdout
        assert sha256(builder.directory / "y.sif") == first
        assert server.asked == []
        done = builder("build", *options, "--locked", "z.sif", "x.def", **trust)
        assert f"ERROR:   greeter 1: {url}/greeter/{made.name}: not found (StatusCode: 404)" in done.stderr
        assert done.returncode == 255


def publish_tarball(place: Path, url: str, version: str) -> None:
    """A package of one module in a registry of npm's, in place of others."""
    for old in place.glob("*.tgz"):
        old.unlink()
    about: dict[str, Any] = {"name": "greeter", "version": version, "main": "greeter.js"}
    file = place / f"greeter-{version}.tgz"
    with tarfile.open(file, "w:gz") as archive:
        for name, text in (("package.json", json.dumps(about)), ("greeter.js", f'console.log("greeter {version}")\n')):
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    integrity = base64.b64encode(hashlib.sha512(file.read_bytes()).digest()).decode()
    about["dist"] = {"tarball": f"{url}/{file.name}", "integrity": f"sha512-{integrity}"}
    document = {"name": "greeter", "dist-tags": {"latest": version}, "versions": {version: about}}
    (place / "greeter").write_text(json.dumps(document))


@pytest.mark.needs("npm")
def test_a_registry_of_npm_that_moves_on(builder: Build, python_base: Path, moving: tuple[Path, Server]) -> None:
    del python_base
    place, server = moving
    publish_tarball(place, server.url, "1")
    install = f"mkdir /opt/x && cd /opt/x && npm install --registry {server.url} greeter"
    builder.write("x.def", f"Bootstrap: localimage\nFrom: base\n%post\n    {install}\n    node node_modules/greeter\n")
    options = ("--bind", "/usr:/usr:ro")
    done = builder.ok("build", *options, "--lock", "--keep-sources", "kept", "x.sif", "x.def")
    assert "greeter 1" in done.stdout
    digest = sha256(place / "greeter-1.tgz")
    assert [each["sha256"] for each in lock_of(builder)["packages"] if each["name"] == "greeter"] == [digest]

    publish_tarball(place, server.url, "2")
    server.asked.clear()
    builder.ok("build", *options, "--locked", "--keep-sources", "kept", "y.sif", "x.def")
    assert sha256(builder.directory / "y.sif") == sha256(builder.directory / "x.sif")
    assert server.asked == []
    done = builder("build", *options, "--locked", "z.sif", "x.def")
    assert f"ERROR:   greeter 1: {server.url}/greeter-1.tgz: not found (StatusCode: 404)" in done.stderr
    assert done.returncode == 255


@pytest.mark.needs("umoci", "skopeo", "docker-registry")
def test_a_dockerfile_whose_base_and_downloads_are_gone(
    builder: Build, plain_registry: Registry, moving: tuple[Path, Server], tmp_path: Path
) -> None:
    """The base by its digest, ADD from a server, wget of the image, a file of the context, all by one lock."""
    place, server = moving

    def fill(root: Path) -> None:
        lay(root, {**repositories.base_files(), "/usr/bin/wget": "->busybox"})
        for name in ("tmp", "root"):
            (root / name).mkdir()

    first_place, second_place = tmp_path / "first", tmp_path / "second"
    first_place.mkdir()
    second_place.mkdir()
    layout = by_umoci(first_place, fill)
    name = f"lab/locked-{tmp_path.name}:1"
    digest = plain_registry.fill(f"oci:{layout}:t", name)
    (place / "data").write_text("first\n")
    (place / "tool").write_text("tool 1\n")
    builder.write("input.txt", "input\n")
    lines = [f"FROM {plain_registry.host}/{name}", "COPY input.txt /etc/", f"ADD {server.url}/data /srv/data"]
    builder.write("Dockerfile", "\n".join([*lines, f"RUN wget -q -O /srv/tool {server.url}/tool"]) + "\n")
    builder.ok("build", "--no-https", "--lock", "--keep-sources", "kept", "x.sif", "Dockerfile")
    first = sha256(builder.directory / "x.sif")
    lock = lock_of(builder, "Dockerfile.lock")
    assert lock["bases"] == [{"name": f"docker://{plain_registry.host}/{name}", "digest": digest}]
    assert [each["name"] for each in lock["files"]] == ["input.txt"]
    assert [each["url"] for each in lock["fetched"]] == [f"{server.url}/data", f"{server.url}/tool"]

    def fill_again(root: Path) -> None:
        fill(root)
        (root / "etc" / "new").write_text("new\n")

    plain_registry.fill(f"oci:{by_umoci(tmp_path / 'second', fill_again)}:t", name)
    shutil.rmtree(place)
    builder.ok("build", "--no-https", "--locked", "--keep-sources", "kept", "y.sif", "Dockerfile")
    assert sha256(builder.directory / "y.sif") == first

    builder.write("input.txt", "another\n")
    message = builder.fails("build", "--no-https", "--locked", "--keep-sources", "kept", "z.sif", "Dockerfile")
    assert message.startswith("Dockerfile.lock: file input.txt is another than the lock says (")
    builder.write("input.txt", "input\n")
    builder.give()
    for blob in (plain_registry.root / "docker/registry/v2/repositories" / name.partition(":")[0] / "_manifests").glob(
        "*"
    ):
        shutil.rmtree(blob)
    builder.ok("build", "--no-https", "--locked", "--keep-sources", "kept", "z.sif", "Dockerfile")
    assert sha256(builder.directory / "z.sif") == first
