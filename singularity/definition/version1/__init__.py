"""Definition files of the first format, which were shell scripts: read here, and nothing of them is run (R-P4).

Understood are the commands of the format (`commands`), assignments, `$NAME`, `${NAME:-DEFAULT}`, `$1` and quotes
(`expansion`), comments, `|| true` after RunCmd, and `if` with simple tests (`conditions`). Anything else is refused
with its line. Commands and defaults: Singularity 2.2, legacy definitions.
"""

import re
from collections.abc import Sequence

from singularity.definition.model import Definition
from singularity.definition.sections import SIZE_LIMIT, normal
from singularity.definition.version1.commands import Reader
from singularity.definition.version1.conditions import Conditions
from singularity.definition.version1.expansion import Expansion
from singularity.errors import DefinitionError
from singularity.shell.words import Lexer

_OWN_LINE = re.compile(r"^DistType[ \t]", re.MULTILINE)
_HEADER_LINE = re.compile(r"^[ \t]*(?:bootstrap|osbuild|ostype)[ \t]*:", re.MULTILINE | re.IGNORECASE)
_SECTION_LINE = re.compile(r"^%[A-Za-z]", re.MULTILINE)


def recognise(text: str) -> bool:
    """Whether this is the first format: `DistType` at the start of a line, and no header of the second."""
    if "DistType" not in text:
        return False
    head = normal(text)
    section = _SECTION_LINE.search(head)
    return bool(_OWN_LINE.search(head)) and not _HEADER_LINE.search(head, 0, section.start() if section else len(head))


def parse(text: str, name: str, arguments: Sequence[str] = ()) -> Definition:
    """The definition that a script of the first format makes, with its positional `arguments`.

    Raises DefinitionError, also for shell code that is not understood.
    """
    if len(text) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=name)
    words = Expansion(name=name, arguments=tuple(arguments))
    reader = Reader(words)
    for command in Conditions(words).chosen(Lexer(normal(text), name).commands()):
        reader.carry_out(command)
        if reader.ended:
            break
    return Definition(name=name, text=text, stages=(reader.stage(),))
