"""What a build is made from: a definition file, or an image that stands for `Bootstrap: localimage`."""

import codecs
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from singularity import uri
from singularity.definition import version1
from singularity.definition.model import Definition, Field, Stage
from singularity.definition.parse import SIZE_LIMIT, parse
from singularity.definition.template import Expanded, expand
from singularity.errors import DefinitionError, FileError, ImageError
from singularity.image.identify import Format, identify

_HEAD = 512
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # no image begins with either
_NAME = 100  # bytes of a tar header that a name stands in
_OF_LAYERS = re.compile(rb"(?:\./)?(?:blobs/|(?:oci-layout|(?:index|manifest)\.json)\0|[0-9a-f]{64}(?:/|\.json|\.tar))")


def read(
    source: str,
    arguments: Mapping[str, str],
    *,
    unused_allowed: bool,
    header_optional: bool = False,
    positional: Sequence[str] = (),
) -> Definition:
    """The definition that `source` names, its templates filled in with `arguments`.

    `header_optional` and `positional` are those of `parse`. Files of the first format have no templates.
    Raises DefinitionError, FileError, and ImageError for a source that is neither.
    """
    named = uri.parse(source)
    if named is not None and not named.transport.is_web:
        return _of_image(named.transport.value, named.place, source)
    path = Path(source)
    text = _text(path)
    if text is None:
        image = identify(path)
        if (path / "oci-layout").is_file():
            raise ImageError(f"{source}: an OCI layout, no root file system", hint=f"oci:{source} is the image in it")
        if image.format is Format.DIRECTORY and os.access(path, os.R_OK) and not os.listdir(path):
            raise ImageError(f"{source}: an empty directory, not an image")
        if image.format is Format.TAR and _holds_layers(path):
            hint = f"oci-archive:{source} or docker-archive:{source} is the image in it"
            raise ImageError(f"{source}: an archive of layers, no root file system", hint=hint)
        return _of_image("localimage", source, source)
    if version1.recognise(text):
        expanded = Expanded(text=text, unused=tuple(sorted(arguments)))
    else:
        expanded = expand(text, source, arguments)
    definition = parse(expanded.text, source, header_optional=header_optional, arguments=positional)
    if not expanded.unused:
        return definition
    what = f"no {{{{ {expanded.unused[0]} }}}} in it, but a value was given"
    if not unused_allowed:
        raise DefinitionError(what, name=source, hint="--warn-unused-build-args makes this a warning")
    return Definition(
        name=definition.name,
        text=definition.text,
        stages=definition.stages,
        warnings=(*definition.warnings, f"{source}: {what}"),
    )


def _holds_layers(path: Path) -> bool:
    """Whether a tar archive is one of `docker save` or of an OCI layout, by the name of its first member."""
    with path.open("rb") as file:
        return bool(_OF_LAYERS.match(file.read(_NAME)))


def _of_image(agent: str, place: str, source: str) -> Definition:
    header = {"bootstrap": Field(value=agent, line=1), "from": Field(value=place, line=2)}
    text = f"Bootstrap: {agent}\nFrom: {place}\n"
    return Definition(name=source, text=text, stages=(Stage(header=header, line=1),))


def _text(path: Path) -> str | None:
    """The text of a definition file; None for what is an image. Raises FileError and DefinitionError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileError.because(path, error) from error
    try:
        with open(fd, "rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except IsADirectoryError:
        return None
    except OSError as error:
        raise FileError.because(path, error) from error
    if data.startswith(_UTF16):
        raise DefinitionError("text of 16-bit letters, as Windows writes it", name=str(path), hint="save it as UTF-8")
    if b"\0" in data[:_HEAD]:
        return None
    if len(data) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=str(path))
    return data.decode("utf-8", "surrogateescape")
