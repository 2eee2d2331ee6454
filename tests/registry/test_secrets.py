"""R-N3: programs that run on a user's behalf do not find her passwords for registries in their environment."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ARGV = [sys.executable, "-I", "-m", "singularity"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    names = (
        "SINGULARITY_DOCKER_PASSWORD",
        "APPTAINER_DOCKER_PASSWORD",
        "DOCKER_PASSWORD",
        "SINGULARITY_LOGIN_PASSWORD",
    )
    return {**os.environ, **dict.fromkeys(names, "s3cret"), "HARMLESS": "yes", "TMPDIR": str(tmp_path)}


@pytest.mark.needs("busybox")
def test_r_n3_scripts_of_builds_get_no_password(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "x.def").write_text(
        f"Bootstrap: busybox\nMirrorURL: /bin/busybox\n%setup\n    env >{tmp_path}/setup\n%post\n    env >/post\n"
    )
    argv = [*ARGV, "--debug", "build", "--sandbox", "x", "x.def"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "setup").read_text()
    assert "HARMLESS=yes" in said
    for text in (said, (tmp_path / "x/post").read_text(), done.stdout, done.stderr):
        assert "s3cret" not in text


@pytest.mark.needs("root")
def test_r_n3_commands_in_images_get_no_password(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "image").mkdir()
    argv = [*ARGV, "export", "--command", "env", "image"]
    done = subprocess.run(argv, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "HARMLESS=yes" in done.stdout, done.stderr
    assert "s3cret" not in done.stdout
