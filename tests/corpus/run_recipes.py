"""Runs the corpus (`make test-images`): each image is pulled, launched, compared with what umoci unpacks, read lazily.

Not collected with the other tests: it makes the images first, with the builders of today, from Debian's mirror and the
registries of Python and npm, which takes most of an hour the first time and minutes from then on.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trees
from launching import Mode
from makers import forget
from recipes import RECIPES, STACKS, Recipe
from report import Row
from workshop import run

from singularity.image.sif import format as sif

if TYPE_CHECKING:
    from pathlib import Path

    from launching import Launcher, Result
    from makers import Corpus
    from report import Table
    from trees import Seen

# What images of this program have and others do not: docs/oci.md, "What arrives".
_OURS = (b".singularity.d", b".exec", b".run", b".shell", b".test", b"singularity", b"environment")
# Made where an image lacks them, empty: something is mounted there.
_MOUNT_POINTS = (
    b"dev", b"etc", b"etc/hosts", b"etc/localtime", b"etc/resolv.conf", b"home", b"mnt", b"proc", b"root", b"sys",
    b"tmp", b"var", b"var/tmp",
)  # fmt: skip
_LIMIT = 600.0  # seconds


@pytest.mark.parametrize("recipe", RECIPES, ids=[each.name for each in RECIPES])
def test_image(recipe: Recipe, corpus: Corpus, launchers: dict[Mode, Launcher], table: Table) -> None:
    row = Row(recipe.name)
    table.rows.append(row)
    source = corpus.source(recipe)
    image = _pulled(launchers[Mode.SUID], source, row)
    for mode, launch in launchers.items():
        _runs(launch, recipe, str(launch.home_inside / image.name))
        row.launched = f"{row.launched} {mode.value}".removeprefix("no ")
    since = time.time_ns()
    wanted = trees.look(corpus.unpacked(recipe))
    _compare(trees.look(_unpacked(image, corpus.place / "unsquashed")), wanted, since)
    row.compared = len(wanted)
    row.lazy = _lazily(launchers[Mode.USERNS], recipe, source)


def _pulled(launch: Launcher, source: str, row: Row) -> Path:
    """Fetched by an ordinary user; images in archives are built."""
    image = launch.home / "x.sif"
    verb = ("pull", "--no-https")
    if not source.startswith("docker://"):
        transport, _, archive = source.partition(":")
        shutil.copyfile(archive, launch.home / "image.tar")  # where she can read it, wherever the corpus is
        verb, source = ("build",), f"{transport}:{launch.home_inside}/image.tar"
    begin = time.monotonic()
    done = launch(*verb, launch.home_inside / "x.sif", source, timeout=_LIMIT)
    row.pull = time.monotonic() - begin
    assert done.status == 0, str(done)
    row.size = image.stat().st_size
    return image


def _runs(launch: Launcher, recipe: Recipe, image: str, *options: str) -> Result:
    stack = STACKS[recipe.stack]
    done = launch("exec" if stack.program else "run", *options, image, *stack.words, timeout=_LIMIT)
    assert done.status == 0, str(done)
    assert re.fullmatch(stack.prints, done.out.strip(), re.DOTALL), str(done)
    return done


def _unpacked(image: Path, target: Path) -> Path:
    """By squashfs-tools: the kernel's squashfs may have been built without extended attributes."""
    with image.open("rb") as file:
        part = sif.read(file).primary()
    assert part is not None
    forget(target)
    run(["unsquashfs", "-quiet", "-no-progress", "-xattrs", "-offset", str(part.offset), "-dest", target, image])
    return target


def _compare(found: dict[bytes, Seen], wanted: dict[bytes, Seen], since: int) -> None:
    """All of it, but for what is ours; squashfs has whole seconds. `since`: nanoseconds when umoci began."""

    def told(tree: dict[bytes, Seen]) -> dict[bytes, Seen]:
        seconds = {path: replace(seen, mtime=seen.mtime // 10**9) for path, seen in tree.items()}
        return {path: seen for path, seen in seconds.items() if path.split(b"/")[0] not in _OURS}

    here, there = told(found), told(wanted)
    for path in _MOUNT_POINTS:
        if path not in there and path in here and here[path].size == 0:
            del here[path]
    if b"etc/localtime" in there and there[b"etc/localtime"].kind == "LINK":
        there[b"etc/localtime"] = here[b"etc/localtime"]  # becomes the file that it leads to
    for path, seen in here.items():
        other = there.get(path)
        if other and seen.kind == "DIRECTORY" and (not path or (seen.mtime == 0 and other.mtime >= since // 10**9)):
            there[path] = replace(other, mtime=seen.mtime)  # no layer speaks of it: umoci has the time of unpacking
    lines = [
        f"{path!r}: {here.get(path)}\n  umoci: {there.get(path)}"
        for path in sorted({*here, *there})
        if here.get(path) != there.get(path)
    ]
    assert not lines, "\n".join([f"{len(lines)} files differ", *lines[:20]])


def _lazily(launch: Launcher, recipe: Recipe, source: str) -> str:
    """Where all layers have tables of contents nothing may be said, else a line says why the image is fetched whole."""
    if not source.startswith("docker://"):
        return "archive"
    alone = launch.with_env(SINGULARITY_CACHEDIR=str(launch.home_inside / "lazy"))
    done = _runs(alone, recipe, source, "--lazy", "--no-https")
    whole = "is fetched whole" in done.err
    assert whole != recipe.lazy, str(done)
    return "whole" if whole else "in parts"
