"""`Bootstrap: yum` and `dnf`: the real dnf, on repositories of real packages."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import repositories
from repositories import Key, Package, lay

from singularity.build.agents import yum
from singularity.definition.parse import parse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builds import Build
    from conftest import Alice
    from repositories import Inside, Server

pytestmark = [pytest.mark.long, pytest.mark.needs("dnf", "rpmbuild", "createrepo", "busybox", "mksquashfs")]

SCRIPT = 'echo "$HOME" >/etc/home\nls /proc/self/exe /dev/null >/etc/seen\nmkdir -p "$HOME/.cache/left"'
# What the Fedora package `filesystem` has, too: directories that the build mounts something on.
MODES = {"/proc": "%attr(0555,root,root)", "/sys": "%attr(0555,root,root)", "/tmp": "%attr(1777,root,root)"}


def greeter(work: Path, version: str) -> Package:
    text = f'#!/bin/sh\necho "greeter {version}"\n'
    tree = lay(work / f"greeter-{version}", {"/usr/bin/greeter": text, "/srv/shared/file": "of a group\n"})
    return Package(
        name="greeter",
        tree=tree,
        version=version,
        modes={"/srv/shared/file": "%attr(0640,root,shadow)"},
        requires=("coreutils",),
    )


@pytest.fixture(scope="session")
def repository(packages_place: Path) -> Path:
    """`x86_64/base` and `x86_64/updates`: a base system and a program, and a later version of the program."""
    work = packages_place / "rpm-work"
    tree = lay(work / "base", {**repositories.base_files(), "/etc/redhat-release": "Tiny release 1\n"})
    for name in ("proc", "sys", "dev", "tmp", "root"):
        (tree / name).mkdir()
    place = packages_place / "rpm" / "7" / repositories.MACHINE
    base, updates, odd = (place / name for name in ("base", "updates", "odd"))
    tiny = Package(name="tiny-release", tree=tree, script=SCRIPT, modes=MODES, provides=("coreutils", "/bin/sh"))
    for directory in (base, updates, odd):
        directory.mkdir(parents=True)
    repositories.rpm(tiny, base)
    repositories.rpm(greeter(work, "1"), base)
    repositories.rpm(greeter(work, "2"), updates)
    lost = Package(name="lost", tree=lay(work / "lost", {"/lost": "x\n"}), requires=("nothing-has-this",))
    failing = Package(name="failing", tree=lay(work / "failing", {"/failing": "x\n"}), script="exit 3")
    for package in (lost, failing):
        repositories.rpm(package, odd)
    for directory in (base, updates, odd):
        repositories.index_rpms(directory)
    shutil.rmtree(work)
    return place


def definition(build: Build, *lines: str, sections: str = "") -> Path:
    return build.write("x.def", "\n".join(lines) + f"\n{sections}")


def installed(root: Path) -> list[str]:
    """The packages that the database knows, as the rpm of this machine reads it."""
    out = repositories.run(
        "rpm", f"--root={root}", "--dbpath=/usr/lib/sysimage/rpm", "-qa", "--qf", "%{NAME}-%{VERSION}\n"
    )
    return sorted(line for line in out.splitlines() if not line.startswith("gpg-pubkey"))


def test_a_base_system_and_what_is_included(
    builder: Build, repository: Path, server: Server, packages_place: Path, inside: Inside
) -> None:
    url = f"{server.url}/{repository.parent.parent.relative_to(packages_place)}/%{{OSVERSION}}/$basearch"
    path = definition(
        builder,
        "BootStrap: yum", "OSVersion: 7", f"MirrorURL: {url}/base", f"UpdateURL: {url}/updates", "Include: greeter",
        sections="%post\n    greeter\n    id\n%test\n    greeter\n",
    )  # fmt: skip
    done = builder.ok("build", "x.sif", path)
    assert f"INFO:    Found DNF at: {shutil.which('dnf', path=repositories.PATH)}" in done.stderr.splitlines()
    assert "greeter 2" in done.stdout
    assert "WARNING" not in done.stderr
    assert builder.leftovers() == []
    root = builder.root_of("x.sif")
    assert installed(root) == ["greeter-2", "tiny-release-1"]
    assert inside(root, "greeter") == "greeter 2\n"
    assert (root / "etc/redhat-release").read_text() == "Tiny release 1\n"
    assert (root / "etc/seen").read_text().split() == ["/dev/null", "/proc/self/exe"]
    assert (root / "srv/shared/file").stat().st_gid == 42
    assert any(path.endswith("greeter-2.rpm") for path in server.asked)


def test_the_image_keeps_nothing_of_the_build(build: Build, repository: Path) -> None:
    """Caches, logs, the home directory of scripts, proxies with their passwords; nothing below /dev."""
    path = definition(build, "Bootstrap: dnf", f"MirrorURL: {repository}/base", "Include: greeter")
    proxy = "http://alice:secret@proxy.example:3128"
    build.ok("build", "x.sif", path, http_proxy=proxy, https_proxy=proxy)
    root = build.root_of("x.sif")
    text = (root / "etc/bootstrap-yum.conf").read_text()
    assert f"baseurl=file://{repository}/base" in text
    assert "[updates]" not in text
    assert "proxy" not in text
    files = {f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert not [name for name in files if name.startswith(("/var/cache/", "/var/log/", "/dev/", "/tmp/", "/var/tmp/"))]
    assert not [name for name in files if "history" in name or ".cache" in name]
    home = (root / "etc/home").read_text().strip()
    assert "singularity-work-" in home
    assert not (root / home.lstrip("/")).exists()


def test_proxies_are_used_and_the_hosts_configuration_is_not(
    build: Build, repository: Path, server: Server, packages_place: Path
) -> None:
    """Version 2.2 wrote the proxy into the host's own configuration file."""
    before = {path: path.read_bytes() for path in Path("/etc/dnf").rglob("*") if path.is_file()}
    place = repository.relative_to(packages_place)
    path = definition(build, "Bootstrap: yum", f"MirrorURL: http://mirror.example/{place}/base")
    build.ok("build", "x.sif", path, http_proxy=server.url)
    assert server.asked
    assert all(asked.startswith("http://mirror.example/") for asked in server.asked)
    assert {path: path.read_bytes() for path in Path("/etc/dnf").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Bootstrap: yum"], "agent yum needs MirrorURL (MirrorURL: URL of the directory that holds repodata)"),
        (["Bootstrap: yum", "MirrorURL: --installroot=/"], 'x.def:2: MirrorURL: "--installroot=/" is none'),
        (["Bootstrap: dnf", "MirrorURL: /x", "UpdateURL: x y"], 'x.def:3: UpdateURL: "x y" is none'),
        (["Bootstrap: dnf", "MirrorURL: /x", "Include: a -y"], 'x.def:3: Include: "-y" is no package'),
        (["Bootstrap: dnf", "MirrorURL: /x", "Setopt: yes"], 'x.def:3: Setopt: "yes" is no KEY=VALUE'),
        (["Bootstrap: dnf", "MirrorURL: /x", "OSVersion: -v"], 'x.def:3: OSVersion: "-v" is none'),
        (["Bootstrap: dnf", "MirrorURL: /$releasever"], "MirrorURL names $releasever, and no OSVersion says which"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_one_line(build: Build, lines: list[str], message: str) -> None:
    definition(build, *lines)
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.parametrize(
    ("mirror", "include", "message"),
    [
        ("{}/base", "nowhere", "dnf could not install the packages: Error: Unable to find a match: nowhere"),
        ("{}/odd", "", "Unable to find a match: /etc/redhat-release coreutils"),
        ("/nowhere/at/all", "", "packages: Error: Failed to download metadata for repo 'base'"),
        ("http://127.0.0.1:1", "", "packages: Error: Failed to download metadata for repo 'base'"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_and_leaves_nothing(
    build: Build, repository: Path, mirror: str, include: str, message: str
) -> None:
    definition(
        build,
        "Bootstrap: dnf",
        f"MirrorURL: {mirror.format(repository)}",
        *([f"Include: {include}"] if include else []),
    )
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []
    assert not (build.directory / "x.sif").exists()


def test_a_dependency_that_nothing_provides_is_named(build: Build, repository: Path) -> None:
    definition(
        build, "Bootstrap: dnf", f"MirrorURL: {repository}/base", f"UpdateURL: {repository}/odd", "Include: lost"
    )
    assert "nothing provides nothing-has-this" in build.fails("build", "x.sif", "x.def")


def test_a_script_of_a_package_that_fails_is_a_warning(build: Build, repository: Path) -> None:
    definition(
        build, "Bootstrap: dnf", f"MirrorURL: {repository}/base", f"UpdateURL: {repository}/odd", "Include: failing"
    )
    done = build.ok("build", "x.sif", "x.def")
    assert "WARNING: dnf: warning: %post(failing-1-1" in done.stderr


def test_keys_decide_what_is_installed(
    build: Build, repository: Path, key: Key, other_key: Key, packages_place: Path
) -> None:
    """GPG: what is signed with the key is installed; what is not, or is signed with another, is refused."""
    signed = packages_place / "signed"
    shutil.copytree(repository / "base", signed)
    repositories.sign_rpms(sorted(signed.glob("*.rpm")), key)
    repositories.index_rpms(signed)
    definition(build, "Bootstrap: dnf", f"MirrorURL: {signed}", "Include: greeter", f"GPG: file://{key.public}")
    build.ok("build", "x.sif", "x.def")
    root = build.root_of("x.sif")
    assert installed(root) == ["greeter-1", "tiny-release-1"]
    text = (root / "etc/bootstrap-yum.conf").read_text()
    assert "gpgcheck=1" in text
    assert f"gpgkey=file://{key.public}" in text
    definition(build, "Bootstrap: dnf", f"MirrorURL: {signed}", "Include: greeter")
    message = build.fails("build", "y.sif", "x.def", GPG=str(other_key.public))
    assert "Public key for" in message
    assert "is not installed" in message
    definition(build, "Bootstrap: dnf", f"MirrorURL: {repository}/base")
    message = build.fails("build", "y.sif", "x.def", GPG=str(key.public))
    assert "is not signed" in message
    message = build.fails("build", "y.sif", "x.def", GPG="http://example.org/key")
    assert message == "GPG: http://example.org/key: keys come from https URLs and files (https://..., or a path)"
    assert build.fails("build", "y.sif", "x.def", GPG="/nowhere.asc") == "GPG: /nowhere.asc: no such file"
    assert build.leftovers() == []


def with_rpm(directory: Path, source: Path, macros: str, more: Mapping[str, str | Path] | None = None) -> Path:
    """A repository with the base system and an rpm for the image, which has these macros."""
    place = directory / "with-rpm"
    shutil.copytree(source, place)
    tree = lay(directory / "rpm-tree", {**repositories.rpm_files(macros), **(more or {})})
    repositories.rpm(Package(name="rpm", tree=tree, requires=("coreutils",)), place)
    repositories.index_rpms(place)
    return place


@pytest.mark.parametrize(
    ("macros", "place", "file", "absent"),
    [
        ("%_dbpath /var/lib/rpm\n%_db_backend sqlite\n", "var/lib/rpm", "rpmdb.sqlite", "usr/lib/sysimage"),
        ("%_dbpath /usr/lib/sysimage/rpm\n%_db_backend sqlite\n", "usr/lib/sysimage/rpm", "rpmdb.sqlite", ""),
        ("%_dbpath /opt/packages\n%_db_backend sqlite\n", "opt/packages", "rpmdb.sqlite", "var/lib/rpm"),
    ],
)
def test_the_images_own_rpm_finds_its_database(
    build: Build, repository: Path, inside: Inside, macros: str, place: str, file: str, absent: str
) -> None:
    """Where it looks for it and in its format, whatever the host's rpm does."""
    mirror = with_rpm(build.directory, repository / "base", macros)
    definition(build, "Bootstrap: yum", f"MirrorURL: {mirror}", "Include: rpm")
    build.ok("build", "x.sif", "x.def")
    root = build.root_of("x.sif")
    assert sorted(inside(root, "rpm", "-qa").splitlines()) == ["rpm-1-1.x86_64", "tiny-release-1-1.x86_64"]
    assert inside(root, "rpm", "-qf", "/etc/redhat-release") == "tiny-release-1-1.x86_64\n"
    assert (root / place / file).is_file()
    assert not (root / place).is_symlink()
    assert not absent or not os.path.lexists(root / absent)


# Like one from before SQLite: what the host has written is no database to it, so that it begins one elsewhere.
OLD_RPM = """#!/bin/sh
if [ -e /var/lib/rpm/own ] || [ "$1" = --eval ]; then exec /usr/libexec/rpm "$@"; fi
"""
OLD_RPMDB = """#!/bin/sh
/usr/libexec/rpmdb "$@" && touch /var/lib/rpm/own
"""


def test_an_rpm_that_cannot_read_the_hosts_database_notes_the_packages_itself(
    build: Build, repository: Path, server: Server, packages_place: Path, inside: Inside
) -> None:
    macros = "%_dbpath /var/lib/rpm\n%_db_backend sqlite\n"
    more: dict[str, str | Path] = {f"/usr/libexec/{name}": Path(f"/usr/bin/{name}") for name in ("rpm", "rpmdb")}
    more |= {"/usr/bin/rpm": OLD_RPM, "/usr/bin/rpmdb": OLD_RPMDB}
    mirror = with_rpm(packages_place / "old", repository / "base", macros, more)
    definition(build, "Bootstrap: yum", f"MirrorURL: {server.url}/old/{mirror.name}", "Include: rpm")
    done = build.ok("build", "x.sif", "x.def")
    assert "WARNING" not in done.stderr
    root = build.root_of("x.sif")
    assert sorted(inside(root, "rpm", "-qa").splitlines()) == ["rpm-1-1.x86_64", "tiny-release-1-1.x86_64"]
    assert sorted(os.listdir(root / "var/lib")) == ["dnf", "rpm"]
    assert not (root / "var/cache/yum-bootstrap").exists()


@pytest.mark.parametrize("backend", ["lmdb", "dummy"])
def test_an_rpm_that_can_make_no_database_leaves_the_hosts(
    build: Build, repository: Path, server: Server, packages_place: Path, backend: str
) -> None:
    """lmdb: rpm 4.15 had it, no later one. dummy: rpm's own word for reading only."""
    macros = f"%_dbpath /usr/lib/sysimage/rpm\n%_db_backend {backend}\n"
    mirror = with_rpm(packages_place / backend, repository / "base", macros)
    definition(build, "Bootstrap: yum", f"MirrorURL: {server.url}/{backend}/{mirror.name}", "Include: rpm")
    done = build.ok("build", "x.sif", "x.def")
    assert "WARNING: The image's own rpm cannot write its database, which stays as this host's did" in done.stderr
    assert installed(build.root_of("x.sif")) == ["rpm-1", "tiny-release-1"]


def test_a_host_without_the_tool_is_told_which_package_has_it(alice: Alice, repository: Path) -> None:
    definition(alice, "Bootstrap: dnf", f"MirrorURL: {repository}/base")
    hidden = dataclasses.replace(alice, hidden=(Path("/usr/bin/dnf"),))
    message = hidden.fails("build", "x.sif", "x.def")
    assert message == "dnf not found, needed to install the packages (install dnf)"


def test_what_the_cache_is_told_of_a_local_mirror(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest changes with the repository and with what the environment adds, and is empty for a mirror."""
    mirror = tmp_path / "mirror"
    shutil.copytree(repository / "base", mirror)

    def digest(url: str) -> str | None:
        text = f"Bootstrap: yum\nMirrorURL: {url}\n"
        return yum.source_digest(parse(text, "x.def").stages[0])

    assert digest("http://mirror.example/") == ""
    first = digest(str(mirror))
    assert first
    assert first == digest(str(mirror))
    monkeypatch.setenv("INCLUDE", "greeter")
    assert digest(str(mirror)) != first
    monkeypatch.delenv("INCLUDE")
    repositories.index_rpms(repository / "updates")
    index = mirror / "repodata" / "repomd.xml"
    index.write_text(index.read_text() + "<!-- later -->")
    assert digest(str(mirror)) not in (first, "", None)
    index.unlink()
    assert digest(str(mirror)) is None
