"""What the verbs that programs run all day import: most of their time; counted, since times depend on the machine."""

import subprocess
import sys
from pathlib import Path

import pytest

LONG_WAY = {"click", "dataclasses", "inspect", "singularity.cli.main"}  # needed for options and messages


def imported(*arguments: str | Path) -> set[str]:
    """The modules that `python ARGUMENTS` imports beside those that each Python does."""
    words = [sys.executable, "-X", "importtime"]
    bare, whole = (
        {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
        for run in (
            subprocess.run([*words, *rest], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
            for rest in (("-c", "import runpy"), arguments)
        )
    )
    return whole - bare


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SIF file that says something of itself."""
    place = tmp_path_factory.mktemp("image")
    (place / "root" / "bin").mkdir(parents=True)
    path = place / "image.sif"
    subprocess.run([sys.executable, "-m", "singularity", "build", path, place / "root"], check=True)
    return path


@pytest.mark.needs("mksquashfs")
@pytest.mark.parametrize(("verb", "most"), [(("inspect",), 42), (("sif", "list"), 33)], ids=["inspect", "sif-list"])
def test_what_says_something_of_an_image_imports_little(image: Path, verb: tuple[str, ...], most: int) -> None:
    modules = imported("-m", "singularity", *verb, image)
    assert not modules & LONG_WAY
    assert len(modules) <= most, sorted(modules)


def test_the_listing_of_an_empty_cache_imports_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path))
    modules = imported("-m", "singularity", "cache", "list")
    assert not modules & LONG_WAY
    assert len(modules) <= 35, sorted(modules)
