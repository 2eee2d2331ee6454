"""Packages are found as the package managers themselves list them."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

import package_roots
import pytest
from images import squashfs

from singularity.image.identify import identify
from singularity.image.stacked import shown
from singularity.packages import inventory
from singularity.packages.inventory import Owners
from singularity.packages.model import Manager, Survey

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from singularity.packages.inventory import Inventory, Loose
    from singularity.packages.model import Package


@pytest.fixture
def root(tmp_path: Path) -> Path:
    found = tmp_path / "root"
    found.mkdir()
    return found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    found = tmp_path / "work"
    found.mkdir()
    return found


class Taken(NamedTuple):
    """All that is found in an image."""

    of: Callable[..., list[Package]]
    packages: tuple[Package, ...]
    owners: Owners
    loose: list[Loose]
    inventory: Inventory


def taken(image: Path) -> Taken:
    with shown(identify(image)) as lookup:
        found = inventory.take(Survey(lookup))
        owners = Owners(found)
        return Taken(found.of, found.packages, owners, inventory.loose(found.survey, owners), found)


def named(found: Taken, manager: Manager) -> set[tuple[str, str, str]]:
    return {(each.name, each.version, each.architecture) for each in found.of(manager)}


@pytest.mark.needs("root")
def test_debian_packages_are_those_of_dpkg_query(work: Path, root: Path, tmp_path: Path) -> None:
    expected = package_roots.debian(work, root)
    found = taken(squashfs(root, tmp_path / "image"))
    assert named(found, Manager.DPKG) == expected
    first = found.of(Manager.DPKG)[0]
    assert (first.source, first.supplier, first.summary) == ("src-first 9.9", "Jane Doe <jane@example.org>", "short")
    assert [each.name for each in found.owners.of("/usr/share/first/data")] == ["first"]
    assert [each.name for each in found.owners.of("/etc/second.conf")] == ["second"]
    assert found.owners.of("/usr/share/nothing") == []


def test_all_packages_of_this_host_are_those_of_dpkg_query(root: Path) -> None:
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").symlink_to("dpkg-copy")
    subprocess.run(["cp", "-r", "/var/lib/dpkg", root / "var/lib/dpkg-copy"], check=True)
    words = ["dpkg-query", "-W", "-f=${db:Status-Status}\\t${Package}\\t${Version}\\t${Architecture}\\n"]
    lines = [line.split("\t") for line in subprocess.check_output(words, text=True).splitlines()]
    expected = {(name, version, arch) for status, name, version, arch in lines if status == "installed"}
    assert len(expected) > 100
    assert named(taken(root), Manager.DPKG) == expected


@pytest.mark.needs("root", "rpmbuild", "db5.3_load")
@pytest.mark.parametrize("form", ["sqlite", "ndb", "berkeley"])
def test_rpm_packages_are_those_of_rpm(form: str, work: Path, root: Path, tmp_path: Path) -> None:
    expected = package_roots.rpm_root(work, root, form)
    found = taken(squashfs(root, tmp_path / "image"))
    assert len(expected) == len(package_roots.NAMES)
    assert named(found, Manager.RPM) == expected
    first = found.of(Manager.RPM)[0]
    assert (first.license, first.supplier) == ("MIT AND GPL-2.0-or-later", "Example Org")
    assert [each.name for each in found.owners.of("/bin/first")] == ["first"]


@pytest.mark.needs("root", "pacman")
def test_arch_packages_are_those_of_pacman(work: Path, root: Path) -> None:
    expected = package_roots.arch(work, root)
    found = taken(root)
    assert len(expected) == len(package_roots.NAMES)
    assert named(found, Manager.PACMAN) == expected
    assert found.of(Manager.PACMAN)[0].license == "MIT, GPL2"
    assert [each.name for each in found.owners.of("/usr/share/second/data")] == ["second"]


def test_python_packages_are_those_of_pip(work: Path, root: Path) -> None:
    expected = package_roots.python(work, root)
    found = taken(root)
    assert {name.replace("_", "-") for name, _ in expected} == {"alpha-pkg", "betapkg"}
    assert {(each.name, each.version) for each in found.of(Manager.PYTHON)} == expected
    (script,) = root.glob("usr/local/**/bin/betapkg-run")
    assert [each.name for each in found.owners.of(f"/{script.relative_to(root)}")] == ["betapkg"]


@pytest.mark.needs("npm")
def test_node_packages_are_those_of_npm(work: Path, root: Path) -> None:
    expected = package_roots.node(work, root)
    found = taken(root)
    assert len(expected) == 3
    assert {(each.name, each.version) for each in found.of(Manager.NPM)} == expected
    place = "/srv/app/node_modules/@scope/branch/package.json"
    assert [each.name for each in found.owners.of(place)] == ["@scope/branch"]


# ---- what no manager of this machine installs: written as the formats say ----
APK = """\
C:Q1pSfk6c7JYSqnJWSn0OyW2qNPAHU=
P:musl
V:1.2.4-r2
A:x86_64
S:383152
T:the musl c library (libc) implementation
U:https://musl.libc.org/
L:MIT
o:musl
m:Timo Teras <timo.teras@iki.fi>
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755
F:
F:usr/lib/debug

