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
    """What devices need; `count` of the words are directories of specifications.

    The rest are names of devices, or words of the front door's for what other options want (`answers.c`).
    """
    from singularity import cdi, drivers

    others: dict[str, Callable[[], cdi.Needed]] = {
        "nvccli": lambda: drivers.nvidia(os.environ, contained=False),
        "nvccli-contained": lambda: drivers.nvidia(os.environ, contained=True),
        "intel-hpu": lambda: drivers.gaudi(os.environ),
        "compat32-nv": lambda: drivers.compat32(["nvliblist.conf"]),
        "compat32-rocm": lambda: drivers.compat32(["rocmliblist.conf"]),
    }
    names = [word for word in words[count:] if word not in others]
    found = cdi.needed(names, tuple(map(Path, words[:count]))) if names else cdi.Needed()
    for word in words[count:]:
        if word in others:
            more = others[word]()
            found.binds += more.binds
            found.environment += more.environment
    return cdi.answer(found)


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
