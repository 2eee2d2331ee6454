"""A record and its files as an RO-Crate: a directory that archives and workflow systems understand.

RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), Process Run Crate 0.5 (https://w3id.org/ro/wfrun/process/0.5), with the
terms of Workflow Run RO-Crate for the image. Files that are what the record says go along; the others are only named.
"""

import json
import mimetypes
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from singularity import files
from singularity.capsule import contents, model
from singularity.capsule.model import Content, Kind, Record
from singularity.errors import FileError

METADATA, RECORD = "ro-crate-metadata.json", "run.json"
_PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
_TERMS = "https://w3id.org/ro/terms/workflow-run"
_SIF = f"{_TERMS}#SIFImage"
_Entity = dict[str, Any]


def make(record: Record, directory: Path) -> int:
    """Makes the directory, which must be new or empty; how many files are named only. Raises FileError."""
    files.make_directories(directory, 0o777)
    if os.listdir(directory):
        raise FileError(f"{directory}: not empty", hint="name a new directory")
    with files.replacing(directory / RECORD, overwrite=False) as new, open(new.fd, "w", closefd=False) as file:
        file.writelines(model.written(record))
    known = {(each.path, each.digest): _entity(each, directory) for each in (*record.inputs, *record.outputs)}
    entities = [*_frame(record, known), *{entity["@id"]: entity for entity in known.values()}.values()]
    document = {"@context": ["https://w3id.org/ro/crate/1.1/context", f"{_TERMS}/context"], "@graph": entities}
    with files.replacing(directory / METADATA, overwrite=False) as new, open(new.fd, "w", closefd=False) as file:
        json.dump(document, file, indent=1)
        file.write("\n")
    return sum(1 for entity in known.values() if entity["@id"].startswith("#"))


def _entity(each: Content, directory: Path) -> _Entity:
    """A file, copied where it still has the content, or its description."""
    name = os.path.basename(each.path) or "/"
    common = {"name": _text(name), "description": _text(f"{each.path} on the host")}
    if each.digest:
        common["sha256"] = each.digest.removeprefix(contents.SHA256)
    found = contents.now(each.path, contents.Limits(links=True)) if each.kind is Kind.FILE and each.digest else None
    if found is None or found.digest != each.digest:
        why = each.note or f"a {each.kind.value} of the host that is not in this crate"
        return {
            "@id": f"#{quote(_raw(each.path))}-{each.digest[-12:]}",
            "@type": "CreativeWork",
            **common,
            "abstract": why,
        }
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)  # readers of crates do not agree about what else is in a name
    place = f"files/{each.digest.removeprefix(contents.SHA256)[:16]}/{plain}"
    target = directory / place
    if not target.exists():
        _copy(Path(each.path), target)
    form = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {
        "@id": place, "@type": "File", **common, "contentSize": str(each.size), "encodingFormat": form
    }  # fmt: skip


def _copy(path: Path, target: Path) -> None:
    with FileError.about(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, target.open("xb") as new:
            files.copy_data(source.fileno(), new.fileno())


def _frame(record: Record, known: dict[tuple[str, str], _Entity]) -> Iterator[_Entity]:
    """What is not a file of the run: the crate itself, its record, then what the run was."""
    named = os.path.basename(record.image.named) or record.image.named
    line = " ".join((record.verb, named, *record.arguments))
    yield {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "conformsTo": {"@id": _PROFILE},
        "name": _text(f"Run of {line}"[:200]),
        "description": _text(f"One run of a program in the image {named}, recorded by singularity"),
        "datePublished": _time(record.ended),
        "license": {"@id": "#license"},
        "author": {"@id": "#agent"},
        "hasPart": _references([*(each for each in known.values() if each["@type"] == "File"), {"@id": RECORD}]),
        "mentions": {"@id": "#run"},
    }
    yield {"@id": _PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}
    yield {
        "@id": RECORD,
        "@type": "File",
        "name": "record of the run",
        "description": "What singularity rerun takes",
        "encodingFormat": "application/json",
    }
    yield {
        "@id": "#license",
        "@type": "CreativeWork",
        "name": "As of each file",
        "description": "The files are under the licenses of whoever made them",
    }
    yield from _run(record, known, named, line)
    yield from _means(record, named)


def _run(record: Record, known: dict[tuple[str, str], _Entity], named: str, line: str) -> Iterator[_Entity]:
    """The run, and the variables of its program."""
    variables = [(name, value) for name, value in record.variables.items() if value is not None]
    yield {
        "@id": "#run",
        "@type": "CreateAction",
        "name": _text(line[:200]),
        "description": _text(f"singularity {' '.join((record.verb, *record.options, named, *record.arguments))}"),
        "instrument": {"@id": "#program"},
        "containerImage": {"@id": "#image"},
        "object": _references(known[each.path, each.digest] for each in record.inputs),
        "result": _references(known[each.path, each.digest] for each in record.outputs),
        "startTime": _time(record.started),
        "endTime": _time(record.ended),
        "actionStatus": f"http://schema.org/{'Failed' if record.status else 'Completed'}ActionStatus",
        **({"error": f"exit status {record.status}"} if record.status else {}),
        "agent": {"@id": "#agent"},
        "environment": _references({"@id": f"#variable-{quote(_raw(name))}"} for name, _ in variables),
    }
    for name, value in variables:
        identifier = f"#variable-{quote(_raw(name))}"
        yield {"@id": identifier, "@type": "PropertyValue", "name": _text(name), "value": _text(value)}


def _means(record: Record, named: str) -> Iterator[_Entity]:
    """Who ran what, by what, in which image."""
    yield {"@id": "#agent", "@type": "Person", "name": _text(record.host.get("user", "who ran it, unnamed"))}
    yield {
        "@id": "#program",
        "@type": "SoftwareApplication",
        "name": _text((record.arguments[0] if record.arguments else record.verb)[:200]),
        "description": _text(f"in the image {named}"),
        "url": _text(record.image.named),
        "softwareVersion": record.image.digest,
        "softwareRequirements": {"@id": "#singularity"},
    }
    yield {
        "@id": "#singularity",
        "@type": "SoftwareApplication",
        "name": "singularity",
        "softwareVersion": _text(record.program.get("version", "")),
    }
    yield {
        "@id": "#image",
        "@type": "ContainerImage",
        "additionalType": {"@id": _SIF},
        "name": _text(record.image.named),
        "sha256": record.image.digest.rpartition(":")[2],
    }


def _references(entities: Iterable[_Entity]) -> list[_Entity] | _Entity:
    """Each once; one alone is no list."""
    found = [{"@id": each} for each in dict.fromkeys(entity["@id"] for entity in entities)]
    return found[0] if len(found) == 1 else found


def _time(text: str) -> str:
    """As the profile's shapes have it."""
    return text.removesuffix("Z") + "+00:00" if text.endswith("Z") else text


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _text(text: str) -> str:
    """Bytes that are no UTF-8 are replaced: RDF knows none."""
    return _raw(text).decode("utf-8", "replace")
