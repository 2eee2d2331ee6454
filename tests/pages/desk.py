"""Where pages are typed: an ordinary user's home, with the images, files and servers that pages take for granted.

The host has /data, /scratch, /projects and /software besides, in a mount namespace of the session's own. `docker.io`,
`ghcr.io`, `quay.io` and `registry.example.org` are a registry on loopback, by registries.conf. `sudo` runs what
follows it as who calls: builds of an ordinary user with subordinate ids do the same. The images have busybox and this
machine's Python, under the names that pages call.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from images import tool, write
from ordinary_user import ALICE, HERE, MNT_DETACH, MS_BIND, MS_REC, World, bind, mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from images import Images

NAMES = (
    "debian", "python", "tool", "tools", "image", "solver", "mpi", "ompi", "web", "postgres", "old", "analysis", "x",
)  # fmt: skip
PROGRAMS = ("solver", "tool", "mpi_ring", "psql", "nvidia-smi", "ip", "perl")  # that only say who they are
REPOSITORIES = (
    "library/debian:stable", "library/debian:latest", "library/python:3.12", "library/alpine:latest", "team/tools:1.2",
    "site/debian:1", "podman/hello:latest",
)  # fmt: skip
PLACES = ("data", "scratch", "projects/p1", "software/images", "global")
MIRRORS = """\
[[registry]]
prefix = "{name}"
location = "{host}"
insecure = true
"""
MARK = "\x1e"  # before what the shell itself reports


def python_tree(images: Images, tree: Path) -> Path:
    """A root file system of busybox and this machine's Python without its tests."""
    images.bare_tree(tree)
    interpreter = Path("/usr/bin/python3").resolve()
    library = Path(tool(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))").strip())
    unused = ("idlelib", "tkinter", "ensurepip", "pydoc_data", "lib2to3", "config-*", "dist-packages", "*.a")
    without = shutil.ignore_patterns("test", "tests", "__pycache__", *unused)
    shutil.copytree(library, tree / library.relative_to("/"), symlinks=True, ignore=without)
    for each in (interpreter, *libraries(interpreter, *library.glob("lib-dynload/*.so"))):
        target = tree / each.relative_to("/")
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copy(each, target)
    (tree / "usr/bin/python3").symlink_to(interpreter.name)
    for name in PROGRAMS:
        write(tree / "usr/bin" / name, f'#!/bin/sh\necho "{name} $*"\n', 0o755)
    write(tree / "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nID=debian\n')
    write(tree / ".singularity.d/runscript", '#!/bin/sh\nexec python3 "$@"\n', 0o755)
    write(tree / "etc/localtime", "")
    (tree / "data").mkdir()
    os.chown(tree / "srv", 33, 33)  # somebody's beside root's
    return tree


def libraries(*files: Path) -> set[Path]:
    """The shared libraries that programs and modules need, the loader too."""
    told = subprocess.run(["ldd", *files], capture_output=True, text=True, check=False).stdout
    return {Path(name) for name in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", told, re.MULTILINE)}


def with_places() -> None:
    """PLACES at the root of the host: another root, with all else of the old one bound into it."""
    new = next(place for place in map(Path, ("/mnt", "/media", "/srv")) if place.is_dir() and place not in HERE.parents)
    mount("tmpfs", new, "tmpfs", data="mode=0755")
    ours = {name.partition("/")[0] for name in PLACES}
    for each in (each for each in Path("/").iterdir() if each.name not in ours):
        target = new / each.name
        if each.is_symlink():
            target.symlink_to(os.readlink(each))
        elif each.is_dir():
            target.mkdir()
            if each != new:
                mount(each, target, flags=MS_BIND | MS_REC)
        else:
            target.touch()
            bind(each, target)
    for name in PLACES:
        (new / name).mkdir(parents=True)
        os.chown(new / name, ALICE.uid, ALICE.gid)
    (new / "data/genome.txt").write_text("ACGT\n")
    os.chdir(new)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.pivot_root(b".", b".") != 0 or libc.umount2(b".", MNT_DETACH) != 0:
        raise OSError(ctypes.get_errno(), "pivot_root")
    os.chdir("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A template of homes, and the programs that come first on PATH."""

    place: Path
    bin: Path  # of the installation under test

    @classmethod
    def make(cls, place: Path, bin_directory: Path, images: Images) -> Desk:
        for name in ("home", "bin", "homes"):
            (place / name).mkdir(mode=0o755, parents=True)
        write(place / "bin/sudo", '#!/bin/sh\nexec "$@"\n', 0o755)
        tree = python_tree(images, place / "tree")
        desk = cls(place=place, bin=bin_directory)
        home = place / "home"
        image = home / "base.sif"
        tool(bin_directory / "singularity", "build", "--watch-starts", "0", image, tree)
        for name in NAMES:
            os.link(image, home / f"{name}.sif")
        image.unlink()
        for name, text in FILES.items():
            write(home / name, text, 0o755 if text.startswith("#!") else 0o644)
        return desk

    def fill(self, registry: str) -> None:
        """REPOSITORIES in the registry of this address, which the names of others lead to."""
        layout = self.place / "layout"
        program = self.bin / "singularity"
        pushing = (
            "env",
            f"SINGULARITY_CONFIGDIR={self.place}/config",
            program,
            "push",
            "--no-https",
            self.place / "home/debian.sif",
        )
        tool(*pushing, f"oci:{layout}:it")
        for name in REPOSITORIES:
            tool("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:it", f"docker://{registry}/{name}")
        tool(*pushing, f"oras://{registry}/tools:1.2")
        names = ("docker.io", "ghcr.io", "quay.io", "registry.example.org")
        text = "\n".join(MIRRORS.format(name=name, host=registry) for name in names)
        write(self.place / "home/.config/containers/registries.conf", text)

    def home(self, name: str) -> Path:
        """A new home of alice's."""
        home = self.place / "homes" / name
        shutil.copytree(self.place / "home", home, copy_function=link_images)
        own(home)
        return home

    def type(self, script: str, home: Path) -> str:
        """What bash says of a script that alice types in her home; what it prints on both streams."""
        world = replace(World(account=ALICE), home=home, shared=False, as_root=(with_places,))
        environment = {
            **world.environment(self.place / "bin", self.bin),
            "LC_ALL": "C.UTF-8",
            "OMPI_MCA_rmaps_base_oversubscribe": "1",
        }
        done = subprocess.run(
            ["/bin/bash", "-c", script], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, check=False, timeout=120, preexec_fn=world.enter,
        )  # fmt: skip
        return done.stdout.decode(errors="replace")


def own(home: Path) -> None:
    """Makes all of it alice's."""
    for each in (home, *home.rglob("*")):
        os.chown(each, ALICE.uid, ALICE.gid, follow_symlinks=False)


def link_images(source: str, target: str) -> None:
    """Images are large, and nobody writes into these."""
    (os.link if source.endswith(".sif") else shutil.copy2)(source, target)


FILES = {
    "script.py": 'print("hello from", __file__)\n',
    "train.py": 'print("trained")\n',
    "model.py": 'print("modelled")\n',
    "task.py": "",
    "genomes/one.fa": "ACGT\n",
    "tools/bin/tool": "#!/bin/sh\n",
    "directory/file": "data\n",
    "token.txt": "secret\n",
    "load.sh": "#!/bin/sh\n",
    "work.sh": "#!/bin/sh\n",
    "input.conf": "",
    "more.def": "%post\n    touch /more\n",
    "tool.def": "Bootstrap: localimage\nFrom: debian.sif\n\n\n%files\n    input.conf /etc/tool.conf\n"
    "%post\n    touch /built\n",
    "Dockerfile": "FROM debian:stable AS runtime\nARG VERSION=1\n"
    "RUN --mount=type=secret,id=token echo $VERSION >/version\n",
}


def script(commands: Sequence[str]) -> str:
    """One that types the commands one after the other; before and after each it marks where it is, how it ended."""
    parts = [
        f"printf '{MARK}%s\\n' {number}\n{{ {text}\n}}\nprintf '{MARK}status %s\\n' $?"
        for number, text in enumerate(commands)
    ]
    return "\n".join(["set -o pipefail", *parts]) + "\n"


def results(text: str) -> Iterable[tuple[int, list[str]]]:
    """How each command ended, and the lines it printed."""
    parts = re.findall(rf"{MARK}(\d+)\n(.*?){MARK}status (\d+)\n", text, re.DOTALL)
    return [(int(status), body.splitlines()) for _, body, status in parts]
