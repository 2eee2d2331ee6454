"""Packages of Debian and its kin, as dpkg notes them: one file of stanzas, or one each in images without dpkg.

Source of the format: deb-control(5), dpkg-query(1), and `/var/lib/dpkg` itself.
"""

import re
from collections.abc import Iterator

from singularity.packages.model import Manager, Package, Survey, needed, stanzas

_DIRECTORY = "/var/lib/dpkg"
_STATUS = f"{_DIRECTORY}/status"
_SINGLE = f"{_DIRECTORY}/status.d"  # of images that were put together without dpkg

_DIVERSIONS_LIMIT = 1 << 20  # bytes


def read(survey: Survey) -> Iterator[Package]:
    """The packages that are installed; those that are removed but for their configuration are not."""
    names = set(survey.names(f"{_DIRECTORY}/info")) if survey.lists else set()
    diverted = _diversions(survey)
    for stanza in stanzas(survey.text(_STATUS)):
        if stanza.get("status", "").split()[2:] == ["installed"] and stanza.get("package"):
            yield _package(stanza, _STATUS, survey.listed(_files(survey, stanza, names, diverted)))
    for name in survey.names(_SINGLE):
        place = f"{_SINGLE}/{name}"
        if name.endswith(".md5sums"):
            continue
        listed = survey.text(f"{place}.md5sums").split("\n")
        files = survey.listed(f"/{line[34:].lstrip('./')}" for line in listed if len(line) > 34)
        for stanza in stanzas(survey.text(place)):
            if stanza.get("package"):
                yield _package(stanza, place, files)


def _package(stanza: dict[str, str], place: str, files: tuple[str, ...]) -> Package:
    name, version = stanza["package"], stanza.get("version", "")
    source, _, source_version = stanza.get("source", name).partition(" ")
    return Package(
        manager=Manager.DPKG,
        name=name,
        version=version,
        architecture=stanza.get("architecture", ""),
        supplier=stanza.get("maintainer", ""),
        homepage=stanza.get("homepage", ""),
        summary=stanza.get("description", "").partition("\n")[0],
        source=f"{source} {source_version.strip('()') or version}",
        place=place,
        files=files,
        needs=needed(re.split(r"[,|]", f"{stanza.get('pre-depends', '')},{stanza.get('depends', '')}")),
    )


def _files(
    survey: Survey, stanza: dict[str, str], names: set[str], diverted: dict[str, tuple[str, str]]
) -> Iterator[str]:
    name, architecture = stanza["package"], stanza.get("architecture", "")
    note = next((each for each in (f"{name}:{architecture}.list", f"{name}.list") if each in names), "")
    names.discard(note)  # one package's: a thousand stanzas of one name would be a thousand times its memory
    for path in survey.text(f"{_DIRECTORY}/info/{note}").split("\n") if note else ():
        elsewhere, by = diverted.get(path, ("", ""))
        if path not in ("", "/."):
            yield elsewhere if elsewhere and by != name else path


def _diversions(survey: Survey) -> dict[str, tuple[str, str]]:
    """Files that lie elsewhere, by the path in their package: where, and the package that has its own file there."""
    lines = survey.text(f"{_DIRECTORY}/diversions", limit=_DIVERSIONS_LIMIT).split("\n")
    return {lines[at]: (lines[at + 1], lines[at + 2]) for at in range(0, len(lines) - 2, 3)}
