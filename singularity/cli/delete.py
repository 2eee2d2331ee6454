"""`singularity delete`: an image of a library is removed there."""

import logging
import sys

import click

from singularity.cli.access import no_https_option
from singularity.cli.command import Verb, option
from singularity.errors import UsageError

logger = logging.getLogger(__name__)


@click.command(
    cls=Verb,
    name="delete",
    description=(
        "URI is library://[ENTITY/[COLLECTION/]]NAME:TAG. It asks before it does it, unless --force says otherwise.",
        "Images in registries are removed by the registry's own tools.",
    ),
    examples=("singularity delete library://me/tools/samtools:1.20",),
)
@option("--library", "server", default="", metavar="URL", variables="LIBRARY", help="The library that has it")
@option("-A", "--arch", default="", metavar="ARCH", variables="ARCH", help="The image for this architecture")
@option("-F", "--force", is_flag=True, variables="FORCE", help="Do not ask")
@no_https_option
@click.argument("uri")
def command(uri: str, *, server: str, arch: str, force: bool, no_https: bool) -> None:
    """Removes it."""
    from singularity.library import remotes
    from singularity.library.service import Service, parse
    from singularity.sources import fetch
    from singularity.sources.library import url

    scheme, separator, rest = uri.partition("://")
    if not separator or scheme != "library":
        raise UsageError(f'delete: "{uri}" is no image of a library', hint="library://ENTITY/COLLECTION/NAME:TAG")
    host, place = parse(rest)
    if not force:
        if not sys.stdin.isatty():
            raise UsageError("delete: nobody is there to be asked", hint="--force")
        click.confirm(f"Remove {uri} from the library?", abort=True, err=True)
    service = Service(remotes.library(url(host or server, no_https=no_https)))
    service.remove(place, fetch.from_options({"arch": arch}).platform.architecture)
    logger.info("Removed %s", service.name(place))
