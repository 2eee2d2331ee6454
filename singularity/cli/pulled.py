"""The short way to `singularity pull`: a command line with nothing unusual about it goes without what options need.

Workflows pull an image that is in the cache already before each of their steps, and wait for imports most of all.
"""

from collections.abc import Sequence
from pathlib import Path

from singularity.variables import variable

_FORCE, _NO_HTTPS = frozenset(("-F", "--force")), frozenset(("--no-https", "--nohttps"))
VARIABLES = (
    "FORCE", "PULLDIR", "PULLFOLDER", "PULL_NAME", "SANDBOX", "DISABLE_CACHE", "PLATFORM", "PULL_ARCH", "ARCH",
    "PULL_ARCH_VARIANT", "VERIFY_CACHE", "NOHTTPS", "NO_HTTPS", "AUTH_FILE", "AUTHFILE", "DOCKER_LOGIN", "OFFLINE",
    "DOCKER_HOST", "LIBRARY", "PULL_BASE",
)  # fmt: skip
"""Those that stand for options; where one is set, this is no plain command line."""


def plain(arguments: Sequence[str]) -> int | None:
    """Carries out `pull ARGUMENTS`; None: nothing was done, this is not for here. Raises SingularityError."""
    options = {each for each in arguments if each.startswith("-")}
    words = tuple(each for each in arguments if each not in options)
    if not words or ":" not in words[-1] or not options <= _FORCE | _NO_HTTPS or any(map(variable, VARIABLES)):
        return None
    from singularity.cli import pulling
    from singularity.sources.fetch import from_options

    fetch = from_options({"no_https": bool(options & _NO_HTTPS)})
    pulling.pull(words, Path(), fetch, name="", overwrite=bool(options & _FORCE), sandbox=False, with_base=False)
    return 0
