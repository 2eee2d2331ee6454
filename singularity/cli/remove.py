"""`singularity remove SANDBOX...`: directories of containers go, whichever of their user's ids own what is in them."""

import logging
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path

import click

from singularity import console, files
from singularity.cli.command import PATH, option, verb
from singularity.errors import BuildError, FileError, UsageError

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "Removes sandboxes with all that is in them. Where files belong to subordinate ids of yours, as after "
            "build --sandbox --fakeroot, rm -r cannot do that."
        ),
        "Links are not followed, and nothing is removed that is mounted in them.",
    ),
    examples=("singularity remove box/", "singularity remove --force half-made/"),
)
@option("-f", "--force", is_flag=True, help="Also directories that are no sandboxes; none is fine too")
@click.argument("sandboxes", metavar="SANDBOX", nargs=-1, required=True, type=PATH)
def command(sandboxes: tuple[Path, ...], *, force: bool) -> None:
    """Removes them, when all of them may be."""
    found = [place for path in sandboxes if (place := _opened(path, force=force)) is not None]
    if found and os.geteuid() != 0:
        from singularity.namespaces import fakeroot

        try:
            fakeroot.become_root()
        except BuildError as error:  # what is the user's own can go without
            logger.debug("%s", error)
    for parent, path in found:
        with console.working(f"removing {path}"), FileError.about(path):
            files.remove_at(parent, path.name)


def _opened(path: Path, *, force: bool) -> tuple[int, Path] | None:
    """The open directory in which a sandbox lies, and its path; None: there is nothing to remove.

    What is checked here is what goes: root may be removing what lies where somebody else can put another in its place.
    Raises FileError and UsageError for what must not be removed.
    """
    try:
        status = path.lstat()
    except FileNotFoundError:
        if force:
            return None
        raise FileError(f"{path}: No such file or directory") from None
    except OSError as error:
        raise FileError.because(path, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise FileError(f"{path}: no directory", hint=f"rm {shlex.quote(str(path))}")
    place = path.resolve()
    for what, kept in (("the working directory", Path.cwd()), ("the home directory", Path.home())):
        if kept.resolve().is_relative_to(place):
            raise UsageError(f"{path}: {what} is or lies in it", hint="name another directory")
    if not (force or _is_sandbox(path)):
        raise FileError(f"{path}: no sandbox", hint="--force removes it all the same")
    files.refuse_place(place.parent)  # as who calls
    with FileError.about(path):
        parent = os.open(place.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        same = os.path.samestat(status, os.stat(place.name, dir_fd=parent, follow_symlinks=False))
    if not same:
        raise FileError(f"{path}: replaced by another since a moment ago")
    return parent, place


def _is_sandbox(path: Path) -> bool:
    """Whether it looks like a container, or like what `rm -r` has left of one: with files of other ids."""
    if any(os.path.lexists(path / name) for name in (".singularity.d", "bin/sh")):
        return True
    every = (os.path.join(directory, name) for directory, below, names in os.walk(path) for name in (*below, *names))
    with suppress(FileNotFoundError):  # somebody else is removing it
        return any(os.lstat(name).st_uid != os.geteuid() for name in every)
    return False
