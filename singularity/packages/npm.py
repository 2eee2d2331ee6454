"""Packages of npm: a directory each below some `node_modules`, with a `package.json`.

Source of the format: npm's documentation of "package.json" and "folders".
"""

import re
from collections.abc import Iterator
from typing import Any

from singularity.packages.model import Manager, Package, Survey

_PLACE = re.compile(r".*/node_modules/((?:@[^/]+/)?[^/@.][^/]*)/package\.json", re.DOTALL)


def read(survey: Survey) -> Iterator[Package]:
    """The packages of every `node_modules`, also those within each other."""
    for path in survey.walked:
        if not path.endswith("/package.json") or not _PLACE.fullmatch(path):
            continue
        said = survey.document(path)
        name, version = (_text(said, key) for key in ("name", "version"))
        if name and version:
            yield Package(
                manager=Manager.NPM,
                name=name,
                version=version,
                license=_text(said, "license") or _text(said.get("license"), "type"),
                supplier=_text(said, "author") or _text(said.get("author"), "name"),
                homepage=_text(said, "homepage"),
                summary=_text(said, "description"),
                place=path,
                trees=(path.rpartition("/")[0],),
            )


def _text(said: Any, key: str) -> str:
    value = said.get(key) if isinstance(said, dict) else None
    return value if isinstance(value, str) else ""
