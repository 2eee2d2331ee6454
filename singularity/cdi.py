"""Devices by CDI (Container Device Interface): what the site's specifications say of a device, as binds and variables.

The format is https://github.com/cncf-tags/container-device-interface, SPEC.md. Hooks are programs that a runtime would
start as root; here none is started: what the known ones of NVIDIA's toolkit do is done by binds, others are named.
"""

import logging
import os
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from singularity.errors import FileError, ImageError, SingularityError, ToolError
from singularity.foreign_json import parse_json

logger = logging.getLogger(__name__)

DIRECTORIES = (Path("/etc/cdi"), Path("/var/run/cdi"))  # a later one goes before an earlier
LIBRARIES = PurePosixPath("/.singularity.d/libs")  # on the loader's path in every container
_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*/[A-Za-z][A-Za-z0-9_.-]*)=([A-Za-z0-9][A-Za-z0-9_.:-]*)")
_SIZE_LIMIT = 4 << 20  # bytes
_LIBRARY = re.compile(r"lib[^/]*\.so(\.[0-9.]*)?")
_TOOLS = frozenset({"nvidia-ctk", "nvidia-cdi-hook", "nvidia-container-toolkit"})
_NOTHING_TO_DO = frozenset({"chmod", "disable-device-node-modification"})  # directories are made open; nodes are bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file, directory or device of the host, shown at a path of the container."""

    source: str
    target: str
    writable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Edits:
    """What a device needs, as its specification has it."""

    environment: tuple[str, ...]
    devices: tuple[Bind, ...]
    mounts: tuple[Bind, ...]
    links: tuple[tuple[str, str], ...]  # a link's text and its path
    folders: tuple[str, ...]  # where the loader is to find libraries


@dataclass(slots=True, kw_only=True)
class Needed:
    """What all devices together need."""

    environment: list[str] = field(default_factory=list)
    binds: list[Bind] = field(default_factory=list)


def needed(names: Iterable[str], directories: Sequence[Path] = ()) -> Needed:
    """What these devices need. Raises SingularityError for one that no specification has, or an unusable one."""
    found = _specifications(directories or DIRECTORIES)
    edits: list[Edits] = []
    used: set[Path] = set()
    for name in dict.fromkeys(names):
        match = _NAME.fullmatch(name)
        if match is None:
            raise SingularityError(f'--device "{name}": VENDOR/CLASS=NAME is wanted', hint="nvidia.com/gpu=0")
        kind, device = match.groups()
        path, specification = _holder(found, kind, device, name, directories or DIRECTORIES)
        if path not in used:
            used.add(path)
            edits.append(_edits(path, "containerEdits", specification.get("containerEdits")))
        for number, each in enumerate(specification["devices"]):
            if each["name"] == device:
                edits.append(_edits(path, f"devices[{number}].containerEdits", each.get("containerEdits")))
    return _together(edits)


# ---- specifications ----

_Specifications = list[tuple[Path, dict[str, Any]]]


def _specifications(directories: Sequence[Path]) -> _Specifications:
    """All that can be read, those that count more first."""
    found: _Specifications = []
    for directory in reversed(directories):
        try:
            paths = sorted(path for path in directory.iterdir() if path.suffix in (".json", ".yaml", ".yml"))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise FileError.because(directory, error) from error
        for path in paths:
            try:
                found.append((path, _checked(path, _document(path))))
            except (FileError, ImageError) as error:
                logger.warning("%s: its devices are left out", error)
    return found


def _document(path: Path) -> Any:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise FileError(f"{path}: no regular file")
    with FileError.about(path), path.open("rb") as file:
        data = file.read(_SIZE_LIMIT)
    if path.suffix == ".json":
        with ImageError.named(path):
            return parse_json(data)
    try:
        import yaml
    except ImportError as error:
        hint = "install PyYAML, or write it as JSON: nvidia-ctk cdi generate --format json"
        raise ToolError(f"PyYAML not found, needed to read {path}", hint=hint) from error
    try:
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:  # of PyYAML's
        raise ImageError(f"{path}: no YAML: {' '.join(str(error).split())}") from error


