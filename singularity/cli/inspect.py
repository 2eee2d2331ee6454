"""`singularity inspect IMAGE`: what an image says about itself, without launching it."""

import json
from pathlib import Path

import click

from singularity.cli.command import PATH, Verb, option
from singularity.cli.inspected import ALL, JSON, PARTS, Wanted, identified, printable, rendered
from singularity.errors import ImageError
from singularity.image import metadata
from singularity.image.identify import EncryptedError


@click.command(
    cls=Verb,
    name="inspect",
    description=(
        "Without options, prints the labels. Several options print one after the other. Nothing is launched.",
    ),
    examples=(
        "singularity inspect debian.sif",
        "singularity inspect --deffile debian.sif",
        "singularity inspect --all x.sif",
    ),
)
@option(*PARTS["labels"], is_flag=True, help="The labels; what is shown when nothing is chosen")
@option(*PARTS["deffile"], is_flag=True, help="The definition file that it was built from")
@option(*PARTS["runscript"], is_flag=True, help="The runscript")
@option(*PARTS["startscript"], is_flag=True, help="The start script of instances")
@option(*PARTS["test"], is_flag=True, help="The test script")
@option(*PARTS["environment"], is_flag=True, help="The environment scripts")
@option(*PARTS["helpfile"], is_flag=True, help="The help text")
@option(*PARTS["apps"], "apps", is_flag=True, help="The names of its applications (SCIF)")
@option("--provenance", is_flag=True, help="What it was built from and how, as build --provenance has noted it")
@option("--app", default="", metavar="NAME", help="What this application of the image says, in place of the image")
@option(*JSON, "as_json", is_flag=True, help="As a JSON document")
@option(*ALL, "everything", is_flag=True, help="All there is, as a JSON document; goes before --app")
@click.argument("image", type=PATH)
def command(image: Path, app: str, as_json: bool, everything: bool, provenance: bool, **flags: bool) -> None:
    """Prints the chosen parts on standard output."""
    if provenance:
        click.echo(printable(_provenance(image)))
        return
    parts = frozenset(part for part, chosen in flags.items() if chosen)
    wanted = Wanted(parts=parts, app=app, as_json=as_json, everything=everything)
    try:
        found = metadata.read(identified(image))
    except EncryptedError:
        described = metadata.of_sif(image)  # which needs no file system, and so no key to it
        if described is None:
            raise
        found = described
    click.echo(printable(rendered(found, wanted, image)), nl=False)


def _provenance(image: Path) -> str:
    """The statement, as a JSON document. Raises ImageError where there is none."""
    from singularity.cli import trusting
    from singularity.trust import provenance

    found = None
    if trusting.is_sif(image):
        with image.open("rb") as file:
            found = provenance.find(file)
    if found is None:
        raise ImageError(
            f"{image}: says nothing of how it was built", hint="build --provenance puts that into a SIF file"
        )
    return json.dumps(found.statement, indent="\t", ensure_ascii=False)
