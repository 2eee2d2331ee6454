"""`singularity copy IMAGE [cp options] SOURCE... DESTINATION`: files of the host into an image."""

from pathlib import Path

import click

from singularity import paths
from singularity.cli.command import PATH, verb
from singularity.errors import UsageError


@verb(
    context_settings={"allow_interspersed_args": False},
    description=(
        (
            "IMAGE is an ext3 image file or a directory. The words after it are those of cp, with all its options; "
            "DESTINATION, the last, is a path in IMAGE, whose links stay inside IMAGE. The exit status is that of cp."
        ),
        "What an ordinary user copies into an image file belongs to root there, as what root copies does.",
    ),
    examples=(
        "sudo singularity copy debian.img -a scripts/ /opt/",
        "singularity copy debian.img tool.sh /usr/local/bin/tool",
    ),
)
@click.argument("image", type=PATH)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[cp options] SOURCE... DESTINATION")
@click.pass_context
def command(ctx: click.Context, image: Path, words: tuple[str, ...]) -> None:
    """Copies."""
    from singularity.edit import change
    from singularity.image.opened import opened

    if len(words) < 2:
        missing = "SOURCE and DESTINATION are" if not words else "DESTINATION is"
        raise UsageError(f"copy: {missing} missing", hint="see: singularity help copy")
    status = 0
    for each in change.runs(words):
        with opened(image, writable=True, missing="singularity create makes one") as found:
            change.check_writable(found)
            status = change.copy(found, each, paths.temporary()) or status
    ctx.exit(status)
