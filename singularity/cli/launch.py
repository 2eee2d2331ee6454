"""`singularity launch ARGV...`: where the front door sends a launch of what is not an image that it can start."""

from collections.abc import Sequence
from pathlib import Path

import click

from singularity.cli.command import Verb
from singularity.cli.options_table import Entry, entries
from singularity.errors import ImageError, UsageError
from singularity.variables import variable

REGISTRIES = ("docker", "docker-daemon", "docker-archive", "oci", "oci-archive", "oras", "library", "shub")
_NEXT = "build an image from a definition file, and launch that"


@click.command(
    cls=Verb, name="launch", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
def command(argv: tuple[str, ...]) -> None:
    """Says why this container cannot be launched. `argv` is the launch as it was typed, from its verb on."""
    image = image_of(argv)
    scheme, colon, rest = image.partition(":")
    if colon and scheme in ("http", "https") and rest.startswith("//"):
        raise ImageError(f"{image}: images are not fetched by this version", hint="download the file, and launch that")
    if colon and scheme in REGISTRIES:
        raise ImageError(f"{image}: images from registries are not supported by this version", hint=_NEXT)
    if colon and scheme == "instance":
        raise ImageError(f"{image}: instances are not supported by this version", hint="name the image")
    from singularity.image.identify import identify

    found = identify(Path(image))
    what = f"{image}: a {found.root.format.value} is not launched by this version"
    raise ImageError(what, hint="unpack it, and launch the directory" if found.format.is_archive else _NEXT)


def image_of(argv: Sequence[str]) -> str:
    """The image that a launch names: the first word after the verb that is neither an option nor its value.

    Raises UsageError when there is none.
    """
    words = iter(argv)
    verb = next((word for word in words if not word.startswith("-")), "")
    by_name = {name: entry for entry in entries(verb) for name in entry.spellings}
    if image := variable("IMAGE"):
        return image
    for word in words:
        if not word.startswith("-") or word == "-":
            return word
        if word == "--":
            return next(words, "")
        if _takes_next(word, by_name):
            next(words, None)
    raise UsageError(f"{verb or 'launch'}: IMAGE is missing", hint=f"see: singularity help {verb}".rstrip())


def _takes_next(word: str, by_name: dict[str, Entry]) -> bool:
    """Whether the word after an option word is its value: `--bind`, `-B`, `-ceB`; not `--bind=x`, `-Bx`."""
    if word.startswith("--"):
        return word in by_name and by_name[word].kind.takes_word
    for number, letter in enumerate(word[1:], 2):
        entry = by_name.get(f"-{letter}")
        if entry is not None and entry.kind.takes_word:
            return number == len(word)
    return False
