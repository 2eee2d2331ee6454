"""`singularity instance`: containers that stay under a name. Starting one is a launch, and the front door's."""

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence

import click

from singularity.cli.command import Commands, Verb, option
from singularity.cli.options_table import launch_page
from singularity.cli.page import Page
from singularity.console import escape, size
from singularity.errors import SingularityError, UsageError
from singularity.instance import stop as ending
from singularity.instance import usage as measuring
from singularity.instance.states import NAME, Instance, Owner, open_log, owner, running

logger = logging.getLogger(__name__)

_GAP = 4  # blanks between columns
_FOLLOW, _SAMPLE = 0.2, 1.0  # seconds

command = Commands(
    "instance",
    {
        "start": "Start a container that stays under a name, with its startscript",
        "run": "The same, with its runscript",
        "list": "List the instances that run",
        "stop": "End instances",
        "stats": "Show what an instance uses",
        "logs": "Print what an instance has written",
    },
    usage=(
        "singularity instance start|run [options] IMAGE NAME [ARGUMENT...]",
        "singularity instance list|stop|stats|logs [options] NAME",
    ),
    description=(
        "A started instance runs in the background until it is stopped.",
        "exec, run, shell and test take instance://NAME in place of an image. Names are your own on this host.",
    ),
    examples=(
        "singularity instance start postgres.sif db",
        "singularity exec instance://db psql -l",
        "singularity instance list",
        "singularity instance stop db",
    ),
)


class _Launch(Verb):
    """A command whose options are those of launches."""

    def page(self, path: str) -> Page:
        """From the table of launch options."""
        return launch_page(path)


def _launch(name: str) -> None:
    @command.below(name, _Launch)
    def start() -> None:
        """Nothing: the front door has not sent this launch here."""
        raise UsageError(f"instance {name}: containers are launched by the program singularity, not by its Python half")


for _name in ("start", "run"):
    _launch(_name)

_user = option(
    "-u", "--user", "user", default="", metavar="USER", variables="USER", help="Those of this user; root only"
)


@command.below(
    "list",
    description=("NAME may hold * and ?. Those of other hosts that share your home directory are not shown.",),
    examples=("singularity instance list", "singularity instance list --json 'db*'"),
)
@option("-j", "--json", "as_json", is_flag=True, variables="JSON", help="Print JSON")
@option("-l", "--logs", is_flag=True, variables="LOGS", help="Show where the logs are")
@option("-a", "--all", "all_", is_flag=True, variables="ALL", help="All kinds of instances; there is one")
@_user
@click.argument("name", default="*", required=False)
def list_(name: str, *, as_json: bool, logs: bool, all_: bool, user: str) -> None:
    """Lists them, a line each."""
    del all_
    if as_json and logs:
        raise SingularityError("--json and --logs exclude each other", hint="JSON has the logs")
    found = running(owner(user), name)
    if as_json:
        click.echo(json.dumps({"instances": [_as_json(each) for each in found]}, indent="\t"))
        return
    rows: list[tuple[str, ...]]
    if logs:
        rows = [("INSTANCE NAME", "PID", "LOGS")]
        for each in found:
            rows += [(each.name, str(each.process), escape(each.errors)), ("", "", escape(each.output))]
    else:
        rows = [("INSTANCE NAME", "PID", "IP", "IMAGE")]
        rows += [(each.name, str(each.process), escape(each.address), escape(each.image)) for each in found]
    click.echo("\n".join(_table(rows)))


def _as_json(instance: Instance) -> dict[str, str | int]:
    return {
        "instance": instance.name,
        "pid": instance.process,
        "img": instance.image,
        "ip": instance.address,
        "logErrPath": instance.errors,
        "logOutPath": instance.output,
    }


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) + _GAP for column in zip(*rows, strict=True)]
    for row in rows:
        yield "".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1]


