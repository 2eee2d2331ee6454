"""`singularity completion SHELL`: the completion script, made from the same pages as help."""

import click

from singularity.cli.command import verb


@verb(
    description=("Put the script where your shell looks for such files, or load it.",),
    examples=(
        "source <(singularity completion bash)",
        "singularity completion zsh >~/.zfunc/_singularity",
        "singularity completion fish | source",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]), metavar="SHELL")
def command(shell: str) -> None:
    """Prints the script for bash, zsh, fish or powershell on standard output."""
    from singularity.cli.completions import completion

    click.echo(completion(shell), nl=False)
