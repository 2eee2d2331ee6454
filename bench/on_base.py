"""Launches of an image that lies on a base, beside those of the same image flattened, in turn.

    bench/on_base.py [--runs 60] PROGRAM BASE IMAGE FLAT [WORD...]

BASE, IMAGE (`build --on BASE`) and FLAT (`flatten`) are files; WORDs are what is started. Prints the sizes,
and for each way of launching the medians in milliseconds, and what the first launch takes, which reads the base. To
be run as the user whose launches are measured, as join.py is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path


def launch(program: str, words: list[str], environment: dict[str, str]) -> float:
    """Milliseconds of one launch, which must end well."""
    began = time.perf_counter()
    subprocess.run([program, "exec", *words], env=environment, stdout=subprocess.DEVNULL, check=True, cwd="/")
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Measures, and prints a row for each way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    for name in ("base", "image", "flat"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("words", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    for path in (given.base, given.image, given.flat):
        print(f"{path.name:<24} {path.stat().st_size / 1_000_000:10.2f} MB")
    with tempfile.TemporaryDirectory() as home:
        place = str(given.base.resolve().parent)
        environment = {"PATH": os.environ["PATH"], "HOME": home, "SINGULARITY_BASEPATH": place}
        for option in ([], ["--userns"]):
            images = {
                path: [*option, str(path.resolve()), *(given.words or ["true"])] for path in (given.flat, given.image)
            }
            first = launch(given.program, images[given.image], environment)
            times: dict[Path, list[float]] = {path: [] for path in images}
            for _ in range(given.runs):
                for path, words in images.items():
                    times[path].append(launch(given.program, words, environment))
            flat, image = (statistics.median(times[path]) for path in images)
            way = option[0] if option else "as installed"
            print(f"{way:<24} flat {flat:7.2f} ms, on its base {image:7.2f} ms, its first {first:7.1f} ms")


main()
