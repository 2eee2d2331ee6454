"""All that the page shows of an image, as plain values that become JSON. Foreign names stay as they are, but for bytes
that are no UTF-8: those are written as `\\xff`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from singularity.explain import diff, diff_report
from singularity.explain.why import Opened
from singularity.image import metadata, origin, stacked
from singularity.image.identify import Image
from singularity.image.lookup import Followed, translated
from singularity.image.metadata import DIRECTORY, Metadata
from singularity.image.sif import format as sif
from singularity.image.sif.format import DataType, Descriptor
from singularity.image.tree import Kind
from singularity.packages import bill, document, inventory
from singularity.packages.bill import Standard
from singularity.packages.inventory import Inventory, Owners
from singularity.packages.model import Manager, Survey

_HISTORY = f"{DIRECTORY}/bootstrap_history"
_LETTERS = {
    Kind.DIRECTORY: "d",
    Kind.FILE: "f",
    Kind.LINK: "l",
    Kind.CHARACTER_DEVICE: "c",
    Kind.BLOCK_DEVICE: "b",
    Kind.FIFO: "p",
    Kind.SOCKET: "s",
}
_NAMES = {  # what people call them
    Manager.DPKG: "deb",
    Manager.RPM: "rpm",
    Manager.APK: "apk",
    Manager.PACMAN: "pacman",
    Manager.PYTHON: "pip",
    Manager.CONDA: "conda",
    Manager.R: "R",
    Manager.NPM: "npm",
}
_OBJECTS: dict[int, str] = {
    DataType.DEFINITION: "definition",
    DataType.ENVIRONMENT: "environment",
    DataType.LABELS: "labels",
    DataType.SIGNATURE: "signature",
    DataType.GENERIC_JSON: "metadata",
    DataType.GENERIC: "data",
    DataType.CRYPTOGRAPHIC_MESSAGE: "key",
    DataType.SBOM: "SBOM",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows that others have made, and words about them; `state` is good, unverified or unknown."""

    text: str
    state: str = "unknown"
    rows: Sequence[Sequence[str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be shown."""

    image: Image
    name: str  # as it was typed
    layers: Opened | None = None  # of an image that has some
    against: Image | None = None  # with which it is compared
    against_name: str = ""
    signatures: Table
    check: Table
    epoch: int | None = field(default=None)  # seconds since 1970, of the lists


def collect(asked: Asked) -> dict[str, Any]:
    """The values. Raises ImageError and FileError."""
    image = asked.image
    with translated(image.path), stacked.shown(image) as lookup:
        found = inventory.take(Survey(lookup))
        owners = Owners(found)
        files = Followed(lookup)
        about = metadata.read_with(image, lambda: nullcontext(files))
        tree, sizes = _tree(found, owners)
        content = document.content(found, owners)
        name = image.path.resolve().name if Path(asked.name).exists() else asked.name
        subject = bill.subject(image, about.labels, name, asked.epoch)
        lists = {f"{standard.value}.json": bill.encoded(standard, subject, content).decode() for standard in Standard}
        source = origin.read(files)
        history = [(f"{_HISTORY}/{name}", found.survey.text(f"{_HISTORY}/{name}")) for name in files.names(_HISTORY)]
    managers = list(dict.fromkeys(each.manager for each in found.packages))
    numbers = {manager: number for number, manager in enumerate(managers)}
    said: dict[str, Any] = {
        "image": {
            "name": name,
            "format": image.format.value,
            "size": _stored(image),
            "architecture": image.architecture,
            "distribution": found.distribution.get("PRETTY_NAME") or found.distribution.get("ID", ""),
            "sha256": subject.sha256,
            "base": about.labels.get("org.label-schema.usage.singularity.deffile.from", ""),
            "origin": f"{source.name} ({source.digest})" if source else "",
            "made": about.labels.get("org.label-schema.build-date", "").replace("_", " "),
        },
        "tree": tree,
        "targets": tree.pop("targets"),
        "managers": [_NAMES[each] for each in managers],
        "packages": [
            [numbers[each.manager], each.name, each.version, each.architecture, each.license, each.place, size]
            for each, size in zip(found.packages, sizes, strict=True)
        ],
        "shares": _shares(found, sizes, numbers, tree),
        "loose": [[each.path, each.size, each.build_id] for each in content.loose],
        "layers": list(_layers(asked)),
        "definitions": [[name, text] for name, text in [(f"{DIRECTORY}/Singularity", about.deffile), *history] if text],
        "labels": dict(sorted(about.labels.items())),
        "texts": list(_texts(about)),
        "sbom": lists,
        "stored": _bills(image),
        "signatures": _table(asked.signatures),
        "check": _table(asked.check),
        "difference": _difference(asked),
    }
    clean: dict[str, Any] = _readable(said)
    return clean


def _table(table: Table) -> dict[str, Any]:
    return {"text": table.text, "state": table.state, "rows": [list(each) for each in table.rows]}


def _readable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else _utf8(value)
    if isinstance(value, dict):
        return {_readable(key): _readable(each) for key, each in value.items()}
    return [_readable(each) for each in value] if isinstance(value, list | tuple) else value


def _utf8(text: str) -> str:
    """With bytes that were none as escapes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _tree(found: Inventory, owners: Owners) -> tuple[dict[str, Any], list[int]]:
    """Columns, a number or a word a file, the root first and a directory before what is in it; sizes of packages."""
    numbers = {id(each): number for number, each in enumerate(found.packages)}
    places = {"": 0}
    parents, names, kinds, sizes, modes, packages = [-1], [""], ["d"], [0], [0o755], [-1]
    targets: dict[int, str] = {}
    by_package = [0] * len(found.packages)
    for path, walked in found.survey.walked.items():
        node, number = walked.node, len(names)
        above, _, name = path.rpartition("/")
        if node.kind is Kind.DIRECTORY:
            places[path] = number
        owner = owners.of(path) if node.kind is not Kind.DIRECTORY else []
        size = node.size if node.kind is Kind.FILE else 0
        parents.append(places[above])
        names.append(name)
        kinds.append(_LETTERS[node.kind])
        sizes.append(size)
        modes.append(node.mode)
        packages.append(numbers[id(owner[0])] if owner else -1)
        if node.kind is Kind.LINK:
            targets[number] = node.target
        if owner:
            by_package[packages[-1]] += size
    columns = {"parent": parents, "name": names, "kind": "".join(kinds), "size": sizes, "mode": modes}
    return {**columns, "package": packages, "targets": targets}, by_package


def _shares(
    found: Inventory, sizes: Sequence[int], numbers: Mapping[Manager, int], tree: Mapping[str, Any]
) -> list[list[int]]:
    """Bytes by manager, -1 for what no package owns; the largest first."""
    sums: dict[int, int] = defaultdict(int)
    for package, size in zip(found.packages, sizes, strict=True):
        sums[numbers[package.manager]] += size
    sums[-1] = sum(tree["size"]) - sum(sizes)
    return [[number, size] for number, size in sorted(sums.items(), key=lambda each: -each[1]) if size]


def _texts(about: Metadata) -> Iterable[list[str]]:
    yield from ([path, text] for path, text in sorted(about.environment.items()))
    named = {"runscript": about.runscript, "startscript": about.startscript, "test": about.test, "help": about.helpfile}
    yield from ([name, text] for name, text in named.items() if text)
    for name, app in sorted(about.apps.items()):
        texts = {"runscript": app.runscript, "help": app.helpfile, **app.environment}
        yield from ([f"app {name}: {what}", text] for what, text in texts.items() if text)


def _stored(image: Image) -> int:
    """The bytes of the image file; of a directory, those of its files."""
    if image.path.is_dir():
        return sum(each.node.size for each in _walk(image))
    return image.path.stat().st_size


def _walk(image: Image) -> list[Any]:
    with stacked.shown(image) as lookup:
        return [each for each in lookup.walk() if each.node.kind is Kind.FILE]


# ---- layers ----
def _layers(asked: Asked) -> Iterable[list[Any]]:
    """What the image file is made of: name, bytes, and what made it."""
    if asked.layers is not None:
        with asked.layers() as layered:
            history = layered.config.history
            for number, layer in enumerate(layered.layers):
                made = history[number] if number < len(history) else ""
                yield [f"layer {number + 1}, {layer.content.short}", layer.size or 0, made]
    elif asked.image.content is None:
        yield [asked.image.format.value, _stored(asked.image), "the root file system"]
    else:
        content, primary = asked.image.content, asked.image.content.primary()
        for each in content.descriptors:
            yield [_object(each, primary), each.size, each.name.decode("utf-8", "replace")]
        rest = _stored(asked.image) - sum(each.size for each in content.descriptors)
        if rest > 0:
            yield ["header and padding", rest, ""]


def _object(each: Descriptor, primary: Descriptor | None) -> str:
    if each.type == DataType.PARTITION:
        kinds: dict[int, str] = {sif.PartitionType.OVERLAY: "overlay", sif.PartitionType.DATA: "data partition"}
        kind = each.partition.type if each.partition else 0
        return f"{each.id}: {'root file system' if each == primary else kinds.get(kind, 'partition')}"
    return f"{each.id}: {_OBJECTS.get(each.type, 'object')}"


def _bills(image: Image) -> list[str]:
    if image.content is None:
        return []
    with image.path.open("rb") as file:
        return [f"{each.name}, {len(each.data)} bytes" for each in bill.stored(file)]


def _difference(asked: Asked) -> dict[str, Any] | None:
    if asked.against is None:
        return None
    parts = frozenset(diff.Part)
    found = diff.compare(asked.against, asked.image, parts)
    return {"against": asked.against_name, **diff_report.document(found, parts)}
