"""How two images of any formats differ: in packages, configuration and files. Nothing is unpacked."""

import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from enum import Enum

from singularity.errors import ImageError
from singularity.explain import content
from singularity.image import metadata, stacked
from singularity.image.identify import Image
from singularity.image.lookup import Followed, Lookup, Walked, translated
from singularity.image.metadata import Metadata, Scripts
from singularity.image.tree import Kind
from singularity.packages import inventory
from singularity.packages.inventory import Inventory
from singularity.packages.model import Survey, no_collection

_DAMAGED = (ImageError, struct.error, ValueError, OverflowError, IndexError)


class Part(Enum):
    """What is compared; the value is the name of the option."""

    PACKAGES = "packages"
    CONFIG = "config"
    FILES = "files"


class Aspect(Enum):
    """In what two files of one path differ."""

    KIND = "kind"
    CONTENT = "content"
    TARGET = "target"
    DEVICE = "device"
    MODE = "mode"
    OWNER = "owner"
    XATTRS = "attributes"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A path that is not the same in both; None where nothing is there."""

    path: str
    before: Walked | None
    after: Walked | None
    aspects: tuple[Aspect, ...] = ()  # where something is in both


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageChange:
    """A package, and its versions in each image, sorted; several where it is installed in several places."""

    manager: str  # as in package URLs
    name: str
    architecture: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigChange:
    """What an image says about itself under one name; empty where it says nothing."""

    name: str  # "label x", "runscript", "environment /path", with "app NAME: " before those of an application
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """All that differs, in order; what was not asked for is empty."""

    packages: tuple[PackageChange, ...] = ()
    config: tuple[ConfigChange, ...] = ()
    files: tuple[FileChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.packages or self.config or self.files)


def compare(one: Image, other: Image, parts: frozenset[Part] = frozenset(Part)) -> Difference:
    """The difference from `one` to `other`. Times of files are not compared: a new build has new ones.

    Raises ImageError and FileError; both name the image.
    """
    with no_collection(), ExitStack() as stack:
        lookups = [stack.enter_context(stacked.shown(image)) for image in (one, other)]
        surveys = []
        for image, lookup in zip((one, other), lookups, strict=True) if parts & {Part.PACKAGES, Part.FILES} else ():
            with translated(image.path):
                surveys.append(Survey(lookup, lists=False))
        packages: Iterable[PackageChange] = ()
        config: Iterable[ConfigChange] = ()
        files: Iterable[FileChange] = ()
        if Part.PACKAGES in parts:
            packages = _packages(*(_inventory(*each) for each in zip((one, other), surveys, strict=True)))
        if Part.CONFIG in parts:
            config = _config(*(_metadata(*each) for each in zip((one, other), lookups, strict=True)))
        if Part.FILES in parts:
            files = _files(one, other, surveys, lookups)
        return Difference(packages=tuple(packages), config=tuple(config), files=tuple(files))


def _inventory(image: Image, survey: Survey) -> Inventory:
    with translated(image.path):
        return inventory.take(survey)


# ---- packages ----
def _packages(one: Inventory, other: Inventory) -> Iterator[PackageChange]:
    before, after = (_versions(each) for each in (one, other))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            manager, name, architecture = key
            yield PackageChange(
                manager=manager,
                name=name,
                architecture=architecture,
                before=before.get(key, ()),
                after=after.get(key, ()),
            )


def _versions(found: Inventory) -> dict[tuple[str, str, str], tuple[str, ...]]:
    versions: dict[tuple[str, str, str], list[str]] = {}
    for each in found.packages:
        build = each.qualifiers.get("build", "")
        version = f"{each.version} {build}".rstrip()
        versions.setdefault((each.manager.value, each.name, each.architecture), []).append(version)
    return {key: tuple(sorted(each)) for key, each in versions.items()}


# ---- configuration ----
def _metadata(image: Image, lookup: Lookup) -> Metadata:
    with translated(image.path):
        return metadata.read_with(image, lambda: nullcontext(Followed(lookup)))


def _config(one: Metadata, other: Metadata) -> Iterator[ConfigChange]:
    before, after = (dict(_said(each)) for each in (one, other))
    for name in dict.fromkeys((*before, *after)):
        if before.get(name, "") != after.get(name, ""):
            yield ConfigChange(name=name, before=before.get(name, ""), after=after.get(name, ""))


def _said(about: Metadata) -> Iterator[tuple[str, str]]:
    yield from _scripts(about, "")
    yield "definition", about.deffile
    for name, app in sorted(about.apps.items()):
        yield from _scripts(app, f"app {name}: ")


def _scripts(about: Metadata | Scripts, prefix: str) -> Iterator[tuple[str, str]]:
    labels: Mapping[str, str] = about.labels
    yield from ((f"{prefix}label {name}", text) for name, text in sorted(labels.items()))
    yield from ((f"{prefix}environment {path}", text) for path, text in sorted(about.environment.items()))
    yield f"{prefix}runscript", about.runscript
    yield f"{prefix}startscript", about.startscript
    yield f"{prefix}test", about.test
    yield f"{prefix}help", about.helpfile


# ---- files ----
def _files(one: Image, other: Image, surveys: list[Survey], lookups: list[Lookup]) -> Iterator[FileChange]:
    before, after = (each.walked for each in surveys)
    pairs = [
        content.Files(first, second)
        for path, first in before.items()
        if first.node.kind is Kind.FILE
        and (second := after.get(path)) is not None
        and second.node.kind is Kind.FILE
        and 0 < first.node.size == second.node.size
    ]
    changed = content.differing(one, other, pairs)
    for path in sorted(before.keys() | after.keys()):
        first, second = before.get(path), after.get(path)
        if first is None or second is None:
            yield FileChange(path=path, before=first, after=second)
            continue
        aspects = tuple(_aspects(first, second, lookups, (one, other), same=path not in changed))
        if aspects:
            yield FileChange(path=path, before=first, after=second, aspects=aspects)


def _aspects(
    first: Walked, second: Walked, lookups: list[Lookup], images: tuple[Image, Image], *, same: bool
) -> Iterator[Aspect]:
    one, other = first.node, second.node
    if one.kind is not other.kind:
        yield Aspect.KIND
    elif one.kind is Kind.FILE and (one.size != other.size or not same):
        yield Aspect.CONTENT
    elif one.target != other.target:
        yield Aspect.TARGET
    elif one.kind.is_device and one.device != other.device:
        yield Aspect.DEVICE
    if one.mode != other.mode and Kind.LINK not in (one.kind, other.kind):
        yield Aspect.MODE
    if (one.uid, one.gid) != (other.uid, other.gid):
        yield Aspect.OWNER
    try:
        same_attributes = lookups[0].xattrs(first) == lookups[1].xattrs(second)
    except _DAMAGED:  # of which image is said by asking each again: a context for each file would take its time
        for lookup, walked, image in zip(lookups, (first, second), images, strict=True):
            with translated(image.path):
                lookup.xattrs(walked)
        raise
    if not same_attributes:
        yield Aspect.XATTRS
