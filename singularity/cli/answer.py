"""`singularity answer QUESTION NUMBER [WORD...]`: hidden; what the front door asks on its way to a launch."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from singularity.cli.command import Verb


def _filter(mask: int, words: Sequence[str]) -> bytes:
    """That of a profile, for a program that has these capabilities."""
    from singularity import capabilities, seccomp

    return seccomp.compiled(Path(words[0]), seccomp.Surroundings(capabilities=capabilities.names_of(mask)))


def _capabilities(mask: int, words: Sequence[str]) -> bytes:
    """Those of a mask that the caller may add."""
    del words
    from singularity import capabilities

    allowed = capabilities.allowed(os.getuid(), {os.getgid(), *os.getgroups()})
    return hex(capabilities.mask_of(capabilities.names_of(mask) & allowed)).encode()


def _devices(count: int, words: Sequence[str]) -> bytes:
    """What devices need; `count` of the words are directories of specifications."""
    from singularity import cdi

    return cdi.answer(cdi.needed(words[count:], tuple(map(Path, words[:count]))))


_ANSWERS: dict[str, Callable[[int, Sequence[str]], bytes]] = {
    "filter": _filter,
    "capabilities": _capabilities,
    "devices": _devices,
}


@click.command(cls=Verb, name="answer")
@click.argument("question", type=click.Choice(sorted(_ANSWERS)))
@click.argument("number")
@click.argument("words", nargs=-1)
def command(question: str, number: str, words: tuple[str, ...]) -> None:
    """Answers on standard output."""
    sys.stdout.buffer.write(_ANSWERS[question](int(number, 0), words))
