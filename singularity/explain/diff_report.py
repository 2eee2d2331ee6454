"""A difference for people, and as a JSON document for programs."""

import difflib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from singularity import console
from singularity.explain.diff import Aspect, ConfigChange, Difference, FileChange, PackageChange, Part
from singularity.image.lookup import Walked
from singularity.image.tree import Kind

_FEW = 40  # files that are listed where their list was not asked for
_DIRECTORIES = 15  # that are named in its place
_LINES = 2000  # of a text that is compared line by line
_WORDS = {
    Kind.DIRECTORY: "directory",
    Kind.FILE: "file",
    Kind.LINK: "link",
    Kind.CHARACTER_DEVICE: "device",
    Kind.BLOCK_DEVICE: "device",
    Kind.FIFO: "pipe",
    Kind.SOCKET: "socket",
}


def text(found: Difference, parts: frozenset[Part], *, whole: bool) -> str:
    """Lines; `whole` lists all files, however many. Names of the images are escaped: they may hold anything."""
    sections = {
        Part.PACKAGES: ("Packages", found.packages, list(_packages(found.packages))),
        Part.CONFIG: ("Configuration", found.config, list(_config(found.config))),
        Part.FILES: ("Files", found.files, list(_files(found.files, whole=whole))),
    }
    lines: list[str] = []
    for title, changes, said in (sections[part] for part in Part if part in parts):
        lines += [*([""] if lines else []), f"{title}: {_counted(changes) if said else 'the same'}", *said]
    return "".join(f"{line}\n" for line in lines)


def _counted(changes: Sequence[Any]) -> str:
    added = sum(not each.before for each in changes)
    removed = sum(not each.after for each in changes)
    counts = (("added", added), ("removed", removed), ("changed", len(changes) - added - removed))
    return ", ".join(f"{count} {word}" for word, count in counts if count)


def _mark(change: FileChange | PackageChange | ConfigChange) -> str:
    return "+" if not change.before else "-" if not change.after else "~"


def _packages(changes: Sequence[PackageChange]) -> Iterator[str]:
    for each in changes:
        versions = " -> ".join(", ".join(side) for side in (each.before, each.after) if side)
        architecture = f" ({each.architecture})" if each.architecture else ""
        yield f"{_mark(each)} {console.escape(f'{each.manager} {each.name}{architecture} {versions}')}"


def _config(changes: Sequence[ConfigChange]) -> Iterator[str]:
    for each in changes:
        before, after = each.before.split("\n"), each.after.split("\n")
        name = console.escape(each.name)
        if len(before) == len(after) == 1:
            values = " -> ".join(console.escape(value) for value in (each.before, each.after) if value)
            yield f"{_mark(each)} {name}: {values}"
        elif max(len(before), len(after)) > _LINES:
            yield f"{_mark(each)} {name}: {len(before)} lines -> {len(after)} lines"
        else:
            yield f"{_mark(each)} {name}:"
            one, other = before if each.before else [], after if each.after else []
            for line in list(difflib.unified_diff(one, other, lineterm="", n=1))[2:]:
                yield f"    {console.escape(line.expandtabs())}"


def _files(changes: Sequence[FileChange], *, whole: bool) -> Iterator[str]:
    if whole or len(changes) <= _FEW:
        yield from (f"{_mark(each)} {console.escape(each.path)}{_told(each)}" for each in changes)
        return
    for name, count in _most(changes):
        yield f"  {count:>7} in {console.escape(name)}"
    yield "  (--files lists them)"


def _most(changes: Sequence[FileChange]) -> list[tuple[str, int]]:
    """The directories with the most changes: those of three names, or less where the path has less."""
    found = Counter("/".join(each.path.split("/")[:4][: max(2, each.path.count("/"))]) for each in changes)
    shown = found.most_common(_DIRECTORIES)
    rest = len(changes) - sum(count for _, count in shown)
    return [*shown, *([("other directories", rest)] if rest else [])]


def _told(change: FileChange) -> str:
    if change.before is None or change.after is None:
        there = change.before or change.after
        return _size(there) if there else ""
    return f"  {', '.join(_aspect(each, change.before, change.after) for each in change.aspects)}"


def _size(walked: Walked) -> str:
    node = walked.node
    if node.kind is Kind.FILE:
        return f"  {console.size(node.size)}"
    return f" -> {console.escape(node.target)}" if node.kind is Kind.LINK else f"  {_WORDS[node.kind]}"


def _aspect(aspect: Aspect, before: Walked, after: Walked) -> str:
    one, other = before.node, after.node
    values = {
        Aspect.KIND: (_WORDS.get(one.kind, ""), _WORDS.get(other.kind, "")),
        Aspect.TARGET: (console.escape(one.target), console.escape(other.target)),
        Aspect.MODE: (f"{one.mode:04o}", f"{other.mode:04o}"),
        Aspect.OWNER: (f"{one.uid}:{one.gid}", f"{other.uid}:{other.gid}"),
    }.get(aspect)
    if aspect is Aspect.CONTENT and one.size != other.size:
        values = f"{one.size}", f"{other.size} bytes"
    return f"{aspect.value} {' -> '.join(values)}" if values else aspect.value


def document(found: Difference, parts: frozenset[Part]) -> dict[str, Any]:
    """The same as JSON has it; undecodable bytes of names are lone surrogates, as Python reads them back."""
    sections: dict[Part, list[dict[str, Any]]] = {
        Part.PACKAGES: [
            {
                "manager": each.manager,
                "name": each.name,
                "architecture": each.architecture,
                "before": list(each.before),
                "after": list(each.after),
            }
            for each in found.packages
        ],
        Part.CONFIG: [{"name": each.name, "before": each.before, "after": each.after} for each in found.config],
        Part.FILES: [_file(each) for each in found.files],
    }
    return {part.value: sections[part] for part in Part if part in parts}


def _file(change: FileChange) -> dict[str, Any]:
    sides = {"before": change.before, "after": change.after}
    said: dict[str, Any] = {key: _node(side) for key, side in sides.items() if side is not None}
    aspects = [each.value for each in change.aspects]
    return {"path": change.path, **said, **({"changed": aspects} if aspects else {})}


def _node(walked: Walked) -> dict[str, Any]:
    node = walked.node
    more: dict[str, Any] = {"size": node.size} if node.kind is Kind.FILE else {}
    more |= {"target": node.target} if node.kind is Kind.LINK else {}
    return {"kind": _WORDS[node.kind], "mode": f"{node.mode:04o}", "uid": node.uid, "gid": node.gid, **more}


def encoded(found: Difference, parts: frozenset[Part]) -> str:
    """The document as text."""
    return json.dumps(document(found, parts), indent=1) + "\n"
