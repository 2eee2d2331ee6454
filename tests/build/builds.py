"""Typing `singularity build ...` in a directory of a test's own, and looking at what came of it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import machine
from ordinary_user import database

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

    def give(self) -> None:
        """Makes what root has written here the builder's own."""
        owner = self.directory.stat()
        for path in self.directory.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def leftovers(self) -> list[str]:
        """What a build must not leave: files in the temporary directory, and hidden or working ones beside images."""
        beside = [p.name for p in self.directory.iterdir() if p.name.startswith((".", "singularity-work-"))]
        return sorted([p.name for p in self.temporary.iterdir()] + beside)


USER = 4321
AS_USER = """
for file in subuid subgid passwd; do mount --bind "$1/$file" "/etc/$file" || exit; done
shift
exec setpriv --reuid "$@"
"""


def as_user(build: Build, *words: str, ids: str = "", own: bool = True) -> subprocess.CompletedProcess[str]:
    """The installed program, as a user; with `ids` as one who has an account and subordinate ids.

    Everything in the directory is the user's then, unless not `own`; layers in the cache keep their owners.
    """
    prefix = machine.prefix()
    assert prefix is not None
    account = f"user:x:{USER}:{USER}::/:/bin/sh\n" if ids else ""
    for name, text in (("subuid", ids), ("subgid", ids), ("passwd", database("passwd", account))):
        build.write(f"accounts/{name}", text)
    for path in (build.directory, *build.directory.rglob("*")):
        ours = own and "kept" not in path.relative_to(build.directory).parts
        if ours and path.lstat().st_uid != USER:  # another time of change would be another input
            os.chown(path, USER, USER, follow_symlinks=False)
    for path in build.directory.parents:
        if path.owner() == "root" and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    become = [build.directory / "accounts", str(USER), "--regid", str(USER), "--clear-groups"]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", AS_USER, "sh", *become, prefix / "bin" / "singularity", *words],
        cwd=build.directory,
        env={
            "TMPDIR": str(build.temporary),
            "HOME": str(build.directory),
            "SINGULARITY_CACHEDIR": str(build.directory / "kept"),
            "PATH": "/usr/bin:/bin:/usr/sbin",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
