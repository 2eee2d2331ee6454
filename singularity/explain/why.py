"""What brought a file into an image: its package, the line of the definition, the layer; and what of this is not known.

Only what the image keeps is asked: notes of package managers, the definitions that it was built from, where it was
fetched from, the history of its layers. What is certain and what only looks like it are told apart.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from singularity.errors import FileError
from singularity.explain.definitions import Definition, Line
from singularity.image import base, metadata, origin, removed, stacked
from singularity.image.identify import Image
from singularity.image.lookup import Followed, Lookup, Node, translated
from singularity.image.metadata import APPS, DIRECTORY
from singularity.image.stacked import Stacked
from singularity.image.tree import Kind
from singularity.oci import members
from singularity.oci.image import Image as Layered
from singularity.packages import inventory
from singularity.packages.inventory import Inventory, Owners
from singularity.packages.model import Package, Survey

_LINKS_LIMIT = 40
_SHOWN = 5  # lines that only have a name in them, and packages that have files in a directory
_LINKS = {DIRECTORY, "/.exec", "/.run", "/.shell", "/.test", "/environment", "/singularity"}
_HISTORY = f"{DIRECTORY}/bootstrap_history"

Opened = Callable[[], AbstractContextManager[Layered]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Something that is known about a file; `by` is package, definition, base, layer, overlay or program."""

    by: str
    text: str
    certain: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A path, and what is known of it; a link is followed by the step that it leads to."""

    path: str
    node: Node
    reasons: tuple[Reason, ...]


def explain(image: Image, path: str, layers: Opened | None = None) -> list[Step]:
    """What is known of the file at a path, and of those that it leads to as a link; `layers` of an image that has some.

    A path without "/" before it is one from the root. Raises FileError where there is nothing, and ImageError.
    """
    with translated(image.path), stacked.shown(image) as lookup:
        survey = Survey(lookup)
        steps = list(_steps(survey, path))
        if not steps:
            gone = removed.why_missing(frozenset(removed.read(Followed(lookup))), survey.real(f"/{path}"))
            hint = removed.advice(gone) if gone else "paths are those in the container"
            raise FileError(f"{path}: not in {image.path}", hint=hint)
        about = _About(image, lookup, inventory.take(survey))
        by_layer = _layers(layers, [each for each, _ in steps]) if layers is not None else {}
        return [
            Step(path=each, node=node, reasons=tuple(_reasons(about, each, node, by_layer.get(each))))
            for each, node in steps
        ]


class _About:
    """What an image says about itself, read once."""

    def __init__(self, image: Image, lookup: Lookup, found: Inventory) -> None:
        self.image, self.found = image, found
        self.chain = [image, *base.chain(image)[1:]]
        self.owners = Owners(found)
        files = Followed(lookup)
        self.origin = origin.read(files)
        self.overlays = lookup if isinstance(lookup, Stacked) else None
        before = [(f"{_HISTORY}/{name}", found.survey.text(f"{_HISTORY}/{name}")) for name in files.names(_HISTORY)]
        about = metadata.read_with(image, lambda: nullcontext(files))
        texts = [*before, (f"{DIRECTORY}/Singularity", about.deffile)]
        self.definitions = [Definition(name, text) for name, text in texts if text]  # the image's own is the last


def _steps(survey: Survey, path: str) -> Iterator[tuple[str, Node]]:
    place = survey.real(f"/{path}") or "/"
    for _ in range(_LINKS_LIMIT):
        end, node = survey.node(place) if place == "/" else (place, survey.lookup.find(place))
        if node is None:
            return
        yield end, node
        if node.kind is not Kind.LINK:
            return
        above = place.rpartition("/")[0]
        place = survey.real(node.target if node.target.startswith("/") else f"{above}/{node.target}") or "/"


# ---- what is known of one file ----
def _reasons(about: _About, path: str, node: Node, by_layer: str | None) -> Iterator[Reason]:
    based = about.chain[about.overlays.layer_of(path)] if about.overlays and about.chain[1:] else about.image
    if based is not about.image:
        yield Reason(by="base", text=f"it is in {based.path}, which the image lies on")
    elif about.overlays is not None and about.overlays.in_overlay(path):
        yield Reason(by="overlay", text="it is in an overlay of the image, not in its root file system")
    owners = about.owners.of(path)
    for package in owners[:_SHOWN]:
        yield Reason(by="package", text=_told(package))
    if len(owners) > _SHOWN:
        yield Reason(by="package", text=f"and {len(owners) - _SHOWN} more packages that have this {_kind(node)}")
    lines = [*_certain(about, path)]
    for package in owners if not lines and len(owners) <= _SHOWN else ():
        lines += _installed(about, package)
    if not lines and not owners:
        lines += [_line(each) for definition in reversed(about.definitions) for each in definition.speaks_of(path)]
    yield from lines[:_SHOWN]
    if by_layer is not None:
        yield Reason(by="layer", text=by_layer)
    if not about.chain[1:] and not any(each.certain for each in lines):
        yield from _bases(about, by_layer)


def _certain(about: _About, path: str) -> Iterator[Reason]:
    """Lines that copy it there, or that are it; the definition of the image itself goes before those of its bases."""
    for definition in reversed(about.definitions):
        found = [*definition.written(path)] or [*definition.copied(path)][-1:]
        if found:
            yield from map(_line, found)
            return
    if path.startswith((f"{DIRECTORY}/", f"{APPS}/")) or path in _LINKS:
        yield Reason(by="program", text="every build of this program and its family writes it")


def _line(line: Line) -> Reason:
    section = f", {line.section}" if line.section else ""
    place = f"{line.name} line {line.number}{section}" if line.number else line.name
    return Reason(by="definition", text=f"{place}: {line.text}", certain=line.certain)


def _installed(about: _About, package: Package) -> list[Reason]:
    """The lines that name a package, or the nearest one that needs it."""
    needed_by: dict[str, list[str]] = {}
    for each in about.found.packages:
        if each.manager is package.manager:
            for name in each.needs:
                needed_by.setdefault(name, []).append(each.name)
    pending, way = deque([package.name]), {package.name: ""}
    while pending:
        name = pending.popleft()
        lines = [each for definition in reversed(about.definitions) for each in definition.names(name)]
        if lines:
            reasons = [_line(each) for each in lines]
            return [each if name == package.name else _because(each, name, way) for each in reasons]
        for above in needed_by.get(name, ()):
            if above not in way:
                way[above] = name
                pending.append(above)
    return []


def _because(reason: Reason, name: str, way: dict[str, str]) -> Reason:
    names = [name]
    while way[names[-1]]:
        names.append(way[names[-1]])
    return Reason(by=reason.by, text=f"{reason.text} ({' needs '.join(names)})", certain=False)


def _bases(about: _About, by_layer: str | None) -> Iterator[Reason]:
    """Where it may have come from, when nothing says where it has."""
    own = about.definitions[-1] if about.definitions else None
    for name, number in [own.base] if own and own.base else ():
        place = f"{own.name} line {number}" if own and number else own.name if own else ""
        yield Reason(by="base", text=f"it may be of {name}, which the build began with ({place})", certain=False)
    if about.origin is not None:
        fetched = f"{about.origin.name} ({about.origin.digest})"
        hint = "" if by_layer else "; why with that name says which layer"
        yield Reason(by="base", text=f"it may be of {fetched}, which the image was fetched from{hint}", certain=False)


def _told(package: Package) -> str:
    source = f", built from {package.source}" if package.source else ""
    return f"{package.manager.value} {package.name} {package.version}{source} (noted in {package.place})"


def _kind(node: Node) -> str:
    return "directory" if node.kind is Kind.DIRECTORY else "file"


# ---- layers ----
def _layers(opened: Opened, paths: list[str]) -> dict[str, str]:
    """The topmost layer that has each path, and what its history says; only names in layers are looked at."""
    wanted = {path.lstrip("/").encode("utf-8", "surrogateescape"): path for path in paths}
    found: dict[str, str] = {}
    with opened() as image:
        history = image.config.history
        for number in range(len(image.layers), 0, -1):
            with members.read(image.layers[number - 1], content=False) as tree:
                there = {wanted[each.member.path] for each in tree if each.member.path in wanted}
            made = f": {history[number - 1]}" if number <= len(history) and history[number - 1] else ""
            for path in there - found.keys():
                found[path] = f"layer {number} of {len(image.layers)}, {image.layers[number - 1].content}{made}"
            if len(found) == len(wanted):
                break
    return found
