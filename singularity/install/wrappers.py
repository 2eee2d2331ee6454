"""Wrapper commands: short scripts of /bin/sh, each of which becomes one launch of the image."""

import os
import shlex
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from singularity.install.tool import Kind, New, Tool


def files(tool: Tool, directory: Path, kind: Kind) -> Iterator[New]:
    """The scripts. Every word is quoted; what is behind the name of a command goes to its program as it is."""
    for command in tool.commands:
        text = f'#!/bin/sh\n# {tool.note}\nexec {shlex.join(tool.launch(command))} "$@"\n'
        yield New(kind=kind, path=directory / command.name, text=text, mode=0o755)


def hidden(names: Sequence[str], directory: Path, search_path: str, ours: Collection[Path]) -> dict[str, Path]:
    """Which of the names are programs of the host already, in other directories; those that are `ours` are left out."""
    found: dict[str, Path] = {}
    for each in filter(os.path.isabs, search_path.split(":")):
        place = Path(each)
        if os.path.realpath(place) == os.path.realpath(directory):
            continue
        for name in names:
            path = place / name
            if path not in ours and os.path.isfile(path) and os.access(path, os.X_OK):
                found.setdefault(name, path)
    return found
