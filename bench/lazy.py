"""Time to the first output of an image that is not there yet: with --lazy, and fetched whole, in one run.

    python bench/lazy.py --directory build/bench --singularity PROGRAM [--runs 5] [--rate 20]

The image is the Debian root file system of `make bench` with this machine's Python library: as a SIF file on a web
server, and as an eStargz layer in a docker-registry. Both send RATE MB/s on each connection. Each run begins with an
empty cache. Prints a table of medians and writes it to DIRECTORY/lazy.txt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for name in ("tests", "tests/oci", "tests/registry"):
    sys.path.insert(0, str(ROOT / name))

import chunked  # noqa: E402
import servers  # noqa: E402
from builders import Layout  # noqa: E402
from formats import bootstrap  # noqa: E402

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PROGRAMS = {
    "true": ["/bin/true"],
    "perl": ["perl", "-MPOSIX", "-e", "print 1"],
    "all files": ["tar", "-cf", "/dev/null", "/usr"],
}


def make(singularity: str, world: Path, place: Path) -> None:
    """`web/image.sif`, and the layout `layers` with an image `t`; made where they are not there."""
    if (place / "web/image.sif").exists() and (place / "layers/index.json").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    (place / "web").mkdir(parents=True)
    root = bootstrap([singularity], world)
    archive = place / "root.tar"
    library = Path(sysconfig.get_path("stdlib"))
    subprocess.run(["tar", "-C", root, "--exclude=./dev/*", "-cf", archive, "."], check=True)
    words = ["--exclude=site-packages", "--exclude=dist-packages", f"--transform=s,^,opt/{library.name}/,"]
    subprocess.run(["tar", "-C", library, *words, "-rf", archive, "."], check=True)
    subprocess.run([singularity, "-q", "build", place / "web/image.sif", archive], check=True)
    made = chunked.estargz(archive.read_bytes(), chunk=4 << 20)
    layout = Layout(place / "layers")
    layout.add(
        layout.image([made.tar], types=[GZIP], stored=[made.stored], annotations=[made.annotations], config={}), "t"
    )
    archive.unlink()


def seconds(singularity: str, uri: str, program: list[str], *, lazy: bool, place: Path) -> float:
    """One launch from an empty cache."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    words = [singularity, "-q", "exec", "--userns", "--no-https", *(["--lazy"] if lazy else []), uri, *program]
    start = time.monotonic()
    subprocess.run(
        words, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        env={**os.environ, "SINGULARITY_CACHEDIR": str(place)},
    )  # fmt: skip
    return time.monotonic() - start


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/bench"))
    parser.add_argument("--singularity", required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rate", type=float, default=20, help="MB/s on each connection")
    options = parser.parse_args()
    place = options.directory.absolute() / "world/lazy"
    make(options.singularity, options.directory.absolute() / "world", place)
    rate = int(options.rate * 1e6)
    lines = [f"{'':24}{'program':12}{'--lazy':>10}{'whole':>10}{'ratio':>8}   seconds, medians of {options.runs}"]
    registry_place = place / "registry"
    shutil.rmtree(registry_place, ignore_errors=True)
    with (
        servers.static(place / "web", rate=rate) as web,
        servers.registry(registry_place) as registry,
        servers.front(registry.host) as front,
    ):
        registry.fill(f"oci:{place / 'layers'}:t", "bench/image:t", "--preserve-digests")
        front.faults.append(servers.Fault(path="/blobs/", rate=rate, times=1 << 30))
        for what, uri in (
            ("SIF on a web server", f"{web.url}/image.sif"),
            ("eStargz in a registry", f"docker://{front.host}/bench/image:t"),
        ):
            for name, program in PROGRAMS.items():
                runs: dict[bool, list[float]] = {True: [], False: []}
                for _ in range(options.runs):
                    for lazy in (True, False):
                        spent = seconds(options.singularity, uri, program, lazy=lazy, place=place / "cache")
                        runs[lazy].append(spent)
                one, two = (statistics.median(runs[each]) for each in (True, False))
                lines.append(f"{what:24}{name:12}{one:10.2f}{two:10.2f}{one / two:8.2f}")
                print(lines[-1], flush=True)
    text = "\n".join(lines) + "\n"
    (options.directory / "lazy.txt").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
