"""The options of commands that fetch images."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from singularity.cli.access import authfile_option, login_option, no_https_option
from singularity.cli.command import option

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_GROUP = "Images that are fetched"


def options(decorated: _Decorated) -> _Decorated:
    """Adds those that `sources.fetch.from_options` knows, but for the platform and the cache."""
    added = (
        no_https_option,
        authfile_option,
        login_option,
        option(
            "--offline",
            is_flag=True,
            variables="OFFLINE",
            group=_GROUP,
            help="Where the registry cannot be reached, use what the name meant last, with a warning",
        ),
        option(
            "--verify-cache",
            is_flag=True,
            variables="VERIFY_CACHE",
            group=_GROUP,
            help="Read what the cache has of the image again, and make or fetch anew what is damaged",
        ),
        option(
            "--library",
            default="",
            metavar="URL",
            variables="LIBRARY",
            group=_GROUP,
            help="The server of library:// names without one",
        ),
        option(
            "--docker-host",
            default="",
            metavar="ADDRESS",
            variables="DOCKER_HOST",
            group=_GROUP,
            help="The daemon of docker-daemon: names, unix:///PATH or tcp://HOST:PORT",
        ),
    )
    return _with(decorated, added)


def platform(decorated: _Decorated) -> _Decorated:
    """Adds those that say for which machine an image is wanted."""
    added = (
        option(
            "--arch",
            default="",
            metavar="NAME",
            variables="PULL_ARCH ARCH",
            group=_GROUP,
            help="The image for this architecture, such as arm64",
        ),
        option(
            "--arch-variant",
            default="",
            metavar="NAME",
            variables="PULL_ARCH_VARIANT",
            group=_GROUP,
            help="And for this variant of it, such as v7",
        ),
        option(
            "--platform",
            default="",
            metavar="OS/ARCH[/VARIANT]",
            variables="PLATFORM",
            group=_GROUP,
            help="The same in one word: linux/arm/v7",
        ),
    )
    return _with(decorated, added)


def _with(decorated: _Decorated, added: Sequence[Callable[[_Decorated], _Decorated]]) -> _Decorated:
    for each in reversed(added):
        decorated = each(decorated)
    return decorated
