"""What the verbs that programs run all day import: most of their time; counted, since times depend on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import machine
import pytest
from builders import Layout, layer

if TYPE_CHECKING:
    from servers import Registry

LONG_WAY = {"click", "dataclasses", "inspect", "singularity.cli.main"}  # needed for options and messages
NOT_OF_THE_NETWORK = {"click", "subprocess"}  # which urllib3 does not import: it is half of a second pull


def imported(*arguments: str | Path, python: str | Path = sys.executable, check: bool = True) -> set[str]:
    """The modules that `python ARGUMENTS` imports beside those that each Python does."""
    words = [python, "-X", "importtime"]
    bare, whole = (
        {line.rpartition("|")[2].strip() for line in run.stderr.splitlines() if line.startswith("import time:")}
        for run in (
            subprocess.run([*words, *rest], capture_output=True, text=True, check=check, stdin=subprocess.DEVNULL)
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


def test_a_listing_of_the_cache_imports_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path))
    modules = imported("-m", "singularity", "cache", "list")
    assert not modules & LONG_WAY
    assert len(modules) <= 35, sorted(modules)
    image = tmp_path / "cache/oci-tmp/key"
    image.mkdir(parents=True)
    (image / "image.sif").write_bytes(b"image")
    (image / "made").write_text("5 0 digest")
    modules = imported("-m", "singularity", "cache", "list")
    assert not modules & {*LONG_WAY, "logging"}
    assert len(modules) <= 37, sorted(modules)


@pytest.fixture(scope="module")
def reference(plain_registry: Registry, storage: Path) -> str:
    """An image in a registry."""
    layout = Layout(storage / "imports")
    layout.add(layout.image([layer(("bin", None), ("bin/true", b"#!"), ("etc", None))]), "t")
    plain_registry.fill(f"oci:{layout.path}:t", "imports/little:1")
    return f"docker://{plain_registry.host}/imports/little:1"


@pytest.mark.needs("mksquashfs")
@pytest.mark.usefixtures("no_proxy")
def test_a_second_pull_imports_little(reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks the registry what the tag means, and gives the image in the cache a second name."""
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path))
    words = ("-m", "singularity", "pull", "--no-https", "--force", tmp_path / "x.sif", reference)
    first = imported(*words)
    second = imported(*words)
    assert "singularity.build.convert" in first
    assert not second & NOT_OF_THE_NETWORK
    assert len(second) <= 210, sorted(second)


@pytest.mark.needs("mksquashfs", "installation")
@pytest.mark.usefixtures("no_proxy")
def test_a_second_launch_of_a_uri_imports_little(
    reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to where the front door is started again, which is no part of Python."""
    monkeypatch.setenv("SINGULARITY_CACHEDIR", str(tmp_path))
    python = (machine.prefix() or Path()) / "libexec/singularity/python/bin/python3"
    words = ("-m", "singularity", "launch", "exec", "--dry-run", "--no-https", reference, "true")
    subprocess.run([python, "-I", *words], check=True, capture_output=True)
    second = imported("-I", *words, python=python)
    assert not second & NOT_OF_THE_NETWORK
    assert len(second) <= 215, sorted(second)


@pytest.mark.needs("mksquashfs", "installation")
def test_a_check_goes_without_what_explains_options(image: Path) -> None:
    python = (machine.prefix() or Path()) / "libexec/singularity/python/bin/python3"
    modules = imported("-I", "-m", "singularity", "check", "--all", image, python=python, check=False)
    assert "elftools" in modules
    assert "click" not in modules
    assert len(modules) <= 200, sorted(modules)
