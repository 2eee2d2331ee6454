"""A program of the field as its users install it: an environment of its own, and a user who runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine

if TYPE_CHECKING:
    from launching import Launcher, Result

PLACE = Path(os.environ.get("CLIENTS", machine.CHECKOUT / "build/clients")).absolute()
_WEEK = 7 * 24 * 3600.0  # seconds, after which an environment is made of what is newest then
_LIMIT = 300.0  # seconds


@dataclass(frozen=True)
class Client:
    """A program of the field that starts containers, as its users install it, and a user's directory to run it in."""

    environment: Path
    launch: Launcher
    image: Path  # a small Debian, in the user's home directory, as she names it
    host: str  # of the registry that has it as small/debian:1
    digest: str  # of its manifest there

    @property
    def home(self) -> Path:
        return self.launch.home

    @property
    def uri(self) -> str:
        return f"docker://{self.host}/small/debian:1"

    @property
    def path(self) -> str:
        return f"{self.environment}/bin:{self.launch.prefix}/bin:/usr/bin:/bin"

    def write(self, name: str, text: str) -> Path:
        path = self.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.chown(path, self.launch.account.uid, self.launch.account.gid)
        if path.parent != self.home:
            os.chown(path.parent, self.launch.account.uid, self.launch.account.gid)
        return self.launch.home_inside / name

    def __call__(self, program: str, *words: str | Path, **env: str) -> Result:
        """One of its programs, or `python`; its output and that it ended well."""
        given = {"PATH": self.path, "SINGULARITY_NOHTTPS": "1", **env}
        done = self.launch.command(self.environment / "bin" / program, *words, env=given, timeout=_LIMIT)
        assert done.status == 0, str(done)
        return done

    def script(self, text: str, **env: str) -> Result:
        return self("python", self.write("script.py", text), **env)


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """The newest versions of the registry of Python, made anew when the last time is a week ago."""
    place, stamp = PLACE / name, PLACE / f"{name}.made"
    if not stamp.exists() or stamp.read_text() != " ".join(packages) or stamp.stat().st_mtime < time.time() - _WEEK:
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip = [place / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        stamp.write_text(" ".join(packages))
    return place
