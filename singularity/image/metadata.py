"""What an image says about itself: labels, scripts, help text, environment, applications, definition.

A SIF file carries it as an object; in a root file system it is in files below `/.singularity.d` and `/scif/apps`.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from singularity import files
from singularity.errors import ImageError
from singularity.image import sif
from singularity.image.identify import Format, Image
from singularity.image.root import Root

logger = logging.getLogger(__name__)

OBJECT_NAME = b"inspect-metadata.json"
DIRECTORY = "/.singularity.d"
APPS = "/scif/apps"
_FILES = (DIRECTORY[1:], "singularity", "environment", ".test")
_APP_FILES = f"{APPS[1:]}/*/scif"
_DEPTH_LIMIT = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Scripts:
    """What an image and each of its applications have; empty texts are absent ones."""

    environment: Mapping[str, str] = field(default_factory=dict)  # path in the image: text
    labels: Mapping[str, str] = field(default_factory=dict)
    runscript: str = ""
    startscript: str = ""
    test: str = ""
    helpfile: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata(Scripts):
    """What the image as a whole has."""

    deffile: str = ""
    apps: Mapping[str, Scripts] = field(default_factory=dict)


def read(image: Image, temporary: Path) -> Metadata:
    """The metadata of an image, without launching or mounting it.

    Where no object of the image holds it, the files that do are unpacked below `temporary` for a moment. Raises
    ImageError, and ToolError where a tool is needed and fails.
    """
    if image.content is not None:
        found = image.content.find(sif.DataType.GENERIC_JSON, OBJECT_NAME)
        if found is not None:
            with image.path.open("rb") as file:
                return from_json(sif.read_object(file, found), str(image.path))
    if image.root.format is Format.DIRECTORY:
        with Root(image.path) as root:
            return from_root(root)
    from singularity.image import ext, squashfs  # what starts programs is slow to import, and seldom needed here

    with files.temporary_directory(temporary) as place:
        purpose = f"read {image.path}"
        if image.root.format is Format.SQUASHFS:
            squashfs.unpack(image.path, image.root.offset, place / "root", (*_FILES, _APP_FILES), purpose=purpose)
        elif image.root.format is Format.EXT:  # images older than applications
            ext.unpack(image.path, image.root.offset, place / "root", _FILES, purpose=purpose)
        else:
            raise ImageError(f"{image.path}: a {image.root.format.value} says nothing about itself", hint="unpack it")
        with Root(place / "root") as root:
            return from_root(root)


def from_root(root: Root) -> Metadata:
    """The metadata of a root file system; what is missing or unreadable is absent."""
    names = [name for name in root.names(APPS) if root.is_directory(f"{APPS}/{name}")]
    scripts = _scripts(root, DIRECTORY)
    if not root.is_directory(DIRECTORY):
        scripts = _scripts_of_version_2(root)
    return Metadata(
        environment=scripts.environment,
        labels=scripts.labels,
        runscript=scripts.runscript,
        startscript=scripts.startscript,
        test=scripts.test,
        helpfile=scripts.helpfile,
        deffile=_text(root, f"{DIRECTORY}/Singularity"),
        apps={name: _scripts(root, f"{APPS}/{name}/scif") for name in names},
    )


def _scripts_of_version_2(root: Root) -> Scripts:
    environment = _text(root, "/environment")
    return Scripts(
        environment={"/environment": environment} if environment else {},
        runscript=_text(root, "/singularity"),
        test=_text(root, "/.test"),
    )


def _scripts(root: Root, directory: str) -> Scripts:
    environment = {
        f"{directory}/env/{name}": text
        for name in root.names(f"{directory}/env")
        if _is_environment(name) and (text := _text(root, f"{directory}/env/{name}"))
    }
    return Scripts(
        environment=environment,
        labels=read_labels(root, f"{directory}/labels.json"),
        runscript=_text(root, f"{directory}/runscript"),
        startscript=_text(root, f"{directory}/startscript"),
        test=_text(root, f"{directory}/test"),
        helpfile=_text(root, f"{directory}/runscript.help"),
    )


def _is_environment(name: str) -> bool:
    return name.endswith(".sh") and (name.startswith("10-docker") or (name[:1] == "9" and "-environment" in name))


def _text(root: Root, path: str) -> str:
    try:
        return root.read(path).decode("utf-8", "replace").rstrip("\n")
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            logger.warning("%s in the image: %s", path, error.strerror)
        return ""


def read_labels(root: Root, path: str) -> dict[str, str]:
    """The labels in a file of the root file system; none where it is missing or damaged, with a warning."""
    text = _text(root, path)
    if not text:
        return {}
    try:
        return _strings(parse_json(text.encode()))
    except ImageError as error:
        logger.warning("%s in the image: %s", path, error)
        return {}


def parse_json(data: bytes) -> Any:
    """A JSON document of somebody else's making. Raises ImageError when it is none, or nested deeper than 64."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"not JSON: {error}") from error
    level = [document]
    for _ in range(_DEPTH_LIMIT):
        level = [below for each in level for below in _children(each)]
        if not level:
            return document
    raise ImageError(f"JSON nested deeper than {_DEPTH_LIMIT}")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def from_json(data: bytes, name: str) -> Metadata:
    """The metadata from the object of a SIF file; `name` stands in messages. Members of other kinds are left out."""
    try:
        document = parse_json(data)
    except ImageError as error:
        raise ImageError(f"{name}: its metadata is {error}") from error
    attributes = _member(_member(document, "data"), "attributes")
    scripts = _scripts_from(attributes)
    return Metadata(
        environment=scripts.environment,
        labels=scripts.labels,
        runscript=scripts.runscript,
        startscript=scripts.startscript,
        test=scripts.test,
        helpfile=scripts.helpfile,
        deffile=_string(attributes, "deffile"),
        apps={app: _scripts_from(value) for app, value in _member(attributes, "apps").items()},
    )


def _scripts_from(value: Any) -> Scripts:
    return Scripts(
        environment=_strings(_member(value, "environment")),
        labels=_strings(_member(value, "labels")),
        runscript=_string(value, "runscript"),
        startscript=_string(value, "startscript"),
        test=_string(value, "test"),
        helpfile=_string(value, "helpfile"),
    )


def _member(value: Any, key: str) -> dict[str, Any]:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def _string(value: Any, key: str) -> str:
    found = value.get(key) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""


def _strings(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {key: text if isinstance(text, str) else json.dumps(text) for key, text in value.items()}


def to_json(metadata: Metadata) -> dict[str, Any]:
    """The document that `inspect --json` prints and SIF files carry; absent members are left out."""
    attributes: dict[str, Any] = {}
    if metadata.apps:
        attributes["apps"] = {name: _members(app) for name, app in sorted(metadata.apps.items())}
    attributes |= _members(metadata)
    if metadata.deffile:
        attributes["deffile"] = metadata.deffile
    return {"data": {"attributes": attributes}, "type": "container"}


def _members(scripts: Scripts) -> dict[str, Any]:
    members: dict[str, Any] = {
        "environment": dict(sorted(scripts.environment.items())),
        "labels": dict(sorted(scripts.labels.items())),
        "runscript": scripts.runscript,
        "startscript": scripts.startscript,
        "test": scripts.test,
        "helpfile": scripts.helpfile,
    }
    return {key: value for key, value in members.items() if value}
