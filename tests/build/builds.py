"""Typing `singularity build ...` in a directory of a test's own, and looking at what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Build:
    """The directory of a test, with all that builds read and write."""

    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def temporary(self) -> Path:
        return self.directory / "tmp"

    def argv(self, *words: str | Path) -> list[str]:
        return [sys.executable, "-I", "-m", "singularity", *map(str, words)]

    def __call__(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        """`singularity WORDS...` to its end."""
        return subprocess.run(
            self.argv(*words),
            cwd=self.directory,
            env=self.env(**env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=300,
        )

    def env(self, **more: str) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.temporary), **self.environment, **more}

    def ok(self, *words: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
        done = self(*words, **env)
        assert done.returncode == 0, done.stderr
        return done

    def fails(self, *words: str | Path, status: int = 255, **env: str) -> str:
        """The one FATAL (for wrong usage: ERROR) line of a command that ends with `status`, without its first word."""
        done = self(*words, **env)
        assert done.returncode == status, done.stderr
        word = "ERROR:   " if status == 1 else "FATAL:   "
        lines = [line for line in done.stderr.splitlines() if line.startswith(word)]
        assert len(lines) == 1, done.stderr
        assert "Traceback" not in done.stderr
        return lines[0].removeprefix(word)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def root_of(self, image: Path | str) -> Path:
        """The root file system of a SIF file, unpacked by the tool of squashfs."""
        path = self.directory / image
        target = self.directory / f"unpacked-{path.name}-{len(list(self.directory.iterdir()))}"
        offset = next(
            line.split("|")[3].split("-")[0].strip()
            for line in self.ok("sif", "list", path).stdout.splitlines()
            if "*System" in line
        )
        argv = ["unsquashfs", "-quiet", "-no-progress", "-offset", offset, "-dest", str(target), str(path)]
        subprocess.run(argv, check=True, capture_output=True)
        return target

    def leftovers(self) -> list[str]:
        """What a build must not leave: files in the temporary directory, and hidden or working ones beside images."""
        beside = [p.name for p in self.directory.iterdir() if p.name.startswith((".", "singularity-work-"))]
        return sorted([p.name for p in self.temporary.iterdir()] + beside)
