"""`singularity overlay`: images that take what containers write."""

from pathlib import Path

import click

from singularity.cli.command import PATH, Commands, option
from singularity.edit import overlay
from singularity.edit.overlay import Overlay

command = Commands(
    "overlay",
    {
        "create": "Make an overlay image, or add one to a SIF file",
        "sync": "Mend an overlay, and give what it does not need back to the disk",
        "seal": "Make the overlay of a SIF file read-only",
    },
    usage=("singularity overlay create|sync|seal [options] FILE",),
    examples=("singularity overlay create --size 1024 --sparse changes.img",),
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


@command.below(
    "sync",
    description=(
        (
            "Checks the file system of an overlay image, or of the writable overlay of a SIF file, mends it where a "
            "launch was killed, and makes holes of what was deleted in it."
        ),
    ),
    examples=("singularity overlay sync changes.img",),
)
@click.argument("file", type=PATH)
def sync(file: Path) -> None:
    """Looks after the overlay."""
    from singularity.edit import overlay_use

    overlay_use.sync(file)


@command.below(
    "seal",
    description=(
        (
            "The writable overlay of a SIF file becomes a squashfs: smaller, read-only, and part of every launch. "
            '"overlay create" adds another one over it.'
        ),
    ),
    examples=("singularity overlay seal debian.sif",),
)
@option("--tmpdir", default="", metavar="DIR", help="Where temporary files are made")
@click.argument("file", type=PATH)
def seal(file: Path, tmpdir: str) -> None:
    """Makes the overlay read-only."""
    from singularity.edit import overlay_use

    overlay_use.seal(file, Path(tmpdir or file.absolute().parent))
