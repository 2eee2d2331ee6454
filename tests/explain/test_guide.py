"""Every command line of the pages about contents works, in the order in which they stand there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
pytestmark = pytest.mark.needs("root", "busybox", "mksquashfs")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    tree = tmp_path / "base"
    for directory in ("bin", "etc", "opt", "lib/apk/db"):
        (tree / directory).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/sh")
    (tree / "etc/motd").write_text("hello\n")
    (tree / "lib/apk/db/installed").write_text("P:busybox\nV:1.36.1-r5\nA:x86_64\nF:bin\nR:sh\n\n")
    (tmp_path / "data").write_text("data")
    (tmp_path / "tool.def").write_text("Bootstrap: localimage\nFrom: base\n%files\n  data /opt/extra-data\n")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/singularity"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -m singularity "$@"\n')
    program.chmod(0o755)
    return tmp_path


def typed(page: str, place: Path) -> dict[str, str]:
    """What each line prints."""
    environment = {**os.environ, "PATH": f"{place}/bin:{os.environ['PATH']}", "TMPDIR": str(place)}
    said = {}
    for block in re.findall(r"^```sh\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            done = subprocess.run(
                ["sh", "-c", line], cwd=place, env=environment, capture_output=True, text=True, check=False
            )
            assert (done.returncode, "FATAL" in done.stderr) == (0, False), f"{line}: {done.stderr}"
            said[line] = done.stdout
    return said


def test_the_guide_to_contents(place: Path) -> None:
    said = typed("contents.md", place)
    assert (place / "tool.spdx.json").read_text().count("pkg:apk/alpine/busybox@1.36.1-r5") == 1
    assert said["singularity diff tool.sif tool.sif"].count("the same") == 3
    assert (
        "~ /etc/motd  content 6 -> 11 bytes\n+ /opt/extra  0 bytes"
        in said['singularity diff tool.sif tool/ || echo "they differ"']
    )
    assert "line 4, %files: data /opt/extra-data" in said["singularity why tool.sif /opt/extra-data"]
    assert "package: apk busybox 1.36.1-r5" in said["singularity why tool.sif /bin/sh"]


def test_the_guide_to_the_page(place: Path) -> None:
    subprocess.run(["bin/singularity", "build", "tool.sif", "tool.def"], cwd=place, check=True, capture_output=True)
    shutil.copy(place / "tool.sif", place / "old.sif")
    typed("view.md", place)
    assert (place / "tool.html").read_bytes().startswith(b"<!doctype html>")
