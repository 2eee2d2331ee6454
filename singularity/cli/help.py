"""`singularity help [VERB]`: the page of a verb, or of the program."""

from importlib import import_module

import click

from singularity.cli.command import verb
from singularity.cli.options_table import described, entries, launch_page
from singularity.cli.page import Page, text
from singularity.cli.verbs import GROUPS, VERBS
from singularity.errors import UsageError


@verb(
    description=("Without VERB, lists all verbs and the global options.",),
    examples=("singularity help exec", "singularity help sif add"),
)
@click.argument("verb", nargs=-1)
def command(verb: tuple[str, ...]) -> None:
    """Prints the page on standard output."""
    click.echo(text(page(*verb)) if verb else general(), nl=False)


def general() -> str:
    """The page of the program itself, as text."""
    return text(program_page())


def program_page() -> Page:
    """What the program is, its verbs and its global options."""
    shown = [verb for verb in VERBS.values() if not verb.hidden]
    verbs = tuple((group, tuple((v.name, v.summary) for v in shown if v.group == group)) for group in GROUPS)
    return Page(
        verb="",
        summary="Containers for science: images are single files, programs in them run as you.",
        usage=("singularity [global options] VERB [options] [arguments]",),
        options=tuple(described(entry) for entry in entries("global") if entry.names and not entry.hidden),
        verbs=verbs,
        examples=(
            "singularity build debian.sif debian.def",
            "singularity exec debian.sif cat /etc/os-release",
            "singularity help exec",
        ),
    )


def page(name: str, *below: str) -> Page:
    """The page of a verb, `below` naming a command of a verb that has its own (`sif list`).

    Raises UsageError for words that name none.
    """
    verb = VERBS.get(name)
    if verb is None:
        from singularity.cli.group import unknown_verb

        raise unknown_verb(name)
    if not verb.module:
        return launch_page(name)
    found = import_module(f"singularity.cli.{verb.module}").command
    for word in below:
        found = found.commands.get(word) if isinstance(found, click.Group) else None
        if found is None:
            raise UsageError(f"unknown command {' '.join((name, *below))}", hint=f"see: singularity help {name}")
    result: Page = found.page(" ".join((name, *below)))
    return result