@command.below(
    "stop",
    description=(
        "The signal goes to what the instance was started for.",
        "After the timeout, or at once where that has ended, all processes of the instance are killed.",
    ),
    examples=(
        "singularity instance stop db",
        "singularity instance stop --timeout 60 'db*'",
        "singularity instance stop --all",
    ),
)
@option("-a", "--all", "all_", is_flag=True, variables="ALL", help="All instances")
@option(
    "-s",
    "--signal",
    "word",
    default="SIGINT",
    metavar="SIGNAL",
    variables="SIGNAL",
    help="The signal: SIGINT, or another one",
)
@option(
    "-t", "--timeout", default=10, metavar="SECONDS", type=click.IntRange(min=0), help="Time until it is killed: 10"
)
@option("-F", "--force", is_flag=True, variables="FORCE", help="Kill it at once")
@_user
@click.argument("name", default="", required=False)
def stop(name: str, *, all_: bool, word: str, timeout: int, force: bool, user: str) -> None:
    """Ends them, all at once."""
    if bool(name) == all_:
        raise UsageError("instance stop: either a name or --all is wanted", hint="see: singularity instance list")
    first = ending.number("SIGKILL" if force else word)
    found = running(whose := owner(user), name or "*")
    if not found:
        raise UsageError(
            "no instance found" if all_ else f"no instance found with name {name}",
            hint="see: singularity instance list",
        )
    for each in found:
        logger.info("Stopping %s instance of %s (PID=%d)", each.name, each.image, each.process)
    ending.stop(found, first, timeout)
    running(whose)  # takes their states away


def _named(name: str, whose: Owner) -> Instance:
    found = [each for each in running(whose) if each.name == name]
    if not found:
        raise SingularityError(f"no instance found with name {name}", hint="see: singularity instance list")
    return found[0]


@command.below(
    "stats",
    description=("A line a second, of all processes of the instance together; memory that they share counts once.",),
    examples=("singularity instance stats --no-stream db", "singularity instance stats --json db"),
)
@option("-j", "--json", "as_json", is_flag=True, variables="JSON", help="Print the counters once, as JSON")
@option("--no-stream", is_flag=True, help="Print one line")
@_user
@click.argument("name")
def stats(name: str, *, as_json: bool, no_stream: bool, user: str) -> None:
    """Prints lines until the instance ends."""
    instance = _named(name, owner(user))
    before = measuring.sample(instance)
    if before is not None and as_json:
        click.echo(json.dumps(_counters(before), indent="\t"))
        return
    first = True
    while before is not None:
        time.sleep(_SAMPLE)
        now = measuring.sample(instance)
        if now is None:
            return
        heading = ("INSTANCE NAME", "CPU USAGE", "MEM USAGE / LIMIT", "MEM %", "BLOCK I/O", "PIDS")
        lines = list(_table((heading, _line(name, before, now))))
        click.echo("\n".join(lines if first else lines[1:]))
        if no_stream:
            return
        before, first = now, False


def _line(name: str, before: measuring.Usage, now: measuring.Usage) -> tuple[str, ...]:
    used = now.user + now.system - before.user - before.system
    return (
        name,
        f"{max(used, 0.0) / _SAMPLE:.2%}",
        f"{size(now.memory)} / {size(now.limit)}",
        f"{now.memory / now.limit:.2%}",
        f"{size(now.read)} / {size(now.written)}",
        str(now.processes),
    )


def _counters(usage: measuring.Usage) -> dict[str, object]:
    """In the words of the library for cgroups of version 2, whose counters others print."""
    user, system = (round(seconds * 1_000_000) for seconds in (usage.user, usage.system))
    return {
        "pids": {"current": usage.processes},
        "cpu": {"usage_usec": user + system, "user_usec": user, "system_usec": system},
        "memory": {"usage": usage.memory, "usage_limit": usage.limit},
        "io": {"usage": [{"rbytes": usage.read, "wbytes": usage.written}]},
    }


@command.below(
    "logs",
    description=("Its standard output or, with -e, its standard error: of all that had this name on this host.",),
    examples=("singularity instance logs db", "singularity instance logs --follow --errors db"),
)
@option("-f", "--follow", is_flag=True, help="Go on until the instance ends")
@option("-e", "--errors", is_flag=True, help="Standard error")
@_user
@click.argument("name")
def logs(name: str, *, follow: bool, errors: bool, user: str) -> None:
    """Prints the log as it is, and what comes."""
    whose = owner(user)
    if NAME.fullmatch(name) is None:
        raise UsageError(f"{name} is no name of an instance")
    with open(open_log(whose, name, "err" if errors else "out"), "rb") as log:
        goes_on = follow
        while True:
            while block := log.read(1 << 16):
                sys.stdout.buffer.write(block)
                sys.stdout.buffer.flush()
            if not goes_on:
                return
            goes_on = any(each.name == name for each in running(whose))  # what it wrote at last is read once more
            time.sleep(_FOLLOW)
