"""Where programs and libraries are looked for in the container: what of PATH and LD_LIBRARY_PATH is the same each time.

As launches do it: the variables of the image's scripts, those that the caller injects, then the defaults.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from singularity.check.view import View
from singularity.errors import ImageError
from singularity.image import metadata
from singularity.shell import constant

LIBRARIES = "/.singularity.d/libs"
"""Where launches put libraries of the host; at the end of LD_LIBRARY_PATH."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PREFIXES = ("APPTAINERENV_", "SINGULARITYENV_")
_WANTED = ("PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the loader and the shell go by."""

    path: tuple[str, ...]
    libraries: tuple[str, ...]
    code: tuple[str, ...] = ()  # lines of scripts that set one of both to what only a start knows
    values: Mapping[str, str]  # of the image's scripts


def read(view: View, caller: Mapping[str, str], options: Sequence[str]) -> Environment:
    """`caller` is the environment of the caller, `options` are those of the launch, for `--env`."""
    scripts = _scripts(view)
    found = constant.exported(scripts, {})
    injected = {name: value for name, value in _injected(caller, options) if "$" not in value and "`" not in value}
    values = {**found.values, **{name: value for name, value in injected.items() if name in _WANTED}}
    path = values.get("PATH", "")
    change = [injected.get("PREPEND_PATH", ""), path, injected.get("APPEND_PATH", "")]
    directories = [each for each in ":".join(filter(None, change)).split(":") if each]
    directories += [each for each in _PATH.split(":") if each not in directories]
    libraries = values.get("LD_LIBRARY_PATH", "").split(":") if values.get("LD_LIBRARY_PATH") else []
    if LIBRARIES not in libraries:
        libraries.append(LIBRARIES)
    code = tuple(line for line in found.code if any(f"({name})" in line or f" {name}" in line for name in _WANTED))
    return Environment(path=tuple(directories), libraries=tuple(libraries), code=code, values=found.values)


def _scripts(view: View) -> Mapping[str, str]:
    try:
        return metadata.from_root(view).environment
    except ImageError:
        return {}


def _injected(caller: Mapping[str, str], options: Sequence[str]) -> list[tuple[str, str]]:
    found = [
        (name.removeprefix(prefix), value)
        for prefix in _PREFIXES
        for name, value in caller.items()
        if name.startswith(prefix)
    ]
    for number, word in enumerate(options):
        text = word.removeprefix("--env=") if word.startswith("--env=") else ""
        if word == "--env" and number + 1 < len(options):
            text = options[number + 1]
        name, equals, value = text.partition("=")
        if equals:
            found.append((name, value))
    return found
