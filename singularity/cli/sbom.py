"""`singularity sbom IMAGE`: the list of what is in an image, for people who must know and programs that ask."""

import logging
import sys
from pathlib import Path

import click

from singularity.cli.command import PATH, option, verb
from singularity.packages.bill import Standard

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "Lists the packages of dpkg, rpm, apk, pacman, conda, pip, R and npm by what these have noted in IMAGE, "
            "and programs and libraries that belong to none of them, with their build ids. Nothing of IMAGE is run."
        ),
        "IMAGE is a file or directory of any format, or a URI. SOURCE_DATE_EPOCH is the time that the list carries.",
        "build --sbom puts the list into a SIF file, and push sends it along.",
    ),
    examples=(
        "singularity sbom debian.sif > debian.spdx.json",
        "singularity sbom --format cyclonedx --output tool.cdx.json tool.sif",
        "singularity sbom --stored tool.sif",
    ),
)
@option(
    "-f",
    "--format",
    "standard",
    type=click.Choice([each.value for each in Standard]),
    metavar="FORM",
    help="spdx: SPDX 2.3, the default, or cyclonedx: CycloneDX 1.6; both in JSON",
)
@option("-o", "--output", type=PATH, metavar="FILE", help="Write it to this new file, in place of standard output")
@option("-F", "--force", is_flag=True, help="Replace FILE where it is there")
@option("--stored", is_flag=True, help="The list that IMAGE, a SIF file, carries, as it is")
@click.argument("image")
def command(image: str, *, standard: str | None, output: Path | None, force: bool, stored: bool) -> None:
    """Prints or writes the list."""
    from singularity import files
    from singularity.build.reproducible import source_date_epoch
    from singularity.cli.checked import available
    from singularity.cli.inspected import identified, printable
    from singularity.console import working
    from singularity.packages import bill

    if output is not None:
        files.refuse_target(output, overwrite=force)
    with available(image) as path:
        if stored:
            data = bill.carried(path, Standard(standard) if standard else None)
        else:
            with working(f"looking for packages in {image}"):
                data = bill.of_image(identified(path), Standard(standard or "spdx"), epoch=source_date_epoch())
    if output is None and sys.stdout.isatty():
        click.echo(printable(data.decode("utf-8", "surrogateescape")), nl=False)
        return
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    files.write(output, data, overwrite=force)
    logger.info("Wrote %s", output)
