"""Images of registries become SIF files: time, memory and disk, beside the peers that are installed, in one run.

    python bench/pull.py --directory build/bench [--runs 3] [--singularity PROGRAM] [--only TEXT]

Three images: a Debian with Python of about 200 MB in two layers, one of about 2 GB in ten, and one that shares nine
layers with that. The root file system is that of `make bench`; with it there, no network is needed. A docker-registry
on a loopback port serves them. The commands of an image run in turn, each from nothing, or from what a name says:
caches and what was made before are removed. The floor is one decompressor and one mksquashfs for all files of an image
in one archive. Prints a table and writes it to DIRECTORY/pull.txt and pull.json. Processor time is that of all
processes of a command: on a busy machine, look at that.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import tarfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from formats import bootstrap

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
COPIES = 8  # of the first two layers' files, changed, as layers of the large image
COPY_SIZE = 220 << 20  # bytes of each
LEFT_OUT = ("site-packages", "dist-packages", "__pycache__")
ZSTD = "-comp zstd -Xcompression-level 3"  # as ours
START_LIMIT = 20.0  # seconds
PAUSE = 0.02  # seconds between looks at memory
TIMEOUT = 3600


@dataclass(frozen=True, slots=True)
class Command:
    """Shell words that make `image.sif` or `image.sqfs` from nothing, in a directory of their own."""

    name: str
    script: str
    before: str = ""  # done first, and not measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run: seconds, and MiB of all its processes together: resident at the peak, written, and the image."""

    seconds: float
    processor: float
    memory: float
    written: float
    size: float


# ---- images ----------------------------------------------------------------------------------------------------------
def make_layouts(root: Path, place: Path) -> None:
    """OCI layouts `small`, `large` and `next` with an image `t`, made where they are not there."""
    if (place / "next/index.json").exists():
        return
    shutil.rmtree(place, ignore_errors=True)
    (place / "layers").mkdir(parents=True)
    library = Path(sysconfig.get_path("stdlib"))
    sources = [(root, ""), (library, "opt/python")]
    made = []
    for number in range(3 + COPIES):
        print(f"Making layer {number + 1} of {3 + COPIES}", file=sys.stderr, flush=True)
        path = place / "layers" / f"{number}.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            if number < len(sources):
                _add(archive, *sources[number])
            else:
                _add_changed(archive, sources, number)
        made.append(_compressed(path))
    _layout(place / "small", made[:2])
    _layout(place / "large", made[:-1])
    _layout(place / "next", [*made[:-2], made[-1]])
    for name, layers in (("small", made[:2]), ("large", made[:-1])):
        _join([path for _, path in layers], place / f"{name}.tar.gz")


def _add(archive: tarfile.TarFile, source: Path, above: str) -> None:
    def wanted(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(member.name).name in LEFT_OUT or not (member.isreg() or _is_light(member)) else member

    archive.add(source, above or ".", filter=wanted)


def _is_light(member: tarfile.TarInfo) -> bool:
    return member.isdir() or member.issym() or member.islnk()


def _add_changed(archive: tarfile.TarFile, sources: list[tuple[Path, str]], number: int) -> None:
    """Files that are in no other layer, and compress as the real ones do."""
    left = COPY_SIZE
    for source, above in sources:
        for path in sorted(source.rglob("*")):
            if path.is_symlink() or not path.is_file() or set(LEFT_OUT) & set(path.parts):
                continue
            data = hashlib.sha256(f"{number} {path}".encode()).digest() + path.read_bytes()
            member = tarfile.TarInfo(f"opt/{number}/{above}/{path.relative_to(source)}")
            member.size, member.mode, member.mtime = len(data), 0o644, 1_600_000_000
            archive.addfile(member, BytesIO(data))
            left -= len(data)
            if left < 0:
                return


def _compressed(path: Path) -> tuple[str, Path]:
    """The digest of an archive, and its compressed form, which takes its place."""
    digest = _digest(path)
    program = shutil.which("pigz") or "gzip"
    subprocess.run([program, "-6", "-n", str(path)], check=True)
    return digest, path.with_name(f"{path.name}.gz")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _join(layers: list[Path], target: Path) -> None:
    """All layers as one archive; they have no path in common."""
    program = shutil.which("pigz") or "gzip"
    with target.open("wb") as file, subprocess.Popen([program, "-6"], stdin=subprocess.PIPE, stdout=file) as tool:
        if tool.stdin is None:
            raise OSError(f"no pipe to {program}")
        with tarfile.open(fileobj=tool.stdin, mode="w|", format=tarfile.PAX_FORMAT) as whole:
            for path in layers:
                with tarfile.open(path) as archive:
                    for member in archive:
                        whole.addfile(member, archive.extractfile(member) if member.isreg() else None)


def _layout(place: Path, layers: list[tuple[str, Path]]) -> None:
    blobs = place / "blobs/sha256"
    blobs.mkdir(parents=True)
    (place / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')

    def put(content: object, kind: str) -> dict[str, Any]:
        data = json.dumps(content).encode()
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    described = []
    for _, path in layers:
        digest = _digest(path)
        os.link(path, blobs / digest.removeprefix("sha256:"))
        described.append({"mediaType": LAYER, "digest": digest, "size": path.stat().st_size})
    rootfs = {"type": "layers", "diff_ids": [digest for digest, _ in layers]}
    about: dict[str, Any] = {"os": "linux", "architecture": "amd64", "config": {"Cmd": ["python3"]}, "rootfs": rootfs}
    about["history"] = [{"created_by": "bench"} for _ in layers]  # charliecloud wants it
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": put(about, CONFIG), "layers": described}
    listed = put(manifest, MANIFEST) | {"annotations": {"org.opencontainers.image.ref.name": "t"}}
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}))


