"""Package repositories made on the spot, around the static busybox of this machine, for real package managers.

Each has a base system of one package and a little to install on top of it; what is in the packages says which
version, from which repository, was installed.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import platform
import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Inside = Callable[..., str]  # a root file system and a command line in it: what that writes

BUSYBOX = Path("/bin/busybox")
APPLETS = [
    "sh",
    "cat",
    "chmod",
    "cp",
    "echo",
    "env",
    "id",
    "ln",
    "ls",
    "mkdir",
    "mv",
    "rm",
    "sed",
    "stat",
    "test",
    "touch",
    "true",
]
MACHINE = platform.machine()
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(*argv: str | Path, cwd: Path | None = None, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env={"PATH": PATH, "LC_ALL": "C.UTF-8", **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{argv}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@dataclass(frozen=True, kw_only=True)
class Package:
    """A package; `tree` is the directory with its files."""

    name: str
    tree: Path
    version: str = "1"
    provides: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    before: str = ""  # run before installation, by rpm
    script: str = ""  # run after installation
    modes: Mapping[str, str] = field(default_factory=dict)  # of paths: rpm's %attr, or %ghost and the like
    entries: tuple[str, ...] = ()  # of rpm's %files, for what the tree has not


def lay(tree: Path, files: Mapping[str, str | Path]) -> Path:
    """A tree of files: text, copies of files of this machine, or links where the text begins with `->`."""
    for name, content in files.items():
        path = tree / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copy2(content, path)
        elif content.startswith("->"):
            path.symlink_to(content.removeprefix("->"))
        else:
            path.write_text(content)
            path.chmod(0o755 if content.startswith("#!") else 0o644)
    return tree


def base_files() -> dict[str, str | Path]:
    links: dict[str, str | Path] = {f"/usr/bin/{applet}": "->busybox" for applet in APPLETS}
    accounts: dict[str, str | Path] = {
        "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "/etc/group": "root:x:0:\nshadow:x:42:\n",
    }
    return {"/usr/bin/busybox": BUSYBOX, "/bin": "->usr/bin", **accounts, **links}


@dataclass(frozen=True)
class Key:
    """A key to sign packages with, in a keyring of its own."""

    home: Path
    public: Path  # armoured
    name: str = "tester@example.org"

    @classmethod
    def make(cls, directory: Path) -> Key:
        home = directory / "gnupg"
        home.mkdir(mode=0o700, parents=True)
        try:
            arguments = ("--batch", "--passphrase", "", "--quick-generate-key", cls.name, "rsa3072", "sign", "never")
            run("gpg", "--homedir", home, *arguments, HOME=str(home))
            public = directory / "key.asc"
            public.write_text(run("gpg", "--homedir", home, "--armor", "--export", HOME=str(home)))
            public.chmod(0o644)
        finally:
            run("gpgconf", "--homedir", home, "--kill", "gpg-agent")
        return cls(home, public)

    @contextmanager
    def agent(self) -> Iterator[None]:
        """Signing starts a daemon; this ends it."""
        try:
            yield
        finally:
            run("gpgconf", "--homedir", self.home, "--kill", "gpg-agent")


# --- rpm ---


def rpm(package: Package, target: Path) -> Path:
    """Builds the package with rpmbuild; the file lies in `target`."""
    work = target / f".build-{package.name}-{package.version}"
    work.mkdir(parents=True)
    listed = []
    for path in sorted(package.tree.rglob("*")):
        name = f"/{path.relative_to(package.tree)}"
        kind = "%dir " if path.is_dir() and not path.is_symlink() else ""
        listed.append(f"{package.modes.get(name, '')} {kind}{name}".strip())
    lines = [
        f"Name: {package.name}", f"Version: {package.version}", "Release: 1", "Summary: For tests", "License: MIT",
        "AutoReqProv: no",
        *(f"Provides: {each}" for each in package.provides), *(f"Requires: {each}" for each in package.requires),
        "%description", "For tests.", "%install", "mkdir -p %{buildroot}", f"cp -a {package.tree}/. %{{buildroot}}/",
        *(["%pre -p /bin/sh", package.before] if package.before else []),
        *(["%post -p /bin/sh", package.script] if package.script else []), "%files", *listed, *package.entries,
    ]  # fmt: skip
    spec = work / "package.spec"
    spec.write_text("\n".join(lines) + "\n")
    defines = {"_topdir": str(work), "_rpmdir": str(target), "_build_id_links": "none", "__os_install_post": "%{nil}"}
    defines |= {"_rpmfilename": "%%{NAME}-%%{VERSION}.rpm", "_binary_payload": "w1.gzdio"}
    words = [word for name, value in defines.items() for word in ("--define", f"{name} {value}")]
    run("rpmbuild", "--quiet", "-bb", *words, spec, HOME=str(work))
    shutil.rmtree(work)
    return target / f"{package.name}-{package.version}.rpm"


def sign_rpms(paths: Sequence[Path], key: Key) -> None:
    defines = ("--define", f"_gpg_name {key.name}", "--define", "__gpg /usr/bin/gpg")
    with key.agent():
        run("rpmsign", *defines, "--addsign", *paths, GNUPGHOME=str(key.home), HOME=str(key.home))


def index_rpms(directory: Path, key: Key | None = None) -> None:
    run("createrepo_c", "--quiet", "--no-database", directory)
    if key:
        index = directory / "repodata" / "repomd.xml"
        with key.agent():
            run("gpg", "--homedir", key.home, "--batch", "--armor", "--detach-sign", index, HOME=str(key.home))
        shutil.copy(key.public, index.with_name("repomd.xml.key"))


def loaded_by(program: Path) -> list[Path]:
    """The loader and the libraries of a program of this machine."""
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", run("ldd", program))]


def rpm_files(macros: str) -> dict[str, str | Path]:
    """The rpm of this machine, to be that of an image, with macros of the image's own."""
    program = Path("/usr/bin/rpm")
    libraries: dict[str, str | Path] = {str(path): path.resolve() for path in loaded_by(program)}
    configuration: dict[str, str | Path] = {
        "/usr/lib/rpm/macros": Path("/usr/lib/rpm/macros"),
        "/usr/lib/rpm/rpmrc": Path("/usr/lib/rpm/rpmrc"),
        "/etc/rpm/macros": macros,
        "/usr/bin/rpmdb": Path("/usr/bin/rpmdb"),
    }
    return {str(program): program, **libraries, **configuration}


