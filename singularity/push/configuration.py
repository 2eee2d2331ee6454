"""The OCI configuration of an image: the one that it came with, or one made from what the image says about itself.

What `container` does on the way in is undone here. An image that came from a registry gets back the object that it
brought, to the letter; only what was changed since (by a definition file that was built on it) is said anew.

A runscript becomes the entry point as a copy of its own: whoever pulls the image into a SIF file writes a runscript
that starts the entry point, which would start itself without end.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from singularity.content import document
from singularity.errors import ImageError
from singularity.image import metadata
from singularity.image.metadata import Files
from singularity.oci.container import CONFIG_FILE
from singularity.shell import constant

_DIRECTORY = metadata.DIRECTORY
_RUNSCRIPT = f"{_DIRECTORY}/runscript"
_LABELS = f"{_DIRECTORY}/labels.json"
_SCRIPTS = f"{_DIRECTORY}/env"
_OWN_SCRIPTS = ("90-environment.sh", "91-environment.sh")
_FROM_DOCKER = "10-docker"
_OLD_RUNSCRIPT, _OLD_ENVIRONMENT = "/singularity", "/environment"  # of images of version 2
ENTRYPOINT, OLD_ENTRYPOINT = f"{_DIRECTORY}/entrypoint", "/.entrypoint"
"""Where the copy of the runscript is, in images of today and of version 2."""
_MARKS = ("OCI_ENTRYPOINT=", "OCI_CMD=")  # lines of a runscript that was made from a configuration, ours or a peer's
_OF_A_BUILD = ("org.label-schema.build-", "org.label-schema.usage", "org.label-schema.schema-version")
_OF_A_BUILD_OCI = frozenset(
    f"org.opencontainers.image.{key}" for key in ("created", "architecture", "base.name", "base.digest")
)
_SOURCE_ALL = 'for part in /.singularity.d/env/*.sh; do if [ -f "$part" ]; then . "$part"; fi; done; '
_SOURCE_OLD = ". /environment; "


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The member `config` of an image's configuration, and what it could not take in."""

    content: Mapping[str, Any]
    came_with: bool  # the image came from a registry or an archive of an image
    code: tuple[str, ...] = ()  # lines of environment scripts that only a start can evaluate: `script:line (variable)`
    entrypoint: bytes | None = None  # the program that must be there, at `place`
    place: str = ENTRYPOINT


def of(files: Files, *, kept: bytes | None, has_shell: bool, name: str) -> Configuration:
    """The configuration that says about an image what its files say.

    `kept` is the object that a SIF file has of the configuration it came with, beside the root file system; `name`
    stands in messages. Raises ImageError where that is damaged.
    """
    data = _read(files, CONFIG_FILE) or kept
    content = document.parse_object(data, f"{name}: {CONFIG_FILE}") if data else {}
    with ImageError.named(f"{name}: the configuration that it came with cannot be used"):
        before = document.parse_config(json.dumps({"config": content}).encode(), name)
    constants = _constants(files, before.environment, came_with=data is not None)
    result = dict(content)
    script = None
    old = not files.is_directory(_DIRECTORY)
    if data is None or not _is_from_configuration(_text(files, _RUNSCRIPT)):
        script = _read(files, _OLD_RUNSCRIPT if old else _RUNSCRIPT)
        command = _command(script, old=old, has_shell=has_shell, sourced=bool(constants.code))
        result = {key: value for key, value in result.items() if key not in ("Entrypoint", "Cmd")} | command
    environment = _merged(before.environment, constants.values)
    if environment != list(before.environment):
        result["Env"] = environment
    labels = _labels(files, before.labels, came_with=data is not None)
    if labels != dict(before.labels):
        result["Labels"] = dict(sorted(labels.items()))
    return Configuration(
        content=result,
        came_with=data is not None,
        code=tuple(constants.code),
        entrypoint=script,
        place=OLD_ENTRYPOINT if old else ENTRYPOINT,
    )


def _read(files: Files, path: str) -> bytes | None:
    try:
        return files.read(path)
    except OSError:
        return None


def _text(files: Files, path: str) -> str:
    return (_read(files, path) or b"").decode("utf-8", "replace")


def _is_from_configuration(runscript: str) -> bool:
    lines = runscript.split("\n")
    return not runscript or all(any(line.startswith(mark) for line in lines) for mark in _MARKS)


def _constants(files: Files, environment: tuple[str, ...], *, came_with: bool) -> constant.Constants:
    """What the environment scripts set, but for those that launches bring along themselves."""
    before = {name: value for name, equals, value in (each.partition("=") for each in environment) if equals}
    if not files.is_directory(_DIRECTORY):
        text = _text(files, _OLD_ENVIRONMENT)
        return constant.exported({_OLD_ENVIRONMENT: text} if text else {}, before)
    scripts = {
        name: _text(files, f"{_SCRIPTS}/{name}")
        for name in files.names(_SCRIPTS)
        if name in _OWN_SCRIPTS or (name.startswith(_FROM_DOCKER) and not came_with)
    }
    return constant.exported(scripts, before)


def _command(script: bytes | None, *, old: bool, has_shell: bool, sourced: bool) -> dict[str, list[str]]:
    """How the image is started: its runscript, after its environment scripts where those are code."""
    if script is None:
        return {"Cmd": ["/bin/sh"]} if has_shell else {}
    words = [OLD_ENTRYPOINT if old else ENTRYPOINT]
    if not script.startswith(b"#!"):  # the kernel would not know what to do with it
        words.insert(0, "/bin/sh")
    if sourced and has_shell:
        start = f'{_SOURCE_OLD if old else _SOURCE_ALL}exec {" ".join(words)} "$@"'
        words = ["/bin/sh", "-c", start, "sh"]
    return {"Entrypoint": words}


def _merged(before: tuple[str, ...], values: Mapping[str, str]) -> list[str]:
    """The variables in their order, those with new values in their places, new ones at the end."""
    left = dict(values)
    result = []
    for each in before:
        name, equals, value = each.partition("=")
        new = left.pop(name, value) if equals else value
        result.append(each if not equals or _is_same(name, value, new) else f"{name}={new}")
    return [*result, *(f"{name}={value}" for name, value in left.items())]


def _is_same(name: str, value: str, new: str) -> bool:
    """Whether a value is no other: of a path also when directories are named again that were found before.

    A script that extends one does so a second time in an image that was pushed before and pulled again.
    """
    if value == new or not name.endswith("PATH"):
        return value == new
    return list(dict.fromkeys(value.split(":"))) == list(dict.fromkeys(new.split(":")))


def _labels(files: Files, before: Mapping[str, str], *, came_with: bool) -> dict[str, str]:
    """The labels of the image; of one that had its own not those of the build that made a SIF file of it."""
    own = metadata.read_labels(files, _LABELS)
    if not came_with:
        return own
    return {**before, **{key: value for key, value in own.items() if not _is_of_a_build(key)}}


def _is_of_a_build(key: str) -> bool:
    return key in _OF_A_BUILD_OCI or key.startswith(_OF_A_BUILD)
