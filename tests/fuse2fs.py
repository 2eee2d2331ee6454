"""The machine's fuse2fs, made worse: to be shown in its place."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import machine
from images import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

UNLOADED = "unset LD_PRELOAD; exec"  # as one that is linked statically


@contextmanager
def started_by(how: str) -> Iterator[dict[Path, Path]]:
    """A script that starts it, by the path that it is shown at. Servers find it, who have a /tmp of their own."""
    machine.require("fuse2fs")
    found = shutil.which("fuse2fs", path="/usr/bin:/bin:/usr/sbin:/sbin")
    assert found is not None
    program = Path(found).resolve()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        shutil.copy2(program, place / "fuse2fs")
        script = place / "script"
        script.write_text(f'#!/bin/sh\n{how} {place}/fuse2fs "$@"\n')
        script.chmod(0o755)
        yield {program: script}


@contextmanager
def forgetful() -> Iterator[dict[Path, Path]]:
    """One that forgets to cut files, as versions 1.47.1 and 1.47.2 do."""
    machine.require("gcc")
    source = Path(__file__).with_name("forgetful.c")
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        library = Path(name, "forgetful.so")
        tool("gcc", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, source)
        with started_by(f'LD_PRELOAD="{library}:$LD_PRELOAD" exec') as replaced:
            yield replaced