P:busybox
V:1.36.1-r5
A:x86_64
L:GPL-2.0-only
F:bin
R:busybox

"""


def test_alpine_packages_are_read_as_apk_notes_them(root: Path) -> None:
    (root / "lib/apk/db").mkdir(parents=True)
    (root / "lib/apk/db/installed").write_text(APK)
    found = taken(root)
    assert named(found, Manager.APK) == {("musl", "1.2.4-r2", "x86_64"), ("busybox", "1.36.1-r5", "x86_64")}
    assert [each.name for each in found.owners.of("/lib/ld-musl-x86_64.so.1")] == ["musl"]
    assert found.of(Manager.APK)[0].license == "GPL-2.0-only"


def test_packages_of_r_are_those_that_were_built(root: Path) -> None:
    for name, built in (("installed", "Built: R 4.2.2; ; 2022-11-11 12:13:14 UTC; unix\n"), ("source", "")):
        place = root / "usr/lib/R/library" / name
        (place / "Meta").mkdir(parents=True)
        (place / "Meta/package.rds").write_bytes(b"x")
        (place / "DESCRIPTION").write_text(
            f"Package: {name}\nVersion: 1.0-2\nLicense: GPL (>= 2)\nTitle: A long\n    title\n{built}"
        )
    found = taken(root)
    (package,) = found.of(Manager.R)
    assert (package.name, package.version, package.summary) == ("installed", "1.0-2", "A long title")
    assert found.owners.of("/usr/lib/R/library/installed/R/code") == [package]


def test_an_image_without_dpkg_has_its_packages_one_by_one(root: Path) -> None:
    place = root / "var/lib/dpkg/status.d"
    place.mkdir(parents=True)
    (place / "base").write_text("Package: base-files\nVersion: 12.4\nArchitecture: amd64\n")
    (place / "base.md5sums").write_text(f"{'0' * 32}  etc/debian_version\n")
    found = taken(root)
    assert named(found, Manager.DPKG) == {("base-files", "12.4", "amd64")}
    assert [each.name for each in found.owners.of("/etc/debian_version")] == ["base-files"]


def test_a_list_of_files_is_one_packages(root: Path) -> None:
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    stanza = "Package: tool\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n"
    (root / "var/lib/dpkg/status").write_text(3 * stanza)
    (root / "var/lib/dpkg/info/tool.list").write_text("/.\n/usr/bin/tool\n")
    assert [each.files for each in taken(root).packages] == [("/usr/bin/tool",), (), ()]


def test_a_file_below_a_linked_directory_is_owned_by_both_names(root: Path) -> None:
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "usr/bin/tool").write_text("x")
    (root / "lib/apk/db").mkdir(parents=True)
    (root / "lib/apk/db/installed").write_text("P:tool\nV:1\nF:bin\nR:tool\n\n")
    assert [each.name for each in taken(root).owners.of("/usr/bin/tool")] == ["tool"]


def test_a_python_package_in_a_debian_package_is_said_to_be(root: Path) -> None:
    place = root / "usr/lib/python3/dist-packages/six-1.16.0.egg-info"
    place.mkdir(parents=True)
    (place / "PKG-INFO").write_text("Metadata-Version: 1.2\nName: six\nVersion: 1.16.0\n")
    (root / "var/lib/dpkg/info").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(
        "Package: python3-six\nStatus: install ok installed\nVersion: 1.16.0-4\nArchitecture: all\n"
    )
    listed = "/usr/lib/python3/dist-packages/six-1.16.0.egg-info/PKG-INFO"
    (root / "var/lib/dpkg/info/python3-six.list").write_text(f"/.\n{listed}\n")
    found = taken(root)
    ((outer, inner),) = inventory.contained(found.inventory, found.owners)
    assert (outer.name, inner.name) == ("python3-six", "six")


@pytest.mark.needs("gcc")
def test_programs_of_no_package_are_told_with_their_build_ids(root: Path, tmp_path: Path) -> None:
    (root / "opt").mkdir()
    (tmp_path / "a.c").write_text("int main(void) { return 0; }")
    for name, option in (("with", "sha1"), ("without", "none")):
        words = ["gcc", f"-Wl,--build-id={option}", "-o", root / "opt" / name, tmp_path / "a.c"]
        subprocess.run(words, check=True)
    (root / "opt/text").write_text("no program, though long enough to be one\n" * 6)
    notes = subprocess.check_output(["readelf", "-n", root / "opt/with"], text=True)
    expected = notes.partition("Build ID: ")[2].split()[0]
    sums = subprocess.check_output(["sha256sum", root / "opt/with"], text=True).split()[0]
    found = {each.path: each for each in taken(squashfs(root, tmp_path / "image")).loose}
    assert sorted(found) == ["/opt/with", "/opt/without"]
    assert (found["/opt/with"].build_id, found["/opt/with"].sha256) == (expected, sums)
    assert found["/opt/without"].build_id == ""


# ---- notes of hostile images ----
@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("opt/c/conda-meta/x.json", b"[" * 100_000),
        ("opt/c/conda-meta/x.json", json.dumps({"name": 3, "version": ["1"], "files": {"a": 1}}).encode()),
        ("a/node_modules/x/package.json", b'{"name": "x"'),
        ("a/node_modules/x/package.json", b"\xff\xfe"),
        ("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0" + b"\xff" * 4096),
        ("var/lib/rpm/Packages.db", b"RpmP" + b"\xff" * 8192),
        ("var/lib/rpm/Packages.db", b"RpmP" + bytes(12)),
        ("var/lib/rpm/Packages", bytes(12) + b"\x61\x15\x06\x00" + b"\xff" * 8192),
        ("var/lib/rpm/Packages", b""),
        ("var/lib/dpkg/status", b": x\n\n\xff\nPackage\nStatus: install ok installed\nPackage:\n" * 9),
        ("lib/apk/db/installed", b"P:\n\nF\nR:x\n"),
        ("x/a.dist-info/METADATA", b"\0Name: \nVersion\xff: 2\n"),
        ("var/lib/pacman/local/x/desc", b"%\n%%\n%NAME%\n"),
    ],
)
def test_damaged_notes_are_left_out(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(parents=True)
    (root / path).write_bytes(data)
    assert taken(root).packages == ()


def test_a_database_that_never_ends_is_left_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from singularity.packages import rpm_database

    monkeypatch.setattr(rpm_database, "_STEPS", 1_000_000)
    (root / "var/lib/rpm").mkdir(parents=True)
    database = sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")
    database.execute("CREATE TABLE t (x)")
    endless = "WITH RECURSIVE n(blob, hnum) AS (SELECT x'00', 1 UNION ALL SELECT blob, hnum + 1 FROM n) SELECT * FROM n"
    database.execute(f"CREATE VIEW Packages AS {endless}")
    database.commit()
    database.execute("PRAGMA writable_schema = ON")
    database.execute("UPDATE sqlite_master SET type = 'table' WHERE name = 'Packages'")
    database.commit()
    database.close()
    assert taken(root).packages == ()


@pytest.mark.parametrize("size", [3000, 900_000_000], ids=["many", "large"])
def test_headers_that_a_database_computes_are_left_out(root: Path, size: int) -> None:
    """A small file would keep the reader busy, and fill its memory, for as long as it likes."""
    import sqlite3

    (root / "var/lib/rpm").mkdir(parents=True)
    database = sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")
    database.execute(f"CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, x, blob AS (zeroblob({size})))")
    database.executemany("INSERT INTO Packages (x) VALUES (?)", [(1,)] * 500)
    database.commit()
    database.close()
    begun = time.monotonic()
    assert taken(root).packages == ()
    assert time.monotonic() - begun < 10


def test_a_header_whose_paths_would_fill_the_memory_is_left_out(root: Path) -> None:
    """A directory of a megabyte, in which a hundred thousand files are."""
    import sqlite3
    import struct

    count, data, entries = 100_000, b"", []
    for tag, kind, number, value in (
        (1000, 6, 1, b"name\0"),
        (1118, 8, 1, b"/" * 1_000_000 + b"\0"),
        (1117, 8, count, b"\0" * count),
        (1116, 4, count, b"\0" * 4 * count),
    ):
        entries.append(struct.pack(">IIII", tag, kind, len(data), number))
        data += value
    (root / "var/lib/rpm").mkdir(parents=True)
    database = sqlite3.connect(root / "var/lib/rpm/rpmdb.sqlite")
    database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob)")
    header = struct.pack(">II", len(entries), len(data)) + b"".join(entries) + data
    database.execute("INSERT INTO Packages (blob) VALUES (?)", [header])
    database.commit()
    database.close()
    assert taken(root).packages == ()


def test_what_has_no_end_is_not_read(root: Path) -> None:
    (root / "var/lib/rpm").mkdir(parents=True)
    for name, head in (("var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0"), ("program", b"\x7fELF")):
        with (root / name).open("wb") as file:
            file.write(head)
            file.truncate(1 << 42)
    found = taken(root)
    assert (found.packages, found.loose) == ((), [])


def test_a_link_out_of_the_image_shows_nothing_of_the_host(root: Path) -> None:
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").symlink_to("/../../../../../../var/lib/dpkg")
    assert taken(root).packages == ()
