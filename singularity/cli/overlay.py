"""`singularity overlay create`: an image that takes what containers write."""

from collections.abc import Callable
from pathlib import Path

import click

from singularity.cli.command import Explained, option
from singularity.cli.main import suggestion
from singularity.cli.page import Page, text
from singularity.errors import UsageError
from singularity.image import overlay
from singularity.image.overlay import Overlay

_COMMANDS = {"create": "Make an overlay image, or add one to a SIF file"}


class Commands(click.Group):
    """The commands below `overlay`."""

    def page(self, path: str) -> Page:
        """What there is below `overlay`."""
        return Page(
            verb=path,
            summary="Make images that take what containers write",
            usage=("singularity overlay create [options] FILE",),
            verbs=(("Commands", tuple(_COMMANDS.items())),),
            examples=("singularity overlay create --size 1024 --sparse changes.img",),
        )

    def get_help(self, ctx: click.Context) -> str:
        """The page, for `overlay --help`."""
        del ctx
        return text(self.page("overlay")).rstrip("\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with."""
        if args[0] not in self.commands:
            hint = suggestion(args[0], list(_COMMANDS)) or "see: singularity help overlay"
            raise UsageError(f"unknown command overlay {args[0]}", hint=hint)
        return super().resolve_command(ctx, args)


command = Commands(name="overlay", context_settings={"help_option_names": ["-h", "--help"]})


def _below(name: str, **more: tuple[str, ...]) -> Callable[[Callable[..., None]], click.Command]:
    return command.command(cls=Explained, name=name, short_help=_COMMANDS[name], **more)


@_below(
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
@click.argument("file", type=click.Path(path_type=Path))
def create(file: Path, size: int, sparse: bool, directories: tuple[str, ...], fakeroot: bool) -> None:
    """Makes the overlay."""
    words = [word for given in directories for word in given.split(",") if word]
    wanted = Overlay(size=size, sparse=sparse, directories=tuple(map(overlay.directory, words)), fakeroot=fakeroot)
    overlay.create(file, wanted)