# --- pacman ---


def pacman_package(package: Package, target: Path) -> Path:
    """A package file as makepkg writes it, by bsdtar: .PKGINFO (PKGBUILD(5)), .INSTALL and the files."""
    tree = package.tree
    lines = [
        f"pkgname = {package.name}", f"pkgbase = {package.name}", f"pkgver = {package.version}-1",
        "pkgdesc = For tests", "url = https://example.org", "builddate = 1700000000", "packager = Tester",
        "size = 1", f"arch = {MACHINE}", "license = MIT",
        *(f"provides = {each}" for each in package.provides), *(f"depend = {each}" for each in package.requires),
    ]  # fmt: skip
    (tree / ".PKGINFO").write_text("\n".join(lines) + "\n")
    names = [".PKGINFO"]
    if package.script:
        (tree / ".INSTALL").write_text(f"post_install() {{\n{package.script}\n}}\n")
        names.append(".INSTALL")
    names += sorted(path.name for path in tree.iterdir() if not path.name.startswith("."))
    file = target / f"{package.name}-{package.version}-1-{MACHINE}.pkg.tar.zst"
    options = ("--uid", "0", "--gid", "0", "--zstd")
    run("bsdtar", "-C", tree, *options, "-cf", file, *names)
    return file


def index_pacman(directory: Path, name: str, key: Key | None = None) -> None:
    files = sorted(directory.glob("*.pkg.tar.zst"))
    if key:
        with key.agent():
            for file in files:
                run("gpg", "--homedir", key.home, "--batch", "--detach-sign", file, HOME=str(key.home))
    run("repo-add", "--quiet", directory / f"{name}.db.tar.gz", *files, HOME=str(directory))


