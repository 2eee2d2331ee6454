"""Images that are made, fetched and given away: `build`, `pull`, `push`. Another process does it (`orders`)."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from singularity import uri
from singularity.api.calls import Call, Stream, waiting
from singularity.api.definitions import Definition
from singularity.api.door import Word
from singularity.api.images import Image
from singularity.api.orders import order
from singularity.console import Progress
from singularity.errors import ImageError

if TYPE_CHECKING:
    from typing import Unpack

    from singularity.api.options import BuildOptions, PullOptions, PushOptions

Watcher = Callable[[Progress], object]


def build_(
    definition: Definition | Word,
    target: Word,
    /,
    *,
    on_progress: Watcher | None = None,
    output: Stream = None,
    **options: "Unpack[BuildOptions]",
) -> Call[Image]:
    """Builds `target` from a definition: an object, a definition file or Dockerfile, an image, a directory or a URI.

    `target` is whole or as it was before, whatever happens. `on_progress` is told of each step, message and count of
    bytes; programs of the build write to `output`, this process's standard error where nothing is said. `options` are
    those of `singularity build`: `force=True, build_arg={"VERSION": "1.2"}`. Relative paths in the definition begin at
    the current directory.

    Raises DefinitionError, BuildError and whatever else is in the tree of SingularityError.
    """
    is_object = isinstance(definition, Definition)
    source = Path(definition.name).name if isinstance(definition, Definition) else os.fspath(definition)
    text = str(definition) if is_object else None
    asked = {"target": os.fspath(target), "source": source, "text": text, "options": options}
    return order("build", asked, lambda _: Image(target), on_progress=on_progress, output=output)


def pull_(
    source: str,
    target: Word | None = None,
    *,
    on_progress: Watcher | None = None,
    **options: "Unpack[PullOptions]",
) -> Call[Image]:
    """Brings the image of a URI to a file: `target` or, in `dir`, one that is named after it.

    `options` are those of `singularity pull`, `force=True` to replace a file. Raises NetworkError, RegistryError,
    ImageError, FileError and others of the tree.
    """
    named = uri.parse(source)
    if named is None:
        raise ImageError(f"No transport type URI supplied: {source}", hint="such as docker://NAME:TAG")
    last = os.fspath(target) if target is not None else named.file_name
    place = Path(str(options.get("dir") or ""), last)
    words = [source] if target is None else [os.fspath(target), source]
    return order("pull", {"options": options, "words": words}, lambda _: Image(place), on_progress=on_progress)


def push_(
    image: Word,
    destination: str,
    *,
    on_progress: Watcher | None = None,
    **options: "Unpack[PushOptions]",
) -> Call[str]:
    """Puts an image into a registry, a library or a layout, and returns its digest there.

    `options` are those of `singularity push`. Raises as `pull` does.
    """
    words = [os.fspath(image), destination]
    return order("push", {"options": options, "words": words}, _last_word, on_progress=on_progress)


def _last_word(output: Any) -> str:
    return str(output).split()[-1]


build = waiting(build_)
pull = waiting(pull_)
push = waiting(push_)
