"""All verbs as one click command, with the global options before them."""

import os
from collections.abc import Sequence
from importlib import import_module

import click
from click.core import ParameterSource

from singularity import __version__
from singularity.cli.command import normalise, stand_in, suggestion, typed
from singularity.cli.messages import asked_level, begin_messages
from singularity.cli.options_table import Entry, Kind, entries
from singularity.cli.verbs import NOT_HERE, OLD_SPELLINGS, VERBS
from singularity.errors import UsageError


class Verbs(click.Group):
    """The program itself: knows all verbs by name and imports the one that is asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Also takes `--debug=false`."""
        first = next((number for number, word in enumerate(args) if not word.startswith("-")), len(args))
        return super().parse_args(ctx, [*normalise(self.params, args[:first]), *args[first:]])

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs that help names."""
        del ctx
        return [verb.name for verb in VERBS.values() if not verb.hidden]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of a verb; None for a word that is none."""
        del ctx
        verb = VERBS.get(name)
        if verb is None:
            return None
        if not verb.module:
            raise UsageError(f"{name}: containers are launched by the program singularity, not by its Python half")
        command: click.Command = import_module(f"singularity.cli.{verb.module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that `args` begin with; `help VERB`, `VERB help` and `--help VERB` are the same."""
        args = [*OLD_SPELLINGS.get(args[0], args[:1]), *args[1:]]
        name = args[0]
        if name not in VERBS:
            raise unknown_verb(name)
        asks = ctx.params.get("help") or args[1:] == ["help"] or (not VERBS[name].module and args[1:] in _HELP_OPTIONS)
        if asks and name != "help":
            args = ["help", name]
        return super().resolve_command(ctx, args)


_HELP_OPTIONS = (["-h"], ["--help"])


def unknown_verb(name: str) -> UsageError:
    """For a word that is no verb, or none yet."""
    if name in NOT_HERE:
        return UsageError(f"not in this version: {name}", hint=NOT_HERE[name])
    shown = [verb.name for verb in VERBS.values() if not verb.hidden]
    return UsageError(f"unknown command {name}", hint=suggestion(name, shown) or "see: singularity help")


def _program() -> Verbs:
    return Verbs(
        name="singularity",
        callback=_begin,
        params=[_global_option(entry) for entry in entries("global") if entry.names],
        add_help_option=False,
        invoke_without_command=True,
        no_args_is_help=False,
    )


def _global_option(entry: Entry) -> click.Option:
    names = [entry.identifier, *entry.spellings]
    if entry.kind is Kind.COUNT:
        return click.Option(names, count=True)
    return click.Option(names, is_flag=entry.kind is Kind.FLAG)


@click.pass_context
def _begin(ctx: click.Context, /, *, verbose: int, **given: object) -> None:
    """Sets what is said from here on, and answers what needs no verb."""
    if given["config"] is not None:
        raise UsageError("--config: the configuration file is fixed when the program is built")
    debug, quiet, silent = (bool(given[name]) for name in ("debug", "quiet", "silent"))
    asked = asked_level(debug=debug or bool(given["shdebug"]), verbose=verbose, quiet=quiet, silent=silent)
    begin_messages(asked, colour=not given["nocolor"])
    if given["version"]:
        click.echo(f"singularity version {__version__}")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        from singularity.cli.help import general

        click.echo(general(), nl=False)


def perform(arguments: Sequence[str]) -> int:
    """Runs a verb; its exit status. As click's own `main`, but that makes a wrong usage of a reader that has left.

    Raises SingularityError.
    """
    program = _program()
    try:
        with program.make_context("singularity", list(arguments)) as context:
            result = program.invoke(context)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        raise as_usage_error(error) from error
    return result if isinstance(result, int) else 0


def as_usage_error(error: click.ClickException) -> UsageError:
    """click's own complaints in our form: one line that names the verb, and the way out."""
    context = getattr(error, "ctx", None)
    path = typed(context) if context else ""
    about = f" for {path}" if path else ""
    see = f"see: singularity help {path}".rstrip()
    if isinstance(error, click.NoSuchOption):
        if path and error.option_name in (name for entry in entries("global") for name in entry.spellings):
            what = f"option {error.option_name} goes before the verb"
            return UsageError(what, hint="singularity [global options] VERB")
        if path == "build" and error.option_name in ("-t", "--tag"):
            see = "it is Docker's; here: TARGET is a file, singularity build IMAGE.sif Dockerfile"
        near = suggestion(error.option_name, _long_options(context))
        return UsageError(f"unknown option {error.option_name}{about}", hint=near or see)
    if isinstance(error, click.BadOptionUsage):
        return UsageError(f"option {error.option_name}{about} needs a value", hint=see)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        option = isinstance(error.param, click.Option)
        missing = error.param.opts[0] if option else stand_in(error.param)
        return UsageError(f"{path}: {missing} is missing", hint=see)
    if isinstance(error, click.BadParameter) and context and (name := _variable_of(error, context)):
        neither = f'"{os.environ[name]}" is neither true nor false' if getattr(error.param, "is_flag", False) else ""
        return UsageError(f"{path}: variable {name}: {neither or error.message}".rstrip("."), hint=see)
    return UsageError(f"{path}: {error.format_message()}".lstrip(": ").rstrip("."), hint=see)


def _variable_of(error: click.BadParameter, context: click.Context) -> str:
    """The variable that gave a wrong value; empty where it was typed."""
    param = error.param
    if param is None or context.get_parameter_source(param.name or "") is not ParameterSource.ENVIRONMENT:
        return ""
    names = [param.envvar] if isinstance(param.envvar, str) else param.envvar or ()
    return next((name for name in names if os.environ.get(name)), "")


def _long_options(context: click.Context | None) -> list[str]:
    params = context.command.params if context else []
    return [name for param in params for name in param.opts if name.startswith("--")]
