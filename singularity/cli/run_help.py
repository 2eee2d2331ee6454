"""`singularity run-help IMAGE`: the help text that an image brings."""

from pathlib import Path

import click

from singularity.cli.command import PATH, option, verb
from singularity.cli.inspected import identified, printable
from singularity.errors import ImageError
from singularity.image import metadata as meta


@verb(examples=("singularity run-help debian.sif",))
@option("--app", default="", variables="APP APPNAME", metavar="NAME", help="The help text of this application (SCIF)")
@click.argument("image", type=PATH)
def command(image: Path, app: str) -> None:
    """Prints the help text on standard output."""
    metadata = meta.read(identified(image))
    scripts = metadata.apps.get(app) if app else metadata
    if scripts is None:
        raise ImageError(f"{image}: no application {app}")
    click.echo(printable(scripts.helpfile) if scripts.helpfile else "No help sections were defined for this image")
