"""Packages from the source archive, and the archive of programs: made as their users make them, and used.

The Debian package is made, installed and used in bare machines: scripts/test-fresh.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tomllib
from typing import TYPE_CHECKING

import machine
import ordinary_user
import pytest
from ordinary_user import ALICE

if TYPE_CHECKING:
    from pathlib import Path

CHECKOUT = machine.CHECKOUT
VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
STATIC = ("sexec", "image-server", "root-emulator", "host-command", "singularity-pack")
USER: list[str | Path] = [os.fspath(shutil.which("python3") or "python3"), ordinary_user.__file__]
USED = """
set -e
cd "$1"
singularity=$2
$singularity --version
mkdir -p base/bin
cp /bin/busybox base/bin/
ln -sf busybox base/bin/sh
printf 'Bootstrap: localimage\\nFrom: base\\n%%runscript\\n    echo runs\\n' >x.def
$singularity build --force x.sif x.def
$singularity run x.sif
$singularity exec -u x.sif /bin/busybox echo in a namespace
$singularity inspect x.sif | grep build-arch
"""


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("packaging/singularity.spec", r"^Version: (.*)$"),
        ("packaging/PKGBUILD", r"^pkgver=(.*)$"),
        ("packaging/easybuild/Singularity-*.eb", r"^version = '(.*)'$"),
        ("packaging/spack/package.py", r'^    version\("(.*)"\)$'),
        ("packaging/conda/recipe.yaml", r'^  version: "(.*)"$'),
        ("CITATION.cff", r"^version: (.*)$"),
        ("CHANGELOG.md", r"^## (.*)$"),
    ],
)
def test_all_name_the_same_version(name: str, pattern: str) -> None:
    (path,) = CHECKOUT.glob(name)
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == VERSION


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP", "NO_PROXY"))}
    return {**kept, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", **more}


def ran(*words: str | Path, cwd: Path, **more: str) -> str:
    done = subprocess.run(
        words, cwd=cwd, env=environment(**more), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(storage: Path) -> Path:
    """A copy, as others build in the checkout at the same time."""
    machine.require("root", "installation", "rpmbuild", "network", "busybox", "fuse", "mksquashfs")
    copy = storage / "packages" / "tree"
    copy.mkdir(parents=True)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=CHECKOUT, capture_output=True, check=True).stdout
    packed = ["tar", "-c", "--null", "--files-from=-"]
    data = subprocess.run(packed, cwd=CHECKOUT, input=names, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "--no-same-owner"], cwd=copy, input=data, check=True)
    return copy


@pytest.fixture(scope="module")
def archive(tree: Path) -> Path:
    ran("make", "dist", cwd=tree, SOURCE_DATE_EPOCH="1")
    return tree / f"singularity-{VERSION}.tar.gz"


@pytest.fixture
def hers(tree: Path) -> Path:
    """A directory of an ordinary user's."""
    place = tree.parent / f"hers-{len(list(tree.parent.iterdir()))}"
    place.mkdir()
    os.chown(place, ALICE.uid, ALICE.gid)
    return place


def test_the_same_files_make_the_same_archive(archive: Path, tree: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    ran("make", "dist", cwd=tree, SOURCE_DATE_EPOCH="1")
    assert archive.read_bytes() == data
    ran("tar", "-xzf", archive, cwd=tmp_path)
    ran("make", "dist", cwd=tmp_path / f"singularity-{VERSION}", SOURCE_DATE_EPOCH="1")
    assert (tmp_path / f"singularity-{VERSION}" / archive.name).read_bytes() == data


def test_a_package_of_rpm_is_made_of_the_archive_and_used(archive: Path, hers: Path) -> None:
    """`rpmbuild -ta`, by an ordinary user. Debian's rpm knows no packages that it could ask for, so it does not."""
    ran(*USER, "--cwd", hers, "--", "rpmbuild", "--nodeps", "--define", f"_topdir {hers}/rpm", "-ta", archive, cwd=hers)
    (package,) = hers.glob("rpm/RPMS/*/*.rpm")
    needed = ran("rpm", "-qp", "--requires", package, cwd=hers)
    assert "squashfs-tools" in needed
    assert re.search(r"^python\(abi\) = 3\.\d+$", needed, re.MULTILINE)
    assert str(hers) not in ran("rpm", "-qp", "--scripts", "--list", package, cwd=hers)
    system = hers.with_name("system")
    system.mkdir(mode=0o755)
    ran("sh", "-c", 'rpm2cpio "$1" | (cd "$2" && cpio -idm --quiet)', "sh", package, system, cwd=hers)
    # The package says owners and modes, which cpio alone does not give.
    modes = {line.split()[-1]: line.split()[:4] for line in ran("rpm", "-qplv", package, cwd=hers).splitlines()}
    assert modes["/usr/libexec/singularity/sexec-suid"][0] == "-rwsr-xr-x"
    assert modes["/usr/libexec/singularity/sexec-judge"][0] == "-rwx--x--x"
    assert {words[2] for words in modes.values()} == {"root"}
    for path in system.rglob("*"):
        os.chown(path, 0, 0, follow_symlinks=False)
    (system / "usr/libexec/singularity/sexec-suid").chmod(0o4755)
    over = "".join(
        f"mount -t overlay -o lowerdir={system}/{name}:/{name} overlay /{name} && " for name in ("usr", "etc", "var")
    )
    become = shlex.join([*map(str, USER), "--cwd", str(hers), "--", "sh", "-c", USED, "sh", str(hers), "singularity"])
    lines = ran("unshare", "--mount", "sh", "-c", f"{over}{become}", cwd=hers).splitlines()
    assert [lines[0], *lines[-3:-1]] == [f"singularity version {VERSION}", "runs", "in a namespace"]


def test_an_archive_of_programs_is_unpacked_anywhere_and_used(tree: Path, hers: Path) -> None:
    ran("make", "tarball", cwd=tree)
    (packed,) = (tree / "build").glob("singularity-*-linux-*.tar.gz")
    ran(*USER, "--", "tar", "-xzf", packed, "-C", hers, cwd=hers)
    (top,) = hers.iterdir()
    used = ["sh", "-c", USED, "sh", hers, top / "bin/singularity"]
    lines = ran(*USER, "--cwd", hers, "--", *used, cwd=hers).splitlines()
    assert [lines[0], *lines[-3:-1]] == [f"singularity version {VERSION}", "runs", "in a namespace"]
    for program in ("bin/singularity", *(f"libexec/singularity/{name}" for name in STATIC)):
        assert b"ld-linux" not in (top / program).read_bytes()[:4096], program
    (top / "bin/python3").unlink()
    assert ran(*USER, "--", top / "bin/singularity", "run", hers / "x.sif", cwd=hers) == "runs\n"
