"""What the documents of both formats say alike: which image, when, and made by what."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from singularity import __version__
from singularity.packages.inventory import Inventory, Loose, Owners, contained, loose
from singularity.packages.model import Package

TOOL = "singularity"
VERSION = __version__
_BAD = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The image that a document is about."""

    name: str
    sha256: str = ""  # of the primary partition of a SIF file
    labels: Mapping[str, str]
    when: datetime  # the document was made


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a document lists."""

    distribution: Mapping[str, str]  # of os-release
    packages: tuple[Package, ...]
    contained: tuple[tuple[Package, Package], ...]  # a package, and one of a language in it
    loose: tuple[Loose, ...]


def content(inventory: Inventory, owners: Owners) -> Content:
    """All that is to be listed of an image."""
    return Content(
        distribution=inventory.distribution,
        packages=inventory.packages,
        contained=tuple(contained(inventory, owners)),
        loose=tuple(loose(inventory.survey, owners)),
    )


def when(epoch: int | None) -> datetime:
    """The time that a document carries: now, or the one of SOURCE_DATE_EPOCH."""
    return datetime.now(UTC).replace(microsecond=0) if epoch is None else datetime.fromtimestamp(epoch, UTC)


def stamp(subject: Subject) -> str:
    """The time as both formats write it."""
    return f"{subject.when:%Y-%m-%dT%H:%M:%SZ}"


def identity(subject: Subject, content: Content) -> UUID:
    """An identifier of the document: the same packages and files of an image of this name give the same one."""
    said = [[e.manager.value, e.name, e.version, e.architecture, e.place] for e in content.packages]
    loose = [[each.path, each.sha256] for each in content.loose]
    words = json.dumps([subject.name, subject.sha256, stamp(subject), said, loose, VERSION])
    return uuid5(NAMESPACE_URL, clean(words))


def clean(text: str) -> str:
    """Foreign text without what no document may hold: control characters, halves of characters."""
    return _BAD.sub("\N{REPLACEMENT CHARACTER}", text)


def cleaned(value: Any) -> Any:
    """The same for all texts of a document."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {key: cleaned(each) for key, each in value.items()}
    return [cleaned(each) for each in value] if isinstance(value, list) else value
