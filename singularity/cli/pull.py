"""`singularity pull [TARGET] URI`: an image from somewhere else as a file here."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from singularity import console
from singularity.cli.command import option, verb
from singularity.cli.fetching import options as fetching_options
from singularity.cli.fetching import platform as platform_options

if TYPE_CHECKING:
    from singularity.sources.fetch import Fetch


@verb(
    usage="[options] [TARGET] URI",  # both words in one list: the optional one comes first
    description=(
        (
            "URI is docker://[HOST/]NAME[:TAG][@DIGEST], oras://HOST/NAME[:TAG], library://NAME[:TAG], "
            "shub://USER/NAME, doi:10.PREFIX/SUFFIX[/FILE], http://... or https://..., docker-daemon:NAME:TAG, "
            "oci:DIRECTORY[:TAG], oci-archive:FILE or docker-archive:FILE."
        ),
        (
            "TARGET becomes a SIF file, or what is there where that is an image file already. Without TARGET its name "
            "is the last part of the image's, and the tag: debian_stable.sif. It is whole or as it was before, "
            "whatever happens."
        ),
        (
            "What was fetched is kept in the cache: an image that is there already is not fetched again, layers that "
            "other images share neither, and a fetch that was interrupted goes on where it was."
        ),
    ),
    examples=(
        "singularity pull docker://debian:stable",
        "singularity pull --name tools.sif oras://registry.example.org/tools:1.2",
        "singularity pull --arch arm64 --dir images docker://quay.io/podman/hello",
        "singularity pull https://example.org/images/tools.sif",
    ),
)
@option("-F", "--force", is_flag=True, variables="FORCE", group="Options", help="Replace the file where there is one")
@option(
    "--dir", "directory", default="", metavar="DIR", variables="PULLDIR PULLFOLDER", group="Options",
    help="Put the file there; the directory is made where it is missing",
)  # fmt: skip
@option("--name", default="", metavar="NAME", variables="PULL_NAME", group="Options", help="The same as TARGET")
@option(
    "--json",
    "as_json",
    is_flag=True,
    group="Options",
    help="Tell what happens as JSON on standard output, an event a line",
)
@platform_options
@option(
    "--base", "with_base", is_flag=True, variables="PULL_BASE", group="Options",
    help="Fetch the base of an image that lies on one (build --on), too, where it is not here",
)  # fmt: skip
@option("--sandbox", is_flag=True, variables="SANDBOX", group="Options", help="Make a directory")
@option(
    "--disable-cache", is_flag=True, variables="DISABLE_CACHE", group="Options",
    help="Take nothing from the cache, keep nothing in it",
)  # fmt: skip
@option(
    "--tmpdir", default="", metavar="DIR", group="Options",
    help="Where temporary files are made [SINGULARITY_TMPDIR, TMPDIR]",
)  # fmt: skip
@fetching_options
@option("-U", "--allow-unsigned", "--allow-unauthenticated", is_flag=True, hidden=True, expose_value=False)
@option("--no-cleanup", is_flag=True, hidden=True, expose_value=False)
@option("--reproducible", is_flag=True, hidden=True, expose_value=False)
@click.argument("words", nargs=-1, metavar="WORD")
def command(
    words: tuple[str, ...],
    *,
    directory: str,
    name: str,
    force: bool,
    with_base: bool,
    sandbox: bool,
    fetch: "Fetch",
    as_json: bool,
) -> None:
    """Pulls."""
    from singularity.cli import pulling

    if as_json:
        console.begin_events()

    pulling.pull(words, Path(directory), fetch, name=name, overwrite=force, sandbox=sandbox, with_base=with_base)
