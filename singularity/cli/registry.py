"""`singularity registry`: logging in to registries, and out."""

import logging
import sys

import click

from singularity.cli.access import authfile_option, no_https_option
from singularity.cli.command import Commands, option
from singularity.console import escape
from singularity.errors import UsageError
from singularity.registry import credentials
from singularity.registry.access import Access, from_environment
from singularity.registry.reference import HUB, canonical

logger = logging.getLogger(__name__)

_PASSWORD_LIMIT = 64 << 10  # bytes; tokens are long

command = Commands(
    "registry",
    {
        "login": "Keep a user name and a password for a registry",
        "logout": "Forget them",
        "list": "List the registries that there is a login for",
    },
    usage=(
        "singularity registry login [options] URI",
        "singularity registry logout [options] URI",
        "singularity registry list [options]",
    ),
    description=(
        "Logins are kept in ~/.singularity/docker-config.json, which only you can read.",
        "Those of Docker, in ~/.docker/config.json, are used too.",
    ),
    examples=(
        "singularity registry login docker://ghcr.io",
        "singularity registry login -u alice --password-stdin docker://docker.io < token",
        "singularity registry list",
    ),
)


_uri = click.argument("uri", metavar="URI")


@command.below(
    "login",
    description=(
        "URI is docker://HOST[:PORT] or oras://HOST[:PORT]. The registry is asked first whether it takes them.",
        "Others on this machine see what stands in a command line: give the password to --password-stdin, or be asked.",
    ),
    examples=(
        "singularity registry login docker://ghcr.io",
        "singularity registry login -u alice --password-stdin docker://docker.io < token",
    ),
)
@_uri
@option("-u", "--username", default="", metavar="NAME", variables="LOGIN_USERNAME", help="The user name")
@option("-p", "--password", default="", metavar="PASSWORD", variables="LOGIN_PASSWORD", help="The password, or a token")
@option("--password-stdin", is_flag=True, help="Read the password from standard input")
@no_https_option
@authfile_option
def login(uri: str, *, username: str, password: str, password_stdin: bool, no_https: bool, authfile: str) -> None:
    """Asks the registry, then keeps the login."""
    host = _host(uri)
    if password_stdin:
        if not username or password:
            raise UsageError("--password-stdin goes with --username, and without --password")
        password = _password_of_stdin()
    if not password:
        username, password = credentials.prompt(host, username)
    if not username or not password:
        raise UsageError(f"{host}: a user name and a password are needed")
    from singularity.registry.client import Registry

    where = from_environment(no_https=no_https, authfile=authfile)
    Registry(host, Access(no_https=where.no_https, username=username, password=password)).ping()
    kept = credentials.save(host, username, password, where)
    logger.info("Logged in to %s as %s: kept in %s", host, username, kept)


@command.below("logout", examples=("singularity registry logout docker://ghcr.io",))
@_uri
@authfile_option
def logout(uri: str, *, authfile: str) -> None:
    """Removes the login."""
    host = _host(uri)
    path = credentials.remove(host, from_environment(authfile=authfile))
    if path is None:
        logger.warning("%s: not logged in (see: singularity registry list)", host)
    else:
        logger.info("Logged out of %s: removed from %s", host, path)


@command.below("list", examples=("singularity registry list",))
@authfile_option
def list_(*, authfile: str) -> None:
    """A table of the logins."""
    rows = [
        (f"docker://{escape(each.host)}", "yes" if each.secure else "no")
        for each in credentials.logins(from_environment(authfile=authfile))
    ]
    width = max(len(uri) for uri, _ in [*rows, ("URI", "")])
    for uri, secure in [("URI", "SECURE?"), *rows]:
        click.echo(f"{uri:<{width}}  {secure}")


def _host(uri: str) -> str:
    """The registry that a URI names."""
    scheme, separator, rest = uri.partition("://")
    if separator and scheme not in ("docker", "oras"):
        raise UsageError(f'"{uri}" is no registry', hint="docker://HOST or oras://HOST")
    host = (rest if separator else uri).partition("/")[0]
    if not host and separator:
        return HUB
    return canonical(host)


def _password_of_stdin() -> str:
    data = sys.stdin.buffer.read(_PASSWORD_LIMIT + 1)
    if len(data) > _PASSWORD_LIMIT:
        raise UsageError(f"--password-stdin: more than {_PASSWORD_LIMIT >> 10} KiB")
    try:
        password = data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise UsageError("--password-stdin: not UTF-8") from error
    if not password or "\n" in password:
        raise UsageError("--password-stdin: one line is needed")
    return password
