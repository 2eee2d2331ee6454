"""How much is said: by options, by variables, or by a run that called this one."""

import os

from singularity import console
from singularity.console import Level
from singularity.variables import truth, variable

_VERBOSE_LIMIT = 3  # of -v; more of them are --debug


def asked_level(*, debug: bool, verbose: int, quiet: bool, silent: bool) -> int | None:
    """The message level that options ask for, `verbose` of them for more; None for none."""
    if debug or verbose > _VERBOSE_LIMIT:
        return Level.DEBUG
    if verbose:
        return Level.DEBUG - 1
    if quiet:
        return Level.LOG
    return Level.ERROR if silent else None


def begin_messages(asked: int | None, *, colour: bool) -> None:
    """Message level: the option's, else the one a calling run handed down, else its variables', else INFO."""
    by_variable = {"DEBUG": Level.DEBUG, "VERBOSE": Level.VERBOSE, "QUIET": Level.LOG, "SILENT": Level.ERROR}
    inherited = variable("MESSAGELEVEL")
    level: int
    if asked is not None:
        level = asked
    elif inherited.removeprefix("-").isdecimal():
        level = max(Level.INFO, min(int(inherited), Level.DEBUG))  # only an option makes it quieter
    else:
        level = next((value for key, value in by_variable.items() if truth(variable(key))), Level.INFO)
    os.environ["SINGULARITY_MESSAGELEVEL"] = str(int(level))
    console.begin(level, colour=colour and not truth(variable("NOCOLOR")))
