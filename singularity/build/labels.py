"""The labels that a build adds to an image."""

from collections.abc import Mapping
from datetime import UTC, datetime

from singularity import __version__
from singularity.definition.model import Stage

_SCHEMA = "org.label-schema."
_HELP = "/.singularity.d/runscript.help"


def automatic(stage: Stage, *, architecture: str, time: int, has_help: bool) -> dict[str, str]:
    """What the build itself knows; `time` in seconds since 1970."""
    date = datetime.fromtimestamp(time, UTC)
    labels = {
        f"{_SCHEMA}schema-version": "1.0",
        f"{_SCHEMA}build-date": f"{date:%A_%d_%B_%Y_%H:%M:%S}_UTC",
        f"{_SCHEMA}build-arch": architecture,
        f"{_SCHEMA}usage.singularity.version": __version__,
    }
    if has_help:
        labels |= {f"{_SCHEMA}usage": _HELP, f"{_SCHEMA}usage.singularity.runscript.help": _HELP}
    for keyword, field in stage.header.items():
        labels[f"{_SCHEMA}usage.singularity.deffile.{keyword}"] = field.value
    return labels


def merged(
    before: Mapping[str, str], added: Mapping[str, str], automatic: Mapping[str, str], *, overwrite: bool
) -> tuple[dict[str, str], list[str]]:
    """All labels, and the names of those that were there `before` and stay, since only `overwrite` replaces them.

    Labels that only a build makes are the new build's, always.
    """
    own = (f"{_SCHEMA}build-", f"{_SCHEMA}usage", f"{_SCHEMA}schema-version")
    result = {key: value for key, value in before.items() if not key.startswith(own)}
    kept = [key for key, value in added.items() if not overwrite and result.get(key, value) != value]
    result |= {key: value for key, value in added.items() if key not in kept}
    return dict(sorted((result | dict(automatic)).items())), kept


def read_lines(text: str) -> dict[str, str]:
    """Labels that %post wrote into the file it is told of: `key value` lines."""
    labels = {}
    for line in text.splitlines():
        key, _, value = line.strip().replace("\t", " ", 1).partition(" ")
        if key and not key.startswith("#"):
            labels[key] = value.strip()
    return labels
