"""What the verbs are made with: click commands that explain themselves with our pages and read our variables."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from singularity.cli.options_table import entries
from singularity.cli.page import Option, Page, text
from singularity.cli.verbs import VERBS
from singularity.errors import ImageError, UsageError
from singularity.transports import fault
from singularity.variables import FALSE, PREFIXES, TRUE, truth

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class _Path(click.Path):
    """A name as it was typed; what is wrong with the file is told by who opens it."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path. Raises UsageError for an empty name, ImageError for a transport with nothing behind it."""
        if value == "" and param is not None and param.name:
            raise UsageError(f"the name of the {param.name.strip('_').replace('_', ' ')} is empty")
        wrong = fault(value) if isinstance(value, str) and value.endswith("://") else None
        if wrong is not None:
            raise ImageError(wrong[0], hint=wrong[1])
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path, readable=False)


class Grouped(click.Option):
    """An option that the page shows under a heading of its own."""

    def __init__(self, *args: Any, group: str = "Options", **more: Any) -> None:
        self.group = group
        super().__init__(*args, **more)


class OptionalValue(Grouped):
    """An option that takes a value only with `=`; alone it means `bare`."""

    def __init__(self, *args: Any, bare: str, **more: Any) -> None:
        self.bare = bare
        super().__init__(*args, **more)


class OneDash(click.Option):
    """An option whose long name is also taken with one dash: `-size`."""


class Verb(click.Command):
    """A command whose help is a page."""

    def __init__(
        self,
        *args: Any,
        usage: str = "",  # what may follow the verb; empty: what its parameters say
        description: tuple[str, ...] = (),
        examples: tuple[str, ...] = (),
        **more: Any,
    ) -> None:
        self.usage = usage
        self.description = description
        self.examples = examples
        more.setdefault("context_settings", {})["help_option_names"] = ["-h", "--help"]
        super().__init__(*args, **more)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Also takes `--flag=false`, and optional values."""
        try:
            return super().parse_args(ctx, list(normalise(self.params, args)))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # the parser leaves it out where a value is missing
            raise

    def get_help(self, ctx: click.Context) -> str:
        """The page, for `VERB --help`."""
        return text(self.page(typed(ctx))).rstrip("\n")

    def page(self, path: str) -> Page:
        """The page of this command, which is typed as `path`."""
        top = VERBS.get(path)
        return Page(
            verb=path,
            summary=top.summary if top else self.short_help or "",
            usage=(f"singularity {path} {self.usage or self._usage()}".rstrip(),),
            description=self.description,
            options=tuple(
                _described(each) for each in self.params if isinstance(each, click.Option) and not each.hidden
            ),
            examples=self.examples,
        )

    def _usage(self) -> str:
        options = ["[options]"] if any(isinstance(each, click.Option) for each in self.params) else []
        return " ".join([*options, *(stand_in(each) for each in self.params if isinstance(each, click.Argument))])


def verb(*, cls: type[Verb] = Verb, **more: Any) -> Callable[[Callable[..., Any]], Verb]:
    """Makes a function a command that has a page."""
    return click.command(cls=cls, **more)


class Commands(click.Group):
    """A verb that has commands of its own, which its page lists; alone it prints that page, as the program does."""

    def __init__(self, verb: str, below: Mapping[str, str], **more: Any) -> None:
        self._below = below
        self._page = Page(verb, VERBS[verb].summary, verbs=(("Commands", tuple(below.items())),), **more)
        super().__init__(name=verb, context_settings={"help_option_names": ["-h", "--help"]})

    def page(self, path: str) -> Page:
        """The page of the verb."""
        del path
        return self._page

    def get_help(self, ctx: click.Context) -> str:
        """The page, for `VERB --help`."""
        del ctx
        return text(self._page).rstrip("\n")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a word, help is meant."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with."""
        if args[0] not in self.commands:
            hint = suggestion(args[0], list(self._below)) or f"see: singularity help {self.name}"
            raise UsageError(f"unknown command {self.name} {args[0]}", hint=hint)
        return super().resolve_command(ctx, args)

    def below(self, name: str, cls: type[Verb] = Verb, **more: Any) -> Callable[[Callable[..., None]], click.Command]:
        """Makes a function the command `name`, which the page says in short."""
        return self.command(cls=cls, name=name, short_help=self._below[name], **more)


def suggestion(word: str, known: Sequence[str]) -> str:
    """`did you mean ...?` for the nearest known word, or nothing when none is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"did you mean {near[0]}?" if near else ""


def typed(ctx: click.Context) -> str:
    """The verb of a context, without the program's name: `sif list`."""
    return ctx.command_path.partition(" ")[2]


def stand_in(param: click.Parameter) -> str:
    """What stands for a value in usage lines and messages."""
    word = param.metavar or (param.name or "").upper().rstrip("_")
    if isinstance(param, click.Argument):
        word += "..." if param.nargs == -1 else ""
        return word if param.required else f"[{word}]"
    return word


def _described(param: click.Option) -> Option:
    metavar = "" if param.is_flag or param.count else stand_in(param)
    variables = param.envvar if isinstance(param.envvar, list) else []
    return Option(
        names=tuple(param.opts),
        metavar=f"[={metavar}]" if isinstance(param, OptionalValue) else metavar,
        help=param.help or "",
        variables=tuple(name for name in variables if name.startswith(PREFIXES[0])),
        group=param.group if isinstance(param, Grouped) else "Options",
    )


def normalise(params: Sequence[click.Parameter], args: Sequence[str]) -> Iterator[str]:
    """`args` in spellings that click lacks: `--flag=true|false`, an optional value given as `--name`, `-name`."""
    by_name = {name: param for param in params if isinstance(param, click.Option) for name in param.opts}
    one_dash = {name[1:]: name for name, param in by_name.items() if isinstance(param, OneDash) and name[:2] == "--"}
    for number, word in enumerate(args):
        if word == "--":
            yield from args[number:]
            return
        name, equals, value = word.partition("=")
        if name in one_dash:
            name = one_dash[name]
            word = name + equals + value
        param = by_name.get(name)
        if isinstance(param, OptionalValue) and not equals:
            yield f"{name}={param.bare}"
        elif equals and param is not None and (param.is_flag or param.count):
            if value.lower() not in TRUE | FALSE:
                raise UsageError(f'option {name}: "{value}" is neither true nor false')
            if truth(value):
                yield name
        else:
            yield word


def option(*names: str, variables: str = "", **more: Any) -> Callable[[_Decorated], _Decorated]:
    """`click.option` that also reads each of `variables` (`"BIND BINDPATH"`) under both prefixes of the family."""
    if variables:
        more["envvar"] = [prefix + key for key in variables.split() for prefix in PREFIXES]
    if "group" in more:
        more.setdefault("cls", Grouped)
    return click.option(*names, **more)


def shared_option(identifier: str, group: str) -> Callable[[_Decorated], _Decorated]:
    """An option that launches have as well, as their table has it."""
    (entry,) = (each for each in entries("exec") if each.identifier == identifier)
    kind: dict[str, Any] = {"default": "", "metavar": entry.metavar} if entry.kind.takes_word else {"is_flag": True}
    names = (entry.names[0].replace("-", "_"), *entry.spellings)
    return option(*names, variables=" ".join(entry.variables), group=group, help=entry.help, **kind)