def _checked(path: Path, document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise ImageError(f"{path}: kind: VENDOR/CLASS is wanted")
    devices = document.get("devices")
    if not isinstance(devices, list):
        raise ImageError(f"{path}: devices: a list is wanted")
    for number, device in enumerate(devices):
        if not isinstance(device, dict) or not isinstance(device.get("name"), str | int):
            raise ImageError(f"{path}: devices[{number}].name: a name is wanted")
        device["name"] = str(device["name"])
    return document


def _holder(
    found: _Specifications, kind: str, device: str, name: str, directories: Sequence[Path]
) -> tuple[Path, dict[str, Any]]:
    """The specification that has a device; two in one directory contradict each other."""
    holders = [
        (path, each)
        for path, each in found
        if each["kind"] == kind and device in {one["name"] for one in each["devices"]}
    ]
    if not holders:
        places = ", ".join(map(str, directories))
        known = sorted({f"{each['kind']}={one['name']}" for _, each in found for one in each["devices"]})
        hint = (
            f"there are {', '.join(known[:8])}{', ...' if len(known) > 8 else ''}"
            if known
            else "nvidia-ctk cdi generate"
        )
        raise SingularityError(f"--device {name}: no specification in {places} has it", hint=hint)
    if len(holders) > 1 and holders[0][0].parent == holders[1][0].parent:
        raise SingularityError(f"--device {name}: both {holders[0][0]} and {holders[1][0]} have it")
    return holders[0]


# ---- edits ----


def _edits(path: Path, key: str, value: Any) -> Edits:
    given = _object(path, key, value)
    environment = _texts(path, f"{key}.env", given.get("env"))
    devices = [_device(path, f"{key}.deviceNodes[{at}]", each) for at, each in _each(path, f"{key}.deviceNodes", given)]
    mounts = [_mount(path, f"{key}.mounts[{at}]", each) for at, each in _each(path, f"{key}.mounts", given)]
    links: list[tuple[str, str]] = []
    folders: list[str] = []
    for at, hook in _each(path, f"{key}.hooks", given):
        _hook(path, f"{key}.hooks[{at}]", hook, links, folders)
    return Edits(
        environment=tuple(environment),
        devices=tuple(devices),
        mounts=tuple(bind for bind in mounts if bind is not None),
        links=tuple(links),
        folders=tuple(folders),
    )


def _object(path: Path, key: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ImageError(f"{path}: {key}: an object is wanted")
    return value


def _each(path: Path, key: str, given: dict[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
    value = given.get(key.rpartition(".")[2])
    if value is not None and not isinstance(value, list):
        raise ImageError(f"{path}: {key}: a list is wanted")
    for number, each in enumerate(value or []):
        yield number, _object(path, f"{key}[{number}]", each)


def _texts(path: Path, key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) and _is_word(each) for each in value):
        raise ImageError(f"{path}: {key}: a list of words is wanted")
    return value


def _path(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or not _is_word(value):
        raise ImageError(f"{path}: {key}: an absolute path is wanted")
    return value


def _is_word(text: str) -> bool:
    """Whether a system can have it as a word: it ends nowhere but at its end, and has bytes."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _device(path: Path, key: str, given: dict[str, Any]) -> Bind:
    target = _path(path, f"{key}.path", given.get("path"))
    source = _path(path, f"{key}.hostPath", given.get("hostPath") or target)
    return Bind(source=source, target=target, writable=True)


def _mount(path: Path, key: str, given: dict[str, Any]) -> Bind | None:
    source = _path(path, f"{key}.hostPath", given.get("hostPath"))
    target = _path(path, f"{key}.containerPath", given.get("containerPath"))
    options = _texts(path, f"{key}.options", given.get("options"))
    if given.get("type", "") not in ("", "bind", "none"):
        logger.warning("%s: %s: a mount of type %s is left out", path, key, given["type"])
        return None
    return Bind(source=source, target=target, writable="ro" not in options)


def _hook(path: Path, key: str, given: dict[str, Any], links: list[tuple[str, str]], folders: list[str]) -> None:
    """What a known hook would do is added to the lists."""
    program = str(given.get("path", ""))
    words = _texts(path, f"{key}.args", given.get("args"))[1:]
    if words[:1] == ["hook"]:
        words = words[1:]
    name = words[0] if words else ""
    values = {flag: list(_values(words, flag)) for flag in ("--link", "--folder")}
    if posixpath.basename(program) in _TOOLS and name == "create-symlinks":
        pairs = (each.partition("::") for each in values["--link"])
        links += [(text, place) for text, _, place in pairs if text and place.startswith("/")]
    elif posixpath.basename(program) in _TOOLS and name == "update-ldcache":
        folders += values["--folder"]
    elif posixpath.basename(program) not in _TOOLS or name not in _NOTHING_TO_DO:
        logger.warning(
            "%s: the hook %s is not run: no program of a specification is", path, f"{program} {name}".strip()
        )


def _values(words: Sequence[str], flag: str) -> Iterator[str]:
    for number, word in enumerate(words):
        if word == flag and number + 1 < len(words):
            yield words[number + 1]
        elif word.startswith(f"{flag}="):
            yield word.partition("=")[2]


# ---- all together ----


def _together(edits: Sequence[Edits]) -> Needed:
    result = Needed()
    shown: dict[str, str] = {}  # path of the container: file of the host
    for bind in (bind for each in edits for bind in (*each.devices, *each.mounts)):
        if shown.setdefault(bind.target, bind.source) == bind.source and bind not in result.binds:
            result.binds.append(bind)
    for each in edits:
        result.environment += [text for text in each.environment if text not in result.environment]
    for folder in dict.fromkeys(folder for each in edits for folder in each.folders):
        for target, source in list(shown.items()):
            if posixpath.dirname(target) == folder and _LIBRARY.fullmatch(posixpath.basename(target)):
                _show_library(result, shown, target, source)
    for text, place in (link for each in edits for link in each.links):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), text))
        if target in shown:
            _show(result, shown, place, shown[target])
        else:
            logger.warning("--device: nothing is at %s, so the link %s is left out", target, place)
    return result


def _show(result: Needed, shown: dict[str, str], target: str, source: str) -> None:
    if target not in shown:
        shown[target] = source
        result.binds.append(Bind(source=source, target=target, writable=False))


def _show_library(result: Needed, shown: dict[str, str], target: str, source: str) -> None:
    """As ldconfig does by links: by the name that programs ask for, beside it, and where the loader looks."""
    name = _name_of(source) or posixpath.basename(target)
    _show(result, shown, posixpath.join(posixpath.dirname(target), name), source)
    _show(result, shown, str(LIBRARIES / name), source)


def _name_of(library: str) -> str:
    """DT_SONAME; empty where there is none."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.dynamic import DynamicSection
    from elftools.elf.elffile import ELFFile

    try:
        with open(library, "rb") as file:
            sections = (each for each in ELFFile(file).iter_sections() if isinstance(each, DynamicSection))
            names = [
                str(getattr(tag, "soname", ""))
                for each in sections
                for tag in each.iter_tags()
                if tag.entry.d_tag == "DT_SONAME"
            ]
    except (OSError, ELFError):
        return ""
    return names[0] if names and "/" not in names[0] else ""


def answer(found: Needed) -> bytes:
    """For the front door: records that end with NUL, each a letter and the text of a --bind or an --env."""
    binds = [
        f"B{_escaped(bind.source)}:{_escaped(bind.target)}:{'rw' if bind.writable else 'ro'}" for bind in found.binds
    ]
    doubled = [text.replace('"', '""') for text in found.environment]
    return b"".join(os.fsencode(record) + b"\0" for record in (*binds, *(f'E"{text}"' for text in doubled)))


def _escaped(path: str) -> str:
    return path.replace(":", "\\:").replace(",", "\\,")
