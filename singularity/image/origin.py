"""Where an image came from, as a file in it says: /.singularity.d/source.json."""

import json
from contextlib import suppress
from dataclasses import dataclass

from singularity.errors import ImageError
from singularity.foreign_json import parse_json
from singularity.image.metadata import DIRECTORY, Files
from singularity.image.root import Root

FILE = f"{DIRECTORY}/source.json"
LABEL = "org.label-schema.usage.singularity.source"  # of the place


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """An image that was fetched."""

    name: str  # what was asked for, in full
    digest: str  # ALGORITHM:DIGITS of what that name meant
    place: str = ""  # HOST/REPOSITORY that gave it: a mirror's, where it was one; empty where nobody knows


def write(root: Root, origin: Origin | None) -> None:
    """Notes it in a root file system, in place of what another image said there. Raises OSError."""
    if origin is None:
        root.remove(FILE)
        return
    said = {"name": origin.name, "digest": origin.digest} | ({"place": origin.place} if origin.place else {})
    root.write(FILE, (json.dumps(said, indent="\t", ensure_ascii=False) + "\n").encode("utf-8", "replace"))


def read(root: Files) -> Origin | None:
    """What a root file system says; None where it says nothing that makes sense."""
    with suppress(OSError, ImageError):
        said = parse_json(root.read(FILE))
        if isinstance(said, dict):
            name, digest, place = (said.get(key, "") for key in ("name", "digest", "place"))
            if all(isinstance(each, str) for each in (name, digest, place)) and name and digest:
                return Origin(name=name, digest=digest, place=place)
    return None
