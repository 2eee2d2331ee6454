"""Every command line of the guides to SIF files and to OCI images works, in the order in which they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from builders import layer, skopeo

from singularity.definition.parse import parse

if TYPE_CHECKING:
    from builders import Layout

DOCS = Path(__file__).resolve().parents[2] / "docs"
pytestmark = pytest.mark.needs("busybox", "mksquashfs", "mke2fs", "skopeo")


def blocks(name: str, kind: str) -> list[str]:
    text = (DOCS / name).read_text()
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed(name: str, directory: Path) -> int:
    """Runs the commands of a guide in a shell; returns how many there were."""
    (directory / "tmp").mkdir()
    (directory / "bin").mkdir()
    program = directory / "bin/singularity"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m singularity "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{directory}/bin:{os.environ['PATH']}", "TMPDIR": str(directory / "tmp")}
    lines = [line for block in blocks(name, "sh") for line in block.splitlines()]
    for line in lines:
        done = subprocess.run(
            ["sh", "-c", line], cwd=directory, env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "FATAL" in done.stderr) == (0, False), f"{line}: {done.stderr}"
    return len(lines)


@pytest.fixture
def image(layout: Layout) -> Layout:
    busybox = Path("/bin/busybox").read_bytes()
    layout.add(layout.image([layer(("bin/busybox", busybox), ("bin/sh", "busybox"), ("etc", None))]), "latest")
    return layout


def test_the_guide_to_oci_images(image: Layout, tmp_path: Path) -> None:
    (definition,) = blocks("oci.md", "singularity")
    assert parse(definition, "tool.def").warnings == ()
    (tmp_path / "tool.def").write_text(definition)
    skopeo(f"oci:{image.path}:latest", f"oci-archive:{tmp_path}/image.tar", tmp_path)
    skopeo(f"oci:{image.path}:latest", f"docker-archive:{tmp_path}/saved.tar:example.org/tool:1", tmp_path)
    assert typed("oci.md", tmp_path) >= 4


def test_the_guide_to_sif_files(image: Layout, tmp_path: Path) -> None:
    (tmp_path / "d.def").write_text(f"Bootstrap: oci\nFrom: {image.path}\n%labels\n    a b\n")
    argv = [sys.executable, "-I", "-m", "singularity", "build", "debian.sif", "d.def"]
    (tmp_path / "tmp2").mkdir()
    subprocess.run(argv, cwd=tmp_path, check=True, env={**os.environ, "TMPDIR": str(tmp_path / "tmp2")})
    for name in ("sbom.json", "notes.txt"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "tree").mkdir()
    argv = ["mksquashfs", "tree", "other.squashfs", "-quiet", "-no-progress"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    assert typed("sif.md", tmp_path) >= 15
