"""Packages of Arch Linux, as pacman notes them: a directory each, with `desc` and `files`.

Source of the format: libalpm's `be_local.c` as its files are.
"""

from collections.abc import Iterator

from singularity.packages.model import Manager, Package, Survey, needed

_DIRECTORY = "/var/lib/pacman/local"


def read(survey: Survey) -> Iterator[Package]:
    """The packages that are installed."""
    for name in survey.names(_DIRECTORY):
        place = f"{_DIRECTORY}/{name}"
        said = _fields(survey.text(f"{place}/desc"))
        if not said.get("NAME"):
            continue
        one = {key: lines[0] for key, lines in said.items() if lines}
        listed = _fields(survey.text(f"{place}/files") if survey.lists else "").get("FILES", ())
        yield Package(
            manager=Manager.PACMAN,
            name=one["NAME"],
            version=one.get("VERSION", ""),
            architecture=one.get("ARCH", ""),
            license=", ".join(said.get("LICENSE", [])),
            supplier=one.get("PACKAGER", ""),
            homepage=one.get("URL", ""),
            summary=one.get("DESC", ""),
            source=f"{one.get('BASE', one['NAME'])} {one.get('VERSION', '')}",
            place=f"{place}/desc",
            files=survey.listed(f"/{each.rstrip('/')}" for each in listed),
            needs=needed(said.get("DEPENDS", [])),
        )


def _fields(text: str) -> dict[str, list[str]]:
    """Blocks of a line `%NAME%` and lines below it."""
    found: dict[str, list[str]] = {}
    for block in text.split("\n\n"):
        first, *rest = block.strip("\n").split("\n")
        if len(first) > 2 and first[0] == first[-1] == "%" and any(rest):
            found[first[1:-1]] = [line for line in rest if line]
    return found
