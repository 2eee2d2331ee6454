"""`singularity search`: images of a library by words."""

import click

from singularity.cli.access import no_https_option
from singularity.cli.command import option, verb
from singularity.console import escape


@verb(
    description=(
        "Asks the library that is in use (singularity remote) for names with these words.",
        "Registries of OCI images have no search that all of them know: look in a web browser.",
    ),
    examples=("singularity search lolcow", "singularity search --arch arm64 --signed lolcow"),
)
@option("--library", "server", default="", metavar="URL", variables="LIBRARY", help="The library to ask")
@option("--arch", default="", metavar="ARCH", variables="SEARCH_ARCH", help="Only images for this architecture")
@option("--signed", is_flag=True, variables="SEARCH_SIGNED", help="Only signed images")
@no_https_option
@click.argument("words")
def command(words: str, *, server: str, arch: str, signed: bool, no_https: bool) -> None:
    """A line for each that is found: its kind and its name."""
    from singularity.library import remotes
    from singularity.library.service import Service
    from singularity.sources.library import url

    found = Service(remotes.library(url(server, no_https=no_https))).search(words, arch, signed=signed)
    for kind, name in found:
        click.echo(f"{kind:<10}  {escape(name)}")
    if not found:
        click.echo(f"nothing found for {escape(words)}", err=True)
