"""`Bootstrap: debootstrap` and `mmdebstrap`: the real tools, on the distribution's mirror where it can be reached."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import repositories
from package_sources import SUITE
from repositories import Key

from singularity.build.agents import debootstrap
from singularity.definition.parse import parse
from singularity.errors import BuildError

if TYPE_CHECKING:
    from builds import Build
    from conftest import Alice
    from repositories import Inside, Server

pytestmark = [pytest.mark.long, pytest.mark.needs("busybox", "mksquashfs")]


@pytest.mark.needs("network", "mmdebstrap")
def test_a_debian_system_by_an_ordinary_user(alice: Alice, inside: Inside) -> None:
    """With her subordinate ids, and by mmdebstrap where there is no debootstrap."""
    alice.write("x.def", f"Bootstrap: debootstrap\nOSVersion: {SUITE}\nInclude: lua5.4\n%test\n    lua5.4 -v\n")
    hidden = tuple(path for path in (Path("/usr/sbin/debootstrap"), Path("/usr/bin/debootstrap")) if path.exists())
    done = dataclasses.replace(alice, hidden=hidden).ok("build", "x.sif", "x.def")
    assert "INFO:    No debootstrap here: mmdebstrap does its work" in done.stderr
    assert alice.leftovers() == []
    root = alice.root_of("x.sif")
    assert "VERSION_CODENAME=bookworm" in (root / "etc/os-release").read_text()
    assert inside(root, "dpkg-query", "-Wf", "${Status}", "lua5.4") == "install ok installed"
    assert (root / "etc/shadow").stat().st_gid == 42
    assert [path.name for path in (root / "dev").iterdir() if not path.is_dir()] == []
    assert not list((root / "var/cache/apt/archives").glob("*.deb"))
    assert not (root / "var/log/dpkg.log").exists()


@pytest.mark.needs("network", "debootstrap")
def test_a_debian_system_with_one_id(alice: Alice) -> None:
    """Owners are emulated, and written into the image."""
    alice.write("x.def", f"Bootstrap: debootstrap\nOSVersion: {SUITE}\n")
    dataclasses.replace(alice, listed=False).ok("build", "x.sif", "x.def")
    root = alice.root_of("x.sif")
    assert ((root / "etc/shadow").stat().st_gid, (root / "var/mail").stat().st_gid) == (42, 8)
    assert {os.lstat(root / name).st_uid for name in ("etc/shadow", "usr/bin/dpkg", "bin")} == {0}


@pytest.mark.parametrize("agent", ["debootstrap", "mmdebstrap"])
@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "needs OSVersion (OSVersion: stable, or another suite of the mirror)"),
        (["OSVersion: -x"], 'x.def:2: OSVersion: "-x" is none'),
        (["OSVersion: stable", "MirrorURL: -x"], 'x.def:3: MirrorURL: "-x" is none'),
        (["OSVersion: stable", "MirrorURL: /a /b"], 'x.def:3: MirrorURL: "/a /b" is none'),
        (["OSVersion: stable", "Include: -x"], 'x.def:3: Include: "-x" is no package'),
    ],
)
def test_a_header_that_cannot_be_is_one_line(build: Build, agent: str, lines: list[str], message: str) -> None:
    build.write("x.def", "\n".join([f"Bootstrap: {agent}", *lines]) + "\n")
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.needs("root", "debootstrap", "mmdebstrap")
@pytest.mark.parametrize(
    ("agent", "mirror"),  # apt asks servers that are not there again for seven seconds
    [
        ("debootstrap", "http://127.0.0.1:1/debian"),
        ("debootstrap", "file:///nowhere/at/all"),
        ("mmdebstrap", "file:///nowhere/at/all"),
    ],
)
def test_a_mirror_that_is_not_there_is_one_line(build: Build, agent: str, mirror: str) -> None:
    build.write("x.def", f"Bootstrap: {agent}\nOSVersion: {SUITE}\nMirrorURL: {mirror}\n")
    assert f"{agent} could not bootstrap a Debian system: E: " in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []
    assert not (build.directory / "x.sif").exists()


@pytest.mark.needs("debootstrap", "mmdebstrap")
@pytest.mark.parametrize("agent", ["debootstrap", "mmdebstrap"])
def test_a_user_without_the_tool_is_told(alice: Alice, agent: str) -> None:
    alice.write("x.def", f"Bootstrap: {agent}\nOSVersion: {SUITE}\n")
    names = ("/usr/sbin/debootstrap", "/usr/bin/debootstrap", "/usr/bin/mmdebstrap")
    hidden = tuple(Path(name) for name in names if Path(name).exists())
    message = dataclasses.replace(alice, hidden=hidden).fails("build", "x.sif", "x.def")
    assert message == f"{agent} not found, needed to bootstrap a Debian system (install {agent})"
    assert alice.leftovers() == []


@pytest.mark.needs("gpg")
def test_keys_in_armour_are_read_as_gpg_reads_them(key: Key) -> None:
    armoured = key.public.read_bytes()
    argv = ["gpg", "--homedir", str(key.home), "--dearmor"]
    binary = subprocess.run(argv, input=armoured, capture_output=True, check=True).stdout
    assert debootstrap.binary_key(armoured, "key") == binary
    assert debootstrap.binary_key(b"Two keys:\r\n" + armoured.replace(b"\n", b"\r\n") + armoured, "key") == binary * 2
    assert debootstrap.binary_key(binary, "key") == binary
    with pytest.raises(BuildError, match="GPG: key: a damaged key"):
        debootstrap.binary_key(armoured.replace(b"m", b"*"), "key")


@pytest.fixture(scope="session")
def mirror(debian_mirror: Path) -> Path:
    return debian_mirror


@pytest.mark.needs("debootstrap", "mmdebstrap", "gpg", "dpkg-scanpackages")
@pytest.mark.parametrize("agent", ["debootstrap", "mmdebstrap"])
def test_a_suite_of_ones_own_with_a_key_of_ones_own(
    builder: Build, mirror: Path, key: Key, server: Server, inside: Inside, agent: str
) -> None:
    """Without the distribution's mirror: a signed repository on the loopback interface, and on this machine's disk."""
    place = f"{server.url}/{mirror.name}" if agent == "debootstrap" else str(mirror)
    lines = [f"Bootstrap: {agent}", f"OSVersion: {SUITE}", f"MirrorURL: {place}", "Include: greeter"]
    builder.write("x.def", "\n".join([*lines, f"GPG: {key.public}", "%post", "    greeter"]) + "\n")
    working = builder.directory / "a place with blanks"
    working.mkdir()
    working.chmod(0o777)
    done = builder.ok("build", "--tmpdir", working, "x.sif", "x.def")
    assert not list(working.iterdir())
    assert "greeter 1" in done.stdout
    assert "WARNING" not in done.stderr
    assert builder.leftovers() == []
    root = builder.root_of("x.sif")
    assert inside(root, "greeter") == "greeter 1\n"
    assert inside(root, "dpkg-query", "-Wf", "${Status}", "greeter") == "install ok installed"
    assert (root / "etc/seen").read_text() == "/proc/self/exe\n"
    assert not (root / str(mirror).lstrip("/")).exists()
    assert not list((root / "var/cache/apt/archives").glob("*.deb"))
    assert not (root / "var/log/bootstrap.log").exists()


@pytest.mark.needs("root", "debootstrap", "mmdebstrap", "gpg", "dpkg-scanpackages")
@pytest.mark.parametrize("agent", ["debootstrap", "mmdebstrap"])
def test_a_suite_that_another_has_signed_is_refused(build: Build, mirror: Path, other_key: Key, agent: str) -> None:
    lines = [f"Bootstrap: {agent}", f"OSVersion: {SUITE}", f"MirrorURL: {mirror}", f"GPG: {other_key.public}"]
    build.write("x.def", "\n".join(lines) + "\n")
    message = build.fails("build", "x.sif", "x.def")
    assert f"{agent} could not bootstrap a Debian system: E: " in message
    assert "sign" in message or "update" in message
    assert build.leftovers() == []


@pytest.mark.needs("root", "debootstrap", "gpg", "dpkg-scanpackages")
def test_a_package_that_the_suite_has_not_is_named(build: Build, mirror: Path, key: Key) -> None:
    lines = ["Bootstrap: debootstrap", f"OSVersion: {SUITE}", f"MirrorURL: {mirror}", "Include: nowhere"]
    build.write("x.def", "\n".join([*lines, f"GPG: {key.public}"]) + "\n")
    assert "nowhere" in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.needs("root", "debootstrap", "gpg", "dpkg-scanpackages")
def test_a_package_that_cannot_be_configured_is_named_with_what_it_said(build: Build, mirror: Path, key: Key) -> None:
    """debootstrap's own log is in the root file system, which is gone by then."""
    lines = ["Bootstrap: debootstrap", f"OSVersion: {SUITE}", f"MirrorURL: {mirror}", "Include: failing"]
    build.write("x.def", "\n".join([*lines, f"GPG: {key.public}"]) + "\n")
    done = build("build", "x.sif", "x.def")
    assert done.returncode == 255
    assert "nothing-that-exists: not found" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "FATAL:   debootstrap could not bootstrap a Debian system: dpkg: error processing package failing"
    )
    assert "installed failing package post-installation script subprocess returned error exit status 127" in last
    assert build.leftovers() == []


def test_what_the_cache_is_told(tmp_path: Path) -> None:
    def digest(mirror: object) -> str | None:
        text = f"Bootstrap: debootstrap\nOSVersion: stable\nMirrorURL: {mirror}\n"
        return debootstrap.source_digest(parse(text, "x.def").stages[0])

    index = tmp_path / "dists" / "stable" / "InRelease"
    repositories.lay(tmp_path, {"/dists/stable/InRelease": "one"})
    first = digest(tmp_path)
    index.write_text("two")
    assert first
    assert digest(tmp_path) not in (first, "", None)
    assert digest("http://deb.example/debian") == ""
