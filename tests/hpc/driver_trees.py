"""Driver trees without a driver: real shared objects of every age, a loader's cache that knows them, devices.

No GPU and no InfiniBand is needed. The objects are compiled by gcc against stand-ins of libc.so.6 and libstdc++.so.6
whose symbol versions lie in the future, so that what they need is newer than what the image of a test has.
"""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ordinary_user import MS_BIND, MS_REC, mount

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PLAIN_LIBRARY, LIBRARY_32 = 0x0303, 0x0003  # of glibc on x86-64, and on i386
PROBE = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW);
        int (*number)(void) = library != NULL ? (int (*)(void))dlsym(library, "number") : NULL;
        printf("%s %d\n", argv[i], number != NULL ? number() : -1);
    }
    return 0;
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One shared object: `file` in its directory, asked for as `soname`, whose number() answers `number`."""

    soname: str
    file: str = ""  # empty: the soname
    number: int = 0
    needs: Mapping[str, str] = field(default_factory=dict)  # library -> symbol version
    defines: Sequence[str] = ()


def compile_object(source: str, target: Path, *options: str | Path) -> None:
    command = ["gcc", "-x", "c", "-", "-x", "none", "-o", target, *options]
    subprocess.run(command, input=source, text=True, check=True, capture_output=True)


class Foundry:
    """Makes each object once and copies it afterwards."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.made: dict[str, Path] = {}

    def make(self, library: Library, directory: Path) -> Path:
        """Puts it into a directory, with its links."""
        directory.mkdir(parents=True, exist_ok=True)
        key = repr(library)
        if key not in self.made:
            self.made[key] = self._compile(library)
        target = directory / (library.file or library.soname)
        shutil.copy(self.made[key], target)
        if target.name != library.soname:
            (directory / library.soname).symlink_to(target.name)
        return target

    def probe(self, target: Path) -> None:
        """A dynamic program that opens libraries by name, in a root directory, with its loader and C library."""
        if "probe" not in self.made:
            self.made["probe"] = self.directory / "probe"
            compile_object(PROBE, self.made["probe"])
        shutil.copy(self.made["probe"], target / "bin/dlprobe")
        listed = subprocess.run(["ldd", self.made["probe"]], capture_output=True, text=True, check=True).stdout
        for word in listed.split():
            if word.startswith("/"):
                (target / word[1:]).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(word, target / word[1:])

    def _compile(self, library: Library) -> Path:
        place = self.directory / f"object-{len(self.made)}"
        place.mkdir()
        stubs = [self._stub(place, index, *need) for index, need in enumerate(library.needs.items())]
        calls = "".join(f" + future{index}()" for index in range(len(stubs)))
        declared = "".join(f"int future{index}(void);\n" for index in range(len(stubs)))
        body = f"int number(void) {{ return {library.number}{calls}; }}\n"
        options: list[str | Path] = ["-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{library.soname}", *stubs]
        options += self._versions(place / "versions", library.defines)
        body += "".join(f"int version{index}(void) {{ return 0; }}\n" for index in range(len(library.defines)))
        target = place / library.soname
        compile_object(declared + body, target, *options)
        return target

    def _stub(self, place: Path, index: int, name: str, version: str) -> Path:
        target = place / f"stub{index}.so"
        script = place / f"stub{index}.map"
        script.write_text(f"{version} {{ global: future{index}; }};\n")
        options = ["-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{name}", f"-Wl,--version-script={script}"]
        compile_object(f"int future{index}(void) {{ return 0; }}\n", target, *options)
        return target

    @staticmethod
    def _versions(script: Path, versions: Sequence[str]) -> list[str]:
        if not versions:
            return []
        first = f"{versions[0]} {{ global: number; version0; }};\n"
        script.write_text(
            first + "".join(f"{name} {{ global: version{i + 1}; }};\n" for i, name in enumerate(versions[1:]))
        )
        return [f"-Wl,--version-script={script}"]


def write_cache(target: Path, libraries: Mapping[str, Path], narrow: Mapping[str, Path] | None = None) -> Path:
    """What ldconfig would write for these, and for these of programs of 32 bits."""
    known = [(name, path, PLAIN_LIBRARY) for name, path in libraries.items()]
    known += [(name, path, LIBRARY_32) for name, path in (narrow or {}).items()]
    start = 48 + 24 * len(known)
    names, entries = b"", b""
    for name, path, kind in sorted(known, reverse=True):
        entries += struct.pack("=iIIIQ", kind, start + len(names), start + len(names) + len(name) + 1, 0, 0)
        names += name.encode() + b"\0" + str(path).encode() + b"\0"
    head = b"glibc-ld.so.cache1.1" + struct.pack("=II", len(known), len(names)) + bytes(20)
    target.write_bytes(head + entries + names)
    target.chmod(0o644)
    return target


def libraries_of(directory: Path) -> dict[str, Path]:
    """What a loader's cache would have of a directory: the names asked for, not those of the files behind links."""
    files = {path.resolve().name for path in directory.glob("lib*.so*") if path.is_symlink()}
    return {path.name: path for path in directory.glob("lib*.so*") if path.name not in files}


def device_directory(place: Path, names: Mapping[str, tuple[int, int]]) -> Callable[[], None]:
    """For World.as_root: /dev as it is, and these character devices, which have no driver."""
    kept = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "fuse", "loop-control")

    def build() -> None:
        place.mkdir(exist_ok=True)
        mount("tmpfs", place, "tmpfs", data="mode=0755")
        for entry in sorted(Path("/dev").iterdir()):
            if entry.name in kept or stat.S_ISBLK(entry.lstat().st_mode):
                (place / entry.name).touch()
                mount(entry, place / entry.name, flags=MS_BIND)
            elif entry.name in ("pts", "shm", "mqueue"):
                (place / entry.name).mkdir()
                mount(entry, place / entry.name, flags=MS_BIND | MS_REC)
            elif entry.is_symlink():
                (place / entry.name).symlink_to(os.readlink(entry))
        for name, (major, minor) in names.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            os.mknod(place / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
            (place / name).chmod(0o666)
        mount(place, "/dev", flags=MS_BIND | MS_REC)

    return build
