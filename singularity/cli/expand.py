"""`singularity expand IMAGE`: more room in an ext3 image."""

import logging
from pathlib import Path

import click

from singularity.cli.command import PATH, OneDash, option, verb
from singularity.cli.create import mebibytes, say
from singularity.errors import FileError
from singularity.image.identify import Format

logger = logging.getLogger(__name__)

_DEFAULT = 512  # MiB


@verb(
    description=(
        "IMAGE, with an ext3 file system, is checked, mended where it must be, and made larger in place.",
        "Nobody else may use it meanwhile. If this is killed, IMAGE is as it was or as it shall be.",
        "Any user can do this who can write IMAGE.",
    ),
    examples=("singularity expand debian.img", "singularity expand --size 2048 debian.img"),
)
@option("-s", "--size", cls=OneDash, default=str(_DEFAULT), metavar="MIB", help=f"How much larger, {_DEFAULT} MiB by "
        "default")  # fmt: skip
@click.argument("image", type=PATH)
def command(image: Path, *, size: str) -> None:
    """Makes the image larger."""
    amount = mebibytes(size, least=1)
    from singularity.edit import change
    from singularity.image.ext import tools as ext
    from singularity.image.opened import opened

    with opened(image, writable=True, missing="make it: singularity create") as found:
        if found.image.format is not Format.EXT:
            raise _refusal(image, found.image.format)
        offset = found.image.root.offset
        say(f"Expanding image by {amount}MiB...")
        say("Checking the file system")
        with change.rewritten(found) as new:
            if ext.check(new, offset, name=str(image), purpose=f"check {image}"):
                logger.info("The file system of %s was mended", image)
            say("Growing the file system")
            with FileError.about(image):
                ext.expand(new, offset, amount << 20, purpose=f"expand {image}")
    say("Done.")


def _refusal(image: Path, kind: Format) -> FileError:
    if kind is Format.DIRECTORY:
        return FileError(f"{image}: a directory, which is as large as its disk")
    if kind is Format.SIF:
        what = "a SIF file, whose root file system is read-only and as large as its content"
        return FileError(
            f"{image}: {what}", hint="use --overlay, or make a directory of it: singularity build --sandbox"
        )
    return FileError(f"{image}: a {kind.value}, not an ext3 image, and as large as its content")
