"""What `inspect` prints, and the short way to it.

Programs ask images for their labels all day. Half the time of that would be spent on making the command line ready for
what they do not use, so that the plain case, a SIF file that has its metadata in one object, goes without. Whatever is
unusual about a command line or a file takes the long way, which knows all of it and says what is wrong.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from singularity.errors import ImageError
from singularity.image import metadata as meta
from singularity.image.identify import EncryptedError, Format, Image, identify
from singularity.image.metadata import Metadata, Scripts

PARTS = {
    "labels": ("-l", "--labels"),
    "deffile": ("-d", "--deffile"),
    "runscript": ("-r", "--runscript"),
    "startscript": ("-s", "--startscript"),
    "test": ("-t", "--test"),
    "environment": ("-e", "--environment"),
    "helpfile": ("-H", "--helpfile"),
    "apps": ("--list-apps",),
}
"""What can be chosen, and by which options."""
JSON, ALL = ("-j", "--json"), ("--all",)

_ROOT = (  # one of which every image has; launcher/front/image_name.c has the same
    ".singularity.d", "bin", "usr", "etc", "sbin", "lib", "lib64", "nix", "sw", "singularity",
    ".run", ".exec", ".shell", ".test",
)  # fmt: skip


class Wanted(NamedTuple):
    """What is to be shown of an image."""

    parts: frozenset[str]  # keys of PARTS
    app: str = ""  # what this application says, in place of the image
    as_json: bool = False
    everything: bool = False  # goes before all else


def identified(path: Path) -> Image:
    """The image at `path`. Raises SingularityError, also for a directory in which there is none, as a launch does."""
    image = identify(path)
    if image.format is Format.DIRECTORY and not any(os.path.lexists(path / each) for each in _ROOT):
        hint = "singularity build --sandbox DIRECTORY SOURCE makes one that is"
        raise ImageError(f"{path}: a directory, but no image: it has no bin, usr or etc", hint=hint)
    return image


def described(path: Path) -> Metadata:
    """What the image at `path` says about itself. Raises SingularityError."""
    try:
        return meta.read(identified(path))
    except EncryptedError:
        found = meta.of_sif(path)  # which needs no file system, and so no key to it
        if found is None:
            raise
        return found


def rendered(metadata: Metadata, wanted: Wanted, image: Path) -> str:
    """The text, ending with a newline unless it is empty. Raises ImageError for an application that is not there."""
    if wanted.everything:
        return _json(metadata)
    parts = wanted.parts or {"labels"}
    subject = _app(metadata, wanted.app, image) if wanted.app else metadata
    if wanted.as_json:
        return _json(_reduced(metadata, subject, wanted.app, parts))
    return "".join(f"{line}\n" for line in _lines(metadata, subject, parts))


def printable(text: str) -> str:
    """What an image says, made harmless where a terminal would interpret it; untouched in a pipe."""
    if not sys.stdout.isatty():
        return text
    from singularity import console

    return "\n".join(console.escape(line.expandtabs()) for line in text.split("\n"))


def _app(metadata: Metadata, name: str, image: Path) -> Scripts:
    app = metadata.apps.get(name)
    if app is None:
        known = ", ".join(sorted(metadata.apps)) or "it has none"
        raise ImageError(f"{image}: no application {name}", hint=f"applications: {known}" if metadata.apps else known)
    return app


def _reduced(metadata: Metadata, subject: Scripts | Metadata, app: str, parts: frozenset[str] | set[str]) -> Metadata:
    """Only what was chosen, as JSON shows it: an application's parts stay below its name."""
    shown = Scripts(**{each: getattr(subject, each) for each in Scripts._fields if each in parts})
    deffile = metadata.deffile if "deffile" in parts else ""
    apps = metadata.apps if "apps" in parts else {}
    if app:
        return Metadata(deffile=deffile, apps={**apps, app: shown})
    return Metadata(**shown._asdict(), deffile=deffile, apps=apps)


def _json(metadata: Metadata) -> str:
    text = json.dumps(meta.to_json(metadata), indent="\t", ensure_ascii=False) + "\n"
    return text.translate({ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"})  # as the family has it


def _lines(metadata: Metadata, subject: Scripts | Metadata, parts: frozenset[str] | set[str]) -> Iterator[str]:
    if "apps" in parts:
        yield from sorted(metadata.apps)
    texts = {"deffile": metadata.deffile}
    texts |= {key: getattr(subject, key) for key in ("runscript", "startscript", "test", "helpfile")}
    yield from (text for key, text in texts.items() if key in parts and text)
    if "environment" in parts:
        for path, text in sorted(subject.environment.items()):
            yield f"=== {path} ==="
            yield text
            yield ""
    if "labels" in parts:
        yield from (f"{key}: {value}" for key, value in sorted(subject.labels.items()))


def in_short(arguments: Sequence[str]) -> bool:
    """Carries out `inspect ARGUMENTS` when nothing about it is unusual; False: nothing was done."""
    *options, image = arguments or [""]
    known = {option: part for part, names in PARTS.items() for option in names}
    if image.startswith("-") or not all(each in known or each in JSON + ALL for each in options):
        return False
    wanted = Wanted(
        parts=frozenset(known[each] for each in options if each in known),
        as_json=any(each in JSON for each in options),
        everything=any(each in ALL for each in options),
    )
    try:
        metadata = meta.of_sif(Path(image))
        text = b"" if metadata is None else printable(rendered(metadata, wanted, Path(image))).encode()
        if metadata is None or os.write(1, text) != len(text):
            return False
    except Exception:  # the long way meets the same, and says it
        return False
    return True
