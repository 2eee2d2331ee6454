"""Runs the corpus (`make test-images`): each image is pulled, launched, compared with umoci's unpacking, and read lazily.

Not collected with the other tests: it makes the images first, with the builders of today, from Debian's mirror and the
registries of Python and npm, which takes most of an hour the first time and minutes from then on.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trees
from launching import Mode
from makers import forget
from recipes import BUILDERS, RECIPES, STACKS, Recipe
from report import Row
from workshop import run

from singularity.image import sif

if TYPE_CHECKING:
    from pathlib import Path

    from launching import Launcher, Result
    from makers import Corpus
    from report import Table
    from trees import Seen

# What images of this program have and others do not: docs/oci.md, "What arrives".
_OURS = (b".singularity.d", b".exec", b".run", b".shell", b".test", b"singularity", b"environment")
_LIMIT = 600.0  # seconds


@pytest.mark.parametrize("recipe", RECIPES, ids=[each.name for each in RECIPES])
def test_image(
    recipe: Recipe, corpus: Corpus, launchers: dict[Mode, Launcher], table: Table
) -> None:
    source = corpus.source(recipe)
    row = Row(recipe.name)
    table.rows.append(row)
    image = _pulled(launchers[Mode.SUID], source, row)
    for mode, launch in launchers.items():
        _runs(launch, recipe, "exec", image)
        row.launched = f"{row.launched} {mode.value}".removeprefix("no ")
    wanted = trees.look(corpus.unpacked(recipe))
    _compare(trees.look(_unpacked(image, corpus.place / "unsquashed")), wanted)
    row.compared = len(wanted)
    row.lazy = _lazily(launchers[Mode.USERNS], recipe, source, image)


def _pulled(launch: Launcher, source: str, row: Row) -> Path:
    """Fetched by an ordinary user; images in archives are built."""
    image = launch.home / "x.sif"
    verb = ("pull", "--no-https") if source.startswith("docker://") else ("build",)
    begin = time.monotonic()
    done = launch(*verb, launch.home_inside / "x.sif", source, timeout=_LIMIT)
    row.pull = time.monotonic() - begin
    assert done.status == 0, str(done)
    row.size = image.stat().st_size
    return image


def _runs(launch: Launcher, recipe: Recipe, verb: str, image: Path | str, *options: str) -> Result:
    stack = STACKS[recipe.stack]
    words = stack.program if verb == "exec" else ()
    if stack.program == ("RUN",):
        verb, words = "run", ()
    name = launch.home_inside / image.name if not isinstance(image, str) else image
    done = launch(verb, *options, name, *words, timeout=_LIMIT)
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


def _compare(found: dict[bytes, Seen], wanted: dict[bytes, Seen]) -> None:
    """All of it, but for what is ours; squashfs has whole seconds."""

    def told(tree: dict[bytes, Seen]) -> dict[bytes, Seen]:
        return {
            path: replace(seen, mtime=seen.mtime // 10**9 if path else 0)
            for path, seen in tree.items()
            if path.split(b"/")[0] not in _OURS
        }

    here, there = told(found), told(wanted)
    lines = [f"{path!r}: {here.get(path)}\n  umoci: {there.get(path)}" for path in sorted({*here, *there}) if here.get(path) != there.get(path)]
    assert not lines, "\n".join([f"{len(lines)} files differ", *lines[:20]])


def _lazily(launch: Launcher, recipe: Recipe, source: str, image: Path) -> str:
    """With a cache of its own; where all layers have tables nothing may be said, else one line says why it is fetched."""
    cached = launch.with_env(SINGULARITY_CACHEDIR=str(launch.home_inside / "lazy"))
    if not source.startswith("docker://"):
        return "archive"
    done = _runs(cached, recipe, "exec", source, "--lazy", "--no-https")
    lazy = BUILDERS[recipe.builder].lazy
    assert lazy == (not re.search("INFO.*whole", done.err)), str(done)
    return "in parts" if lazy else "whole"
