"""What is fetched of an image of which another version is there, beside what was changed, in one run.

    python bench/chunks.py --directory build/bench --singularity PROGRAM [--image SIF]

The image is the Debian of `make bench`, or the one that is named. Its root file system is changed in three ways, and
packed before and after, with `build --chunks` and without. Prints, in bytes: what the changed files have when each is
compressed alone (the ideal); what a pull fetches, index and all; what rsync, where it is installed, would send between
the two files.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from formats import bootstrap

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = 128 << 10  # of squashfs
LEVEL = "9"  # of zstd, as in builds


def files(root: Path) -> list[Path]:
    """The regular files below a directory."""
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def add_one(root: Path) -> None:
    """A file that cannot be compressed."""
    (root / "usr/bin/added").write_bytes(random.Random(1).randbytes(3 << 20))  # noqa: S311


def change_some(root: Path) -> None:
    """A line more in each of forty small files all over the image."""
    small = [path for path in files(root) if path.stat().st_size < 40_000]
    for path in small[:: len(small) // 40][:40]:
        path.write_bytes(path.read_bytes() + b"# changed\n")


def change_directories(root: Path) -> None:
    """Another version of what is in a tenth of all directories, as when packages are upgraded."""
    directories = sorted({path.parent for path in files(root)})
    for directory in directories[::10]:
        for path in directory.iterdir():
            if path.is_file() and not path.is_symlink():
                data = bytearray(path.read_bytes())
                for place in range(0, len(data), 4096):
                    data[place] ^= 1
                path.write_bytes(data + b"\n")


CHANGES: dict[str, Callable[[Path], None]] = {
    "3 MiB added": add_one,
    "a tenth of all directories changed": change_directories,
    "40 small files changed": change_some,
}


def ideal(root: Path, before: Path) -> int:
    """The bytes of files that differ, each block compressed alone."""
    total = 0
    for path in files(root):
        old = before / path.relative_to(root)
        if old.is_file() and filecmp.cmp(path, old, shallow=False):
            continue
        data = path.read_bytes()
        for place in range(0, len(data), BLOCK):
            block = data[place : place + BLOCK]
            done = subprocess.run(["zstd", f"-{LEVEL}", "-c"], input=block, capture_output=True, check=True)
            total += min(len(block), len(done.stdout))
    return total


def rsynced(new: Path, old: Path, batch: Path) -> int:
    """The bytes that rsync sends of one file to where the other is; 0 without it."""
    if not shutil.which("rsync"):
        return 0
    copy = shutil.copy(old, batch.with_name("copy"))
    words = ["rsync", "--no-whole-file", "--ignore-times", f"--only-write-batch={batch}", new, copy]
    subprocess.run(words, check=True)
    return batch.stat().st_size


def main() -> None:
    """Makes the images, and prints a row for each change."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--singularity", required=True)
    parser.add_argument("--image", type=Path)
    given = parser.parse_args()
    place = given.directory.resolve() / "chunks"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    root = place / "root"

    def build(target: str, source: Path, *more: str) -> Path:
        subprocess.run([given.singularity, "--quiet", "build", *more, place / target, source], check=True)
        return place / target

    if given.image:
        build("root", given.image, "--sandbox")
    else:
        shutil.copytree(bootstrap([given.singularity], given.directory.resolve()), root, symlinks=True)
    before = [build("apart.sif", root, "--chunks"), build("usual.sif", root)]
    print(f"whole: {before[0].stat().st_size} with --chunks, {before[1].stat().st_size} without")
    print(f"{'':36} {'ideal':>10} {'--chunks':>10} {'ratio':>6} {'usual':>10} {'rsync':>10}")
    for name, change in CHANGES.items():
        other = place / "other"
        subprocess.run(["cp", "-a", root, other], check=True)
        change(other)
        best, row = ideal(other, root), []
        for old, more in zip(before, (["--chunks"], []), strict=True):
            new = build("new.sif", other, "--force", *more)
            subprocess.run([given.singularity, "--quiet", "chunks", new], check=True)
            words = [given.singularity, "chunks", "--compare", old, new]
            said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
            row.append(int(said.split()[0]) + os.stat(f"{new}.chunks").st_size)
            if more:
                sent = rsynced(new, old, place / "batch")
        print(f"{name:36} {best:10} {row[0]:10} {row[0] / best:6.2f} {row[1]:10} {sent:10}", flush=True)
        shutil.rmtree(other)


if __name__ == "__main__":
    main()
