"""The labels that a build adds to an image: those of the label schema, and those of OCI images (image-spec 1.1)."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from singularity import __version__
from singularity import digest as digests
from singularity.definition.model import Stage
from singularity.definition.parse import parse_label
from singularity.errors import FileError
from singularity.image.origin import LABEL, Origin
from singularity.image.sif import format as sif

_SCHEMA = "org.label-schema."
_OCI = "org.opencontainers.image."
# What is said of one build, and of no image that is built on it.
_OWN = (f"{_SCHEMA}build-", f"{_SCHEMA}usage", f"{_SCHEMA}schema-version")
_OWN_OCI = (f"{_OCI}created", f"{_OCI}architecture", f"{_OCI}base.")
_FETCHED = frozenset(("docker", "oras", "library", "shub", "doi"))  # agents that note where it came from
_HELP = "/.singularity.d/runscript.help"


def automatic(
    stage: Stage, *, architecture: str, time: int, has_help: bool, origin: Origin | None = None
) -> dict[str, str]:
    """What the build itself knows; `time` in seconds since 1970, `origin` that of what was fetched to begin with."""
    date = datetime.fromtimestamp(time, UTC)
    labels = {
        f"{_SCHEMA}schema-version": "1.0",
        f"{_SCHEMA}build-date": f"{date:%A_%d_%B_%Y_%H:%M:%S}_UTC",
        f"{_SCHEMA}build-arch": architecture,
        f"{_SCHEMA}usage.singularity.version": __version__,
        f"{_OCI}created": f"{date:%Y-%m-%dT%H:%M:%SZ}",
        f"{_OCI}architecture": architecture,
    }
    if has_help:
        labels |= {f"{_SCHEMA}usage": _HELP, f"{_SCHEMA}usage.singularity.runscript.help": _HELP}
    for keyword, field in stage.header.items():
        labels[f"{_SCHEMA}usage.singularity.deffile.{keyword}"] = field.value
    return labels | _base(stage, origin)


def _base(stage: Stage, origin: Origin | None) -> dict[str, str]:
    """Name and digest of the image of a registry, or of the SIF file, that the image is built on."""
    if stage.agent in _FETCHED and origin:
        base = {f"{_OCI}base.name": origin.name, f"{_OCI}base.digest": origin.digest}
        return base | ({LABEL: origin.place} if origin.place else {})
    if stage.agent != "localimage":
        return {}
    source = stage.value("from")
    with suppress(OSError, FileError), Path(source).open("rb") as file:
        file.seek(sif.MAGIC_OFFSET)
        if file.read(len(sif.MAGIC)) == sif.MAGIC:
            return {f"{_OCI}base.name": source, f"{_OCI}base.digest": f"sha256:{digests.of_file(Path(source))}"}
    return {}


def merged(
    before: Mapping[str, str], added: Mapping[str, str], automatic: Mapping[str, str], *, overwrite: bool
) -> tuple[dict[str, str], list[str]]:
    """All labels, and the names of those that were there `before` and stay, since only `overwrite` replaces them.

    Labels that only a build makes are the new build's, always; those of OCI images, unless they are among the `added`.
    """
    result = {key: value for key, value in before.items() if not key.startswith((*_OWN, *_OWN_OCI))}
    kept = [key for key, value in added.items() if not overwrite and result.get(key, value) != value]
    result |= {key: value for key, value in added.items() if key not in kept}
    result |= {key: value for key, value in automatic.items() if key.startswith(_OWN) or key not in added}
    return dict(sorted(result.items())), kept


def read_lines(text: str) -> dict[str, str]:
    """Labels that %post wrote into the file it is told of: lines as in %labels."""
    lines = (line.strip() for line in text.split("\n"))
    return dict(parse_label(line) for line in lines if line and not line.startswith("#"))
