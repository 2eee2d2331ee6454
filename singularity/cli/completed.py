"""`singularity complete KIND [WORD...]`: what completion in a shell asks; a name a line, and nothing else.

Names come from images, caches and directories that others have filled. Shells put what is offered into the line as it
stands, and bash evaluates it even before: only names are told that mean nothing to any of them.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from singularity import paths
from singularity.errors import SingularityError

_HARMLESS = re.compile(r"[\w.+@][\w.+@:/,-]*")


def _instances(words: Sequence[str]) -> Iterator[str]:
    del words
    from singularity.instance import states

    yield from (each.name for each in states.running(states.owner("")))


def _launchable(words: Sequence[str]) -> Iterator[str]:
    """What can be launched and is no file."""
    yield from (f"instance://{name}" for name in _instances(words))
    yield from _uris(words)


def _uris(words: Sequence[str]) -> Iterator[str]:
    """Images of registries that the cache knows, as they are mostly typed."""
    del words
    from singularity.cache import blob_store

    for name in blob_store.noted(paths.cache_place() / "blob"):
        yield f"docker://{name.removeprefix('docker.io/').removeprefix('library/')}"


def _apps(words: Sequence[str]) -> Iterator[str]:
    """Those of the first word that is an image."""
    from singularity.image import metadata
    from singularity.image.identify import identify

    for word in words:
        path = Path(word)
        if path.is_file() or (path.is_dir() and "/" in word):
            yield from metadata.read(identify(path)).apps
            return


def _installed(words: Sequence[str]) -> Iterator[str]:
    del words
    from singularity.install import record

    yield from (each.title for each in record.records())


_KINDS: dict[str, Callable[[Sequence[str]], Iterator[str]]] = {
    "instances": _instances,
    "launchable": _launchable,
    "uris": _uris,
    "apps": _apps,
    "installed": _installed,
}


def plain(arguments: Sequence[str]) -> int | None:
    """Prints the names; None: that was no question. Whatever is wrong, there are none: a shell is being typed in."""
    if not arguments or arguments[0] not in _KINDS:
        return None
    with suppress(SingularityError, OSError):
        for name in _KINDS[arguments[0]](arguments[1:]):
            if _HARMLESS.fullmatch(name):
                sys.stdout.write(f"{name}\n")
    return 0
