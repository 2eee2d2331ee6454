"""`singularity remote`: which libraries there are, and logins to them."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import click

from singularity.cli.command import PATH, Commands, option
from singularity.console import escape
from singularity.errors import FileError, UsageError

if TYPE_CHECKING:
    from singularity.library import remotes

logger = logging.getLogger(__name__)

_TOKEN_LIMIT = 64 << 10  # bytes

command = Commands(
    "remote",
    {
        "list": "List the remotes, and which one is used",
        "add": "Add one under a name",
        "remove": "Forget one",
        "use": "Make one the one that is used",
        "login": "Keep a token for one",
        "logout": "Forget it",
        "status": "Ask one which services it has, and whether the token is taken",
        "get-login-password": "Print the token of the active one",
    },
    usage=(
        "singularity remote list|status|login|logout [NAME]",
        "singularity remote add [options] NAME URI",
        "singularity remote use|remove [options] NAME",
    ),
    description=(
        "A remote is a place with a library of SIF files, for library://, search and delete.",
        (
            "They are kept in ~/.singularity/remote.yaml, which only you can read; those of the site are in "
            "remote.yaml beside singularity.conf. Registries have logins of their own: singularity registry."
        ),
    ),
    examples=("singularity remote add --no-login lab library.example.org", "singularity remote use lab"),
)

_name = click.argument("name", metavar="NAME")
_perhaps = click.argument("name", metavar="[NAME]", required=False, default="")
_site = option("-g", "--global", "site", is_flag=True, help="For all of the site; for whoever may write there")


@command.below("list", examples=("singularity remote list",))
def list_() -> None:
    """A table of them."""
    from singularity.library import remotes

    active, known = remotes.active(), remotes.remotes()
    rows: list[tuple[str, ...]] = [("NAME", "URI", "DEFAULT?", "GLOBAL?", "EXCLUSIVE?", "SECURE?")]
    for each in known:
        said = (active is not None and each.name == active.name, each.system, each.exclusive, not each.insecure)
        rows.append(
            (escape(each.name), escape(each.uri), *("✓" if one else "" for one in said[:3]), "✓" if said[3] else "✗!")
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip())


@command.below("add", examples=("singularity remote add --no-login lab library.example.org",))
@_site
@option("-i", "--insecure", is_flag=True, help="It is asked by http")
@option("--no-login", is_flag=True, help="Ask for no token")
@option("-n", "--no-default", is_flag=True, help="The one that is used stays")
@option("--tokenfile", type=PATH, default=None, metavar="FILE", help="The token is in this file")
@_name
@click.argument("uri", metavar="URI")
def add(
    *, name: str, uri: str, site: bool, insecure: bool, no_login: bool, no_default: bool, tokenfile: Path | None
) -> None:
    """Adds one, and logs in."""
    from singularity.library import remotes

    remote = remotes.Remote(name=name, uri=uri.rstrip("/"), insecure=insecure, system=site)
    if not name.strip() or not remote.url.partition("://")[2]:
        raise UsageError("remote add: NAME and URI are wanted", hint="singularity remote add lab library.example.org")
    remotes.add(remote, site=site)
    if not no_default and not site:
        remotes.use(name, site=False, exclusive=False)
    logger.info("Remote %s added", name)
    if not no_login and not site:
        _login(remote, tokenfile)


@command.below("remove", examples=("singularity remote remove lab",))
@_site
@_name
def remove(*, name: str, site: bool) -> None:
    """Forgets one, its token too."""
    from singularity.library import remotes

    remotes.remove(name, site=site)
    logger.info("Remote %s removed", name)


@command.below("use", examples=("singularity remote use lab",))
@_site
@option("-e", "--exclusive", is_flag=True, help="With --global: no other can be used")
@_name
def use(*, name: str, site: bool, exclusive: bool) -> None:
    """Makes it the one that is used."""
    from singularity.library import remotes

    if exclusive and not site:
        raise UsageError("--exclusive: goes with --global")
    remotes.use(name, site=site, exclusive=exclusive)
    logger.info("Remote %s is used now", name)


@command.below("login", examples=("singularity remote login lab", "singularity remote login --tokenfile token lab"))
@option("--tokenfile", type=PATH, default=None, metavar="FILE", help="The token is in this file")
@_perhaps
def login(*, name: str, tokenfile: Path | None) -> None:
    """The token is asked for, or read as a line of standard input; the remote is asked first whether it takes it."""
    from singularity.library import remotes

    _login(remotes.find(name), tokenfile)


@command.below("logout", examples=("singularity remote logout lab",))
@_perhaps
def logout(*, name: str) -> None:
    """Forgets the token."""
    from singularity.library import remotes

    remote = remotes.find(name)
    remotes.set_token(remote, "")
    logger.info("Logged out of %s", remote.name)


@command.below("status", examples=("singularity remote status",))
@_perhaps
def status(*, name: str) -> None:
    """A line for each service."""
    from singularity.library import remotes

    remote = remotes.find(name)
    services = remote.services()
    width = max([len("SERVICE"), *(len(escape(each)) for each in services)])
    click.echo(f"{'SERVICE':<{width}}  URI")
    for service, uri in sorted(services.items()):
        click.echo(f"{escape(service):<{width}}  {escape(uri)}")
    if remote.token:
        remote.check(remote.token)
        click.echo("\nLogged in: the token is taken")
    else:
        click.echo("\nNot logged in")


@command.below("get-login-password", examples=("singularity remote get-login-password",))
def get_login_password() -> None:
    """For programs that log in elsewhere with it."""
    from singularity.library import remotes

    remote = remotes.find("")
    if not remote.token:
        raise UsageError(f"remote {remote.name}: not logged in", hint=f"singularity remote login {remote.name}")
    click.echo(remote.token)


def _login(remote: "remotes.Remote", tokenfile: Path | None) -> None:
    from singularity.library import remotes
    from singularity.trust import pipes

    if tokenfile is None:
        token = pipes.ask(f"the token of {remote.name}").strip()
    else:
        with FileError.about(tokenfile), tokenfile.open("rb") as file:
            token = file.read(_TOKEN_LIMIT).decode("utf-8", "replace").strip()
    if not token or not token.isascii() or not token.isprintable():
        raise UsageError(f"remote {remote.name}: a token is wanted")
    remote.check(token)
    remotes.set_token(remote, token)
    logger.info("Logged in to %s", remote.name)
