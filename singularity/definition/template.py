"""Templates: `{{ NAME }}` anywhere in a definition file, filled in before it is parsed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from singularity.definition.sections import WORD_LIMIT, RawStage, is_blank, normal, split
from singularity.errors import DefinitionError

_TEMPLATE = re.compile(r"\{\{[ \t]*(\w+)[ \t]*\}\}")
_ARGUMENT = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expanded:
    """A definition file's text with its templates filled in."""

    text: str
    unused: tuple[str, ...]  # names that were given and that no template asks for


def expand(text: str, name: str, given: Mapping[str, str]) -> Expanded:
    """Fills in `given` values, and, for names that are not given, the defaults of the stage's %arguments section.

    Comment lines stay as they are. `name` stands in messages. Raises DefinitionError for a name without a value.
    """
    lines = normal(text).split("\n")
    used: set[str] = set()
    stages = split(text, name).stages
    starts = [stage.line for stage in stages[1:]]
    for stage, end in zip(stages, [*starts, len(lines) + 1], strict=True):
        values = {**_defaults(stage, name, given), **given}
        first = 1 if stage is stages[0] else stage.line
        for number in range(first, end):
            line = lines[number - 1]
            if not line.lstrip().startswith("#"):
                used |= set(_TEMPLATE.findall(line))
                lines[number - 1] = _filled(line, values, name, number)
    return Expanded(text="\n".join(lines), unused=tuple(sorted(set(given) - used)))


def parse_argument(text: str, name: str, line: int = 0) -> tuple[str, str]:
    """`KEY=VALUE`, of the command line or a file. Raises DefinitionError."""
    match = _ARGUMENT.fullmatch(text)
    if not match:
        raise DefinitionError(f'"{text.strip()[:WORD_LIMIT]}" is no KEY=VALUE', name=name, line=line)
    if "\n" in match[2].strip():
        raise DefinitionError(f"{match[1]}: a value of more than one line", name=name, line=line)
    return match[1], match[2].strip()


def parse_arguments(text: str, name: str) -> dict[str, str]:
    """The `KEY=VALUE` lines of a --build-arg-file. Raises DefinitionError."""
    lines = enumerate(text.split("\n"), 1)
    return dict(parse_argument(line, name, number) for number, line in lines if not is_blank(line))


def _defaults(stage: RawStage, name: str, given: Mapping[str, str]) -> dict[str, str]:
    """The values of %arguments; each may itself hold templates of given or earlier names."""
    values: dict[str, str] = {}
    lines = (line for block in stage.blocks if block.name == "arguments" for line in block.lines())
    for number, line in lines:
        key, value = parse_argument(line, name, number)
        values[key] = _filled(value, {**values, **given}, name, number)
    return values


def _filled(line: str, values: Mapping[str, str], name: str, number: int) -> str:
    def value(match: re.Match[str]) -> str:
        found = values.get(match[1])
        if found is None:
            hint = f"give it with --build-arg {match[1]}=VALUE, or in an %arguments section"
            raise DefinitionError(f"{match[0]} has no value", name=name, line=number, hint=hint)
        return found

    return _TEMPLATE.sub(value, line)
