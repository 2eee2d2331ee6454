"""Who made an image and what it is, as an archive wants to know it: from its labels, and a file CITATION.cff.

Labels are those of OCI (`org.opencontainers.image.title`, `description`, `version`, `licenses`, `authors`), the file is
of version 1.2.0 of its format. What the file says comes first.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from singularity.errors import FileError, UsageError
from singularity.foreign_json import objects

_OCI = "org.opencontainers.image."
_LIMIT = 1 << 20  # bytes
_ORCID = re.compile(r"(?:https?://orcid\.org/)?(\d{4}-\d{4}-\d{4}-\d{3}[\dX])")
_MAIL = re.compile(r"\s*<[^>]*>")


def read(path: Path) -> Mapping[str, Any]:
    """A file CITATION.cff. Raises FileError."""
    import yaml

    try:
        with path.open("rb") as file:
            document = yaml.safe_load(file.read(_LIMIT))
    except OSError as error:
        raise FileError.because(path, error) from error
    except (yaml.YAMLError, ValueError, RecursionError, LookupError, AttributeError, TypeError) as error:  # of PyYAML's
        raise FileError(f"{path}: no CITATION.cff: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(document, dict) or "title" not in document:
        raise FileError(f"{path}: no CITATION.cff: it has no title")
    return document


def metadata(labels: Mapping[str, str], citation: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The metadata of a record of InvenioRDM. Raises UsageError where nobody is named who made it."""
    creators = [each for each in map(_creator, objects(citation.get("authors"))) if each] or [
        _person("", part) for part in map(str.strip, _MAIL.sub("", labels.get(f"{_OCI}authors", "")).split(",")) if part
    ]
    if not creators:
        hint = f"--citation CITATION.cff, or a label {_OCI}authors"
        raise UsageError("push: an archive wants to know who has made the image", hint=hint)
    described = _text(citation.get("abstract")) or labels.get(f"{_OCI}description", "")
    version = _text(citation.get("version")) or labels.get(f"{_OCI}version", "")
    licence = citation.get("license") or labels.get(f"{_OCI}licenses", "")
    rights = [_text(each) for each in (licence if isinstance(licence, list) else [licence])]
    words = citation.get("keywords")
    found: dict[str, Any] = {
        "title": _text(citation.get("title")) or labels.get(f"{_OCI}title", "") or name,
        "publication_date": _date(citation.get("date-released")),
        "resource_type": {"id": "software"},
        "creators": creators,
        "description": described,
        "version": version,
        "rights": [{"id": each.lower()} for each in rights if each],
        "subjects": [{"subject": _text(each)} for each in (words if isinstance(words, list) else []) if _text(each)],
    }
    return {key: value for key, value in found.items() if value}


def _creator(author: Mapping[str, Any]) -> dict[str, Any] | None:
    given, family = _text(author.get("given-names")), _text(author.get("family-names"))
    if family:
        found = _person(given, family)
    elif _text(author.get("name")):
        found = {"person_or_org": {"type": "organizational", "name": _text(author["name"])}}
    else:
        return None
    orcid = _ORCID.fullmatch(_text(author.get("orcid")))
    if orcid:
        found["person_or_org"]["identifiers"] = [{"scheme": "orcid", "identifier": orcid[1]}]
    if _text(author.get("affiliation")):
        found["affiliations"] = [{"name": _text(author["affiliation"])}]
    return found


def _person(given: str, family: str) -> dict[str, Any]:
    if not given and " " in family:  # "Alice B. Example"
        given, _, family = family.rpartition(" ")
    person = {"type": "personal", "given_name": given, "family_name": family}
    return {"person_or_org": {key: value for key, value in person.items() if value}}


def _date(value: object) -> str:
    found = value if isinstance(value, date) else datetime.now(UTC).date()
    return found.isoformat()[:10]


def _text(value: object) -> str:
    return value.strip() if isinstance(value, str) else str(value) if isinstance(value, int | float) else ""
