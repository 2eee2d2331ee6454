"""What a build is made from: a definition file, or an image that stands for `Bootstrap: localimage`."""

import os
from collections.abc import Mapping
from pathlib import Path

from singularity.definition.model import Definition, Field, Stage
from singularity.definition.parse import SIZE_LIMIT, parse
from singularity.definition.template import expand
from singularity.errors import DefinitionError, FileError, ImageError
from singularity.image.identify import identify

_HEAD = 512


def read(source: str, arguments: Mapping[str, str], *, unused_allowed: bool) -> Definition:
    """The definition that `source` names, its templates filled in with `arguments`.

    Raises DefinitionError, FileError, and ImageError for a source that is neither.
    """
    scheme, separator, _ = source.partition("://")
    if separator and scheme.isalnum():
        raise ImageError(
            f"{source}: images from registries are not supported by this version", hint="name a definition file"
        )
    path = Path(source)
    text = _text(path)
    if text is None:
        identify(path)
        return _of_image(source)
    expanded = expand(text, source, arguments)
    definition = parse(expanded.text, source)
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


def _of_image(source: str) -> Definition:
    header = {"bootstrap": Field(value="localimage", line=1), "from": Field(value=source, line=2)}
    text = f"Bootstrap: localimage\nFrom: {source}\n"
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
    if b"\0" in data[:_HEAD]:
        return None
    if len(data) > SIZE_LIMIT:
        raise DefinitionError(f"more than {SIZE_LIMIT >> 20} MiB: no definition file", name=str(path))
    return data.decode("utf-8", "surrogateescape")
