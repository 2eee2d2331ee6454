"""What an image says about itself: labels, scripts, help text, environment, applications, definition.

A SIF file carries it as an object; in a root file system it is in files below `/.singularity.d` and `/scif/apps`.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, Protocol

from singularity.errors import FileError, ImageError
from singularity.foreign_json import parse_json
from singularity.image.identify import EncryptedError, Format, Image, open_path, recognise
from singularity.image.sif import format as sif

OBJECT_NAME = b"inspect-metadata.json"
DIRECTORY = "/.singularity.d"
APPS = "/scif/apps"
_FILES = (DIRECTORY[1:], "singularity", "environment", ".test")
_LIMIT = 64 << 20  # bytes of all files that are read
_NONE: Mapping[str, str] = MappingProxyType({})


class Scripts(NamedTuple):
    """What an image and each of its applications have; empty texts are absent ones."""

    environment: Mapping[str, str] = _NONE  # path in the image: text
    labels: Mapping[str, str] = _NONE
    runscript: str = ""
    startscript: str = ""
    test: str = ""
    helpfile: str = ""


_NO_APPS: Mapping[str, Scripts] = MappingProxyType({})


class Metadata(NamedTuple):
    """What the image as a whole has: what `Scripts` has, and more."""

    environment: Mapping[str, str] = _NONE
    labels: Mapping[str, str] = _NONE
    runscript: str = ""
    startscript: str = ""
    test: str = ""
    helpfile: str = ""
    deffile: str = ""
    apps: Mapping[str, Scripts] = _NO_APPS


class Files(Protocol):
    """A root file system, as far as it is looked at here: `Root`, or a lookup whose links are followed."""

    def names(self, path: str) -> list[str]:
        """The names in a directory, sorted; none where there is no directory."""

    def is_directory(self, path: str) -> bool:
        """Whether a directory is there, links followed."""

    def read(self, path: str) -> bytes:
        """The content of a regular file. Raises OSError."""


class _Bounded:
    """Files that are not too large together: one of many names takes as little room in an image as one of one."""

    def __init__(self, files: Files) -> None:
        self.names, self.is_directory, self._read = files.names, files.is_directory, files.read
        self._left = _LIMIT

    def read(self, path: str) -> bytes:
        """The content of a regular file. Raises OSError and ImageError."""
        data = self._read(path)
        self._left -= len(data)
        if self._left < 0:
            raise ImageError(f"scripts and labels of more than {_LIMIT >> 20} MiB")
        return data


def read(image: Image) -> Metadata:
    """The metadata of an image, without launching, mounting or unpacking it.

    Where no object of the image holds it, it is read from the files that do. Raises ImageError, FileError, and
    ToolError where a library is needed and missing.
    """
    return read_with(image, lambda: _files(image))


def read_with(image: Image, files: Callable[[], AbstractContextManager[Files]]) -> Metadata:
    """The same, where the files are somebody else's to open, who is asked only where objects do not say it all."""
    if image.content is None:
        with files() as found:
            return from_root(found)
    with image.path.open("rb") as file:
        object_ = _object(file, image.content, image.path)
        if object_ is not None:
            return object_
        with files() as found:
            metadata = from_root(found)
        definition = image.content.find(sif.DataType.DEFINITION)
        if definition is not None:
            text = sif.read_object(file, definition).decode("utf-8", "replace").rstrip("\n")
            metadata = metadata._replace(deffile=text)
        labels = image.content.find(sif.DataType.LABELS)
        if labels is not None and not metadata.labels:
            metadata = metadata._replace(labels=_strings(parse_json(sif.read_object(file, labels))))
        return metadata


def of_sif(path: Path) -> Metadata | None:
    """The same for a SIF file that has it in one object, where no key is needed; None for all else.

    Raises ImageError and OSError.
    """
    with open(open_path(path), "rb") as file:
        if not file.read(sif.MAGIC_OFFSET + len(sif.MAGIC)).endswith(sif.MAGIC):
            return None
        try:
            return _object(file, recognise(file, path).content, path)
        except EncryptedError:
            described = _object(file, sif.read(file), path)
            if described is None:
                raise
            return described


