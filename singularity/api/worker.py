"""The process that carries out an order (`orders`): the commands of the command line, without their output."""

import io
import logging
import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import click

from singularity import console, files, kernel, paths
from singularity.api.orders import Message, Outcome
from singularity.api.words import Option, keyword, spelled
from singularity.cli.command import OptionalValue
from singularity.cli.group import as_usage_error
from singularity.cli.main import signals_raise
from singularity.cli.options_table import Kind
from singularity.errors import Interrupted, SingularityError

_HEAD = 4


def serve(what: str, arguments: Mapping[str, Any]) -> NoReturn:
    """Carries out the order, and ends this process. Standard output becomes standard error, and messages go where it
    went.
    """
    channel = os.dup(1)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    kernel.die_with_parent(signal.SIGTERM)

    def tell(message: object) -> None:
        data = pickle.dumps(message)
        os.write(channel, len(data).to_bytes(_HEAD) + data)

    def log(record: logging.LogRecord) -> None:
        tell(Message(record.name, record.levelno, record.getMessage(), record.pathname, record.lineno))

    console.observe(console.Observer(tell, log))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        with signals_raise():
            outcome = Outcome(_ORDERS[what](what, **arguments))
    except Interrupted as interruption:
        os._exit(128 + interruption.signal)
    except BaseException as error:
        outcome = Outcome(error=_portable(error))
    tell(outcome)
    os._exit(0)


def _portable(error: BaseException) -> BaseException:
    """The exception, or its words where it cannot travel."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return SingularityError(f"{type(error).__name__}: {error}")
    return error


def options_of(command: click.Command) -> dict[str, Option]:
    """The options of a command by their keywords, those that only help the command line left out."""
    found = {}
    for each in command.params:
        names = [name for name in each.opts if name.startswith("--")]
        if isinstance(each, click.Option) and names and not each.hidden and names[0] not in _OF_THE_LINE:
            found[keyword(names[0][2:])] = Option(names[0][2:], _kind(each), is_csv=False)
    return found


_OF_THE_LINE = ("--dry-run", "--json", "--help")


def command_of(verb: str) -> click.Command:
    """A command of the command line."""
    command: click.Command = import_module(f"singularity.cli.{verb}").command
    return command


def _kind(option: click.Option) -> Kind:
    if isinstance(option, OptionalValue):
        return Kind.OPTIONAL
    if option.is_flag:
        return Kind.FLAG
    return Kind.LIST_RAW if option.multiple else Kind.TEXT


def _command(verb: str, options: Mapping[str, Any], words: list[str]) -> str:
    """What a command writes to standard output."""
    command = command_of(verb)
    line = [*spelled(verb, options_of(command), options), "--", *words]
    with redirect_stdout(io.StringIO()) as output:
        try:
            with command.make_context(f"singularity {verb}", line) as context:
                command.invoke(context)
        except click.ClickException as error:
            raise as_usage_error(error) from error
    return output.getvalue()


def _build(verb: str, *, target: str, source: str, text: str | None, options: Mapping[str, Any]) -> None:
    """An image of a definition: of a file or a URI, or of a text that `source` is the name of."""
    if text is None:
        _command(verb, options, [target, source])
        return
    with files.temporary_directory(paths.temporary(options.get("tmpdir") or "")) as place:
        path = place / source
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        try:
            _command(verb, options, [target, str(path)])
        except SingularityError as error:  # its caller knows it by its name
            error.args = (str(error).replace(f"{place}/", ""),)
            error.what = error.what.replace(f"{place}/", "")
            raise


def _available(what: str, *, name: str, options: Mapping[str, Any]) -> tuple[str, str]:
    """The image file of a URI, in the cache; where nothing is kept there a new one, and its directory."""
    from singularity.cache import image_store
    from singularity.pull import images
    from singularity.sources import fetch
    from singularity.uri import parse

    known = options_of(command_of("pull"))
    wrong = [keyword for keyword in options if keyword not in known]
    named = parse(name)
    if wrong or named is None:
        raise TypeError(f"{what}() has no option {wrong[0]!r}" if wrong else f"{what}(): {name!r} is no URI")
    how = fetch.from_options(options)
    with images.available(named, how) as path:
        if image_store.is_kept(path):
            return str(image_store.named(path, named.file_name)), ""
        place = tempfile.mkdtemp(prefix="singularity-image-", dir=how.scratch)
        image_store.put(path, Path(place) / named.file_name, overwrite=True, shared=False)
        return str(Path(place) / named.file_name), place


_ORDERS: Mapping[str, Callable[..., object]] = {
    "build": _build,
    "pull": _command,
    "push": _command,
    "available": _available,
}
