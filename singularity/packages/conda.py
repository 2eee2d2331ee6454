"""Packages of conda environments: a JSON document each below `conda-meta`.

Source of the format: conda's own documents there ("PrefixRecord").
"""

from collections.abc import Iterator
from typing import Any

from singularity.image.tree import Kind
from singularity.packages.model import Manager, Package, Survey, needed


def read(survey: Survey) -> Iterator[Package]:
    """The packages of every environment in the image."""
    for path, walked in survey.walked.items():
        directory, _, name = path.rpartition("/")
        if directory.endswith("/conda-meta") and name.endswith(".json") and walked.node.kind is Kind.FILE:
            said = survey.document(path)
            if isinstance(said, dict) and _text(said, "name") and _text(said, "version"):
                yield _package(survey, said, path, directory.removesuffix("/conda-meta"))


def _package(survey: Survey, said: dict[str, Any], path: str, prefix: str) -> Package:
    qualifiers = {key: _text(said, key) for key in ("build", "channel", "subdir")}
    listed, depends = said.get("files"), said.get("depends")
    files = (f"{prefix}/{each}" for each in (listed if isinstance(listed, list) else ()) if isinstance(each, str))
    return Package(
        manager=Manager.CONDA,
        name=_text(said, "name"),
        version=_text(said, "version"),
        architecture=_text(said, "subdir"),
        license=_text(said, "license"),
        source=_text(said, "url") or _text(said, "fn"),
        qualifiers={key: value for key, value in qualifiers.items() if value},
        digests={name: _text(said, name) for name in ("md5", "sha256") if _text(said, name)},
        place=path,
        files=(path, *survey.listed(files)),
        needs=needed(each for each in depends if isinstance(each, str)) if isinstance(depends, list) else (),
    )


def _text(said: dict[str, Any], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""
