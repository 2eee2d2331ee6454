"""`Bootstrap: zypper`: the real zypper, on repositories of real packages."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import repositories
from repositories import Key, Package, lay

from singularity.build.agents import zypper
from singularity.definition.parse import parse

if TYPE_CHECKING:
    from builds import Build
    from conftest import Alice
    from repositories import Inside, Server

pytestmark = pytest.mark.needs("zypper", "rpmbuild", "createrepo", "busybox", "mksquashfs", "gpg")


@pytest.fixture(scope="session")
def repository(packages_place: Path, key: Key) -> Path:
    """`oss` and `update`, signed with the key; `more`; and `unsigned`, the same as `oss`."""
    work = packages_place / "suse-work"
    tree = lay(work / "base", {**repositories.base_files(), "/etc/os-release": "ID=tiny\n"})
    for name in ("proc", "sys", "dev", "tmp", "root"):
        (tree / name).mkdir()
    modes = {"/proc": "%attr(0555,root,root)", "/sys": "%attr(0555,root,root)"}
    place = packages_place / "suse" / "15.6"
    for name in ("oss", "update", "more"):
        (place / name).mkdir(parents=True)
    script = 'echo "$HOME" >/etc/home; echo >/dev/null'
    base = Package(name="aaa_base", tree=tree, modes=modes, provides=("coreutils", "/bin/sh"), script=script)
    repositories.rpm(base, place / "oss")
    for version, name in (("1", "oss"), ("2", "update")):
        files = {"/usr/bin/greeter": f'#!/bin/sh\necho "greeter {version}"\n'}
        greeter = Package(name="greeter", tree=lay(work / version, files), version=version, requires=("coreutils",))
        repositories.rpm(greeter, place / name)
    other = Package(name="other", tree=lay(work / "other", {"/other": "x\n"}))
    lost = Package(name="lost", tree=lay(work / "lost", {"/lost": "x\n"}), requires=("nothing-has-this",))
    failing = Package(name="failing", tree=lay(work / "failing", {"/failing": "x\n"}), script="exit 3")
    for package in (other, lost, failing):
        repositories.rpm(package, place / "more")
    shutil.copytree(place / "oss", place / "unsigned")
    for name in ("oss", "update", "more"):
        repositories.sign_rpms(sorted((place / name).glob("*.rpm")), key)
        repositories.index_rpms(place / name, key)
    repositories.index_rpms(place / "unsigned")
    shutil.rmtree(work)
    return place


def definition(build: Build, *lines: str, sections: str = "") -> Path:
    return build.write("x.def", "\n".join(lines) + f"\n{sections}")


def test_a_base_system_updates_and_other_repositories(
    builder: Build, repository: Path, server: Server, packages_place: Path, inside: Inside
) -> None:
    url = f"{server.url}/{repository.parent.relative_to(packages_place)}/%{{OSVERSION}}"
    definition(
        builder,
        "Bootstrap: zypper", "OSVersion: 15.6", f"MirrorURL: {url}/oss", f"UpdateURL: {url}/update",
        f"OtherURL0: {url}/more", "Include: greeter other",
        sections="%post\n    greeter\n%test\n    greeter\n",
    )  # fmt: skip
    done = builder.ok("build", "x.sif", "x.def")
    assert f"INFO:    Found ZYPPER at: {shutil.which('zypper', path=repositories.PATH)}" in done.stderr.splitlines()
    assert "greeter 2" in done.stdout
    assert "WARNING" not in done.stderr
    assert builder.leftovers() == []
    root = builder.root_of("x.sif")
    assert inside(root, "greeter") == "greeter 2\n"
    query = ("rpm", f"--root={root}", "--dbpath=/usr/lib/sysimage/rpm", "-qa", "--qf", "%{NAME}-%{VERSION} ")
    known = [word for word in repositories.run(*query).split() if not word.startswith("gpg-pubkey")]
    assert sorted(known) == ["aaa_base-1", "greeter-2", "other-1"]
    assert sorted(path.name for path in (root / "etc/zypp/repos.d").iterdir()) == [
        "repo-0.repo",
        "repo.repo",
        "update.repo",
    ]
    files = {f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert not [name for name in files if name.startswith(("/var/cache/", "/var/log/", "/dev/", "/run/", "/tmp/"))]
    assert (root / "etc/home").read_text().startswith(str(builder.temporary))


def test_keys_decide_what_is_installed(build: Build, repository: Path, key: Key, other_key: Key) -> None:
    definition(build, "Bootstrap: zypper", f"MirrorURL: {repository}/oss", "Include: greeter")
    build.ok("build", "x.sif", "x.def", GPG=str(key.public))
    assert f"gpgkey=file://{key.public}" in (build.root_of("x.sif") / "etc/zypp/repos.d/repo.repo").read_text()
    message = build.fails("build", "y.sif", "x.def", GPG=str(other_key.public))
    assert "zypper could not install the packages: - Signature verification failed for repomd.xml" in message
    definition(build, "Bootstrap: zypper", f"MirrorURL: {repository}/unsigned")
    message = build.fails("build", "y.sif", "x.def")
    assert "File 'repomd.xml' from repository 'repo' is unsigned" in message
    definition(build, "Bootstrap: zypper", f"MirrorURL: {repository}/unsigned", "Setopt: gpgcheck=0")
    build.ok("build", "y.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Bootstrap: zypper"], "agent zypper needs MirrorURL (MirrorURL: URL of the directory that holds repodata)"),
        (["Bootstrap: zypper", "MirrorURL: x"], 'x.def:2: MirrorURL: "x" is none (a URL, or an absolute path)'),
        (["Bootstrap: zypper", "MirrorURL: /x", "OtherURL3: -r"], 'x.def:3: OtherURL3: "-r" is none'),
        (["Bootstrap: zypper", "Product: SLES", "OSVersion: 15.6"], "agent zypper needs User (a registered system"),
        (
            ["Bootstrap: zypper", "Product: SLES", "User: u", "Regcode: r", "OSVersion: 15.6"],
            "a registered system begins with a key or a mirror (ProductPGP, or the MirrorURL of the installer)",
        ),
        (
            ["Bootstrap: zypper", "Product: SLES", "User: u", "Regcode: r", "OSVersion: 15.6", "MirrorURL: /x"],
            "SUSEConnect not found, needed to register the product that the definition names (install SUSEConnect)",
        ),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_is_one_line(build: Build, lines: list[str], message: str) -> None:
    definition(build, *lines)
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.parametrize(
    ("mirror", "include", "message"),
    [
        ("{}/oss", "nowhere", "zypper could not install the packages: No provider of 'nowhere' found."),
        ("{}/more", "", "zypper could not install the packages: No provider of 'aaa_base' found."),
        ("/nowhere/at/all", "", "Specified path '/nowhere/at/all' is not a directory"),
        ("http://127.0.0.1:1", "", "Error message: Failed to connect to 127.0.0.1 port 1"),
    ],
)
def test_a_failure_is_one_line_and_leaves_nothing(
    build: Build, repository: Path, mirror: str, include: str, message: str
) -> None:
    included = [f"Include: {include}"] if include else []
    definition(build, "Bootstrap: zypper", f"MirrorURL: {mirror.format(repository)}", *included)
    said = build.fails("build", "x.sif", "x.def")
    assert message in said
    assert build.leftovers() == []
    assert not (build.directory / "x.sif").exists()


def test_a_dependency_that_nothing_provides_is_named(build: Build, repository: Path) -> None:
    definition(
        build, "Bootstrap: zypper", f"MirrorURL: {repository}/oss", f"OtherURL0: {repository}/more", "Include: lost"
    )
    message = build.fails("build", "x.sif", "x.def")
    assert re.search(r"Problem: (1: )?nothing provides '?nothing-has-this'? needed by .*lost", message)


def test_a_script_of_a_package_that_fails_is_a_warning(build: Build, repository: Path) -> None:
    definition(
        build, "Bootstrap: zypper", f"MirrorURL: {repository}/oss", f"OtherURL0: {repository}/more", "Include: failing"
    )
    done = build.ok("build", "x.sif", "x.def")
    assert "WARNING: zypper: warning: %post(failing-1-1" in done.stderr


def test_a_user_without_the_tool_is_told(alice: Alice, repository: Path) -> None:
    definition(alice, "Bootstrap: zypper", f"MirrorURL: {repository}/oss")
    message = dataclasses.replace(alice, hidden=(Path("/usr/bin/zypper"),)).fails("build", "x.sif", "x.def")
    assert message == "zypper not found, needed to install the packages (install zypper)"
    assert alice.leftovers() == []


def test_products_are_registered_by_name_version_and_machine() -> None:
    text = (
        "Bootstrap: zypper\nOSVersion: 15.6\nProduct: SLES\nUser: alice@example.org\nRegcode: CODE\n"
        "MirrorURL: https://mirror.example/\nModules: sle-module-basesystem, sle-module-web\n"
    )
    stage = parse(text, "x.def").stages[0]
    machine = repositories.MACHINE
    first, *modules = zypper.registrations(stage, Path("/root"))
    assert first[:5] == ["SUSEConnect", "--root", Path("/root"), "--product", f"SLES/15.6/{machine}"]
    assert first[5:] == ["--email", "alice@example.org", "--regcode", "CODE"]
    assert [words[-1] for words in modules] == [f"sle-module-{name}/15.6/{machine}" for name in ("basesystem", "web")]
    assert zypper.source_digest(stage) is None


def test_a_lock_brings_the_same_image_without_a_server(
    builder: Build, repository: Path, server: Server, packages_place: Path
) -> None:
    url = f"{server.url}/{repository.parent.relative_to(packages_place)}/15.6"
    forget = "%post\n    rm /etc/home\n"  # the home of scripts, which has a name of its own each time
    definition(builder, "Bootstrap: zypper", f"MirrorURL: {url}/oss", "Include: greeter", sections=forget)
    builder.ok("build", "--lock", "--keep-sources", "kept", "x.sif", "x.def")
    server.asked.clear()
    builder.ok("build", "--locked", "--keep-sources", "kept", "y.sif", "x.def")
    assert (builder.directory / "x.sif").read_bytes() == (builder.directory / "y.sif").read_bytes()
    assert server.asked == []
