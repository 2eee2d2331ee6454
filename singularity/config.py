"""What the administrator's configuration file says to this half of the program.

The launcher has the file's grammar and all its keys (`launcher/config.def`), and complains about what is wrong in it;
here a few keys are looked up. A value that cannot be read is as good as none.
"""

from collections.abc import Sequence
from functools import cache

from singularity import paths

_LIMIT = 1 << 20  # bytes
_NAME = "singularity.conf"


@cache
def _lines() -> Sequence[tuple[str, str]]:
    try:
        with (paths.site_directory() / _NAME).open("rb") as file:
            text = file.read(_LIMIT).decode("utf-8", "surrogateescape")
    except OSError:
        return ()
    return tuple(parse(text))


def parse(text: str) -> list[tuple[str, str]]:
    """The keys, in lower case, and values of a configuration file's text, in order."""
    found = []
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and not key.lstrip().startswith("#"):
            found.append((" ".join(key.lower().split()), value.strip()))
    return found


def listed(key: str) -> list[str]:
    """All values of a key that is a list."""
    return [word.strip() for name, value in _lines() if name == key for word in value.split(",") if word.strip()]


def text(key: str) -> str:
    """The value of a key; "" without one."""
    return next((value for name, value in reversed(_lines()) if name == key), "")


def number(key: str) -> int:
    """The value of a key that is a number; 0 without one."""
    values = [value for name, value in _lines() if name == key and value.isdecimal()]
    return int(values[-1]) if values else 0


def truth(key: str) -> bool:
    """Whether a key is `yes`; without it, no."""
    values = [value.lower() for name, value in _lines() if name == key]
    return bool(values) and values[-1] == "yes"
