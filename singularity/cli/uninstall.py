"""`singularity uninstall NAME...`: what install has written goes again, and nothing else."""

import logging

import click

from singularity.cli.command import option, verb
from singularity.install import record

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "NAME is what singularity install --list shows, with or without its version, or the image. A file that "
            "was changed since it was installed stays, and is named. The image stays."
        ),
    ),
    examples=(
        "singularity uninstall samtools",
        "singularity uninstall samtools/1.17",
        "singularity uninstall ./tool.sif",
    ),
)
@option("-f", "--force", is_flag=True, help="Also what was changed since")
@click.argument("words", nargs=-1, required=True, metavar="NAME")
def command(words: tuple[str, ...], *, force: bool) -> None:
    """Removes the files."""
    with record.kept():
        for each in list(dict.fromkeys(record.matching(words, record.records()))):
            for path in record.take_away(each, force=force):
                logger.warning("%s: changed since it was installed, and stays (remove it yourself, or --force)", path)
            logger.info("Uninstalled %s", each.title)
