"""`singularity check IMAGE [-- PROGRAM]`: what would fail in a job, before it runs."""

from functools import partial

import click

from singularity.cli import checked
from singularity.cli.command import Verb, option, verb
from singularity.errors import UsageError

_OPTIONS = "launch_options"  # key of the context


class _Check(Verb):
    """Takes the options of a launch too, and keeps them as they were typed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Options end at IMAGE, as in a launch; a `--` may follow it."""
        ours, launch, rest = checked.parts(args)
        ctx.meta[_OPTIONS] = launch
        if rest[1:2] == ["--"]:
            del rest[1]
        elif rest[1:2] and rest[1].startswith("-"):
            raise UsageError(
                f"check: option {rest[1]} after IMAGE", hint="options stand before IMAGE, PROGRAM after --"
            )
        return super().parse_args(ctx, [*ours, *(["--", *rest] if rest else [])])


_subject = partial(option, is_flag=True, group="What is checked")


@verb(
    cls=_Check,
    usage="[options] [launch options] IMAGE [-- PROGRAM [ARGUMENT...]]",
    description=(
        (
            "Says what would fail if PROGRAM were launched like this on this host. Nothing of the image is run. Ends "
            "with 0 when nothing would fail, with 1 otherwise."
        ),
        (
            "Without PROGRAM, the runscript is looked at. Every option of exec can be given: with --bind and --nv, the "
            "files of the host are seen as the program would see them. Without an option below, all is checked that "
            "PROGRAM has to do with."
        ),
        "Libraries that a program opens by itself while it runs, as modules of Python are, cannot be known before.",
    ),
    examples=(
        "singularity check debian.sif -- python3",
        "singularity check --mpi ompi.sif -- /usr/bin/mpi_ring",
        "singularity check --gpu --nv pytorch.sif -- python3 train.py",
        "singularity check --all --json --bind /scratch tool.sif -- tool",
    ),
)
@_subject("--mpi", help="The MPI inside and the launcher of the host")
@_subject("--gpu", help="CUDA and the driver; libraries of the driver and the image")
@_subject("--fabric", help="InfiniBand and its kin: libraries, devices, the kernel")
@_subject("--kernel", help="The kernel and the processor that program and libraries want")
@_subject("--all", "everything", help="All of these, whether PROGRAM has to do with them or not")
@option("--json", "as_json", is_flag=True, help="As a JSON document")
@click.argument("image")
@click.argument("program", nargs=-1, metavar="PROGRAM")
@click.pass_context
def command(
    ctx: click.Context, /, image: str, program: tuple[str, ...], *, everything: bool, as_json: bool, **flags: bool
) -> int:
    """Prints the report on standard output."""
    named = {name for name, wanted in flags.items() if wanted} | ({"all"} if everything else set())
    return checked.told(image, program, tuple(ctx.meta[_OPTIONS]), named, as_json=as_json)
