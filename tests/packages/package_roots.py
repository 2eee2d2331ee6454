"""Root file systems with packages that the real package managers have installed, and what these say is there."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
import tarfile
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NAMES = {"first": "1.0", "second": "2:2.5~rc1", "third+odd": "0.1"}


def run(*words: str | Path, cwd: Path | None = None, **more: str) -> str:
    environment = {**os.environ, **more}
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


# ---- dpkg ----
def debian(work: Path, root: Path) -> set[tuple[str, str, str]]:
    """Packages that dpkg has installed below `root`; one is removed again but for its configuration."""
    for directory in ("updates", "info"):
        (root / "var/lib/dpkg" / directory).mkdir(parents=True, exist_ok=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    built = []
    for name, version in {**NAMES, "gone": "3.0"}.items():
        tree = work / f"deb-{name}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / f"usr/share/{name}").mkdir(parents=True)
        (tree / f"usr/share/{name}/data").write_text(name)
        (tree / "etc").mkdir()
        (tree / f"etc/{name}.conf").write_text(name)
        (tree / "DEBIAN/conffiles").write_text(f"/etc/{name}.conf\n")
        (tree / "DEBIAN/control").write_text(
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Jane Doe <jane@example.org>\n"
            f"Source: src-{name} (9.9)\nHomepage: https://example.org/{name}\nDescription: short\n longer\n text\n"
        )
        run("dpkg-deb", "--root-owner-group", "-b", tree, work / f"{name}.deb")
        built.append(work / f"{name}.deb")
    place = (f"--root={root}", "--force-not-root", "--force-script-chrootless", f"--log={work}/log")
    run("dpkg", *place, "-i", *built)
    run("dpkg", *place, "--remove", "gone")
    shown = run(
        "dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W",
        "-f=${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n",
    )  # fmt: skip
    lines = [line.split("\t") for line in shown.splitlines()]
    assert len(lines) == len(NAMES) + 1, lines
    return {(name, version, arch) for status, name, version, arch in lines if status == "installed"}


# ---- rpm ----
def rpms(work: Path) -> list[Path]:
    """Package files that rpmbuild makes."""
    found = []
    for name, version in NAMES.items():
        epoch, _, plain = version.rpartition(":")
        spec = work / f"{name}.spec"
        spec.write_text(
            textwrap.dedent(f"""\
            Name: {name}
            Version: {plain}
            Release: 1
            {f"Epoch: {epoch}" if epoch else ""}
            Summary: a package
            License: MIT AND GPL-2.0-or-later
            Vendor: Example Org
            URL: https://example.org
            BuildArch: noarch
            %description
            text
            %install
            mkdir -p %{{buildroot}}/usr/share/{name} %{{buildroot}}/bin
            echo {name} > %{{buildroot}}/usr/share/{name}/data
            echo {name} > %{{buildroot}}/bin/{name}
            %files
            /usr/share/{name}
            /bin/{name}
            """)
        )
        run("rpmbuild", "-bb", "--define", f"_topdir {work}/rpmbuild", spec)
    found += sorted((work / "rpmbuild/RPMS").rglob("*.rpm"))
    return found


def rpm_root(work: Path, root: Path, form: str) -> set[tuple[str, str, str]]:
    """The same, installed by rpm; what `rpm -qa` says. Debian's writes SQLite alone: other forms are made of that."""
    place = "/usr/lib/sysimage/rpm" if form == "ndb" else "/var/lib/rpm"
    words = ("rpm", "--root", root, "--define", "_db_backend sqlite", "--define", f"_dbpath {place}")
    (root / place[1:]).mkdir(parents=True)
    run(*words, "--nodeps", "--noscripts", "-i", "--ignorearch", *rpms(work))
    shown = run(*words, "-qa", "--qf", "%{NAME}\\t%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}\\t%{ARCH}\\n")
    if form != "sqlite":
        {"berkeley": _as_berkeley, "ndb": _as_ndb}[form](root / place[1:], _headers(root / place[1:]))
    return {tuple(line.split("\t")) for line in shown.splitlines()}  # type: ignore[misc]


def _headers(directory: Path) -> list[tuple[int, bytes]]:
    """Takes the headers out of an SQLite database, and the database away."""
    database = sqlite3.connect(directory / "rpmdb.sqlite")
    rows = database.execute("SELECT hnum, blob FROM Packages").fetchall()
    database.close()
    for each in directory.glob("rpmdb.sqlite*"):
        each.unlink()
    return rows


