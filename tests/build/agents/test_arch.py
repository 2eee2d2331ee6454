"""`Bootstrap: arch`: the real pacman, on repositories of real packages."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import repositories
from repositories import Key, Package, lay

from singularity.build.agents import arch
from singularity.definition.parse import parse

if TYPE_CHECKING:
    from builds import Build
    from conftest import Alice
    from repositories import Inside, Server

pytestmark = pytest.mark.needs("pacman", "makepkg", "bsdtar", "gpg", "busybox", "mksquashfs")

KEYRINGS = Path("/usr/share/keyrings")  # where this machine's pacman-key looks for those of distributions
# Stands for the image's own, which comes with gpg and all that it needs.
PACMAN_KEY = '#!/bin/sh\necho "$*" >>/etc/pacman-key-ran\n'
MIRROR_LIST = "# The mirrors\n#Server = https://mirror.example/$repo/os/$arch\n"


@pytest.fixture(scope="session")
def mirror(packages_place: Path, key: Key) -> Path:
    """A mirror as Arch Linux lays them out, its packages signed."""
    work = packages_place / "arch-work"
    place = packages_place / "arch"
    core, extra = (place / name / "os" / repositories.MACHINE for name in ("core", "extra"))
    core.mkdir(parents=True)
    extra.mkdir(parents=True)
    files: dict[str, str | Path] = {
        **repositories.base_files(),
        "/etc/arch-release": "tiny\n",
        "/etc/pacman.d/mirrorlist": MIRROR_LIST,
    }
    tree = lay(work / "base", files)
    for name in ("proc", "sys", "dev", "tmp", "root"):
        (tree / name).mkdir()
    script = '  echo "$HOME" >/etc/home\n  ls /proc/self/exe /dev/null >/etc/seen'
    repositories.pacman_package(Package(name="base", tree=tree, script=script), core)
    greeter = lay(work / "greeter", {"/usr/bin/greeter": '#!/bin/sh\necho "greeter 1"\n'})
    repositories.pacman_package(Package(name="greeter", tree=greeter, requires=("base",)), extra)
    keys = lay(work / "keys", {"/usr/bin/pacman-key": PACMAN_KEY, "/usr/share/pacman/keyrings/archlinux.gpg": ""})
    repositories.pacman_package(Package(name="keys", tree=keys), extra)
    lost = lay(work / "lost", {"/lost": "x\n"})
    repositories.pacman_package(Package(name="lost", tree=lost, requires=("nothing-has-this",)), extra)
    repositories.index_pacman(core, "core", key)
    repositories.index_pacman(extra, "extra", key)
    shutil.rmtree(work)
    return place


@pytest.fixture
def unsigned(build: Build, mirror: Path) -> str:
    """A configuration for the same packages that checks nothing, with settings that are of some other host."""
    lines = [
        "[options]",
        "CheckSpace",
        "DownloadUser = alpm",
        "Architecture = auto",
        "SigLevel = Never",
        "HoldPkg = pacman",
    ]
    for name in ("core", "extra"):
        lines += [f"[{name}]", "Include = /etc/pacman.d/mirrorlist"]
    build.write("pacman.conf", "\n".join(lines) + "\n")
    return f"ConfURL: {build.directory}/pacman.conf\nMirrorURL: {mirror}"


def test_a_base_system_whose_packages_are_signed(
    builder: Build, mirror: Path, key: Key, server: Server, inside: Inside
) -> None:
    url = f"{server.url}/{mirror.name}"
    sections = "%post\n    greeter\n%test\n    greeter\n"
    builder.write("x.def", f"BootStrap: arch\nMirrorURL: {url}\nInclude: greeter\nGPG: {key.public}\n{sections}")
    done = builder.ok("build", "x.sif", "x.def")
    assert "greeter 1" in done.stdout
    assert "WARNING" not in done.stderr
    assert builder.leftovers() == []
    root = builder.root_of("x.sif")
    assert inside(root, "greeter") == "greeter 1\n"
    known = sorted(path.name for path in (root / "var/lib/pacman/local").iterdir() if path.is_dir())
    assert known == ["base-1-1", "greeter-1-1"]
    assert (root / "etc/pacman.d/mirrorlist").read_text() == f"{MIRROR_LIST}\nServer = {url}/$repo/os/$arch\n"
    assert (root / "etc/home").read_text() == "/root\n"
    assert (root / "etc/seen").read_text().split() == ["/dev/null", "/proc/self/exe"]
    files = {f"/{path.relative_to(root)}" for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    assert not [name for name in files if name.startswith(("/var/cache/", "/var/log/", "/dev/", "/tmp/"))]
    assert any(path.endswith(".pkg.tar.zst.sig") for path in server.asked)


def test_the_distributions_own_keys_are_those_of_this_machine(
    alice: Alice, mirror: Path, key: Key, storage: Path
) -> None:
    """As packaged: a keyring and the fingerprints in it that are trusted."""
    keyrings = storage / "keyrings-of-alice"
    keyrings.mkdir()
    binary = ("gpg", "--homedir", key.home, "--export", "--output", keyrings / "archlinux.gpg")
    repositories.run(*binary, HOME=str(key.home))
    shown = repositories.run("gpg", "--homedir", key.home, "--with-colons", "--list-keys", HOME=str(key.home))
    fingerprint = next(line.split(":")[9] for line in shown.splitlines() if line.startswith("fpr"))
    (keyrings / "archlinux-trusted").write_text(f"{fingerprint}:4:\n")
    (keyrings / "archlinux-revoked").write_text("")
    for path in keyrings.iterdir():
        path.chmod(0o644)
    alice.write("x.def", f"Bootstrap: arch\nMirrorURL: {mirror}\n")
    dataclasses.replace(alice, replaced={KEYRINGS: keyrings}).ok("build", "x.sif", "x.def")
    assert (alice.root_of("x.sif") / "etc/arch-release").read_text() == "tiny\n"


def test_the_image_begins_a_keyring_of_its_own(build: Build, mirror: Path, key: Key) -> None:
    build.write("x.def", f"Bootstrap: arch\nMirrorURL: {mirror}\nInclude: keys\nGPG: {key.public}\n")
    build.ok("build", "x.sif", "x.def")
    assert (build.root_of("x.sif") / "etc/pacman-key-ran").read_text() == "--init\n--populate\n"


def test_a_configuration_of_the_users_own(build: Build, unsigned: str) -> None:
    """ConfURL: what is in it of the host it was written for is left out, and its Include lines mean the mirror."""
    build.write("x.def", f"Bootstrap: arch\n{unsigned}\nInclude: greeter, keys\n%post\n    greeter\n")
    done = build.ok("build", "x.sif", "x.def")
    assert "greeter 1" in done.stdout
    root = build.root_of("x.sif")
    assert not (root / "etc/pacman-key-ran").exists()
    assert (root / "etc/pacman.d/mirrorlist").read_text() == MIRROR_LIST


def test_signatures_decide_what_is_installed(build: Build, mirror: Path, packages_place: Path, other_key: Key) -> None:
    build.write("x.def", f"Bootstrap: arch\nMirrorURL: {mirror}\nGPG: {other_key.public}\n")
    message = build.fails("build", "x.sif", "x.def")
    assert message.startswith("pacman could not install the packages: error: ")
    assert "key" in message or "signature" in message
    bare = packages_place / "arch-without-signatures"
    shutil.copytree(mirror, bare, symlinks=True)
    for path in bare.rglob("*.sig"):
        path.unlink()
    for directory in bare.glob("*/os/*"):
        for path in directory.glob(f"{directory.parent.parent.name}.*"):
            path.unlink()
        repositories.index_pacman(directory, directory.parent.parent.name)
    build.write("x.def", f"Bootstrap: arch\nMirrorURL: {bare}\nGPG: {other_key.public}\n")
    assert "failed retrieving file 'base-1-1-" in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.skipif((KEYRINGS / "archlinux.gpg").exists(), reason="this machine has the keys of Arch Linux")
def test_without_keys_nothing_is_installed(build: Build, mirror: Path) -> None:
    build.write("x.def", f"Bootstrap: arch\nMirrorURL: {mirror}\n")
    assert build.fails("build", "x.sif", "x.def") == (
        "no keys of Arch Linux on this machine, and the repository says to check signatures "
        "(install archlinux-keyring, or name the key: GPG: https://...)"
    )


@pytest.mark.parametrize(
    ("include", "message"),
    [
        ("nowhere", "pacman could not install the packages: error: target not found: nowhere"),
        ("lost", "unable to satisfy dependency 'nothing-has-this' required by lost"),
    ],
)
def test_packages_that_cannot_be_are_named(build: Build, unsigned: str, include: str, message: str) -> None:
    build.write("x.def", f"Bootstrap: arch\n{unsigned}\nInclude: {include}\n")
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []
    assert not (build.directory / "x.sif").exists()


def test_mirrors_that_are_not_there(build: Build, unsigned: str, mirror: Path) -> None:
    for place, message in (("/nowhere/at/all", "error: failed"), ("http://127.0.0.1:1", "127.0.0.1")):
        build.write("x.def", f"Bootstrap: arch\n{unsigned.replace(str(mirror), place)}\n")
        assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["MirrorURL: -x"], 'x.def:2: MirrorURL: "-x" is none (a URL, or an absolute path)'),
        (["Include: --root=/"], 'x.def:2: Include: "--root=/" is no package'),
        (["ConfURL: /nowhere.conf"], "/nowhere.conf: No such file or directory"),
        (["ConfURL: /etc/passwd"], "/etc/passwd: no pacman.conf (it has no [section])"),
        (["ConfURL: {}/include.conf"], "include.conf: Include in [options] names a file of the host: /etc/x"),
    ],
)
def test_a_header_that_cannot_be_is_one_line(build: Build, lines: list[str], message: str) -> None:
    build.write("include.conf", "[options]\nInclude = /etc/x\n[core]\nServer = file:///x\n")
    build.write("x.def", "\n".join(["Bootstrap: arch", *lines]).format(build.directory) + "\n")
    assert message in build.fails("build", "x.sif", "x.def")
    assert build.leftovers() == []


def test_a_user_without_the_tool_is_told(alice: Alice, mirror: Path) -> None:
    alice.write("x.def", f"Bootstrap: arch\nMirrorURL: {mirror}\n")
    message = dataclasses.replace(alice, hidden=(Path("/usr/bin/pacman"),)).fails("build", "x.sif", "x.def")
    assert message == "pacman not found, needed to install the packages (install pacman-package-manager)"
    assert alice.leftovers() == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[core]\n", True),
        ("[options]\nSigLevel = Never\n[core]\n", False),
        ("[options]\nSigLevel = Required DatabaseOptional\n[core]\nSigLevel = Never\n", False),
        ("[options]\nSigLevel = Never\n[core]\n[extra]\nSigLevel = Optional TrustAll\n", True),
    ],
)
def test_whether_signatures_are_checked(text: str, *, wanted: bool) -> None:
    assert arch.wants_signatures(text) is wanted


def test_without_words_the_distributions_own_mirror_serves() -> None:
    text = arch.configuration(parse("Bootstrap: arch\n", "x.def").stages[0], "x86_64")
    assert text.splitlines() == [
        "[options]",
        "Architecture = x86_64",
        "SigLevel = Required DatabaseOptional",
        "",
        "[core]",
        "Server = https://geo.mirror.pkgbuild.com/$repo/os/$arch",
        "",
        "[extra]",
        "Server = https://geo.mirror.pkgbuild.com/$repo/os/$arch",
    ]


def test_a_lock_brings_the_same_image_without_a_server(builder: Build, mirror: Path, key: Key, server: Server) -> None:
    url = f"{server.url}/{mirror.name}"
    builder.write("x.def", f"BootStrap: arch\nMirrorURL: {url}\nInclude: greeter\nGPG: {key.public}\n")
    builder.ok("build", "--lock", "--keep-sources", "kept", "x.sif", "x.def")
    server.asked.clear()
    builder.ok("build", "--locked", "--keep-sources", "kept", "y.sif", "x.def")
    assert (builder.directory / "x.sif").read_bytes() == (builder.directory / "y.sif").read_bytes()
    assert server.asked == []
