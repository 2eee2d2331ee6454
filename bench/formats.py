"""One Debian root file system in every form that is launched."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFINITION = Path(__file__).resolve().parent.parent / "examples/debian.def"
EXT3_ROOM = 64 << 20  # bytes beside the files
SIF_ALIGNMENT = 4096


def make_images(singularity: str, directory: Path, definition: Path = DEFINITION) -> None:
    """Fills `directory`: root, debian.sif, debian.sqfs (its partition), zstd.sqfs and gzip.sqfs (by mksquashfs alone),
    erofs.sif, debian.ext3, and passwd and group. The bootstrap is kept from run to run, the images are not: how `build`
    lays them out is part of what is measured."""
    root = bootstrap([singularity], directory, definition)
    _add_mount_points(root)
    _say("Packing images")
    sif = directory / "debian.sif"
    _run([singularity, "--quiet", "build", "--force", str(sif), str(root)])
    _copy_partition(sif, directory / "debian.sqfs")
    _run([singularity, "--quiet", "build", "--force", "--erofs", str(directory / "erofs.sif"), str(root)])
    for name, words in {"zstd.sqfs": ["-comp", "zstd"], "gzip.sqfs": []}.items():
        _run(["mksquashfs", str(root), str(directory / name), "-noappend", "-no-progress", *words])
    _make_ext3(root, directory / "debian.ext3")
    for name in ("passwd", "group"):
        shutil.copy(Path("/etc", name), directory / name)


def bootstrap(singularity: Sequence[str], directory: Path, definition: Path = DEFINITION) -> Path:
    """The Debian root file system in `directory`, made where it is not there, or of another definition."""
    root = directory / "root"
    made = directory / "root.made"
    key = hashlib.sha256(definition.read_bytes()).hexdigest()
    if not root.is_dir() or not made.is_file() or made.read_text() != key:
        _say("Bootstrapping Debian")
        made.unlink(missing_ok=True)
        _run([*singularity, "--quiet", "build", "--force", "--sandbox", str(root), str(definition)])
        made.write_text(key)
    return root


def _add_mount_points(root: Path) -> None:
    """Peers cannot add them to a directory that is root's, and so we need not either."""
    for name in ("home/alice", "var/tmp", "tmp"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("hosts", "localtime", "resolv.conf"):
        path = root / "etc" / name
        path.unlink(missing_ok=True)
        path.touch(mode=0o644)


def _copy_partition(sif: Path, target: Path) -> None:
    """The squashfs of a SIF file as a file of its own: from its superblock on, to the end."""
    data = sif.read_bytes()
    offset = next(at for at in range(SIF_ALIGNMENT, len(data), SIF_ALIGNMENT) if data[at : at + 4] == b"hsqs")
    target.write_bytes(data[offset:])


def _make_ext3(root: Path, target: Path) -> None:
    words = ["du", "--summarize", "--apparent-size", "--block-size=1", str(root)]
    used = int(subprocess.run(words, capture_output=True, check=True).stdout.split()[0])
    with target.open("wb") as file:
        file.truncate(used * 5 // 4 + EXT3_ROOM)
    _run(["mke2fs", "-q", "-F", "-t", "ext3", "-d", str(root), str(target)])


def _say(text: str) -> None:
    print(text, flush=True)


def _run(argv: Sequence[str]) -> None:
    result = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False)
    if result.returncode != 0:
        sys.exit(f"bench: {' '.join(argv)}: {(result.stderr or result.stdout).strip()}")
