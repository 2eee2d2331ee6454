"""The options of commands that fetch images."""

import functools
from collections.abc import Callable
from typing import Any

from singularity.cli.access import authfile_option, login_option, no_https_option
from singularity.cli.command import shared_option

_Function = Callable[..., Any]
_GROUP = "Images that are fetched"
_KEYS = (
    "platform", "arch", "arch_variant", "no_https", "authfile", "docker_login", "disable_cache", "verify_cache",
    "offline", "library", "docker_host", "tmpdir",
)  # fmt: skip


def options(function: _Function) -> _Function:
    """Adds those of how images are fetched; the function gets them as `fetch`, a `Fetch`.

    That includes what others add to it, above this: the platform, `--disable-cache` and `--tmpdir`.
    """

    @functools.wraps(function)
    def called(*args: Any, **more: Any) -> Any:
        from singularity.sources.fetch import from_options

        known = {key: more.pop(key) for key in _KEYS if key in more}
        known.setdefault("arch", more.get("architecture"))  # which build also has a use of its own for
        return function(*args, fetch=from_options(known), **more)

    decorated: _Function = called
    for identifier in ("docker_host", "library_url", "verify_cache", "offline"):  # the last is shown first
        decorated = shared_option(identifier, _GROUP)(decorated)
    return no_https_option(authfile_option(login_option(decorated)))


def platform(function: _Function) -> _Function:
    """Adds those that say for which machine an image is wanted."""
    for identifier in ("platform", "arch_variant", "arch"):
        function = shared_option(identifier, _GROUP)(function)
    return function
