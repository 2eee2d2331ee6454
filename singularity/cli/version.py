"""`singularity version`: the bare version, as programs that drive us read it."""

import click

from singularity import __version__
from singularity.cli.command import verb


@verb(examples=("singularity version",))
def command() -> None:
    """Prints the version on standard output."""
    click.echo(__version__)
