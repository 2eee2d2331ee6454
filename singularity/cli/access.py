"""The options by which verbs are told how to reach registries."""

import functools
from collections.abc import Callable
from typing import Any

from singularity.cli.command import shared_option
from singularity.registry.access import from_environment

_GROUP = "Registries"

no_https_option = shared_option("no_https", _GROUP)
authfile_option = shared_option("authfile", _GROUP)
login_option = shared_option("docker_login", _GROUP)


def access_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds them all; the function gets them as `access`, an `Access`."""

    @functools.wraps(function)
    def called(*args: Any, no_https: bool, authfile: str, docker_login: bool, **more: Any) -> Any:
        access = from_environment(no_https=no_https, authfile=authfile, login=docker_login)
        return function(*args, access=access, **more)

    return no_https_option(authfile_option(login_option(called)))
