"""`singularity tag`: an image of a registry gets more tags there; nothing is fetched or sent but its manifest."""

import logging
from typing import TYPE_CHECKING

import click

from singularity.cli.access import access_options
from singularity.cli.command import verb
from singularity.errors import UsageError

if TYPE_CHECKING:
    from singularity.registry.access import Access
    from singularity.registry.client import Registry
    from singularity.registry.reference import Reference

logger = logging.getLogger(__name__)


def in_registry(rest: str, access: "Access") -> "tuple[Registry, Reference]":
    """Whom to ask about the image that these words behind docker:// or oras:// name."""
    from singularity.registry import reference
    from singularity.registry.client import Registry

    named = reference.parse(rest)
    return Registry(named.host, access), named


@verb(
    description=(
        (
            "URI is docker://NAME:TAG or oras://NAME:TAG, or has a digest in place of the tag. A TAG that is there "
            "already stands for this image from then on."
        ),
    ),
    examples=(
        "singularity tag docker://ghcr.io/lab/tool:1.20 1 latest",
        "singularity tag oras://ghcr.io/lab/tool:1.20 stable",
    ),
)
@access_options
@click.argument("uri")
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
def command(uri: str, tags: tuple[str, ...], *, access: "Access") -> None:
    """The digest of the image is printed."""
    from singularity.registry import reference

    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in ("docker", "oras"):
        raise UsageError(f'tag: "{uri}" is no image of a registry', hint="docker://NAME:TAG or oras://NAME:TAG")
    registry, named = in_registry(rest, access)
    wanted = [reference.parse(f"{named.host}/{named.repository}:{tag}") for tag in tags]  # each is one
    found = registry.manifest(named)
    for each in wanted:
        registry.put_manifest(each, found.data, found.media_type)
        logger.info("%s://%s is %s", scheme, each, found.digest.short)
    click.echo(str(found.digest))
