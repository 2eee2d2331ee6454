"""`singularity linger`: images that stay mounted after their launches, listed and let go."""

import logging
import os
from pathlib import Path

import click

from singularity import linger
from singularity.cli.command import PATH, Commands, option
from singularity.console import escape
from singularity.errors import ImageError, UsageError

logger = logging.getLogger(__name__)


command = Commands(
    "linger",
    {"list": "List the images that are kept mounted", "end": "Let go of images"},
    usage=("singularity linger list", "singularity linger end [options] [IMAGE...]"),
    description=("A launch with --linger TIME keeps its image mounted for that long after the last use.",),
    examples=(
        "singularity exec --linger 60s tools.sif true",
        "singularity linger list",
        "singularity linger end --all",
    ),
)


@command.below(
    "list",
    description=("A line each: the process, the seconds that it stays after the last use, the image.",),
    examples=("singularity linger list",),
)
def list_() -> None:
    """Lists them, a line each."""
    found = list(linger.keepers())
    if found:
        click.echo("PROCESS    SECONDS  IMAGE")
    for keeper in found:
        click.echo(f"{keeper.process:<9}  {keeper.seconds:7}  {escape(str(keeper.image))}")


@command.below(
    "end",
    description=("Programs that are running in the image go on: their launches have mounts of their own.",),
    examples=("singularity linger end tools.sif", "singularity linger end --all"),
)
@option("-a", "--all", "all_", is_flag=True, help="All images")
@click.argument("images", metavar="IMAGE", nargs=-1, type=PATH)
def end(images: tuple[Path, ...], *, all_: bool) -> None:
    """Ends keepers."""
    if bool(images) == all_:
        raise UsageError("linger end: either images or --all is wanted")
    found = list(linger.keepers())
    for image in images:
        if not any(_same(image, keeper.image) for keeper in found):
            raise ImageError(f"{image} is not kept mounted", hint="singularity linger list shows what is")
    for keeper in found:
        if all_ or any(_same(image, keeper.image) for image in images):
            linger.end(keeper)
            logger.info("Ended: %s", keeper.image)


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)
