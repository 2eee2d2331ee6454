"""Checkpoints: a line `# singularity: checkpoint` in a script ends a part of it, which the cache keeps for itself.

Each part is run by a shell of its own; the working directory, the umask and the exported variables carry over, other
variables, functions and options do not. To other programs the line is a comment.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from singularity.definition.model import Script

_LINE = re.compile(r"\s*#\s*singularity:\s*checkpoint\s*", re.IGNORECASE)
_SHELLS = frozenset({"sh", "ash", "bash", "dash", "ksh", "mksh"})

_BEFORE = (
    '{{ . {0}; IFS= read -r SINGULARITY_PART <{0}.directory; cd "$SINGULARITY_PART"; '
    'IFS= read -r SINGULARITY_PART <{0}.umask; umask "$SINGULARITY_PART"; unset SINGULARITY_PART; }} 2>/dev/null\n'
)
_AFTER = "{{ export -p >{0}; pwd >{0}.directory; umask >{0}.umask; }} 2>/dev/null\n"


def state(part: int) -> str:
    """The file of the image in which a part leaves its variables for the next; missing where the script has ended."""
    return f"/.post.state-{part}"


def state_files(part: int) -> tuple[str, ...]:
    """All files that a part leaves for the next."""
    return (state(part), f"{state(part)}.directory", f"{state(part)}.umask")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a script as a shell gets it; ends with a newline."""

    text: str
    number: int  # in the definition file; of what is ours, the line of the user's that it stands by


def is_shell(program: str) -> bool:
    """Whether a program reads its script line by line, and knows what parts need."""
    return program.rpartition("/")[2] in _SHELLS


def split(script: Script) -> tuple[Script, ...]:
    """The parts of a script; just itself when it has no checkpoint, or another interpreter than a shell."""
    interpreter = script.arguments[1].split()[:1] if script.arguments[:1] == ("-c",) and script.arguments[1:] else []
    if interpreter and not is_shell(interpreter[0]):
        return (script,)
    return tuple(_parts(script)) or (script,)


def _parts(script: Script) -> Iterator[Script]:
    text: list[str] = []
    numbers: list[int] = []
    for line, number in script.numbered:
        ends = bool(_LINE.fullmatch(line.rstrip("\n")))
        text.append(line)
        numbers.append(number)
        if ends and "".join(text[:-1]).strip():
            yield replace(script, body="".join(text), lines=tuple(numbers))
            text, numbers = [], []
    if "".join(text).strip():
        yield replace(script, body="".join(text), lines=tuple(numbers))


def lines(script: Script, part: int, parts: int) -> list[Line]:
    """The lines of part `part`, counted from 0, with what carries over from the one before and to the next."""
    own = [Line(text=text, number=number) for text, number in script.numbered]
    before = [Line(text=_BEFORE.format(state(part - 1)), number=own[0].number)] if part else []
    after = [Line(text=_AFTER.format(state(part)), number=own[-1].number)] if part + 1 < parts else []
    return [*before, *own, *after]
