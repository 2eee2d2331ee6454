"""How long `singularity diff` takes between two images of some size, in one run.

    python bench/diff.py --directory build/bench --singularity PROGRAM [--megabytes 1000] [--runs 5]

The images are squashfs files of this machine's /usr, as far as it fills that many MB, once with one file more at the
beginning, which moves all small files to other fragments. Prints medians, and the processor time, of: the same
compression twice, two compressions, and the directory beside an image.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path


def fill(root: Path, megabytes: int) -> None:
    """Hard links or copies of files of /usr, until they are three times as much as the image is to have."""
    left = 3 * megabytes * 1_000_000
    for directory, _, names in os.walk("/usr"):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file():
                continue
            target = root / path.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            left -= target.stat().st_size
            if left < 0:
                return


def packed(root: Path, target: Path, compression: str) -> Path:
    """A squashfs file of a directory."""
    words = ["mksquashfs", root, target, "-noappend", "-quiet", "-no-progress", "-comp", compression]
    subprocess.run([*words, "-Xcompression-level", "1"], check=True)
    return target


def timed(singularity: str, one: Path, other: Path, runs: int) -> str:
    """The medians of some runs, as they are printed."""
    walls, processors = [], []
    for _ in range(runs):
        before, begin = os.times(), time.monotonic()
        done = subprocess.run([singularity, "diff", one, other], stdout=subprocess.DEVNULL, check=False)
        walls.append(time.monotonic() - begin)
        after = os.times()
        processors.append(after.children_user + after.children_system - before.children_user - before.children_system)
        if done.returncode != 1:
            sys.exit(f"diff {one} {other} ended with {done.returncode}, not with 1")
    return f"{statistics.median(walls):6.2f} s, {statistics.median(processors):6.2f} s of the processor"


def main() -> None:
    """Makes the images, and prints a row for each pair."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--singularity", required=True)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    place = given.directory / "diff"
    shutil.rmtree(place, ignore_errors=True)
    (place / "root").mkdir(parents=True)
    fill(place / "root", given.megabytes)
    one = packed(place / "root", place / "one.sqfs", "zstd")
    (place / "root/usr/AAA").write_text("more")
    other, gzip = (
        packed(place / "root", place / "other.sqfs", "zstd"),
        packed(place / "root", place / "gz.sqfs", "gzip"),
    )
    rows = {
        f"zstd and zstd, {one.stat().st_size >> 20} MiB each": (one, other, given.runs),
        "zstd and gzip": (one, gzip, 1),
        "zstd and a directory": (one, place / "root", 1),
    }
    for name, (first, second, runs) in rows.items():
        print(f"{name:<36} {timed(given.singularity, first, second, runs)}")
    shutil.rmtree(place)


main()
