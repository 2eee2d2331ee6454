"""`singularity answer QUESTION NUMBER [WORD...]`: hidden; its help. The answers are `answered`'s."""

import click

from singularity.cli.command import verb


@verb()
@click.argument("question")
@click.argument("number")
@click.argument("words", metavar="WORD", nargs=-1)
def command(question: str, number: str, words: tuple[str, ...]) -> int | None:
    """Answers what a launch asks."""
    from singularity.cli import answered

    return answered.plain((question, number, *words))
