"""`singularity answer QUESTION NUMBER [WORD...]`: what the front door asks on its way to a launch."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path


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


def plain(arguments: Sequence[str]) -> int | None:
    """Answers; None: that was no question."""
    if len(arguments) < 2 or arguments[0] not in _ANSWERS:
        return None
    question, number, *words = arguments
    sys.stdout.buffer.write(_ANSWERS[question](int(number, 0), words))
    return 0
