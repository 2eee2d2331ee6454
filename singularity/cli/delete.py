"""`singularity delete`: an image of a library or a registry is removed there."""

import logging
import sys
from typing import TYPE_CHECKING

import click

from singularity.cli.access import access_options
from singularity.cli.command import option, verb
from singularity.errors import UsageError

if TYPE_CHECKING:
    from singularity.registry.access import Access

logger = logging.getLogger(__name__)


@verb(
    description=(
        (
            "URI is library://[ENTITY/[COLLECTION/]]NAME:TAG, docker://NAME:TAG or oras://NAME:TAG. It asks before it "
            "does it, unless --force says otherwise."
        ),
        (
            "Of a registry, the tag is taken away; where it removes no tags alone, the image goes unless it has "
            "others. An image that is named by its digest goes with all its tags."
        ),
    ),
    examples=(
        "singularity delete library://me/tools/samtools:1.20",
        "singularity delete oras://ghcr.io/lab/samtools:1.20",
    ),
)
@option("--library", "server", default="", metavar="URL", variables="LIBRARY", help="The library that has it")
@option("-A", "--arch", default="", metavar="ARCH", variables="ARCH", help="The library's image for this architecture")
@option("-F", "--force", is_flag=True, variables="FORCE", help="Do not ask")
@access_options
@click.argument("uri")
def command(uri: str, *, server: str, arch: str, force: bool, access: "Access") -> None:
    """Removes it."""
    from singularity.cli.tag import in_registry
    from singularity.library import remotes
    from singularity.library.service import Service, parse
    from singularity.sources import fetch
    from singularity.sources.library import url

    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("library", "docker", "oras"):
        hint = "library://ENTITY/COLLECTION/NAME:TAG, docker://NAME:TAG, oras://NAME:TAG"
        raise UsageError(f'delete: "{uri}" is no image of a library or registry', hint=hint)
    if not force:
        if not sys.stdin.isatty():
            raise UsageError("delete: nobody is there to be asked", hint="--force")
        click.confirm(f"Remove {uri}?", abort=True, err=True)
    if scheme != "library":
        from singularity.registry.removal import remove

        registry, named = in_registry(rest, access)
        remove(registry, named)
        logger.info("Removed %s://%s", scheme, named)
        return
    host, place = parse(rest)
    service = Service(remotes.library(url(host or server, no_https=access.no_https)))
    service.remove(place, fetch.from_options({"arch": arch}).platform.architecture)
    logger.info("Removed %s", service.name(place))
