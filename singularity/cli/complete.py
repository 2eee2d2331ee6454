"""`singularity complete KIND [WORD...]`: hidden; its help. The names are `completed`'s."""

import click

from singularity.cli.command import verb


@verb()
@click.argument("kind")
@click.argument("words", metavar="WORD", nargs=-1)
def command(kind: str, words: tuple[str, ...]) -> int | None:
    """Prints the names."""
    from singularity.cli import completed

    return completed.plain((kind, *words))
