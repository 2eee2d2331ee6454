"""`singularity launch ARGV...`: hidden; its help. The launch itself is `launched`'s."""

import click

from singularity.cli.command import verb


@verb(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def command(argv: tuple[str, ...]) -> int | None:
    """Launches what a URI names or an archive, or says why it cannot. `argv` is the launch as it was typed."""
    from singularity.cli import launched

    return launched.plain(argv)
