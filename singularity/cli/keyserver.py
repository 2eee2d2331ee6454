"""`singularity keyserver`: which key servers are asked, and logins to them."""

import logging

import click

from singularity.cli.command import Commands, option
from singularity.console import escape
from singularity.errors import UsageError

logger = logging.getLogger(__name__)


command = Commands(
    "keyserver",
    {
        "list": "List the key servers, in the order in which they are asked",
        "add": "Ask another one, too",
        "remove": "Ask one no more",
        "login": "Keep a user name and a password for one",
        "logout": "Forget them",
    },
    usage=("singularity keyserver list", "singularity keyserver add|remove|login|logout [options] URI"),
    description=(
        "The list is kept in ~/.singularity/keyservers.json, which only you can read.",
        "Without it that of the site counts, keyservers.json beside singularity.conf, or else keys.openpgp.org.",
    ),
    examples=("singularity keyserver add --order 1 https://keys.example.org", "singularity keyserver list"),
)

_uri = click.argument("uri", metavar="URI")


@command.below("list", examples=("singularity keyserver list",))
def list_() -> None:
    """A table of the servers."""
    from singularity.trust import keyserver

    servers = keyserver.configured()
    width = max(len(escape(each.uri)) for each in [*servers, keyserver.KeyServer(uri="URI")])
    click.echo(f"#  {'URI':<{width}}  SECURE?  LOGIN?")
    for number, each in enumerate(servers, 1):
        secure, login = ("yes" if said else "no" for said in (not each.insecure, each.authorization))
        click.echo(f"{number}  {escape(each.uri):<{width}}  {secure:<7}  {login}")


@command.below("add", examples=("singularity keyserver add https://keys.example.org",))
@option("-i", "--insecure", is_flag=True, help="It may be asked by http, too")
@option("-o", "--order", type=int, metavar="N", help="Its place in the list, from 1; the last one when not given")
@_uri
def add(*, uri: str, insecure: bool, order: int | None) -> None:
    """https://HOST, hkps://HOST, or by http with --insecure."""
    from singularity.trust import keyserver

    keyserver.add(uri, insecure=insecure, order=order)


@command.below("remove", examples=("singularity keyserver remove https://keys.openpgp.org",))
@_uri
def remove(*, uri: str) -> None:
    """Its login goes too."""
    from singularity.trust import keyserver

    keyserver.remove(uri)


@command.below("login", examples=("singularity keyserver login --username alice https://keys.example.org",))
@option("-u", "--username", default="", metavar="NAME", variables="LOGIN_USERNAME", help="The user name")
@option("-p", "--password", default="", metavar="PASSWORD", variables="LOGIN_PASSWORD", help="The password, or a token")
@_uri
def login(*, uri: str, username: str, password: str) -> None:
    """The password is asked for, or read as a line of standard input. The server is asked first whether it takes it."""
    from dataclasses import replace

    from singularity.trust import keyserver, pipes

    server = keyserver.find(uri)
    if not username:
        raise UsageError(f"{uri}: a user name is needed", hint="--username NAME")
    authorization = keyserver.basic(username, password or pipes.ask(f"the password of {username} at {uri}"))
    keyserver.ping(replace(server, authorization=authorization))
    keyserver.set_login(uri, authorization)
    logger.info("Logged in to %s as %s", uri, username)


@command.below("logout", examples=("singularity keyserver logout https://keys.example.org",))
@_uri
def logout(*, uri: str) -> None:
    """Removes the login."""
    from singularity.trust import keyserver

    keyserver.set_login(uri, "")
    logger.info("Logged out of %s", uri)
