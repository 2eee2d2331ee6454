"""`singularity view IMAGE`: a page that shows what an image is, in the browser or as a file."""

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from singularity.cli.command import PATH, option, verb
from singularity.errors import Interrupted, SingularityError

if TYPE_CHECKING:
    from singularity.explain.page_data import Table

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "Makes a page that shows the files of IMAGE by size, its packages, layers, definition, labels, "
            "environment, SBOM, signatures and what check says of it, and serves it to this user until Ctrl-C."
        ),
        (
            "Standard output gets the address. Only this machine reaches it: where the browser is on another one, "
            "ssh -L leads there. With --html it becomes a file, which needs no server and loads nothing."
        ),
        "IMAGE is a file or directory of any format, or a URI. Nothing of it is run, and its texts are never markup.",
    ),
    examples=(
        "singularity view tool.sif",
        "singularity view --html tool.html docker://python:3.12-slim",
        "singularity view --against old.sif new.sif",
    ),
)
@option("--html", "output", type=PATH, metavar="FILE", help="Write the page to this new file, and serve nothing")
@option("-F", "--force", is_flag=True, help="Replace FILE where it is there")
@option("--against", default="", metavar="IMAGE", help="Also show how it differs from this image")
@option("--port", type=click.IntRange(0, 65535), metavar="N", default=0, help="Serve it at this port, not at any")
@click.argument("image")
def command(image: str, *, output: Path | None, force: bool, against: str, port: int) -> None:
    """Serves or writes the page."""
    from singularity import files
    from singularity.explain import page, server

    if output is not None:
        files.refuse_target(output, overwrite=force)
    data = page.html(_collected(image, against))
    if output is not None:
        files.write(output, data, overwrite=force)
        logger.info("Wrote %s", output)
        return
    try:
        server.serve(data, port, _told)
    except Interrupted:  # how it is meant to end
        logger.info("Stopped")


def _told(address: str, port: int) -> None:
    click.echo(address)
    logger.info("Open it in a browser; Ctrl-C ends it. From another machine: ssh -L %d:127.0.0.1:%d", port, port)


def _collected(image: str, against: str) -> dict[str, object]:
    from singularity.build.reproducible import source_date_epoch
    from singularity.cli.checked import available
    from singularity.cli.inspected import identified
    from singularity.cli.why import layers
    from singularity.console import working
    from singularity.explain import page_data

    with ExitStack() as stack:
        place = stack.enter_context(available(image))
        other = stack.enter_context(available(against)) if against else None
        stack.enter_context(working(f"looking at {image}"))
        asked = page_data.Asked(
            image=identified(place),
            name=image,
            layers=layers(image),
            against=identified(other) if other else None,
            against_name=against,
            signatures=_signatures(place),
            check=_check(str(place)),
            epoch=source_date_epoch(),
        )
        return page_data.collect(asked)


def _signatures(path: Path) -> "Table":
    """Who has signed the image, by the keys that are here; nobody is asked over a network."""
    from singularity.cli import sif_listed, trusting
    from singularity.errors import ImageError, SignatureError
    from singularity.explain.page_data import Table
    from singularity.image.sif import format as sif
    from singularity.trust import seals
    from singularity.trust.verify import Wanted, verify

    if not trusting.is_sif(path):
        return Table(text="only SIF files carry signatures; of others, verify reads a file beside them")
    with path.open("rb") as file:
        try:
            signed = [each for each in sif.read(file).descriptors if each.type == sif.DataType.SIGNATURE]
            kinds = {seals.opened(sif.read_object(file, each, limit=seals.LIMIT)).kind for each in signed}
            if not kinds:
                return Table(text="nobody has signed it")
            if seals.Kind.OPENPGP not in kinds:
                named = " and ".join(sorted(each.value for each in kinds))
                return Table(text=f"signed with {named}, which verify checks by the key that is given to it")
            found = verify(file, Wanted(), [trusting.pgp()])
        except (SignatureError, ImageError, OSError) as error:
            return Table(text=f"not verified: {error}", state="unverified")
    rows = []
    for each in found:
        objects = ", ".join(f"{one.id} ({sif_listed.TYPES.get(one.type, 'object')})" for one in each.objects)
        rows.append((each.signer.name or "unknown", each.signer.fingerprint, objects))
    return Table(text="all in it is as it was signed", state="good", rows=rows)


def _check(path: str) -> "Table":
    """What check says of its runscript on this host; where it cannot say anything, why."""
    from singularity.cli.checked import findings
    from singularity.explain.page_data import Table

    try:
        found = findings(path, (), (), frozenset(), only=False)
    except SingularityError as error:
        return Table(text=str(error))
    rows = [(e.subject.value, e.what, e.found, e.needed, e.verdict.value, e.advice) for e in found]
    return Table(text="nothing to be said", rows=rows)
