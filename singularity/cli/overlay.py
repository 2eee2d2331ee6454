"""`singularity overlay create`: an image that takes what containers write."""

from pathlib import Path

import click

from singularity.cli.command import PATH, Commands, option
from singularity.cli.page import Page
from singularity.edit import overlay
from singularity.edit.overlay import Overlay

_COMMANDS = {"create": "Make an overlay image, or add one to a SIF file"}

command = Commands(
    Page(
        verb="overlay",
        summary="Make images that take what containers write",
        usage=("singularity overlay create [options] FILE",),
        verbs=(("Commands", tuple(_COMMANDS.items())),),
        examples=("singularity overlay create --size 1024 --sparse changes.img",),
    )
)


@command.below(
    "create",
    description=(
        "A FILE that does not exist becomes an ext3 image for --overlay FILE, with room for what one container writes.",
        "A SIF file gets an overlay partition, which launches with --writable write to; signed files are refused.",
        "With --fakeroot the overlay is for launches with --fakeroot, and for no others.",
    ),
    examples=(
        "singularity overlay create --size 1024 --sparse changes.img",
        "singularity exec --overlay changes.img debian.sif touch /kept",
        "singularity overlay create --create-dir /data,/opt/site debian.sif",
    ),
)
@option(
    "-s", "--size", type=int, default=overlay.SMALLEST, metavar="MIB", help=f"Size; {overlay.SMALLEST} when not given"
)
@option("-S", "--sparse", is_flag=True, help="Take space on the disk only as it is written to")
@option(
    "--create-dir",
    "directories",
    multiple=True,
    metavar="DIR[,...]",
    help="Directories of the container that are there from the beginning",
)
@option("-f", "--fakeroot", is_flag=True, help="For containers in which you are root")
@click.argument("file", type=PATH)
def create(file: Path, size: int, sparse: bool, directories: tuple[str, ...], fakeroot: bool) -> None:
    """Makes the overlay."""
    words = [word for given in directories for word in given.split(",") if word]
    wanted = Overlay(size=size, sparse=sparse, directories=tuple(map(overlay.directory, words)), fakeroot=fakeroot)
    overlay.create(file, wanted)
