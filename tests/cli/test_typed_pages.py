"""What the pages and the help show can be typed: verbs, options, words. Whether it works, the guides' own tests say."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from singularity.cli.options_table import LAUNCHES_OF_INSTANCES, Kind, entries, table
from singularity.cli.pages import pages
from singularity.cli.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:^|[|;] ?|\$ |<\(|sudo |srun (?:-\S+ )*|mpirun -np \d+ )singularity ((?!\[).*)")
LAUNCHES = ("exec", "run", "shell", "test")
# Of cp, Docker and instructions of Dockerfiles.
OF_OTHERS = {"--remove-destination", "--rm", "--volume", "--gpus", "--privileged", "--entrypoint", "--security-opt"}
OF_OTHERS |= {"--cache-from", "--squash", "--checksum", "--chmod", "--chown", "--exclude", "--from", "--link"}
OF_OTHERS |= {"--parents", "--security", "--unpack"}


def lines(path: Path) -> Iterator[str]:
    """Command lines in blocks of a page, as they follow the word singularity."""
    for block in re.findall(r"^```(?:sh|console)?\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            for found in PROGRAM.findall(line):
                if not re.search(r" \[|\.\.\.\]", found):  # a synopsis
                    yield found


def command_of(verb: str) -> click.Command:
    command: click.Command = import_module(f"singularity.cli.{VERBS[verb].module}").command
    return command


def understood(line: str) -> None:
    """Raises for a line that would be wrong usage."""
    words = shlex.split(re.split(r" (?:\||>|2>|<|#|&&)", line)[0].replace(" <token", ""), comments=True)
    while words and words[0].startswith("-"):
        assert words.pop(0) in {each for entry in entries("global") for each in entry.spellings}, line
    if not words:
        return
    verb, *rest = words
    assert verb in VERBS, line
    if " ".join(words[:2]) in LAUNCHES_OF_INSTANCES:
        launched(" ".join(words[:2]), rest[1:], line)
    elif VERBS[verb].module:
        command = command_of(verb)
        while isinstance(command, click.Group):
            verb = rest.pop(0)
            assert verb in command.commands, line
            command = command.commands[verb]
        command.make_context(verb, rest)
    else:
        launched(verb, rest, line)


def launched(verb: str, rest: list[str], line: str) -> None:
    known = {each: entry for entry in entries(verb) for each in entry.spellings}
    while rest and rest[0].startswith("-"):
        name, equals, _ = rest.pop(0).partition("=")
        assert name in known, line
        if not equals and known[name].kind.takes_word:
            rest.pop(0)
    assert rest, f"{line}: no image"
    held = verb == "exec" and "--join=@" in line  # a container, for others
    assert held or verb not in ("exec", *LAUNCHES_OF_INSTANCES) or rest[1:], f"{line}: no program, or no name"


@pytest.mark.parametrize("path", PAGES, ids=[str(each.relative_to(CHECKOUT)) for each in PAGES])
def test_command_lines_of_pages_are_understood(path: Path) -> None:
    for line in lines(path):
        understood(line)


def test_each_page_has_an_example_that_is_understood() -> None:
    for verb, page in pages().items():
        assert page.examples, verb
        for example in page.examples:
            found = PROGRAM.findall(re.sub(r"^(\w+=\S+ )+", "", example))
            assert found or example.startswith("./"), example
            for line in found:
                understood(line.removesuffix(")"))


def test_lines_are_found_and_wrong_ones_refused() -> None:
    assert sum(len(list(lines(path))) for path in PAGES) > 100
    for line in ("exec --bund /a x.sif true", "exec x.sif", "build --sandbax a b", "pull -x y", "foo", "sif lost x"):
        with pytest.raises((AssertionError, click.ClickException)):
            understood(line)


def spellings() -> set[str]:
    """Every option of every verb."""
    found = {each for entry in table() for each in entry.spellings}
    found |= {f"--no-{name}" for entry in table() if entry.kind is Kind.FLAG for name in entry.names}
    pending = [command_of(name) for name, verb in VERBS.items() if verb.module]
    while pending:
        command = pending.pop()
        found |= {name for param in command.params for name in param.opts}
        pending += command.commands.values() if isinstance(command, click.Group) else ()
    return found | {"--help", "--version"}


def test_options_that_pages_speak_of_are_there() -> None:
    known = spellings()
    unknown = {}
    of_others = {"slurm.md", *(each.name for each in PAGES if each.parent.name == "coming-from")}
    for path in (each for each in PAGES if each.name not in of_others):  # which speak of options of other programs
        prose = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
        for code in re.findall(r"`((?:-|singularity )[^`]+)`", prose):
            for name in re.findall(r"(?:^|\s)(--[a-z][a-z-]*)", code):
                if name not in known | OF_OTHERS:
                    unknown[f"{path.name}: {code}"] = name
    assert unknown == {}