def _object(file: BinaryIO, content: sif.Sif | None, path: Path) -> Metadata | None:
    found = content.find(sif.DataType.GENERIC_JSON, OBJECT_NAME) if content else None
    return from_json(sif.read_object(file, found), str(path)) if found else None


def _files(image: Image) -> AbstractContextManager[Files]:
    """The files of an image; what reads a format is imported where an image has it, since it is seldom needed here."""
    if image.root.format is Format.DIRECTORY:
        from singularity.image.root import Root

        return Root(image.path)
    return _archive_files(image) if image.root.format.is_archive else _looked_up(image)


@contextmanager
def _looked_up(image: Image) -> Iterator[Files]:
    from singularity.image import lookup

    with FileError.about(image.path), lookup.opened(image.path, image.root) as found:
        yield lookup.Followed(found)


@contextmanager
def _archive_files(image: Image) -> Iterator[Files]:
    from singularity.image.archive import reader
    from singularity.image.archive.held import Held
    from singularity.image.lookup import Followed

    with reader.opened(image.path, str(image.path)) as tree:
        yield Followed(Held(tree, _is_wanted))


def _is_wanted(path: bytes) -> bool:
    """Whether a member of an archive is among what is looked at."""
    parts = path.decode("utf-8", "replace").split("/")
    return parts[0] in _FILES or (parts[:2] == APPS[1:].split("/") and parts[3:4] in ([], ["scif"]))


def from_root(root: Files) -> Metadata:
    """The metadata of a root file system; what is missing or unreadable is absent.

    Raises ImageError where it is more than can be meant.
    """
    root = _Bounded(root)
    names = [name for name in root.names(APPS) if root.is_directory(f"{APPS}/{name}")]
    scripts = _scripts(root, DIRECTORY)
    if not root.is_directory(DIRECTORY):
        scripts = _scripts_of_version_2(root)
    return Metadata(
        **scripts._asdict(),
        deffile=_text(root, f"{DIRECTORY}/Singularity"),
        apps={name: _scripts(root, f"{APPS}/{name}/scif") for name in names},
    )


def _scripts_of_version_2(root: Files) -> Scripts:
    environment = _text(root, "/environment")
    return Scripts(
        environment={"/environment": environment} if environment else {},
        runscript=_text(root, "/singularity"),
        test=_text(root, "/.test"),
    )


def _scripts(root: Files, directory: str) -> Scripts:
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


def _text(root: Files, path: str) -> str:
    try:
        return root.read(path).decode("utf-8", "replace").rstrip("\n")
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            _warn("%s in the image: %s", path, error.strerror)
        return ""


def _warn(text: str, *about: object) -> None:
    import logging  # a third of the time that reading a SIF file's metadata takes

    logging.getLogger(__name__).warning(text, *about)


def read_labels(root: Files, path: str) -> dict[str, str]:
    """The labels in a file of the root file system; none where it is missing or damaged, with a warning."""
    text = _text(root, path)
    if not text:
        return {}
    try:
        return _strings(parse_json(text.encode()))
    except ImageError as error:
        _warn("%s in the image: %s", path, error)
        return {}


def from_json(data: bytes, name: str) -> Metadata:
    """The metadata from the object of a SIF file; `name` stands in messages. Members of other kinds are left out."""
    try:
        document = parse_json(data)
    except ImageError as error:
        raise ImageError(f"{name}: its metadata is {error}") from error
    attributes = _member(_member(document, "data"), "attributes")
    scripts = _scripts_from(attributes)
    return Metadata(
        **scripts._asdict(),
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
    """The document that `inspect --json` prints and SIF files carry, in the family's order, without what is absent."""
    attributes: dict[str, Any] = {}
    if metadata.apps:
        attributes["apps"] = {name: _members(app) for name, app in sorted(metadata.apps.items())}
    attributes |= _members(metadata)
    startscript = {"startscript": text} if (text := attributes.pop("startscript", "")) else {}
    attributes |= {"deffile": metadata.deffile} if metadata.deffile else {}
    attributes |= startscript
    return {"data": {"attributes": attributes}, "type": "container"}


def _members(scripts: Scripts | Metadata) -> dict[str, Any]:
    found = {key: value for key in Scripts._fields if (value := getattr(scripts, key))}
    return {key: dict(sorted(value.items())) if isinstance(value, Mapping) else value for key, value in found.items()}