def _as_ndb(directory: Path, rows: list[tuple[int, bytes]]) -> None:
    """As rpm's rpmpkg.c writes it: a page of slots, then each header between a head and a tail, in 16-byte units."""
    slots, blobs, place = struct.pack("<4s7I", b"RpmP", 0, 1, 1, len(rows) + 1, 0, 0, 0), b"", 4096 // 16
    for number, blob in rows:
        whole = struct.pack("<4s3I", b"BlbS", number, 1, len(blob)) + blob
        whole = whole.ljust(-(-(len(whole) + 12) // 16) * 16 - 12, b"\0") + struct.pack("<2I4s", 0, len(blob), b"BlbE")
        slots += struct.pack("<4s3I", b"Slot", number, place, len(whole) // 16)
        blobs, place = blobs + whole, place + len(whole) // 16
    slots += struct.pack("<4s3I", b"Slot", 0, 0, 0) * ((4096 - len(slots)) // 16)
    (directory / "Packages.db").write_bytes(slots + blobs)


def _as_berkeley(directory: Path, rows: list[tuple[int, bytes]]) -> None:
    """A hash of Berkeley DB, which that library's own tool writes."""
    pairs = [(struct.pack("<I", 0), struct.pack("<I", len(rows)))]  # rpm's own count
    pairs += [(struct.pack("<I", number), blob) for number, blob in rows]
    text = "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n"
    text += "".join(f" {key.hex()}\n {value.hex()}\n" for key, value in pairs) + "DATA=END\n"
    subprocess.run(["db5.3_load", directory / "Packages"], input=text, text=True, check=True)


# ---- pacman ----
def arch(work: Path, root: Path) -> set[tuple[str, str, str]]:
    """Packages that pacman has installed; what `pacman -Q` says."""
    (root / "var/lib/pacman").mkdir(parents=True)
    built = []
    for name, version in NAMES.items():
        tree = work / f"alpm-{name}"
        (tree / f"usr/share/{name}").mkdir(parents=True)
        (tree / f"usr/share/{name}/data").write_text(name)
        (tree / ".PKGINFO").write_text(
            f"pkgname = {name}\npkgbase = {name}\npkgver = {version.replace('~', '')}-1\npkgdesc = text\n"
            f"url = https://example.org\nbuilddate = 1\npackager = Jane Doe <jane@example.org>\nsize = 4\n"
            f"arch = any\nlicense = MIT\nlicense = GPL2\n"
        )
        built.append(work / f"{name}.pkg.tar")
        with tarfile.open(built[-1], "w") as archive:
            archive.add(tree / ".PKGINFO", ".PKGINFO")
            archive.add(tree / "usr", "usr")
    config = work / "pacman.conf"
    config.write_text("[options]\nSigLevel = Never\nLocalFileSigLevel = Never\nArchitecture = auto\n")
    place = ("pacman", "--root", root, "--dbpath", root / "var/lib/pacman", "--config", config, "--noconfirm")
    run(*place, "--cachedir", work / "cache", "--logfile", work / "log", "--noscriptlet", "-U", *built)
    return {(*line.split(), "any") for line in run(*place, "-Q").splitlines()}  # type: ignore[misc]


# ---- pip ----
def wheel(work: Path, name: str, version: str) -> Path:
    tree = work / f"src-{name}"
    (tree / name).mkdir(parents=True)
    (tree / name / "__init__.py").write_text("")
    (tree / "setup.py").write_text(
        f"from setuptools import setup\nsetup(name={name!r}, version={version!r}, packages=[{name!r}], license='MIT',"
        f" author='Jane Doe', author_email='jane@example.org', url='https://example.org', "
        f"entry_points={{'console_scripts': ['{name}-run={name}:main']}})\n"
    )
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", work, tree)
    return next(work.glob(f"{name}-*.whl"))


def python(work: Path, root: Path) -> set[tuple[str, str]]:
    """Distributions that pip has installed below /usr/local; what `pip list` says."""
    wheels = [wheel(work, "alpha_pkg", "1.2.3"), wheel(work, "betapkg", "0.1rc1")]
    options = ("-q", "--no-deps", "--no-index", "--prefix", root / "usr/local")
    run(sys.executable, "-m", "pip", "install", *options, *wheels)
    (place,) = root.glob("usr/local/**/site-packages")
    shown = run(sys.executable, "-m", "pip", "list", "--disable-pip-version-check", "--format=json", "--path", place)
    return {(each["name"], each["version"]) for each in json.loads(shown)}


# ---- npm ----
def node(work: Path, root: Path) -> set[tuple[str, str]]:
    """Packages that npm has installed, one within another; what `npm ls` says."""
    packed = {}
    depends: dict[str, str] = {}
    for name, version in (("leaf", "3.0.0"), ("@scope/branch", "2.1.0"), ("trunk", "1.0.0")):
        tree = work / f"npm-{name.replace('/', '-')}"
        tree.mkdir(parents=True)
        said = {"name": name, "version": version, "license": "ISC", "author": {"name": "Jane"}, "dependencies": depends}
        (tree / "package.json").write_text(json.dumps(said))
        file = run("npm", "pack", "--silent", cwd=tree, HOME=str(work)).strip().splitlines()[-1]
        packed[name] = tree / file
        depends = {name: f"file:{tree / file}"}
    place = root / "srv/app"
    place.mkdir(parents=True)
    (place / "package.json").write_text('{"name": "app", "version": "0.0.0", "private": true}')
    run("npm", "install", "--silent", "--offline", "--no-audit", packed["trunk"], cwd=place, HOME=str(work))
    return set(_npm_tree(json.loads(run("npm", "ls", "--all", "--json", cwd=place, HOME=str(work)))))


def _npm_tree(said: dict[str, dict]) -> Iterable[tuple[str, str]]:  # type: ignore[type-arg]
    for name, below in said.get("dependencies", {}).items():
        yield name, below["version"]
        yield from _npm_tree(below)