@contextmanager
def registry(place: Path, *, tls: bool = False) -> Iterator[str]:
    """A docker-registry that stores below `place`; its `localhost:PORT`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(place / "registry")}},
        "http": {"addr": f"127.0.0.1:{port}"} | ({"tls": _certificate(place)} if tls else {}),
    }
    settings = place / f"registry-{port}.yml"
    settings.write_text(json.dumps(config))
    with (place / "registry.log").open("wb") as log:
        argv = ["docker-registry", "serve", str(settings)]
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_LIMIT
        while time.monotonic() < end and socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(PAUSE)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def _certificate(place: Path) -> dict[str, str]:
    """For charliecloud, which speaks no plain HTTP."""
    names = {"certificate": str(place / "certificate.pem"), "key": str(place / "key.pem")}
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "7", "-subj", "/CN=localhost"]
    subprocess.run([*argv, "-out", names["certificate"], "-keyout", names["key"]], check=True, capture_output=True)
    return names


# ---- measuring -------------------------------------------------------------------------------------------------------
def commands(singularity: str, place: Path, image: str, host: str, tls_host: str) -> list[Command]:
    """All ways to the image that this machine has."""
    layout = place / image
    pull = f"{singularity} -q pull --no-https image.sif docker://{host}"
    if image == "next":
        before = f"{pull}/large:t && rm image.sif"
        return [
            Command("singularity, all layers", f"{pull}/next:t"),
            Command("singularity, one new layer", f"{pull}/next:t", before),
            Command("singularity, pulled before", f"{pull}/large:t", before),
        ]
    floor = f"{shutil.which('igzip') or 'gzip'} -dc {place}/{image}.tar.gz | mksquashfs - image.sqfs -tar"
    found = [
        Command("floor", f"{floor} -quiet -no-progress {ZSTD}"),
        Command("singularity oci:", f"{singularity} -q build image.sif oci:{layout}:t"),
        Command(
            "20 pulls at once",
            " & ".join(f"{pull.replace('image', f'image{n}')}/{image}:t" for n in range(20)) + " & wait",
        ),
    ]
    for name, options in (("gzip", ""), ("zstd 3", ZSTD)):
        pack = f"mksquashfs bundle/rootfs image.sqfs -quiet -no-progress {options}"
        fetch = f"skopeo copy -q --insecure-policy --src-tls-verify=false docker://{host}/{image}:t oci:here:t"
        unpack = f"umoci unpack --image here:t bundle && {pack}"
        found.append(Command(f"umoci, mksquashfs {name}", f"umoci unpack --image {layout}:t bundle && {pack}"))
        found.append(Command(f"skopeo, umoci, mksquashfs {name}", f"{fetch} && {unpack}"))
    found.append(Command("singularity docker://", f"{pull}/{image}:t"))
    if shutil.which("ch-image") and shutil.which("ch-convert"):
        name = f"{tls_host}/{image}:t"
        pull = f"ch-image --no-cache --tls-no-verify pull {name} && ch-convert {name} image.sqfs"
        found.append(Command("ch-image, ch-convert", pull))
    return found


def timed(command: Command, place: Path) -> Measured | str:
    """Runs a command once, in an empty directory; its last words when it fails."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    environment = {**os.environ, "HOME": str(place), "TMPDIR": str(place), "USER": "root"}
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # against which charliecloud's --tls-no-verify does nothing
        environment.pop(name, None)
    environment["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"  # peers want the Python that their packages are for
    environment |= {"CH_IMAGE_STORAGE": str(place / "ch"), "SINGULARITY_CACHEDIR": str(place / "cache")}
    if command.before:
        subprocess.run(["sh", "-c", command.before], cwd=place, stdin=subprocess.DEVNULL, env=environment, check=True)
    with (place / "said").open("w+b") as said:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.monotonic()
        argv = ["sh", "-c", command.script]
        process = subprocess.Popen(argv, cwd=place, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment)
        peak = 0
        while process.poll() is None:
            resident = sum(map(_resident, _family(process.pid)))
            peak = max(peak, resident)
            time.sleep(PAUSE)
        seconds = time.monotonic() - start
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        images = list(place.glob("image*.s*"))
        if process.returncode or not images:
            said.seek(0)
            return said.read()[-300:].decode(errors="replace").strip()
    measured = Measured(
        seconds=seconds,
        processor=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        memory=peak / 1024,
        written=(after.ru_oublock - before.ru_oublock) / 2048,
        size=images[0].stat().st_size / (1 << 20),
    )
    shutil.rmtree(place)
    return measured


def _family(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
    except OSError:
        return


def _resident(pid: int) -> int:
    """KiB that a process has in memory, with its part of what it shares."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)


def compare(some: list[Command], place: Path, runs: int) -> dict[str, list[Measured]]:
    """All commands in turn; those that fail are told, and left out."""
    found: dict[str, list[Measured]] = {command.name: [] for command in some}
    for _ in range(runs):
        for command in some:
            if command.name not in found:
                continue
            print(f"{command.name} ...", file=sys.stderr, flush=True)
            measured = timed(command, place / "run")
            if isinstance(measured, str):
                print(f"not measured: {command.name}: {measured}", file=sys.stderr)
                del found[command.name]
            else:
                found[command.name].append(measured)
    return found


def table(results: dict[str, dict[str, list[Measured]]]) -> str:
    """For people: medians."""
    heads = ("seconds", "cpu s", "MiB", "written", "image")
    lines = [f"{'':10}{'':32}" + "".join(f"{head:>9}" for head in heads)]
    for image, rows in results.items():
        for name, runs in rows.items():
            values = [
                statistics.median(getattr(run, key) for run in runs)
                for key in ("seconds", "processor", "memory", "written", "size")
            ]
            numbers = "".join(f"{value:9.{1 if number < 2 else 0}f}" for number, value in enumerate(values))
            lines.append(f"{image:10}{name:32}{numbers}")
    return "\n".join(lines) + "\n"


def measure(
    directory: Path, singularity: str, runs: int, only: list[str], images: list[str]
) -> dict[str, dict[str, list[Measured]]]:
    """All commands whose names contain one of the words `only`, for these images."""
    place = directory / "world/pull"
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "images/next/index.json").exists():
        make_layouts(bootstrap(singularity.split(), directory / "world"), place / "images")
    results: dict[str, dict[str, list[Measured]]] = {}
    with registry(place) as host, registry(place, tls=True) as tls_host:
        for image in ("small", "large", "next"):
            pushed = place / "images" / image
            push = ["skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", f"oci:{pushed}:t"]
            subprocess.run([*push, f"docker://{host}/{image}:t"], check=True)
        for image in images:
            some = commands(singularity, place / "images", image, host, tls_host)
            results[image] = compare([each for each in some if any(word in each.name for word in only)], place, runs)
    return results


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/bench"))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", metavar="TEXT,...", help="rows whose names contain one of these")
    parser.add_argument("--image", default="small,large,next", help="which images")
    parser.add_argument("--singularity", default="", help="an installed program; else this tree's Python")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench/pull.py: needs root, to bootstrap Debian")
    singularity = options.singularity or f"{sys.executable} -I -m singularity"
    options.directory.mkdir(parents=True, exist_ok=True)
    with (options.directory / "lock").open("w") as lock:  # that of bench/run: the root file system is the same
        fcntl.flock(lock, fcntl.LOCK_EX)
        words, images = options.only.split(","), options.image.split(",")
        results = measure(options.directory.absolute(), singularity, options.runs, words, images)
    text = table(results)
    (options.directory / "pull.txt").write_text(text)
    document = {
        image: {name: list(map(asdict, runs)) for name, runs in rows.items()} for image, rows in results.items()
    }
    (options.directory / "pull.json").write_text(json.dumps(document, indent=2) + "\n")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