# --- Debian ---


def deb(package: Package, target: Path, fields: Mapping[str, str]) -> Path:
    control = {
        "Package": package.name, "Version": package.version, "Architecture": "all", "Section": "misc",
        "Maintainer": "Tester <t@example.org>", "Description": "for tests", "Priority": "optional",
        **({"Depends": ", ".join(package.requires)} if package.requires else {}),
        **({"Provides": ", ".join(package.provides)} if package.provides else {}),
        **fields,
    }  # fmt: skip
    directory = package.tree / "DEBIAN"
    directory.mkdir(exist_ok=True)
    (directory / "control").write_text("".join(f"{name}: {value}\n" for name, value in control.items()))
    if package.script:
        (directory / "postinst").write_text(f"#!/bin/sh\nset -e\n{package.script}\n")
        (directory / "postinst").chmod(0o755)
    file = target / f"{package.name}_{package.version}_all.deb"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", package.tree, file)
    return file


def dpkg_files() -> dict[str, str | Path]:
    """The dpkg of this machine, to be that of an image, and what it calls."""
    names = (
        "dpkg",
        "dpkg-deb",
        "dpkg-query",
        "dpkg-split",
        "tar",
        "diff",
        "env",
    )  # busybox's env has a dpkg of its own
    programs = [f"/usr/bin/{name}" for name in names]
    files: dict[str, str | Path] = {name: Path(name) for name in programs}
    for program in programs:
        files |= {f"/usr{str(path).removeprefix('/usr')}": path.resolve() for path in loaded_by(Path(program))}
    return files


def index_debs(place: Path, suite: str, key: Key | None = None) -> None:
    """`dists/SUITE` for the package files in `pool`."""
    architecture = run("dpkg", "--print-architecture").strip()
    directory = place / "dists" / suite
    index = directory / "main" / f"binary-{architecture}" / "Packages"
    index.parent.mkdir(parents=True)
    index.write_text(run("dpkg-scanpackages", "--multiversion", "pool", cwd=place))
    data = index.read_bytes()
    name = index.relative_to(directory)
    lines = [
        "Origin: Tiny", f"Suite: {suite}", f"Codename: {suite}", "Components: main", f"Architectures: {architecture}",
        "Date: Tue, 14 Nov 2023 22:13:20 UTC", "SHA256:", f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}",
        "Description: whose line end, unlike that of the last list, may go when the signature is taken off",
    ]  # fmt: skip
    release = directory / "Release"
    release.write_text("\n".join(lines) + "\n")
    if key:
        with key.agent():
            words = ("--batch", "--clearsign", "--output", directory / "InRelease", release)
            run("gpg", "--homedir", key.home, *words, HOME=str(key.home))


# --- serving ---


@dataclass
class Server:
    """A server on the loopback interface, and what it was asked for."""

    url: str
    asked: list[str] = field(default_factory=list)  # as they stand in the request: a proxy is asked for whole URLs


class _Handler(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        return super().translate_path(re.sub(r"^https?://[^/]+", "", path))

    def log_message(self, *words: object) -> None:
        del words


@contextmanager
def serving(directory: Path, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serves a directory by HTTP, with a context by HTTPS."""
    asked: list[str] = []

    class Handler(_Handler):
        def send_head(self) -> object:  # type: ignore[override]  # as the base class: a file or nothing
            asked.append(self.path)
            return super().send_head()

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(directory))
    ) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Server(f"{'https' if context else 'http'}://127.0.0.1:{server.server_address[1]}", asked)
        finally:
            server.shutdown()
            thread.join()
