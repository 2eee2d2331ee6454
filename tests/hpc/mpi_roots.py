"""Root file systems with an MPI in them, made from the files of this machine's own in a second.

A Debian image with one takes minutes to bootstrap; what a rank opens is the program, the libraries it is linked with,
the plugins that those load, and a few text files.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import machine
from images import applets, tool

SOURCES = {
    "ring": machine.CHECKOUT / "examples/mpi/mpi_ring.c",
    "case": Path(__file__).with_name("mpi_case.c"),
    "pingpong": machine.CHECKOUT / "bench/mpi/pingpong.c",
}
NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavour:
    """One MPI of the distribution: its programs and what its library loads beside itself."""

    name: str
    compiler: str
    launcher: tuple[str, ...]
    plugins: tuple[str, ...] = ()  # directories below that of the libraries
    files: tuple[str, ...] = ()


OPENMPI = Flavour(
    name="openmpi",
    compiler="mpicc.openmpi",
    launcher=("mpirun.openmpi", "--oversubscribe"),
    plugins=("openmpi", "pmix", "pmix2", "ucx"),
    files=("/etc/openmpi", "/usr/share/openmpi", "/usr/share/pmix"),
)
MPICH = Flavour(name="mpich", compiler="mpicc.mpich", launcher=("mpiexec.mpich",), plugins=("ucx", "libfabric"))


@cache
def libraries() -> dict[str, Path]:
    """What the loader's cache has for this machine, by name."""
    found = re.findall(r"^\t(\S+) \(libc6[^)]*\) => (\S+)$", tool("/sbin/ldconfig", "-p"), re.MULTILINE)
    return {name: Path(path) for name, path in reversed(found)}


def needed(*files: Path) -> set[Path]:
    """The libraries that the loader takes for these programs and libraries, without the loader itself."""
    known: set[Path] = set()
    rest = set(files)
    while rest:
        names = set(NEEDED.findall(tool("readelf", "-d", *rest)))
        rest = {libraries()[name] for name in names if name in libraries()} - known
        known |= rest
    return known


def copy(source: Path, root: Path) -> None:
    """A file as the program names it: links on the way are followed."""
    target = root / source.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(source, target)


@cache
def library_directory() -> Path:
    return Path(tool("gcc", "-print-file-name=libc.so.6").strip()).resolve().parent


@cache
def loader() -> Path:
    """The program interpreter, by the path that programs name."""
    found = re.search(r"interpreter: (\S+)\]", tool("readelf", "-l", "/bin/sh"))
    assert found is not None
    return Path(found.group(1))


def compile_programs(flavour: Flavour, directory: Path) -> None:
    """bin/mpi_ring, bin/mpi_case and bin/mpi_pingpong."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, source in SOURCES.items():
        tool(flavour.compiler, "-O1", "-D_GNU_SOURCE", "-Wall", "-Werror", "-o", directory / f"mpi_{name}", source)


def make_root(flavour: Flavour, root: Path) -> Path:
    """Busybox, the programs in /usr/bin, and what they need of this machine's MPI at the paths it has here."""
    for name in ("dev", "etc", "proc", "sys", "tmp", "var/tmp", "home", "root", "usr/bin", "usr/lib", "run"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to("usr/bin" if name == "bin" else f"usr/{name}")
    (root / "usr/lib64").mkdir()
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in applets():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    compile_programs(flavour, root / "usr/bin")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    plugins = [path for name in flavour.plugins for path in (library_directory() / name).rglob("*.so*")]
    plugins = [path for path in plugins if ".so" in path.name]
    for path in (*plugins, *needed(*(root / "usr/bin").glob("mpi_*"), *plugins), loader()):
        copy(path, root)
    for name in flavour.files:
        if Path(name).is_dir():
            shutil.copytree(name, root / name.lstrip("/"), dirs_exist_ok=True)
    return root
