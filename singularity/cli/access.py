"""The options by which verbs are told how to reach registries."""

import functools
from collections.abc import Callable
from typing import Any

from singularity.cli.command import option
from singularity.registry.access import from_environment

_GROUP = "Registries"

no_https_option = option(
    "--no-https",
    "--nohttps",
    "no_https",
    is_flag=True,
    variables="NOHTTPS NO_HTTPS",
    group=_GROUP,
    help="The registry or library that is named speaks plain http",
)
authfile_option = option(
    "--authfile",
    default="",
    metavar="FILE",
    variables="AUTH_FILE AUTHFILE",
    group=_GROUP,
    help="Credentials for registries, in place of the usual files",
)
login_option = option(
    "--docker-login",
    is_flag=True,
    variables="DOCKER_LOGIN",
    group=_GROUP,
    help="Ask for the name and the password of the registry",
)


def access_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all; the function gets them as `access`, an `Access`."""

    @functools.wraps(function)
    def called(*args: Any, no_https: bool, authfile: str, docker_login: bool, **more: Any) -> Any:
        access = from_environment(no_https=no_https, authfile=authfile, login=docker_login)
        return function(*args, access=access, **more)

    return no_https_option(authfile_option(login_option(called)))
