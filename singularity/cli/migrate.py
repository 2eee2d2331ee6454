"""`singularity migrate`: what Apptainer, or SingularityCE, has of a user or of a site is taken over."""

import logging
from pathlib import Path

import click

from singularity import files, paths
from singularity.cli.command import PATH, option, verb
from singularity.console import escape
from singularity.errors import FileError, UsageError

logger = logging.getLogger(__name__)

_SITES = ("/etc/apptainer", "/usr/local/etc/apptainer", "/etc/singularity", "/usr/local/etc/singularity")


@verb(
    description=(
        (
            "Remotes with their tokens, key servers, logins to registries, keys, and the layers and images of the "
            "cache, out of ~/.apptainer. With --site directives that were changed, remotes, keys, capabilities and "
            "networks, out of /etc/apptainer and its like."
        ),
        (
            "A line says of each whether it was taken, was there already, or was left, and why. Nothing that is here "
            "is replaced, and nothing there is changed. SingularityCE keeps its users' files in ~/.singularity, where "
            "they are found without this."
        ),
    ),
    examples=("singularity migrate --dry-run", "singularity migrate", "sudo singularity migrate --site"),
)
@option("--from", "place", type=PATH, default=None, metavar="DIRECTORY", help="Where the other program's files are")
@option("--site", is_flag=True, help="What is there for all; for whoever may write the configuration here")
@option("-n", "--dry-run", is_flag=True, help="Only say what would be taken")
def command(*, place: Path | None, site: bool, dry_run: bool) -> None:
    """A line for each thing that is there."""
    from singularity.migrate import report
    from singularity.migrate import site as of_site
    from singularity.migrate import user as of_user

    steps = of_site.STEPS if site else of_user.STEPS
    found = next(filter(_is_theirs, map(Path, _SITES) if site else [Path.home() / ".apptainer"]), None)
    if place is not None and not place.is_dir():
        raise FileError(f"{place}: no such directory")
    if place is not None and not _is_theirs(place):
        raise UsageError(f"--from {place}: this program has its own files there, and finds them")
    place = place or found
    if place is None:
        logger.info("There is nothing to take over%s", "" if site else ": no ~/.apptainer")
        return
    if site and not dry_run:
        files.refuse_place(paths.site_directory())
    rows = [
        (each.state.value, each.what, escape(each.name), escape(each.why))
        for each in report.of_each(place, steps, change=not dry_run)
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    for state, what, name, why in rows:
        click.echo(f"{state:<{widths[0]}}  {what:<{widths[1]}}  {name}{f': {why}' if why else ''}")
    if not rows:
        logger.info("There is nothing to take over in %s", place)


def _is_theirs(place: Path) -> bool:
    own = (paths.user_place(), paths.site_directory())
    return place.is_dir() and not any(each.exists() and each.samefile(place) for each in own)
