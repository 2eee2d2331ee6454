"""What became of each thing that the other program has."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from singularity.errors import FileError, SingularityError


class State(StrEnum):
    """The three ways that it can go; the values are what `singularity migrate` prints."""

    TAKEN = "taken"
    THERE = "there"  # before, as it is
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the report."""

    state: State
    what: str  # remote, login, key...
    name: str
    why: str = ""  # it was left; or what else is to be said


def taken(what: str, name: str, *, new: bool, said: str = "") -> Outcome:
    """One that was new, or there already."""
    return Outcome(State.TAKEN if new else State.THERE, what, name, said)


def left(what: str, name: str, why: object) -> Outcome:
    """One that was not taken, with the reason."""
    return Outcome(State.LEFT, what, name, str(why))


Step = tuple[str, str, Callable[[Path, bool], Iterator[Outcome]]]  # what is in which file, and who reads it


def of_each(place: Path, steps: Sequence[Step], *, change: bool) -> Iterator[Outcome]:
    """Goes through the files below a directory that are there. One that cannot be taken over ends nothing."""
    for what, name, step in steps:
        path = place / name
        try:
            owner = path.stat().st_uid
            if owner not in (0, os.geteuid()):
                raise FileError(f"belongs to user {owner}, not to you")
            yield from step(path, change)
        except FileNotFoundError:
            continue
        except OSError as error:
            yield left(what, str(path), FileError.because(path, error))
        except SingularityError as error:
            yield left(what, str(path), error)
