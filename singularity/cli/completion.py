"""`singularity completion bash`: the completion script, made from the same pages as help."""

import click

from singularity.cli.command import Verb


@click.command(
    cls=Verb,
    name="completion",
    description=("Put the script where your shell looks for such files, or load it with `source`.",),
    examples=("source <(singularity completion bash)",),
)
@click.argument("shell", type=click.Choice(["bash"]), metavar="bash")
def command(shell: str) -> None:
    """Prints the script on standard output."""
    del shell
    from singularity.cli.pages import completion

    click.echo(completion(), nl=False)
