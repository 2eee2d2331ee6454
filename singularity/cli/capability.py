"""`singularity capability`: which capabilities users may add to their programs, for root to say."""

import logging
from collections.abc import Callable
from typing import Any

import click

from singularity import capabilities
from singularity.cli.command import Commands, option
from singularity.console import escape
from singularity.errors import SingularityError, UsageError

logger = logging.getLogger(__name__)


command = Commands(
    "capability",
    {
        "add": "Let a user or a group add capabilities",
        "drop": "No longer let them",
        "list": "List who may add what",
        "avail": "List the capabilities that there are",
    },
    usage=(
        "singularity capability add [options] CAPABILITIES",
        "singularity capability drop [options] CAPABILITIES",
        "singularity capability list [NAME]",
        "singularity capability avail [CAPABILITY]",
    ),
    description=(
        (
            "What a user may give to programs with --add-caps, in a user namespace. Kept in capability.json beside "
            "the configuration file, which is root's. In SUID mode users get none, whatever it says; root needs no "
            "leave."
        ),
    ),
    examples=(
        "sudo singularity capability add --user alice CAP_NET_RAW,CAP_NET_BIND_SERVICE",
        "sudo singularity capability drop --group students all",
        "singularity capability list",
    ),
)

_WORDS = "CAPABILITIES is a list with commas, with or without CAP_, in any case; all for each of them."


def _whose(function: Callable[..., Any]) -> Callable[..., Any]:
    group = option("-g", "--group", default="", metavar="NAME", variables="CAP_GROUP", help="Of this group's members")
    user = option("-u", "--user", default="", metavar="NAME", variables="CAP_USER", help="Of this user")
    return user(group(click.argument("words", metavar="CAPABILITIES")(function)))


def _change(verb: str, words: str, user: str, group: str) -> None:
    if bool(user) == bool(group):
        raise UsageError(f"capability {verb}: either --user or --group is wanted")
    names = capabilities.parse(words)
    policy = capabilities.read()
    kind, who = ("users", user) if user else ("groups", group)
    change = {"add": names} if verb == "add" else {"drop": names}
    users, groups = policy.users, policy.groups
    if user:
        users = capabilities.changed(users, user, **change)
    else:
        groups = capabilities.changed(groups, group, **change)
    capabilities.write(capabilities.Policy(users=users, groups=groups))
    logger.info("%s %s: %s", kind.removesuffix("s"), who, ",".join((users if user else groups)[who]) or "none")


@command.below("add", description=(_WORDS,), examples=("sudo singularity capability add --user alice CAP_NET_RAW",))
@_whose
def add(words: str, user: str, group: str) -> None:
    """Adds to what is allowed."""
    _change("add", words, user, group)


@command.below("drop", description=(_WORDS,), examples=("sudo singularity capability drop --user alice all",))
@_whose
def drop(words: str, user: str, group: str) -> None:
    """Takes from what is allowed."""
    _change("drop", words, user, group)


@command.below(
    "list",
    description=("A line each: what it is, its name, what it may add.",),
    examples=("singularity capability list",),
)
@click.argument("name", required=False, default="")
def list_(name: str) -> None:
    """Lists them, or those of one name."""
    policy = capabilities.read()
    for kind, listed in (("user", policy.users), ("group", policy.groups)):
        for who, names in sorted(listed.items()):
            if names and name in ("", who):
                click.echo(f"{kind} {escape(who)} {escape(','.join(names))}")


@command.below("avail", description=("By name, one a line.",), examples=("singularity capability avail net_raw",))
@click.argument("capability", required=False, default="all")
def avail(capability: str) -> None:
    """Lists what there is."""
    try:
        click.echo("\n".join(capabilities.parse(capability)))
    except SingularityError as error:
        raise UsageError(f"capability avail: {error}") from error
