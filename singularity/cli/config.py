"""`singularity config`: the configuration file and the subordinate ids of users, changed by commands."""

import logging
import os
import pwd
from pathlib import Path

import click

from singularity import directives, files, paths
from singularity.cli.command import Commands, option
from singularity.errors import FileError, SingularityError, UsageError

logger = logging.getLogger(__name__)

_IDS = (Path("/etc/subuid"), Path("/etc/subgid"))

command = Commands(
    "config",
    {
        "global": "Show or change a directive of singularity.conf",
        "fakeroot": "Give users subordinate ids for --fakeroot",
    },
    usage=("singularity config global OPTION DIRECTIVE [VALUE...]", "singularity config fakeroot OPTION USER"),
    description=("For whoever may write these files: root, or who has installed the program for himself.",),
    examples=(
        "singularity config global --get 'mount home'",
        "sudo singularity config global --set 'bind path' /scratch",
        "sudo singularity config fakeroot --add alice",
    ),
)


def _change(path: Path, text: str) -> None:
    """Puts a text in place of a file's, which is never half there; owner and permissions stay."""
    with FileError.about(path), path.open("rb") as old, files.replacing(path, overwrite=True, like=old.fileno()) as new:
        files.write_at(new.fd, text.encode("utf-8", "surrogateescape"), 0)


def _read(path: Path, *, missing: bool = False) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError as error:
        if missing:
            return ""
        raise FileError.because(path, error) from error
    except OSError as error:
        raise FileError.because(path, error) from error


def _one(**given: bool) -> str:
    """Which of the options was given. Raises UsageError unless it is one."""
    names = [name for name, value in given.items() if value]
    if len(names) != 1:
        raise UsageError(f"one of {', '.join(f'--{name}' for name in given)} is wanted")
    return names[0]


@command.below(
    "global",
    description=(
        "Directives have the names that the file explains.",
        "--set replaces the value, and adds to a list; --unset takes values out of a list.",
    ),
    examples=("sudo singularity config global --set 'allow setuid' no", "singularity config global --get 'bind path'"),
)
@option("-s", "--set", "set_", is_flag=True, help="Set it to VALUE")
@option("-u", "--unset", is_flag=True, help="Take VALUE out of a list")
@option("-g", "--get", is_flag=True, help="Print the value")
@option("-r", "--reset", is_flag=True, help="Back to the default")
@option("-d", "--dry-run", is_flag=True, help="Print the file as it would be")
@click.argument("directive")
@click.argument("values", nargs=-1, metavar="[VALUE...]")
def global_(
    directive: str, values: tuple[str, ...], *, set_: bool, unset: bool, get: bool, reset: bool, dry_run: bool
) -> None:
    """Shows or changes one directive."""
    change = _one(set=set_, unset=unset, get=get, reset=reset)
    if bool(values) != (change in ("set", "unset")):
        raise UsageError(f"config global --{change}: {'a value is missing' if not values else 'no value is wanted'}")
    path = paths.site_directory() / "singularity.conf"
    configuration = directives.Configuration(_read(path))
    if change == "get":
        click.echo(",".join(configuration.values(directive)))
        return
    if change == "set":
        configuration.set(directive, values)
    else:
        configuration.unset(directive, values)
    if dry_run:
        click.echo(configuration.text, nl=False)
    else:
        _change(path, configuration.text)


@command.below(
    "fakeroot",
    description=("A range of 65536 ids in /etc/subuid and /etc/subgid, apart from all others there.",),
    examples=("sudo singularity config fakeroot --add alice", "sudo singularity config fakeroot --disable bob"),
)
@option("-a", "--add", is_flag=True, help="Give a range to who has none")
@option("-r", "--remove", is_flag=True, help="Take it away")
@option("-e", "--enable", is_flag=True, help="Put it into force again")
@option("-d", "--disable", is_flag=True, help='Put it out of force, by a "!" before the line')
@click.argument("user")
def fakeroot(user: str, *, add: bool, remove: bool, enable: bool, disable: bool) -> None:
    """Changes the subordinate ids of one user."""
    change = _one(add=add, remove=remove, enable=enable, disable=disable)
    try:
        name = pwd.getpwnam(user).pw_name
    except KeyError as error:
        raise SingularityError(f"{user}: no such user") from error
    if os.geteuid() != 0:
        raise SingularityError("config fakeroot: only root gives ids")
    for path in _IDS:
        before = _read(path, missing=add)
        after = directives.ids_added(before, name) if add else directives.ids_changed(before, name, change)
        if not path.exists():
            path.touch()
        _change(path, after)
    logger.info("%s: %s", name, ", ".join(line for line in after.splitlines() if f"{name}:" in line) or "no ids")
