"""Packages of Alpine Linux, as apk notes them: stanzas of one-letter fields in one file.

Source of the format: apk-tools' apk-package(5) and apk_installed(5).
"""

from collections.abc import Iterable, Iterator

from singularity.packages.model import Manager, Package, Survey

_PLACES = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")


def read(survey: Survey) -> Iterator[Package]:
    """The packages that are installed."""
    place = next((each for each in _PLACES if survey.is_file(each)), "")
    for stanza in survey.text(place).split("\n\n") if place else ():
        lines = [(letter, value) for letter, colon, value in (x.partition(":") for x in stanza.split("\n")) if colon]
        fields = dict(reversed(lines))  # the first of a letter counts
        if fields.get("P"):
            yield Package(
                manager=Manager.APK,
                name=fields["P"],
                version=fields.get("V", ""),
                architecture=fields.get("A", ""),
                license=fields.get("L", ""),
                supplier=fields.get("m", ""),
                homepage=fields.get("U", ""),
                summary=fields.get("T", ""),
                source=f"{fields.get('o', fields['P'])} {fields.get('V', '')}",
                place=place,
                files=survey.listed(_files(lines)),
            )


def _files(lines: Iterable[tuple[str, str]]) -> Iterator[str]:
    directory = ""
    for letter, value in lines:
        if letter == "F":
            directory = f"/{value}".rstrip("/")
            yield directory or "/"
        elif letter == "R":
            yield f"{directory}/{value}"
