"""A help page: one model, shown as text here and written as manual page and completion by `pages`."""

import textwrap
from collections.abc import Iterable, Iterator
from typing import NamedTuple

WIDTH = 100
_INDENT = 26


class Option(NamedTuple):
    """One option as its users type it."""

    names: tuple[str, ...]  # "-B", "--bind", synonyms after
    help: str
    metavar: str = ""  # empty: takes no value
    variables: tuple[str, ...] = ()  # environment variables that set it
    group: str = "Options"


class Page(NamedTuple):
    """What there is to say about a verb; `verb` is empty for the program itself."""

    verb: str
    summary: str
    usage: tuple[str, ...]
    description: tuple[str, ...] = ()  # paragraphs
    options: tuple[Option, ...] = ()
    verbs: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()  # (group, ((name, summary), ...))
    examples: tuple[str, ...] = ()

    def groups(self) -> dict[str, list[Option]]:
        """The options by their heading, in the order of their first mention."""
        found: dict[str, list[Option]] = {}
        for option in self.options:
            found.setdefault(option.group, []).append(option)
        return found


def text(page: Page) -> str:
    """The page as a terminal shows it; the same when piped."""
    return "\n".join(_lines(page)) + "\n"


def spelling(option: Option) -> str:
    """The option's names in one line: `-B, --bind SPEC`."""
    names = ", ".join(option.names)
    if not option.metavar:
        return names
    return names + (option.metavar if option.metavar.startswith("[") else f" {option.metavar}")


def _lines(page: Page) -> Iterator[str]:
    for number, usage in enumerate(page.usage):
        yield ("Usage: " if number == 0 else "       ") + usage
    yield ""
    yield page.summary
    for paragraph in page.description:
        yield ""
        yield from textwrap.wrap(paragraph, WIDTH)
    for group, verbs in page.verbs:
        yield from _table(group, verbs)
    for group, options in page.groups().items():
        yield from _table(group, ((spelling(option), _explained(option)) for option in options))
    if page.examples:
        yield ""
        yield "Examples:"
        yield from (f"  {line}" for line in page.examples)


def _explained(option: Option) -> str:
    if not option.variables:
        return option.help
    return f"{option.help} [{', '.join(option.variables)}]"


def _table(heading: str, rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield ""
    yield f"{heading}:"
    for left, right in rows:
        wrapped = textwrap.wrap(right, WIDTH - _INDENT) or [""]
        if len(left) + 4 > _INDENT:
            yield f"  {left}"
        else:
            yield f"  {left:<{_INDENT - 2}}{wrapped.pop(0)}".rstrip()
        yield from (" " * _INDENT + line for line in wrapped)
