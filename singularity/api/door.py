"""The program that starts containers, and what it is given."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from singularity import paths
from singularity.errors import LaunchError
from singularity.variables import variable

Word: TypeAlias = str | os.PathLike[str]
_LEVELS = ("FATAL:   ", "ERROR:   ")
_OWN = (1, 255)  # statuses of launches that fail


def program() -> Path:
    """The front door: that of this installation, or the one that SINGULARITY_PROGRAM names.

    An installation by pip has no setuid program. Where containers need the site's, the variable is its front door.
    Raises LaunchError where there is none.
    """
    named = variable("PROGRAM")
    if not named:
        return paths.front_door()
    path = Path(named).absolute()
    if not os.access(path, os.X_OK) or path.is_dir():
        raise LaunchError(f"SINGULARITY_PROGRAM: {named}: no program", hint="the path of singularity is wanted")
    return path


def launch(verb: Iterable[str], options: Iterable[str], image: Word, words: Iterable[Word]) -> tuple[str, ...]:
    """The command line of a launch."""
    name = os.fspath(image)
    first = f"./{name}" if name.startswith("-") else name
    return (str(program()), *verb, *options, first, *(os.fspath(word) for word in words))


def complaint(status: int, errors: bytes | None) -> LaunchError | None:
    """What kept a container from starting; None where its program has run, or where nobody kept what was said.

    A launch that fails says so in its last line, and ends with a status that its program may have, too.
    """
    text = (errors or b"").decode("utf-8", "surrogateescape").rstrip("\n").rpartition("\n")[2]
    is_ours = status in _OWN and text.startswith(_LEVELS)
    return LaunchError(text[len(_LEVELS[0]) :]) if is_ours else None
